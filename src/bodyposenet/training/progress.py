"""Progress of a training: log lines with loss, throughput and ETA; `status.json`; TensorBoard.

The losses of a step stay on the device until a line or a summary is due, as reading them
synchronizes with the device.
"""

from __future__ import annotations

import math
import platform
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from bodyposenet import __version__
from bodyposenet.console import logger
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import make_directory
from bodyposenet.model.loss import Losses
from bodyposenet.reporting.training_history import TrainingHistory
from bodyposenet.results_folder import StatusFile
from bodyposenet.specs.training import TrainSpec
from bodyposenet.training.validation import ValidationResult

_DIVERGED_REMEDY = (
    "Older checkpoints are intact. Use a lower base_learning_rate or a longer soft_start in "
    "another results folder (-r), or train without --use_amp."
)
_NO_MASK = "no mask file: the whole image counts"
_NO_MAPS = "no teacher maps (distillation.maps): trained on the labels alone"
_OUT_OF_SCALE = (
    "too large or too small for the teacher maps of their photo: trained on the labels alone"
)

_MAX_SKIPPED_IN_A_ROW = 50
"""After this many halvings, the loss scale of float16, initially 65536, is practically zero."""

_MIN_LOGGED_WAIT_SHARE = 0.05
"""Minimum share of time spent waiting for data that is logged."""


