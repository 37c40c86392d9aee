"""Building a training from its train spec: network, optimizer, data, teacher and validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from bodyposenet.console import logger
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.specs.dataloader import ImageDims
from bodyposenet.specs.network import STRIDE
from bodyposenet.specs.training import TrainSpec
from bodyposenet.training.batches import BatchLoader
from bodyposenet.training.checkpoints import Position, TrainState
from bodyposenet.training.distillation import (
    PrecomputedTeacher,
    Teacher,
    load_teacher,
    open_teacher_maps,
)
from bodyposenet.training.distributed import DistributedContext
from bodyposenet.training.ema import ExponentialMovingAverage
from bodyposenet.training.initial_state import InitialState, load_initial_state
from bodyposenet.training.optimizer import build_optimizer
from bodyposenet.training.resume_checks import check_same_invariants
from bodyposenet.training.samples import dataset_sources, training_samples
from bodyposenet.training.step import TrainStep, mixed_precision
from bodyposenet.training.validation import Validation


@dataclass(frozen=True, eq=False)
class Training:
    """A training that is ready to run: its state, data and settings.

    Args:
        spec: The train spec.
        results_dir: Results folder.
        key: Encryption key of model files; empty for plain files.
        distributed: The ranks that train together.
        position: Epochs and samples that are done already.
        schedule_start: Number of epochs before the learning rate schedule begins.
        resumed: Whether the training resumes from the last checkpoint of the results folder.
        state: Network, optimizer, moving average and gradient scaler.
        step: The training step.
        loader: Loads the training batches.
        validation: Validates the network.
    """

    spec: TrainSpec
    results_dir: Path
    key: str
    distributed: DistributedContext
    position: Position
    schedule_start: int
    resumed: bool
    state: TrainState
    step: TrainStep
    loader: BatchLoader
    validation: Validation

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps per epoch."""
        return len(self.loader) // self.spec.accumulate_steps

    @property
    def steps_done(self) -> int:
        """Optimizer steps before this run.

        If the number of ranks has changed, a step that is done in part is repeated.
        """
        position = self.position
        within_epoch = position.samples // self.loader.samples_per_step
        return position.epoch * self.steps_per_epoch + min(within_epoch, self.steps_per_epoch - 1)


def build_training(
    spec: TrainSpec,
    results_dir: Path,
    distributed: DistributedContext,
    *,
    key: str,
    use_amp: bool,
) -> Training:
    """Build a training, or resume the one of the results folder; see `training.loop.train`.

    Args:
        spec: The train spec.
        results_dir: Results folder.
        distributed: The ranks that train together.
        key: Encryption key of model files; empty for plain files.
        use_amp: Whether to train in mixed precision.

    Raises:
        BodyPoseNetError: A file is missing or invalid, or the ranks find different checkpoints.
    """
    # All training inputs have the same size, so that cuDNN's benchmark mode pays off.
    torch.backends.cudnn.benchmark = distributed.device.type == "cuda"
    if distributed.device.type == "cpu":
        logger.info("No GPU available, training on the CPU")
    _log_padding(spec.dataloader.image_config.image_dims)
    initial = load_initial_state(spec, results_dir, key)
    _check_same_position(distributed, initial, results_dir)
    dataset_specs = spec.dataset_specs()
    sources = dataset_sources(spec, dataset_specs)
    teacher_maps = open_teacher_maps(spec)
    samples = training_samples(spec, sources, teacher_maps)
    invariants: dict[str, int | bool] = {
        "records": len(samples),
        "--use_amp": use_amp,
        "finetuning_config.ckpt_epoch_num": initial.schedule_start,
    }
    if teacher_maps is not None:  # The folder may move, but its contents must stay the same.
        invariants["teacher maps"] = teacher_maps.store.digest
    if initial.checkpoint is not None and initial.resumed:
        check_same_invariants(invariants, initial.checkpoint, results_dir)
    precision = mixed_precision(distributed.device) if use_amp else None
    state = _build_state(spec, initial, distributed, precision, invariants)
    loader = BatchLoader(
        samples, spec.dataloader.batch_size, distributed,
        workers=spec.dataloader.workers, seed=spec.random_seed,
        accumulate_steps=spec.accumulate_steps,
        max_unreadable_share=spec.dataloader.max_unreadable_share,
    )  # fmt: skip
    validation = Validation(spec, dataset_specs, sources, samples, state.eval_network, distributed)
    teacher: Teacher | PrecomputedTeacher | None = load_teacher(spec, key, distributed.device)
    if teacher_maps is not None and spec.distillation is not None:
        teacher = PrecomputedTeacher(teacher_maps, spec.distillation.weight, distributed.device)
    step = TrainStep(spec, state, distributed, precision=precision, teacher=teacher)
    training = Training(  # Without `initial`, whose checkpoint would stay in memory.
        spec, results_dir, key, distributed, initial.position, initial.schedule_start,
        initial.resumed, state, step, loader, validation,
    )  # fmt: skip
    logger.info(
        "Training: %d samples per step, %d steps per epoch, %.2f M parameters",
        loader.samples_per_step, training.steps_per_epoch,
        sum(parameter.numel() for parameter in state.network.parameters()) / 1e6,
    )  # fmt: skip
    return training


def _log_padding(dims: ImageDims) -> None:
    """Log if images are padded to whole cells of the output."""
    if dims.height % STRIDE or dims.width % STRIDE:
        logger.info(
            "image_dims %d x %d are padded with gray to multiples of %d pixels",
            dims.height, dims.width, STRIDE,
        )  # fmt: skip


def _check_same_position(
    distributed: DistributedContext, initial: InitialState, results_dir: Path
) -> None:
    """Check that all ranks resume from the same checkpoint."""
    positions = distributed.gather(initial.position)
    if len(set(positions)) > 1:
        raise BodyPoseNetError(
            f"{results_dir}: the ranks find different checkpoints: {positions}",
            "Use a results folder (-r) that all machines share.",
        )


def _build_state(
    spec: TrainSpec,
    initial: InitialState,
    distributed: DistributedContext,
    precision: torch.dtype | None,
    invariants: Mapping[str, int | bool],
) -> TrainState:
    """Build optimizer, moving average and gradient scaler, and restore them from the checkpoint."""
    network = initial.network
    network.heatmap_sigma = spec.dataloader.label_processor_config.heatmap_gaussian_sigma
    if spec.sync_batch_norm and distributed.world_size > 1:
        if distributed.device.type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(network)  # Replaces the layers in place.
        else:
            logger.info("sync_batch_norm has no effect without GPUs")
    network.to(distributed.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    state = TrainState(
        network,
        build_optimizer(network, spec.optimizer, stagewise=spec.use_stagewise_lr_multipliers),
        None if spec.ema_decay is None else ExponentialMovingAverage(network, spec.ema_decay),
        torch.amp.GradScaler(distributed.device.type, enabled=precision is torch.float16),
        invariants,
    )
    if initial.checkpoint is not None:
        initial.checkpoint.restore(state, strict=initial.resumed)
    return state
