"""A train spec in, a trained model out: the whole loop on one page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from bodyposenet.console import StatusFile, logger, track
from bodyposenet.data.dataset import Sample
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.model.checkpoint import save_model
from bodyposenet.model.loss import Losses, regularization, stage_losses
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.model.targets import TargetOptions
from bodyposenet.runtime.pytorch import choose_device
from bodyposenet.specs.training import TrainSpec
from bodyposenet.training.batches import Batches, make_targets
from bodyposenet.training.checkpoints import check_weights, restore_optimizer, save_checkpoint
from bodyposenet.training.optimizer import build_optimizer, set_learning_rate
from bodyposenet.training.report import Report
from bodyposenet.training.samples import dataset_sources, training_samples
from bodyposenet.training.schedule import learning_rate
from bodyposenet.training.start import Start, prepare_start
from bodyposenet.training.validation import Validation


@dataclass(frozen=True, eq=False)
class _Training:
    """What the loop works with."""

    spec: TrainSpec
    start: Start
    network: BodyPoseNetwork
    optimizer: torch.optim.Optimizer
    batches: Batches
    validation: Validation
    target_options: TargetOptions
    device: torch.device
    use_amp: bool


def train(
    spec: TrainSpec, results_dir: Path, *, key: str, use_amp: bool, status: StatusFile
) -> Path:
    """Train as the spec says; run again, it goes on after the last checkpoint.

    Args:
        spec: The train spec.
        results_dir: Receives checkpoints, the final model and TensorBoard events.
        key: Closes model files; empty: plain.
        use_amp: Compute in bfloat16 where that is safe.
        status: Receives a line per epoch.

    Returns:
        The final model's path.

    Raises:
        BodyPoseNetError: Data or weights cannot be read, results cannot be written, or the loss is
            no number any more.
    """
    training = _prepare(spec, results_dir, key, use_amp)
    network, done = training.network, training.start.epochs_done
    with Report(spec, results_dir, len(training.batches), done + 1, status) as report:
        due = training.start.resumed and _is_due(done, spec.validation_every_n_epoch, spec)
        if due and not report.was_validated(done):  # the run ended between checkpoint and that
            report.validated(done, training.validation.run())
        for epoch in range(done + 1, spec.num_epoch + 1):
            _train_epoch(training, epoch, report)
            check_weights(network, epoch)
            if _is_due(epoch, spec.checkpoint_n_epoch, spec):
                save_checkpoint(
                    results_dir, epoch, network, training.optimizer,
                    key=key, spec=spec.text, keep=spec.max_ckpt_to_keep,
                )  # fmt: skip
            if _is_due(epoch, spec.validation_every_n_epoch, spec):
                report.validated(epoch, training.validation.run())
    final = results_dir / f"{spec.final_model_name}.tlt"
    save_model(final, network, key=key, epoch=spec.num_epoch, spec=spec.text)
    return final


def _prepare(spec: TrainSpec, results_dir: Path, key: str, use_amp: bool) -> _Training:
    device = choose_device()
    if device.type == "cpu":
        logger.info("no GPU is there: training on the CPU")
    start = prepare_start(spec, results_dir, key)
    network = start.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    stagewise = spec.use_stagewise_lr_multipliers
    optimizer = build_optimizer(network, spec.optimizer, stagewise=stagewise)
    if start.checkpoint is not None:
        restore_optimizer(start.checkpoint, network, optimizer, key)
    dataset_specs = spec.dataset_specs()
    sources = dataset_sources(spec, dataset_specs)
    samples, loader = training_samples(spec, sources), spec.dataloader
    batches = Batches(samples, loader.batch_size, loader.workers, spec.random_seed)
    logger.info(
        "%d samples, %d steps per epoch, %.2f M parameters",
        len(samples), len(batches), sum(part.numel() for part in network.parameters()) / 1e6,
    )  # fmt: skip
    return _Training(
        spec, start, network, optimizer, batches,
        Validation(spec, dataset_specs, sources, network, device),
        TargetOptions.from_spec(
            loader.label_processor_config, loader.image_config.image_dims.height
        ),
        device, use_amp,
    )  # fmt: skip


def _is_due(epoch: int, every: int, spec: TrainSpec) -> bool:
    return epoch % every == 0 or epoch == spec.num_epoch


def _train_epoch(training: _Training, epoch: int, report: Report) -> None:
    spec, steps = training.spec, len(training.batches)
    schedule = spec.optimizer.learning_rate_schedule
    first, last = training.start.schedule_start * steps, spec.num_epoch * steps
    training.network.train()
    batches = track(training.batches.epoch(epoch), f"epoch {epoch}", steps, lines=False)
    for step, batch in enumerate(batches, (epoch - 1) * steps):
        rate = learning_rate(schedule, step - first, last - first, steps)
        set_learning_rate(training.optimizer, rate)
        try:
            losses = _step(training, batch)
        except torch.OutOfMemoryError as error:
            raise BodyPoseNetError(
                f"the device's memory is too small for batches of {len(batch.image)}",
                "Set a smaller dataloader.batch_size or image_dims, or use --use_amp.",
            ) from error
        report.step(step + 1, len(batch.image), batch.without_mask, losses, rate)
    report.end_epoch(epoch)


def _step(training: _Training, batch: Sample) -> Losses:
    network, device, spec = training.network, training.device, training.spec
    normalization = spec.dataloader.normalization_params
    targets = make_targets(batch, device, network.skeleton, training.target_options, normalization)
    images = network.normalize(torch.from_numpy(batch.image).to(device))
    with torch.autocast(device.type, torch.bfloat16, enabled=training.use_amp):
        maps = network(images)
    heat, paf = stage_losses(maps.heatmaps, maps.pafs, targets)
    total = (torch.stack(heat).sum() + torch.stack(paf).sum()) / len(batch.image)
    if not spec.load_graph:
        penalty = regularization(network.layers().values(), spec.model)
        total = total if penalty is None else total + penalty
    training.optimizer.zero_grad(set_to_none=True)
    total.backward()
    training.optimizer.step()
    return Losses(total.detach(), [part.detach() for part in heat], [part.detach() for part in paf])
