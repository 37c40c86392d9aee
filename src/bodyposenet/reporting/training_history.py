"""History of a training, read from its status.json: epochs, validations and runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

from pydantic import BaseModel, PositiveInt, ValidationError


class EpochEntry(BaseModel):
    """Line of status.json after an epoch. Lines of older versions have fewer values.

    Attributes:
        epoch: Number of the epoch.
        max_epoch: Number of epochs of the training.
        graphical: loss, learning_rate, images_per_s and data_wait_share.
    """

    epoch: PositiveInt
    max_epoch: PositiveInt
    graphical: dict[str, float]


class ValidationEntry(BaseModel):
    """Line of status.json after a validation.

    Attributes:
        validated_epoch: Number of the epoch.
        kpi: validation_loss, and AP_<dataset> for each dataset.
        accuracy: Values of COCO's metrics by `Metric.name`, by dataset.
    """

    validated_epoch: PositiveInt
    kpi: dict[str, float]
    accuracy: dict[str, dict[str, float]] = {}


class _StartEntry(BaseModel):
    """Line of status.json at the start of training."""

    versions: dict[str, str]


class _StatusEntry(BaseModel):
    """Fields of every line of status.json."""

    date: str
    time: str
    status: str


Entry = TypeVar("Entry", bound=BaseModel)


@dataclass
class Run:
    """A run of `bpnet train`, from its start to its end or interruption.

    Args:
        start: Time of its first line.
        end: Time of its last line.
        status: Status in its last line. RUNNING if it is still running, or was killed.
        versions: Versions of packages, by name.
        epochs: Numbers of the epochs that it finished.
    """

    start: datetime
    end: datetime
    status: str
    versions: dict[str, str] = field(default_factory=dict)
    epochs: list[int] = field(default_factory=list)

    @property
    def duration(self) -> timedelta:
        """Time from the first to the last line."""
        return self.end - self.start


@dataclass(frozen=True)
class TrainingHistory:
    """History of a training over all its runs.

    Args:
        epochs: Entries of finished epochs by number, in order.
        validations: Entries of validations by epoch, in order.
        runs: The runs that trained, in order.
    """

    epochs: dict[int, EpochEntry]
    validations: dict[int, ValidationEntry]
    runs: list[Run]

    @classmethod
    def read(cls, lines: Sequence[Any]) -> TrainingHistory:
        """Read the lines of a status file. Damaged lines and lines of other commands are ignored.

        A line about an epoch replaces earlier lines about the same or later epochs: the training
        was resumed from an earlier state, or the lines belong to an older training in the folder.

        Args:
            lines: The lines as parsed JSON.
        """
        epochs: dict[int, EpochEntry] = {}
        validations: dict[int, ValidationEntry] = {}
        for line in lines:
            if epoch := _parse(EpochEntry, line):
                number = epoch.epoch
                epochs = {k: entry for k, entry in epochs.items() if k < number} | {number: epoch}
                validations = {k: entry for k, entry in validations.items() if k < number}
            elif validation := _parse(ValidationEntry, line):
                validations[validation.validated_epoch] = validation
        return cls(epochs, validations, _runs(lines))

    def epoch_values(self, name: str) -> dict[int, float]:
        """Return a value reported after epochs, such as `loss`, by epoch."""
        return {
            epoch: entry.graphical[name]
            for epoch, entry in self.epochs.items()
            if name in entry.graphical
        }

    def validation_values(self, name: str) -> dict[int, float]:
        """Return a value reported after validations, such as `validation_loss`, by epoch."""
        return {
            epoch: entry.kpi[name] for epoch, entry in self.validations.items() if name in entry.kpi
        }

    def datasets(self) -> list[str]:
        """Return the names of the datasets whose AP was measured, sorted."""
        names = {name for entry in self.validations.values() for name in entry.kpi}
        return sorted(name.removeprefix("AP_") for name in names if name.startswith("AP_"))


def _runs(lines: Sequence[Any]) -> list[Run]:
    """Return the runs that started training, without those that failed before."""
    runs: list[Run] = []
    for line in lines:
        entry = _parse(_StatusEntry, line)
        time = None if entry is None else _parse_time(entry)
        if entry is None or time is None:
            continue
        if entry.status == "STARTED":
            runs.append(Run(time, time, entry.status))
        if not runs:
            continue
        run = runs[-1]
        run.end, run.status = time, entry.status
        if start := _parse(_StartEntry, line):
            run.versions = start.versions
        elif epoch := _parse(EpochEntry, line):
            run.epochs.append(epoch.epoch)
    return [run for run in runs if run.versions or run.epochs]


def _parse_time(entry: _StatusEntry) -> datetime | None:
    """Return the time of a line, or None if it is invalid."""
    try:
        return datetime.strptime(f"{entry.date} {entry.time}", "%m/%d/%Y %H:%M:%S")
    except ValueError:
        return None


def _parse(kind: type[Entry], line: Any) -> Entry | None:
    """Parse a line, or return None if it is of another kind."""
    try:
        return kind.model_validate(line)
    except ValidationError:
        return None
