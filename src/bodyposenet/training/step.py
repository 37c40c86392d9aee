"""One step of the optimizer: batches to losses, gradients and new weights.

Nothing in it waits for the device, unless a teacher runs on the processor, or float16 must know
whether it overflowed.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from bodyposenet.console import logger
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.model.loss import Losses, Targets, regularization, stage_losses
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.model.targets import TargetOptions, cell_mask, channel_weights, render_targets
from bodyposenet.specs.training import TrainSpec
from bodyposenet.training.batches import Batch
from bodyposenet.training.checkpoints import TrainState
from bodyposenet.training.color_jitter import color_jitter
from bodyposenet.training.distributed import DistributedContext
from bodyposenet.training.teacher import PrecomputedTeacher, Teacher, leave_rest


class StepResult(NamedTuple):
    """Outcome of a step; tensors are on the device.

    Args:
        losses: Of this rank; the mean over the batches of the step.
        gradient_norm: Of all gradients together, before they were clipped.
        skipped: The gradients overflowed in float16: weights and statistics are as before.
    """

    losses: Losses
    gradient_norm: Tensor
    skipped: bool = False


class TrainStep:
    """One step of the optimizer.

    Args:
        spec: The train spec.
        state: What is trained.
        ranks: Who trains together: the gradients are the mean over all.
        precision: What to compute in; None: float32.
        teacher: Whose maps join the targets.
    """

    def __init__(
        self,
        spec: TrainSpec,
        state: TrainState,
        ranks: DistributedContext,
        *,
        precision: torch.dtype | None = None,
        teacher: Teacher | PrecomputedTeacher | None = None,
    ) -> None:
        self._spec = spec
        self._trainee = state
        self._device = ranks.device
        self._precision = precision
        self._teacher = teacher
        self._labels = TargetGenerator(spec)
        self._alone = _compile(spec, state.network)
        self._forward = _exchanging(self._alone, ranks)

    def __call__(self, batches: Sequence[Batch]) -> StepResult:
        """Step on the mean gradient of these batches, from any device."""
        optimizer, scaler = self._trainee.optimizer, self._trainee.scaler
        scale, statistics = scaler.get_scale(), self._copy_statistics()
        optimizer.zero_grad(set_to_none=True)
        found = []
        for number, batch in enumerate(batches, 1):
            with self._without_exchange() if number < len(batches) else nullcontext():
                losses = self._losses(batch.to(self._device), self._forward)
                scaler.scale(losses.total / len(batches)).backward()
            found.append(losses)
        scaler.unscale_(optimizer)
        norm = self._clip()
        scaler.step(optimizer)
        scaler.update()
        skipped = scaler.get_scale() < scale
        if skipped:
            for buffer, before in zip(self._trainee.network.buffers(), statistics, strict=True):
                buffer.copy_(before)
        return StepResult(_mean(found), norm, skipped)

    def _copy_statistics(self) -> list[Tensor]:
        """Batch statistics, to be put back: they take in activations that overflow."""
        if not self._trainee.scaler.is_enabled():
            return []
        return [buffer.clone() for buffer in self._trainee.network.buffers()]

    def _losses(self, batch: Batch, forward: nn.Module) -> Losses:
        """The losses of a batch that is on the device."""
        network, spec = self._trainee.network, self._spec
        teacher, labels = self._teacher, self._labels(batch)
        images = read_images(batch)
        # A teacher on the processor has its copy before the device is busy with the network.
        asked = images.to(teacher.place) if isinstance(teacher, Teacher) else images
        with torch.autocast(self._device.type, self._precision, self._precision is not None):
            maps = forward(network.normalize(images))
            taught = teacher(asked) if isinstance(teacher, Teacher) else None
        if isinstance(teacher, PrecomputedTeacher):
            taught = teacher(batch)
        focal = spec.loss.focal_loss_params
        heat, paf = stage_losses(maps.heatmaps, maps.pafs, labels, focal)
        total = torch.stack(heat + paf).sum()
        if taught is not None:
            learned = [
                *stage_losses(maps.heatmaps, maps.pafs, leave_rest(labels, taught), focal),
                *stage_losses(maps.heatmaps, maps.pafs, taught),
            ]
            total = torch.stack([loss for losses in learned for loss in losses]).sum()
        total = total / len(batch)
        if not spec.load_graph:
            penalty = regularization(network.layers().values(), spec.model)
            total = total if penalty is None else total + penalty
        return Losses(total, heat, paf)

    def try_out(self, batch: Batch) -> None:
        """Compute the gradients of a batch for nothing: does it fit in memory?"""
        self._losses(batch.to(self._device), self._alone).total.backward()
        self._trainee.optimizer.zero_grad(set_to_none=True)

    def _clip(self) -> Tensor:
        """The norm of the gradients, which are shortened to what the spec allows."""
        parameters = list(self._trainee.network.parameters())
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if self._spec.clip_grad_norm is not None:
            nn.utils.clip_grads_with_norm_(parameters, self._spec.clip_grad_norm, norm)
        return norm

    def _without_exchange(self) -> AbstractContextManager[None]:
        """DistributedContext exchange gradients once per step, not once per batch."""
        forward = self._forward
        return forward.no_sync() if isinstance(forward, DistributedDataParallel) else nullcontext()


def mixed_precision(device: torch.device) -> torch.dtype:
    """bfloat16, which needs no scaling of the loss; float16 on GPUs that are too old for it."""
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16
    return torch.bfloat16


def _compile(spec: TrainSpec, network: BodyPoseNetwork) -> nn.Module:
    """The network, compiled where the spec says so."""
    if not spec.torch_compile:
        return network
    logger.info("compiling the network: the first step takes a while")
    return torch.compile(network)  # type: ignore[return-value]


def _exchanging(forward: nn.Module, ranks: DistributedContext) -> nn.Module:
    """The network so that all ranks get the mean of their gradients."""
    if ranks.count == 1:
        return forward
    devices = [ranks.device] if ranks.device.type == "cuda" else None
    with warnings.catch_warnings():  # its newer name is not in every torch that we allow
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        wrapped = DistributedDataParallel(forward, device_ids=devices, broadcast_buffers=False)
    # Of kernels of 1 x 1: both layouts are the same memory.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides", UserWarning)
    return wrapped


def _mean(found: Sequence[Losses]) -> Losses:
    """The mean of the losses of several batches, without their history."""
    totals = torch.stack([losses.total.detach() for losses in found])
    heatmaps = torch.stack([torch.stack(losses.heatmaps).detach() for losses in found])
    pafs = torch.stack([torch.stack(losses.pafs).detach() for losses in found])
    return Losses(totals.mean(), list(heatmaps.mean(0)), list(pafs.mean(0)))


class TargetGenerator:
    """Makes the targets of batches from their labels.

    Args:
        spec: The train spec; says how targets are drawn.
    """

    def __init__(self, spec: TrainSpec) -> None:
        loader = spec.dataloader
        height = loader.image_config.image_dims.height
        self._skeleton = spec.skeleton
        self._options = TargetOptions.from_spec(loader.label_processor_config, height)
        self._mask_scale = loader.normalization_params.mask_scale[0]
        self._mask_offset = loader.normalization_params.mask_offset[0]

    def __call__(self, batch: Batch) -> Targets:
        """The targets of a batch, on its device."""
        height, width = batch.mask.shape[1:]
        heatmaps, pafs = render_targets(
            batch.keypoints, batch.labelled, self._skeleton, height, width, self._options
        )
        heat_weights, paf_weights = channel_weights(batch.known, self._skeleton)
        mask = cell_mask(batch.mask, self._options.stride) / self._mask_scale - self._mask_offset
        return Targets(heatmaps, pafs, mask * heat_weights, mask * paf_weights)


def read_images(batch: Batch) -> torch.Tensor:
    """The images of a batch, (B, H, W, 3) uint8, in the colors that their augmentation gives."""
    if batch.color is None or batch.blur is None:
        return batch.image
    return color_jitter(batch.image, batch.color, batch.blur)


def step_within_memory(step: TrainStep, batches: Sequence[Batch]) -> StepResult:
    """Do a step.

    Raises:
        BodyPoseNetError: The device's memory is too small.
    """
    try:
        return step(batches)
    except RuntimeError as error:
        if not _is_out_of_memory(error):
            raise
    # Out of the handler: the error held on to all that fills the memory.
    size, largest = len(batches[0]), find_largest(step, batches[0])
    fits = f"of these samples, {largest} fit" if largest else "not even one sample fits"
    raise BodyPoseNetError(
        f"the device's memory is too small for batches of {size}: {fits}",
        "Set a smaller dataloader.batch_size (accumulate_steps keeps the samples per step) or "
        "image_dims, or use --use_amp.",
    )


def find_largest(step: TrainStep, batch: Batch) -> int:
    """How many samples of a batch fit in memory, to an eighth of them; 0: not even one."""
    fits, fails = 0, len(batch)
    while fails - fits > max(fits // 8, 1):
        middle = (fits + fails) // 2
        if _fits(step, batch.first(middle)):
            fits = middle
        else:
            fails = middle
    return fits


def _fits(step: TrainStep, batch: Batch) -> bool:
    try:
        step.try_out(batch)
        return True
    except RuntimeError as error:
        if not _is_out_of_memory(error):
            raise
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return False


def _is_out_of_memory(error: RuntimeError) -> bool:
    """On a GPU, or on the CPU, whose allocator has no error of its own."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
