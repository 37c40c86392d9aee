"""Progress of a training: log lines with ETA, `status.json`, TensorBoard.

The numbers of a step stay on the device until a step is due to be reported: reading one makes
Python wait for all that the device has yet to do.
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
from bodyposenet.reporting.training_history import History
from bodyposenet.results_folder import StatusFile
from bodyposenet.specs.training import TrainSpec
from bodyposenet.training.validation import ValidationResult

_EXPLODED = (
    "Older checkpoints are intact. Try a lower base_learning_rate or a longer soft_start in "
    "another results folder (-r), or leave --use_amp out."
)
_NO_MASK = "had no mask file: all of their image counts"
_NO_MAPS = "had no teacher maps (distillation.maps): learned from their labels alone"
_OUT_OF_SCALE = (
    "were too large or too small for their photo's teacher maps: learned from their labels alone"
)

_MOST_SKIPPED = 50
"""Steps in a row: from 65536, halved each time, the loss is scaled to nothing then."""


class Progress:
    """Follows a training; a context manager that closes the event file.

    Args:
        spec: How often to say what.
        results_dir: Receives `events/` and `report.html`; None, in processes beside the first:
            nothing is said or written, the loss is checked all the same.
        steps_per_epoch: Steps of one epoch.
        first_step: Steps that were done before this run.
        status: Receives a line per epoch and per validation.
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
            # What a killed run wrote of the steps that are now done again is dropped.
            folder = make_directory(results_dir / "events")
            self._writer = SummaryWriter(str(folder), purge_step=first_step + 1)
        self._begun = self._last_line = time.monotonic()
        self._epoch_pace, self._summary_pace = Pace(), Pace()
        self._unseen: Tensor | None = None
        self._unseen_count = 0
        self._loss_sum, self._loss_count = 0.0, 0
        self._skipped = self._skipped_in_a_row = 0
        self._rate = 0.0
        self._without: Counter[str] | None = Counter()

    def __enter__(self) -> Progress:
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

    def step(
        self,
        step: int,
        losses: Losses,
        rate: float,
        *,
        samples: int,
        waited: float,
        gradient_norm: Tensor | None,
        skipped: bool = False,
        without_mask: int = 0,
        without_maps: int = 0,
        out_of_scale: int = 0,
    ) -> None:
        """Follow one step of the optimizer.

        Args:
            step: Steps done since the training began.
            losses: Of the step, detached, on the device.
            rate: The learning rate.
            samples: Samples of the step, over all processes and accumulated batches.
            waited: Seconds that it waited for data.
            gradient_norm: Of all gradients together, on the device.
            skipped: It changed nothing, as float16 overflowed; its loss does not count.
            without_mask: Samples that had no mask file.
            without_maps: Samples whose photo had no teacher maps.
            out_of_scale: Samples that were too large or too small for their teacher maps.

        Raises:
            BodyPoseNetError: The loss is no number any more, or many steps in a row were skipped.
        """
        self._step, self._rate = step, rate
        if skipped:
            self._skip()
        else:
            self._skipped_in_a_row = 0
            self._unseen = losses.total if self._unseen is None else self._unseen + losses.total
            self._unseen_count += 1
        for pace in (self._epoch_pace, self._summary_pace):
            pace.add(samples, waited)
        if self._without is not None:
            self._without += Counter(
                {_NO_MASK: without_mask, _NO_MAPS: without_maps, _OUT_OF_SCALE: out_of_scale}
            )
        ends_epoch = step % self._steps_per_epoch == 0
        summary_due = ends_epoch or step % self._spec.summary_every_n_steps == 0
        line_due = time.monotonic() - self._last_line >= self._spec.log_every_n_secs
        if not (summary_due or line_due):
            return
        self._look_at_loss()
        if summary_due and self._writer is not None:
            self._write_scalars(self._writer, losses, gradient_norm)
        if line_due:
            self._last_line = time.monotonic()
            self._say_progress()

    def end_epoch(self, epoch: int) -> None:
        """Say how the epoch went, on screen and in `status.json`.

        Raises:
            BodyPoseNetError: The loss is no number any more.
        """
        self._look_at_loss()
        pace, eta = self._epoch_pace, self._eta()
        loss = self._mean_loss()
        self._loss_sum, self._loss_count = 0.0, 0
        self._say(
            f"epoch {epoch}/{self._spec.num_epoch}: loss {_written(loss)}, "
            f"{_duration(pace.seconds)}, {pace}, ETA {_duration(eta)}"
        )
        if self._skipped and self._writer is not None:
            logger.warning("%d steps of the epoch were skipped: float16 overflowed", self._skipped)
        self._skipped = 0
        if self._status is not None:
            self._status.write(
                "RUNNING", epoch=epoch, max_epoch=self._spec.num_epoch,
                time_per_epoch=_duration(pace.seconds), eta=_duration(eta),
                graphical=({} if loss is None else {"loss": loss}) | {
                    "learning_rate": self._rate,
                    "images_per_s": round(pace.images_per_s, 2),
                    "data_wait_share": round(pace.wait_share, 4),
                },
            )  # fmt: skip
        self._warn_of_missing_files()
        self._begin_epoch()

    def was_validated(self, epoch: int) -> bool:
        """Whether an earlier run validated after that epoch."""
        lines = [] if self._status is None else self._status.lines()
        return epoch in History.read(lines).validations

    def validated(self, epoch: int, result: ValidationResult) -> None:
        """Say what a validation found, and bring `report.html` up to date."""
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
            found = ", ".join(f"{name} {value:.4g}" for name, value in kpi.items())
            self._say(f"epoch {epoch}: {found}")
        if self._status is not None:
            accuracy = {dataset: ap.kpis() for dataset, ap in result.ap.items()}
            self._status.write(
                "RUNNING", "validation", validated_epoch=epoch, kpi=kpi, accuracy=accuracy
            )
            if self._results_dir is not None:
                from bodyposenet.reporting.training_report import write_training_page

                write_training_page(
                    self._results_dir, self._spec.text, self._status, result.picture
                )
        self._begin_epoch()

    def _begin_epoch(self) -> None:
        self._epoch_pace, self._summary_pace = Pace(), Pace()

    def _skip(self) -> None:
        self._skipped += 1
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row == _MOST_SKIPPED:
            raise BodyPoseNetError(
                f"float16 overflowed in {_MOST_SKIPPED} steps in a row, up to step {self._step} "
                f"(learning rate {self._rate:.3g})",
                _EXPLODED,
            )

    def _mean_loss(self) -> float | None:
        """The loss of the epoch so far; None: all its steps were skipped."""
        return self._loss_sum / self._loss_count if self._loss_count else None

    def _look_at_loss(self) -> None:
        """Fetch the losses that only the device knows yet, and check that they are numbers."""
        if self._unseen is None:
            return
        loss = float(self._unseen)
        if not math.isfinite(loss):
            raise BodyPoseNetError(
                f"the loss is {loss} by step {self._step} (learning rate {self._rate:.3g})",
                _EXPLODED,
            )
        self._unseen = None
        self._loss_sum += loss
        self._loss_count += self._unseen_count
        self._unseen_count = 0

    def _write_scalars(
        self, writer: SummaryWriter, losses: Losses, gradient_norm: Tensor | None
    ) -> None:
        tensors = {"total_loss": losses.total}
        for stage, (heat, paf) in enumerate(zip(losses.heatmaps, losses.pafs, strict=True), 1):
            tensors |= {f"cmap_loss_stage{stage}": heat, f"paf_loss_stage{stage}": paf}
        if gradient_norm is not None:
            tensors["gradient_norm"] = gradient_norm
        values = torch.stack([tensor.float() for tensor in tensors.values()]).tolist()
        scalars = dict(zip(tensors, values, strict=True)) | {
            "learning_rate": self._rate,
            "images_per_s": self._summary_pace.images_per_s,
            "data_wait_share": self._summary_pace.wait_share,
        }
        for name, value in scalars.items():
            if math.isfinite(value):  # not so in a skipped step
                writer.add_scalar(name, value, self._step)
        self._summary_pace = Pace()

    def _say_progress(self) -> None:
        epoch, done = divmod(self._step - 1, self._steps_per_epoch)
        self._say(
            f"epoch {epoch + 1}/{self._spec.num_epoch}, step {done + 1}/{self._steps_per_epoch}: "
            f"loss {_written(self._mean_loss())}, learning rate {self._rate:.3g}, "
            f"{self._epoch_pace}, "
            f"ETA {_duration(self._eta())}"
        )

    def _say(self, line: str) -> None:
        if self._writer is not None:
            logger.info("%s", line)

    def _warn_of_missing_files(self) -> None:
        """Once, after the first epoch of the run: all of them tell the same."""
        if self._without and self._writer is not None:
            for what, samples in self._without.items():
                logger.warning("%d samples of the epoch %s", samples, what)
        self._without = None

    def _eta(self) -> float:
        """Seconds to go, at the pace of this run."""
        per_step = (time.monotonic() - self._begun) / max(self._step - self._first_step, 1)
        return per_step * (self._spec.num_epoch * self._steps_per_epoch - self._step)


def _written(loss: float | None) -> str:
    return "unknown" if loss is None else f"{loss:.4g}"


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


_WORTH_SAYING = 0.05
"""Share of waiting from which the device is held up by its data."""


class Pace:
    """How fast a training is, from when this was made."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._samples = 0
        self._waited = 0.0

    def add(self, samples: int, waited: float) -> None:
        """Count a step.

        Args:
            samples: That it trained on.
            waited: Seconds that it waited for them.
        """
        self._samples += samples
        self._waited += waited

    @property
    def seconds(self) -> float:
        """How long it has lasted."""
        return time.monotonic() - self._begun

    @property
    def images_per_s(self) -> float:
        """Samples per second."""
        return self._samples / max(self.seconds, 1e-9)

    @property
    def wait_share(self) -> float:
        """Share of the time that went by waiting for data, 0 to 1."""
        return min(self._waited / max(self.seconds, 1e-9), 1.0)

    def __str__(self) -> str:
        speed = f"{self.images_per_s:.1f} images/s"
        if self.wait_share <= _WORTH_SAYING:
            return speed
        return f"{speed}, {self.wait_share:.0%} of the time waiting for data"
