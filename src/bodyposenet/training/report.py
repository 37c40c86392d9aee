"""What a training says as it goes: log lines with ETA, `status.json`, TensorBoard."""

from __future__ import annotations

import math
import time
from datetime import timedelta
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from bodyposenet.console import StatusFile, logger
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import make_directory
from bodyposenet.model.loss import Losses
from bodyposenet.specs.training import TrainSpec
from bodyposenet.training.validation import ValidationResult


class Report:
    """Follows a training; a context manager that closes the event file.

    Args:
        spec: How often to say what.
        results_dir: Receives `events/`.
        steps_per_epoch: Steps of one epoch.
        first_epoch: The epoch that this run begins with.
        status: Receives a line per epoch.
    """

    def __init__(
        self,
        spec: TrainSpec,
        results_dir: Path,
        steps_per_epoch: int,
        first_epoch: int,
        status: StatusFile,
    ) -> None:
        self._spec = spec
        self._steps_per_epoch = steps_per_epoch
        self._status = status
        self._first_step = (first_epoch - 1) * steps_per_epoch
        # What a killed run wrote of the steps that are now done again is dropped.
        self._writer = SummaryWriter(
            str(make_directory(results_dir / "events")), purge_step=self._first_step + 1
        )
        self._begun = self._last_line = time.monotonic()
        self._epoch_begun = self._begun
        self._loss_sum = 0.0
        self._loss_count = 0
        self._rate = 0.0
        self._without_mask: int | None = 0

    def __enter__(self) -> Report:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def step(self, step: int, samples: int, without_mask: int, losses: Losses, rate: float) -> None:
        """Follow one step.

        Args:
            step: Steps done since epoch 0.
            samples: Samples of the batch.
            without_mask: Those of them that had no mask file.
            losses: Of the batch.
            rate: The learning rate.

        Raises:
            BodyPoseNetError: The loss is no number any more.
        """
        loss = float(losses.total)
        if not math.isfinite(loss):
            raise BodyPoseNetError(
                f"the loss is {loss} at step {step} (learning rate {rate:.3g})",
                "Try a lower base_learning_rate, a longer soft_start, or run without --use_amp; "
                "the last checkpoint is intact.",
            )
        self._loss_sum += loss
        self._loss_count += 1
        self._rate = rate
        if self._without_mask is not None:
            self._without_mask += without_mask
        if step % self._spec.summary_every_n_steps == 0:
            self._write_scalars(step, losses, rate)
        if time.monotonic() - self._last_line >= self._spec.log_every_n_secs:
            self._log_progress(step, samples)

    def end_epoch(self, epoch: int) -> None:
        """Say how the epoch went, on screen and in `status.json`."""
        now = time.monotonic()
        seconds, self._epoch_begun = now - self._epoch_begun, now
        loss = self._loss_sum / max(self._loss_count, 1)
        self._loss_sum, self._loss_count = 0.0, 0
        eta = self._eta(epoch * self._steps_per_epoch)
        logger.info(
            "epoch %d/%d: loss %.4g, %s, ETA %s",
            epoch, self._spec.num_epoch, loss, _duration(seconds), _duration(eta),
        )  # fmt: skip
        self._status.write(
            "RUNNING", epoch=epoch, max_epoch=self._spec.num_epoch,
            time_per_epoch=_duration(seconds), eta=_duration(eta),
            graphical={"loss": loss, "learning_rate": self._rate},
        )  # fmt: skip
        if self._without_mask:
            logger.warning(
                "%d samples of the epoch had no mask file: all of their image counts",
                self._without_mask,
            )
        self._without_mask = None

    def was_validated(self, epoch: int) -> bool:
        """Whether an earlier run validated after that epoch."""
        return any(line.get("validated_epoch") == epoch for line in self._status.lines())

    def validated(self, epoch: int, result: ValidationResult) -> None:
        """Say what a validation found."""
        step = epoch * self._steps_per_epoch
        kpi = {}
        if result.loss is not None:
            self._writer.add_scalar("validation/loss", result.loss, step)
            kpi["validation_loss"] = result.loss
        for dataset, ap in result.ap.items():
            self._writer.add_scalar(f"validation/AP_{dataset}", ap.ap, step)
            kpi[f"AP_{dataset}"] = ap.ap
        self._writer.add_image("validation/predictions", result.picture, step, dataformats="HWC")
        if kpi:
            found = ", ".join(f"{name} {value:.4g}" for name, value in kpi.items())
            logger.info("epoch %d: %s", epoch, found)
        self._status.write("RUNNING", "validation", validated_epoch=epoch, kpi=kpi)
        self._writer.flush()
        self._epoch_begun = time.monotonic()

    def _write_scalars(self, step: int, losses: Losses, rate: float) -> None:
        for stage, (heat, paf) in enumerate(zip(losses.heatmaps, losses.pafs, strict=True), 1):
            self._writer.add_scalar(f"cmap_loss_stage{stage}", float(heat), step)
            self._writer.add_scalar(f"paf_loss_stage{stage}", float(paf), step)
        self._writer.add_scalar("total_loss", float(losses.total), step)
        self._writer.add_scalar("learning_rate", rate, step)

    def _log_progress(self, step: int, samples: int) -> None:
        now = time.monotonic()
        self._last_line = now
        speed = (step - self._first_step) * samples / (now - self._begun)
        epoch, done = divmod(step - 1, self._steps_per_epoch)
        logger.info(
            "epoch %d/%d, step %d/%d: loss %.4g, learning rate %.3g, %.1f images/s, ETA %s",
            epoch + 1, self._spec.num_epoch, done + 1, self._steps_per_epoch,
            self._loss_sum / self._loss_count, self._rate, speed, _duration(self._eta(step)),
        )  # fmt: skip

    def _eta(self, step: int) -> float:
        """Seconds to go, at the pace of this run."""
        per_step = (time.monotonic() - self._begun) / max(step - self._first_step, 1)
        return per_step * (self._spec.num_epoch * self._steps_per_epoch - step)


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
