"""Training step: loss and gradients of a batch, and the update of the weights.

Nothing in a step synchronizes with the device, except a teacher that runs on the CPU, and the
overflow check of float16.
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
from bodyposenet.training.distillation import PrecomputedTeacher, Teacher, reduce_label_weight
from bodyposenet.training.distributed import DistributedContext


class StepResult(NamedTuple):
    """Result of a training step; the tensors are on the device.

    Args:
        losses: Losses of this rank, averaged over the accumulated batches.
        gradient_norm: Norm of all gradients together, before clipping.
        skipped: Whether the gradients overflowed in float16, in which case weights and batch
            normalization statistics are unchanged.
    """

    losses: Losses
    gradient_norm: Tensor
    skipped: bool = False


class TrainStep:
    """A step of the optimizer, with gradient accumulation, clipping and mixed precision.

    Args:
        spec: The train spec.
        state: Network, optimizer and gradient scaler.
        distributed: The ranks that train together; gradients are averaged over them.
        precision: Data type of autocast, or None for float32.
        teacher: Teacher for knowledge distillation, or None.
    """

    def __init__(
        self,
        spec: TrainSpec,
        state: TrainState,
        distributed: DistributedContext,
        *,
        precision: torch.dtype | None = None,
        teacher: Teacher | PrecomputedTeacher | None = None,
    ) -> None:
        self._spec = spec
        self._state = state
        self._device = distributed.device
        self._precision = precision
        self._teacher = teacher
        self._target_generator = TargetGenerator(spec)
        self._network = _compile_if_enabled(spec, state.network)
        self._ddp_network = _wrap_ddp(self._network, distributed)

    def __call__(self, batches: Sequence[Batch]) -> StepResult:
        """Update the weights with the mean gradient of the batches.

        Args:
            batches: The batches to accumulate, on any device.
        """
        optimizer, scaler = self._state.optimizer, self._state.scaler
        scale, statistics = scaler.get_scale(), self._copy_statistics()
        optimizer.zero_grad(set_to_none=True)
        all_losses = []
        for number, batch in enumerate(batches, 1):
            with self._no_sync() if number < len(batches) else nullcontext():
                losses = self._losses(batch.to(self._device), self._ddp_network)
                scaler.scale(losses.total / len(batches)).backward()
            all_losses.append(losses)
        scaler.unscale_(optimizer)
        norm = self._clip_gradients()
        scaler.step(optimizer)
        scaler.update()
        skipped = scaler.get_scale() < scale
        if skipped:
            for buffer, before in zip(self._state.network.buffers(), statistics, strict=True):
                buffer.copy_(before)
        return StepResult(_mean(all_losses), norm, skipped)

    def dry_run(self, batch: Batch) -> None:
        """Compute the gradients of a batch and discard them, to test whether it fits in memory."""
        self._losses(batch.to(self._device), self._network).total.backward()
        self._state.optimizer.zero_grad(set_to_none=True)

    def _losses(self, batch: Batch, network: nn.Module) -> Losses:
        """Compute the losses of a batch that is on the device."""
        state, spec = self._state, self._spec
        teacher, label_targets = self._teacher, self._target_generator(batch)
        images = jittered_images(batch)
        # Copied for a teacher on the CPU before the network occupies the device.
        teacher_images = images.to(teacher.input_device) if isinstance(teacher, Teacher) else images
        teacher_targets: Targets | None = None
        with torch.autocast(self._device.type, self._precision, self._precision is not None):
            maps = network(state.network.normalize(images))
            if isinstance(teacher, Teacher):
                teacher_targets = teacher(teacher_images)
        if isinstance(teacher, PrecomputedTeacher):
            teacher_targets = teacher(batch)
        focal = spec.loss.focal_loss_params
        heatmap_losses, paf_losses = stage_losses(maps.heatmaps, maps.pafs, label_targets, focal)
        total = torch.stack(heatmap_losses + paf_losses).sum()
        if teacher_targets is not None:
            label_targets = reduce_label_weight(label_targets, teacher_targets)
            distillation_losses = [
                *stage_losses(maps.heatmaps, maps.pafs, label_targets, focal),
                *stage_losses(maps.heatmaps, maps.pafs, teacher_targets),
            ]
            total = torch.stack([loss for part in distillation_losses for loss in part]).sum()
        total = total / len(batch)
        if not spec.load_graph:
            penalty = regularization(state.network.layers().values(), spec.model)
            total = total if penalty is None else total + penalty
        return Losses(total, heatmap_losses, paf_losses)

    def _copy_statistics(self) -> list[Tensor]:
        """Copy the buffers, to restore them after an overflow, which corrupts the statistics."""
        if not self._state.scaler.is_enabled():
            return []
        return [buffer.clone() for buffer in self._state.network.buffers()]

    def _clip_gradients(self) -> Tensor:
        """Clip the gradients if the spec sets clip_grad_norm; return their norm before clipping."""
        parameters = list(self._state.network.parameters())
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if self._spec.clip_grad_norm is not None:
            nn.utils.clip_grads_with_norm_(parameters, self._spec.clip_grad_norm, norm)
        return norm

    def _no_sync(self) -> AbstractContextManager[None]:
        """Skip the exchange of gradients between ranks, which is due once per step."""
        network = self._ddp_network
        return network.no_sync() if isinstance(network, DistributedDataParallel) else nullcontext()


class TargetGenerator:
    """Renders the target maps of batches from their keypoints.

    Args:
        spec: The train spec, with the options of the targets.
    """

    def __init__(self, spec: TrainSpec) -> None:
        loader = spec.dataloader
        height = loader.image_config.image_dims.height
        self._skeleton = spec.skeleton
        self._options = TargetOptions.from_spec(loader.label_processor_config, height)
        self._mask_scale = loader.normalization_params.mask_scale[0]
        self._mask_offset = loader.normalization_params.mask_offset[0]

    def __call__(self, batch: Batch) -> Targets:
        """Return the targets of a batch, on the batch's device."""
        height, width = batch.mask.shape[1:]
        heatmaps, pafs = render_targets(
            batch.keypoints, batch.labeled, self._skeleton, height, width, self._options
        )
        heatmap_weights, paf_weights = channel_weights(batch.known, self._skeleton)
        mask = cell_mask(batch.mask, self._options.stride) / self._mask_scale - self._mask_offset
        return Targets(heatmaps, pafs, mask * heatmap_weights, mask * paf_weights)


