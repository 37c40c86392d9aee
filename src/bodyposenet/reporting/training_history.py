"""The lines of a training's status.json in; its epochs, validations and runs out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

from pydantic import BaseModel, PositiveInt, ValidationError


class EpochEntry(BaseModel):
    """What is said after an epoch; files of older versions lack some figures."""

    epoch: PositiveInt
    max_epoch: PositiveInt
    graphical: dict[str, float]
    """loss, learning_rate, images_per_s, data_wait_share."""


class ValidationEntry(BaseModel):
    """What is said after a validation."""

    validated_epoch: PositiveInt
    kpi: dict[str, float]
    """validation_loss, and AP_<dataset> of each dataset."""
    accuracy: dict[str, dict[str, float]] = {}
    """Dataset -> name of a figure (`Metric.name`) -> its value."""


class _StartLine(BaseModel):
    versions: dict[str, str]


class _StatusLine(BaseModel):
    date: str
    time: str
    status: str


Line = TypeVar("Line", bound=BaseModel)


@dataclass
class Run:
    """One start of the training and what came after it.

    Args:
        begun: When.
        ended: When it last said something.
        status: What it said then; RUNNING if it was killed, or goes on.
        versions: Package -> the version that it ran with.
        epochs: Epochs that it finished.
    """

    begun: datetime
    ended: datetime
    status: str
    versions: dict[str, str] = field(default_factory=dict)
    epochs: list[int] = field(default_factory=list)

    @property
    def duration(self) -> timedelta:
        """From its first to its last line."""
        return self.ended - self.begun


@dataclass(frozen=True)
class TrainingHistory:
    """A training, over all of its runs.

    Args:
        epochs: Number -> what was said after it, in order.
        validations: Epoch -> what was found after it, in order.
        runs: The runs that trained, in order.
    """

    epochs: dict[int, EpochEntry]
    validations: dict[int, ValidationEntry]
    runs: list[Run]

    @classmethod
    def read(cls, lines: Sequence[Any]) -> TrainingHistory:
        """Sum up the lines of a status file; those of other tasks, or broken ones, say nothing.

        Who trains an epoch knows of none after it: what the file told of them before is done again
        (a kill between checkpoints), or belongs to an earlier training in the same folder.
        """
        epochs: dict[int, EpochEntry] = {}
        validations: dict[int, ValidationEntry] = {}
        for line in lines:
            if epoch := _parse(EpochEntry, line):
                number = epoch.epoch
                epochs = {k: known for k, known in epochs.items() if k < number} | {number: epoch}
                validations = {k: known for k, known in validations.items() if k < number}
            elif validation := _parse(ValidationEntry, line):
                validations[validation.validated_epoch] = validation
        return cls(epochs, validations, _runs(lines))

    def reported(self, name: str) -> dict[int, float]:
        """Epoch -> a figure that was told of it: `loss`, `learning_rate` and so on."""
        lines = self.epochs.items()
        return {k: line.graphical[name] for k, line in lines if name in line.graphical}

    def validated(self, name: str) -> dict[int, float]:
        """Epoch -> a figure that was found after it: `validation_loss`, or `AP_<dataset>`."""
        return {k: line.kpi[name] for k, line in self.validations.items() if name in line.kpi}

    def datasets(self) -> list[str]:
        """The datasets whose AP was measured, in order of their names."""
        names = {name for line in self.validations.values() for name in line.kpi}
        return sorted(name.removeprefix("AP_") for name in names if name.startswith("AP_"))


def _runs(lines: Sequence[Any]) -> list[Run]:
    """The runs that trained, or were about to."""
    runs: list[Run] = []
    for line in lines:
        said = _parse(_StatusLine, line)
        when = None if said is None else _moment(said)
        if said is None or when is None:
            continue
        if said.status == "STARTED":
            runs.append(Run(when, when, said.status))
        if not runs:
            continue
        run = runs[-1]
        run.ended, run.status = when, said.status
        if start := _parse(_StartLine, line):
            run.versions = start.versions
        elif epoch := _parse(EpochEntry, line):
            run.epochs.append(epoch.epoch)
    return [run for run in runs if run.versions or run.epochs]


def _moment(said: _StatusLine) -> datetime | None:
    try:
        return datetime.strptime(f"{said.date} {said.time}", "%m/%d/%Y %H:%M:%S")
    except ValueError:
        return None


def _parse(kind: type[Line], line: Any) -> Line | None:
    try:
        return kind.model_validate(line)
    except ValidationError:
        return None