class ProgressLogger:
    """Logs the progress of a training; a context manager that closes the event file.

    Args:
        spec: The train spec, with the intervals of the log.
        results_dir: Folder that receives `events/` and `report.html`. None on all ranks but 0,
            which log nothing but still check the loss.
        steps_per_epoch: Optimizer steps per epoch.
        first_step: Number of steps done before this run.
        status: Status file for a line per epoch and per validation.
    """

    def __init__(
        self,
        spec: TrainSpec,
        results_dir: Path | None,
        steps_per_epoch: int,
        first_step: int,
        status: StatusFile | None,
    ) -> None:
        self._spec = spec
        self._results_dir = results_dir
        self._steps_per_epoch = steps_per_epoch
        self._status = status
        self._first_step = self._step = first_step
        self._writer = None
        if results_dir is not None:
            # The purge drops events of steps that a killed run has done and this run repeats.
            folder = make_directory(results_dir / "events")
            self._writer = SummaryWriter(str(folder), purge_step=first_step + 1)
        self._start = self._last_line = time.monotonic()
        self._epoch_throughput, self._summary_throughput = Throughput(), Throughput()
        self._unread_loss: Tensor | None = None
        self._unread_count = 0
        self._loss_sum, self._loss_count = 0.0, 0
        self._skipped = self._skipped_in_a_row = 0
        self._rate = 0.0
        self._data_warnings: Counter[str] | None = Counter()

    def __enter__(self) -> ProgressLogger:
        if self._status is not None:
            versions = {
                "bodyposenet": __version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            }
            self._status.write("RUNNING", "training", versions=versions)
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def log_step(
        self,
        step: int,
        losses: Losses,
        rate: float,
        *,
        samples: int,
        data_time: float,
        gradient_norm: Tensor | None,
        skipped: bool = False,
        without_mask: int = 0,
        without_maps: int = 0,
        out_of_scale: int = 0,
    ) -> None:
        """Log an optimizer step.

        Args:
            step: Number of steps done since the training began.
            losses: Losses of the step, detached, on the device.
            rate: Learning rate.
            samples: Samples of the step, over all ranks and accumulated batches.
            data_time: Seconds that the step waited for data.
            gradient_norm: Norm of all gradients together, on the device.
            skipped: Whether the step changed nothing because of a float16 overflow; its loss does
                not count.
            without_mask: Number of samples without a mask file.
            without_maps: Number of samples whose photo has no teacher maps.
            out_of_scale: Number of samples that are too large or too small for their teacher maps.

        Raises:
            BodyPoseNetError: The loss is not finite, or too many steps in a row were skipped.
        """
        self._step, self._rate = step, rate
        if skipped:
            self._count_skipped()
        else:
            self._skipped_in_a_row = 0
            loss = losses.total
            self._unread_loss = loss if self._unread_loss is None else self._unread_loss + loss
            self._unread_count += 1
        for throughput in (self._epoch_throughput, self._summary_throughput):
            throughput.add(samples, data_time)
        if self._data_warnings is not None:
            self._data_warnings += Counter(
                {_NO_MASK: without_mask, _NO_MAPS: without_maps, _OUT_OF_SCALE: out_of_scale}
            )
        ends_epoch = step % self._steps_per_epoch == 0
        summary_due = ends_epoch or step % self._spec.summary_every_n_steps == 0
        line_due = time.monotonic() - self._last_line >= self._spec.log_every_n_secs
        if not (summary_due or line_due):
            return
        self._read_loss()
        if summary_due and self._writer is not None:
            self._write_scalars(self._writer, losses, gradient_norm)
        if line_due:
            self._last_line = time.monotonic()
            self._log_step_line()

    def log_epoch(self, epoch: int) -> None:
        """Log the end of an epoch, and write its line of `status.json`.

        Raises:
            BodyPoseNetError: The loss is not finite.
        """
        self._read_loss()
        throughput, eta = self._epoch_throughput, self._eta()
        loss = self._mean_loss()
        self._loss_sum, self._loss_count = 0.0, 0
        self._log(
            f"Epoch: [{epoch}/{self._spec.num_epoch}]  loss: {_format_loss(loss)}  {throughput}  "
            f"time: {_format_duration(throughput.seconds)}  eta: {_format_duration(eta)}"
        )
        if self._skipped and self._writer is not None:
            logger.warning(
                "%d steps of this epoch were skipped because of float16 overflow", self._skipped
            )
        self._skipped = 0
        if self._status is not None:
            self._status.write(
                "RUNNING", epoch=epoch, max_epoch=self._spec.num_epoch,
                time_per_epoch=_format_duration(throughput.seconds), eta=_format_duration(eta),
                graphical=({} if loss is None else {"loss": loss}) | {
                    "learning_rate": self._rate,
                    "images_per_s": round(throughput.images_per_s, 2),
                    "data_wait_share": round(throughput.data_wait_share, 4),
                },
            )  # fmt: skip
        self._log_data_warnings()
        self._reset_throughput()

    def was_validated(self, epoch: int) -> bool:
        """Return whether an earlier run has validated the network after an epoch."""
        lines = [] if self._status is None else self._status.lines()
        return epoch in TrainingHistory.read(lines).validations

    def log_validation(self, epoch: int, result: ValidationResult) -> None:
        """Log the result of a validation, and update `report.html`."""
        kpi = {f"AP_{dataset}": ap.ap for dataset, ap in result.ap.items()}
        scalars = {f"validation/{name}": value for name, value in kpi.items()}
        if result.loss is not None:
            kpi = {"validation_loss": result.loss} | kpi
            scalars["validation/loss"] = result.loss
        if self._writer is not None:
            step = epoch * self._steps_per_epoch
            for name, value in scalars.items():
                self._writer.add_scalar(name, value, step)
            picture = result.picture
            self._writer.add_image("validation/predictions", picture, step, dataformats="HWC")
            self._writer.flush()
        if kpi:
            metrics = {} if result.loss is None else {"loss": result.loss}
            metrics |= {f"AP ({dataset})": ap.ap for dataset, ap in result.ap.items()}
            values = "  ".join(f"{name}: {value:.4g}" for name, value in metrics.items())
            self._log(f"Validation: [{epoch}/{self._spec.num_epoch}]  {values}")
        if self._status is not None:
            accuracy = {dataset: ap.kpis() for dataset, ap in result.ap.items()}
            self._status.write(
                "RUNNING", "validation", validated_epoch=epoch, kpi=kpi, accuracy=accuracy
            )
            if self._results_dir is not None:
                from bodyposenet.reporting.training_report import write_training_report

                write_training_report(
                    self._results_dir, self._spec.text, self._status, result.picture
                )
        self._reset_throughput()

    def _reset_throughput(self) -> None:
        self._epoch_throughput, self._summary_throughput = Throughput(), Throughput()

    def _count_skipped(self) -> None:
        """Count a skipped step; raise an error after too many in a row."""
        self._skipped += 1
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row == _MAX_SKIPPED_IN_A_ROW:
            raise BodyPoseNetError(
                f"float16 overflow in {_MAX_SKIPPED_IN_A_ROW} steps in a row, up to step "
                f"{self._step} (learning rate {self._rate:.3g})",
                _DIVERGED_REMEDY,
            )

    def _mean_loss(self) -> float | None:
        """Return the mean loss of the epoch so far, or None if all of its steps were skipped."""
        return self._loss_sum / self._loss_count if self._loss_count else None

    def _read_loss(self) -> None:
        """Copy the losses of the last steps from the device, and check that they are finite."""
        if self._unread_loss is None:
            return
        loss = float(self._unread_loss)
        if not math.isfinite(loss):
            raise BodyPoseNetError(
                f"the loss is {loss} at step {self._step} (learning rate {self._rate:.3g})",
                _DIVERGED_REMEDY,
            )
        self._unread_loss = None
        self._loss_sum += loss
        self._loss_count += self._unread_count
        self._unread_count = 0

    def _write_scalars(
        self, writer: SummaryWriter, losses: Losses, gradient_norm: Tensor | None
    ) -> None:
        """Write the scalars of a step to TensorBoard, and reset the throughput."""
        tensors = {"total_loss": losses.total}
        for stage, (heatmap, paf) in enumerate(zip(losses.heatmaps, losses.pafs, strict=True), 1):
            tensors |= {f"cmap_loss_stage{stage}": heatmap, f"paf_loss_stage{stage}": paf}
        if gradient_norm is not None:
            tensors["gradient_norm"] = gradient_norm
        values = torch.stack([tensor.float() for tensor in tensors.values()]).tolist()
        scalars = dict(zip(tensors, values, strict=True)) | {
            "learning_rate": self._rate,
            "images_per_s": self._summary_throughput.images_per_s,
            "data_wait_share": self._summary_throughput.data_wait_share,
        }
        for name, value in scalars.items():
            if math.isfinite(value):  # In skipped steps, some values are not.
                writer.add_scalar(name, value, self._step)
        self._summary_throughput = Throughput()

    def _log_step_line(self) -> None:
        """Log progress, loss, learning rate, throughput and ETA within an epoch."""
        epoch, done = divmod(self._step - 1, self._steps_per_epoch)
        self._log(
            f"Epoch: [{epoch + 1}/{self._spec.num_epoch}]  "
            f"[{done + 1}/{self._steps_per_epoch}]  "
            f"loss: {_format_loss(self._mean_loss())}  lr: {self._rate:.3g}  "
            f"{self._epoch_throughput}  eta: {_format_duration(self._eta())}"
        )

    def _log(self, line: str) -> None:
        """Log a line on rank 0."""
        if self._writer is not None:
            logger.info("%s", line)

    def _log_data_warnings(self) -> None:
        """Warn about incomplete samples once, after the first epoch of the run."""
        if self._data_warnings and self._writer is not None:
            for problem, samples in self._data_warnings.items():
                logger.warning("%d samples of this epoch: %s", samples, problem)
        self._data_warnings = None

    def _eta(self) -> float:
        """Return the seconds until the end of the training, at the mean speed of this run."""
        per_step = (time.monotonic() - self._start) / max(self._step - self._first_step, 1)
        return per_step * (self._spec.num_epoch * self._steps_per_epoch - self._step)


class Throughput:
    """Images per second and share of time spent waiting for data, since its creation."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._samples = 0
        self._data_time = 0.0

    def add(self, samples: int, data_time: float) -> None:
        """Count a step.

        Args:
            samples: Samples of the step.
            data_time: Seconds that the step waited for data.
        """
        self._samples += samples
        self._data_time += data_time

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    @property
    def images_per_s(self) -> float:
        """Images per second."""
        return self._samples / max(self.seconds, 1e-9)

    @property
    def data_wait_share(self) -> float:
        """Share of time spent waiting for data, 0 to 1."""
        return min(self._data_time / max(self.seconds, 1e-9), 1.0)

    def __str__(self) -> str:
        speed = f"img/s: {self.images_per_s:.1f}"
        if self.data_wait_share <= _MIN_LOGGED_WAIT_SHARE:
            return speed
        return f"{speed}  waiting for data: {self.data_wait_share:.0%}"


def _format_loss(loss: float | None) -> str:
    return "unknown" if loss is None else f"{loss:.4g}"


def _format_duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