def jittered_images(batch: Batch) -> Tensor:
    """Return the images of a batch after its color augmentation, (B, H, W, 3) uint8."""
    if batch.color is None or batch.blur is None:
        return batch.image
    return color_jitter(batch.image, batch.color, batch.blur)


def mixed_precision(device: torch.device) -> torch.dtype:
    """Return the data type of mixed precision: bfloat16, or float16 on GPUs without bfloat16."""
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16
    return torch.bfloat16


def step_with_oom_check(step: TrainStep, batches: Sequence[Batch]) -> StepResult:
    """Run a training step; if it runs out of memory, find the batch size that fits.

    Raises:
        BodyPoseNetError: The device runs out of memory; the error states the batch size that fits.
    """
    try:
        return step(batches)
    except RuntimeError as error:
        if not _is_out_of_memory(error):
            raise
    # Outside of the handler, as the exception keeps the tensors of the failed step alive.
    size, largest = len(batches[0]), find_largest_batch_size(step, batches[0])
    fits = f"a batch size of {largest} fits" if largest else "not even one sample fits"
    raise BodyPoseNetError(
        f"out of memory with dataloader.batch_size {size}; {fits}",
        "Set a smaller dataloader.batch_size (accumulate_steps keeps the samples per step), "
        "smaller image_dims, or use --use_amp.",
    )


def find_largest_batch_size(step: TrainStep, batch: Batch) -> int:
    """Search for the largest batch size that fits in memory, to a precision of one eighth.

    Args:
        step: The training step.
        batch: A batch that does not fit.

    Returns:
        The batch size, or 0 if not even one sample fits.
    """
    fits, fails = 0, len(batch)
    while fails - fits > max(fits // 8, 1):
        middle = (fits + fails) // 2
        if _fits(step, batch.first(middle)):
            fits = middle
        else:
            fails = middle
    return fits


def _fits(step: TrainStep, batch: Batch) -> bool:
    """Return whether a batch fits in memory; release the cached memory if not."""
    try:
        step.dry_run(batch)
        return True
    except RuntimeError as error:
        if not _is_out_of_memory(error):
            raise
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return False


def _is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether an error means that the memory of the device or the CPU is exhausted."""
    # The CPU allocator raises a plain RuntimeError.
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _compile_if_enabled(spec: TrainSpec, network: BodyPoseNetwork) -> nn.Module:
    """Compile the network if `torch_compile` is set."""
    if not spec.torch_compile:
        return network
    logger.info("Compiling the network (torch_compile); the first step takes a while")
    return torch.compile(network)  # type: ignore[return-value]


def _wrap_ddp(network: nn.Module, distributed: DistributedContext) -> nn.Module:
    """Wrap the network in DistributedDataParallel if there are several ranks."""
    if distributed.world_size == 1:
        return network
    devices = [distributed.device] if distributed.device.type == "cuda" else None
    with warnings.catch_warnings():  # Older supported versions of torch lack the new name.
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        wrapped = DistributedDataParallel(network, device_ids=devices, broadcast_buffers=False)
    # Raised for 1x1 kernels, whose two memory layouts are the same.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides", UserWarning)
    return wrapped


def _mean(all_losses: Sequence[Losses]) -> Losses:
    """Average the losses of several batches, detached from the graph."""
    totals = torch.stack([losses.total.detach() for losses in all_losses])
    heatmaps = torch.stack([torch.stack(losses.heatmaps).detach() for losses in all_losses])
    pafs = torch.stack([torch.stack(losses.pafs).detach() for losses in all_losses])
    return Losses(totals.mean(), list(heatmaps.mean(0)), list(pafs.mean(0)))
