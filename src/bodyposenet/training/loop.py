"""A train spec in, a trained model out: the whole loop on one page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bodyposenet.console import StatusFile, logger
from bodyposenet.data.dataset import Sample
from bodyposenet.model.checkpoint import save_model
from bodyposenet.model.loss import Targets, regularization, stage_losses
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.model.targets import TargetOptions
from bodyposenet.runtime.pytorch import choose_device
from bodyposenet.specs.training import TrainSpec
from bodyposenet.training.batches import Batches, make_targets
from bodyposenet.training.checkpoints import restore_optimizer, save_checkpoint
from bodyposenet.training.optimizer import build_optimizer, set_learning_rate
from bodyposenet.training.report import Report
from bodyposenet.training.samples import dataset_sources, training_samples
from bodyposenet.training.schedule import learning_rate
from bodyposenet.training.start import prepare_start
from bodyposenet.training.validation import Validation


@dataclass(frozen=True, eq=False)
class Losses:
    """The parts of a step's loss.

    Args:
        total: What is minimized: all stages over the batch size, and the penalty.
        heatmaps: One sum per stage, over the batch.
        pafs: One sum per stage, over the batch.
    """

    total: Tensor
    heatmaps: list[Tensor]
    pafs: list[Tensor]


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
    device = choose_device()
    start = prepare_start(spec, results_dir, key)
    network = start.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = build_optimizer(
        network, spec.optimizer, stagewise=spec.use_stagewise_lr_multipliers
    )
    if start.checkpoint is not None:
        restore_optimizer(start.checkpoint, network, optimizer, key)
    dataset_specs = spec.dataset_specs()
    sources = dataset_sources(spec, dataset_specs)
    samples = training_samples(spec, sources)
    loader = spec.dataloader
    batches = Batches(samples, loader.batch_size, loader.workers, spec.random_seed)
    validation = Validation(spec, dataset_specs, sources, device)
    options = TargetOptions.from_spec(
        loader.label_processor_config, loader.image_config.image_dims.height
    )
    schedule = spec.optimizer.learning_rate_schedule
    last_step = (spec.num_epoch - start.schedule_start) * len(batches)
    logger.info(
        "training on %s: %d samples, %d steps per epoch, %.2f M parameters",
        device, len(samples), len(batches), sum(p.numel() for p in network.parameters()) / 1e6,
    )  # fmt: skip

    with Report(spec, results_dir, len(batches), start.epochs_done + 1, status) as report:
        for epoch in range(start.epochs_done + 1, spec.num_epoch + 1):
            network.train()
            for step, batch in enumerate(batches.epoch(epoch), (epoch - 1) * len(batches)):
                progress = step - start.schedule_start * len(batches)
                rate = learning_rate(schedule, progress, last_step, len(batches))
                set_learning_rate(optimizer, rate)
                targets = make_targets(
                    batch, device, network.skeleton, options, loader.normalization_params
                )
                losses = _step(network, optimizer, batch, targets, spec, device, use_amp)
                report.step(step + 1, len(batch.image), batch.without_mask, losses, rate)
            report.end_epoch(epoch)
            if epoch % spec.checkpoint_n_epoch == 0 or epoch == spec.num_epoch:
                save_checkpoint(
                    results_dir, epoch, network, optimizer,
                    key=key, spec=spec.text, keep=spec.max_ckpt_to_keep,
                )  # fmt: skip
            if epoch % spec.validation_every_n_epoch == 0 or epoch == spec.num_epoch:
                report.validated(epoch, validation.run(network))
    final = results_dir / f"{spec.final_model_name}.tlt"
    save_model(final, network, key=key, epoch=spec.num_epoch, spec=spec.text)
    return final


def _step(
    network: BodyPoseNetwork,
    optimizer: torch.optim.Optimizer,
    batch: Sample,
    targets: Targets,
    spec: TrainSpec,
    device: torch.device,
    use_amp: bool,
) -> Losses:
    images = network.normalize(torch.from_numpy(batch.image).to(device))
    with torch.autocast(device.type, torch.bfloat16, enabled=use_amp):
        maps = network(images)
    heat, paf = stage_losses(maps.heatmaps, maps.pafs, targets)
    total = (torch.stack(heat).sum() + torch.stack(paf).sum()) / len(batch.image)
    if not spec.load_graph:
        penalty = regularization(network.layers().values(), spec.model)
        total = total if penalty is None else total + penalty
    optimizer.zero_grad(set_to_none=True)
    total.backward()
    optimizer.step()
    return Losses(total.detach(), [part.detach() for part in heat], [part.detach() for part in paf])
