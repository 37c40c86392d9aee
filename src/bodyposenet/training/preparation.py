"""A train spec in, all that its loop works with out: network, data, validation, start."""

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
from bodyposenet.training.batches import Batches
from bodyposenet.training.checkpoints import Position, TrainState
from bodyposenet.training.distributed import DistributedContext
from bodyposenet.training.ema import ExponentialMovingAverage
from bodyposenet.training.optimizer import build_optimizer
from bodyposenet.training.resume_checks import check_same_facts
from bodyposenet.training.samples import dataset_sources, training_samples
from bodyposenet.training.start import Start, prepare_start
from bodyposenet.training.step import TrainStep, mixed_precision
from bodyposenet.training.teacher import (
    PrecomputedTeacher,
    Teacher,
    load_teacher,
    open_teacher_maps,
)
from bodyposenet.training.validation import Validation


@dataclass(frozen=True, eq=False)
class Training:
    """What the loop works with.

    Args:
        spec: The train spec.
        results_dir: Receives the files.
        key: Closes model files.
        ranks: Who trains together.
        position: What is done already.
        schedule_start: Epochs that were done when the learning rate schedule began.
        resumed: It goes on from the last checkpoint of the results folder.
        state: What is trained.
        step: Trains it.
        batches: What it is trained on.
        validation: Tells how good it is.
    """

    spec: TrainSpec
    results_dir: Path
    key: str
    ranks: DistributedContext
    position: Position
    schedule_start: int
    resumed: bool
    state: TrainState
    step: TrainStep
    batches: Batches
    validation: Validation

    @property
    def steps_per_epoch(self) -> int:
        """Steps of the optimizer in an epoch."""
        return len(self.batches) // self.spec.accumulate_steps

    @property
    def steps_done(self) -> int:
        """Steps before this run; part of a step, after a change of the ranks, is done again."""
        position = self.position
        within = position.samples // self.batches.samples_per_step
        return position.epoch * self.steps_per_epoch + min(within, self.steps_per_epoch - 1)


def prepare_training(
    spec: TrainSpec, results_dir: Path, ranks: DistributedContext, *, key: str, use_amp: bool
) -> Training:
    """Build it all; arguments as `training.loop.train`.

    Raises:
        BodyPoseNetError: A file is missing or wrong, or the ranks see different results folders.
    """
    # The inputs of all steps have one size: the quickest kernels for it are worth looking for.
    torch.backends.cudnn.benchmark = ranks.device.type == "cuda"
    if ranks.device.type == "cpu":
        logger.info("no GPU is there: training on the CPU")
    _tell_padding(spec.dataloader.image_config.image_dims)
    start = prepare_start(spec, results_dir, key)
    _check_ranks(ranks, start, results_dir)
    dataset_specs = spec.dataset_specs()
    sources = dataset_sources(spec, dataset_specs)
    teacher_maps = open_teacher_maps(spec)
    samples, loader = training_samples(spec, sources, teacher_maps), spec.dataloader
    facts: dict[str, int | bool] = {
        "records": len(samples),
        "--use_amp": use_amp,
        "finetuning_config.ckpt_epoch_num": start.schedule_start,
    }
    if teacher_maps is not None:  # the folder may move, its model and settings may not change
        facts["teacher maps"] = teacher_maps.folder.digest
    if start.checkpoint is not None and start.resumed:
        check_same_facts(facts, start.checkpoint, results_dir)
    precision = mixed_precision(ranks.device) if use_amp else None
    state = _build_trainee(spec, start, ranks, precision, facts)
    batches = Batches(
        samples, loader.batch_size, ranks,
        workers=loader.workers, seed=spec.random_seed, per_step=spec.accumulate_steps,
        most_unreadable=loader.max_unreadable_share,
    )  # fmt: skip
    validation = Validation(spec, dataset_specs, sources, samples, state.result, ranks)
    teacher: Teacher | PrecomputedTeacher | None = load_teacher(spec, key, ranks.device)
    if teacher_maps is not None and spec.distillation is not None:
        teacher = PrecomputedTeacher(teacher_maps, spec.distillation.weight, ranks.device)
    step = TrainStep(spec, state, ranks, precision=precision, teacher=teacher)
    training = Training(  # without `start`, whose checkpoint would stay in memory for the whole run
        spec, results_dir, key, ranks, start.position, start.schedule_start, start.resumed,
        state, step, batches, validation,
    )  # fmt: skip
    logger.info(
        "%d samples per step, %d steps per epoch, %.2f M parameters",
        batches.samples_per_step, training.steps_per_epoch,
        sum(part.numel() for part in state.network.parameters()) / 1e6,
    )  # fmt: skip
    return training


def _tell_padding(dims: ImageDims) -> None:
    if dims.height % STRIDE or dims.width % STRIDE:
        logger.info(
            "image_dims %d x %d: gray is added, up to whole cells of %d x %d pixels",
            dims.height, dims.width, STRIDE, STRIDE,
        )  # fmt: skip


def _check_ranks(ranks: DistributedContext, start: Start, results_dir: Path) -> None:
    """All ranks must go on from the same checkpoint."""
    positions = ranks.gather(start.position)
    if len(set(positions)) > 1:
        raise BodyPoseNetError(
            f"{results_dir}: the ranks find different checkpoints there: {positions}",
            "Give a results folder (-r) that all machines share.",
        )


def _build_trainee(
    spec: TrainSpec,
    start: Start,
    ranks: DistributedContext,
    precision: torch.dtype | None,
    facts: Mapping[str, int | bool],
) -> TrainState:
    network = start.network
    network.heatmap_sigma = spec.dataloader.label_processor_config.heatmap_gaussian_sigma
    if spec.sync_batch_norm and ranks.count > 1:
        if ranks.device.type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(network)  # exchanges the layers within
        else:
            logger.info("sync_batch_norm has no effect without GPUs")
    network.to(ranks.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    state = TrainState(
        network,
        build_optimizer(network, spec.optimizer, stagewise=spec.use_stagewise_lr_multipliers),
        None if spec.ema_decay is None else ExponentialMovingAverage(network, spec.ema_decay),
        torch.amp.GradScaler(ranks.device.type, enabled=precision is torch.float16),
        facts,
    )
    if start.checkpoint is not None:
        start.checkpoint.restore(state, exactly=start.resumed)
    return state
