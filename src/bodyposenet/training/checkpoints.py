"""A training's state on disk, and back.

`model.epoch-N.tlt` is what is evaluated and deployed; `model.epoch-N.state` beside it is the whole
training after that epoch; `latest.state` is the same in the middle of an epoch, where a signal or
the clock asked for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from bodyposenet.console import logger
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import is_file
from bodyposenet.model.checkpoint import (
    load_tensors,
    model_header,
    named_tensors,
    read_tensors,
    restore_network,
    save_model,
    write_tensors,
)
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.specs.model_header import StateHeader
from bodyposenet.training.ema import ExponentialMovingAverage
from bodyposenet.training.optimizer import state_entries

_STATE = "training state"
_WITHIN_EPOCH = "latest.state"
_ABSURD = 1e6
_NAME = re.compile(r"model\.epoch-(\d+)\.tlt")


@dataclass(frozen=True, order=True)
class Position:
    """How far a training is.

    Args:
        epoch: Epochs done.
        samples: Samples done of the epoch after these, by all ranks together.
    """

    epoch: int
    samples: int = 0


@dataclass(frozen=True, eq=False)
class TrainState:
    """All that a training changes, and a checkpoint keeps.

    Args:
        network: What is trained.
        optimizer: Trains it.
        average: The moving average of the weights, where there is one.
        scaler: Of the loss, for float16; else it does nothing.
        facts: What the result depends on beside the train spec, name -> value.
    """

    network: BodyPoseNetwork
    optimizer: torch.optim.Optimizer
    average: ExponentialMovingAverage | None = None
    scaler: torch.amp.GradScaler = field(
        default_factory=lambda: torch.amp.GradScaler(enabled=False)
    )
    facts: Mapping[str, int | bool] = field(default_factory=dict)

    @property
    def result(self) -> BodyPoseNetwork:
        """The network that is evaluated and saved as the model."""
        return self.network if self.average is None else self.average.network


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A training's state as a file holds it.

    Args:
        path: The file.
        header: Position, network, train spec and facts.
        tensors: Weights, moving average, optimizer, random state.
    """

    path: Path
    header: StateHeader
    tensors: dict[str, Tensor]

    @classmethod
    def read(cls, path: Path, key: str) -> Checkpoint:
        """Read a `.state` file, or the one beside a `model.epoch-N.tlt`.

        Raises:
            BodyPoseNetError: It is missing, broken, sealed with another key, or of something else.
        """
        state = state_file(path)
        if state is None:
            raise BodyPoseNetError(
                f"{path}: not a checkpoint of a training",
                "Name a model.epoch-N.tlt that has its model.epoch-N.state beside it.",
            )
        header, tensors = read_tensors(state, key)
        if header.get("kind") != _STATE:
            raise BodyPoseNetError(
                f"{state}: is no training state",
                "Remove the file to go on from the checkpoint before.",
            )
        return cls(state, StateHeader.read(state, header), tensors)

    @property
    def position(self) -> Position:
        """How far the training was."""
        return Position(self.header.epoch, self.header.samples)

    @property
    def spec(self) -> str:
        """Text of the train spec."""
        return self.header.spec

    @property
    def facts(self) -> dict[str, int | bool]:
        """What the result depended on beside the train spec."""
        return self.header.facts

    @cached_property
    def network(self) -> BodyPoseNetwork:
        """The network, with the weights as they were trained (not averaged).

        Raises:
            BodyPoseNetError: The tensors are not those of the network that the header describes.
        """
        return restore_network(self.path, self.header, _without_prefix("model|", self.tensors))

    def restore(self, state: TrainState, *, exactly: bool = True) -> None:
        """Put the optimizer, the moving average and the random state back.

        Args:
            state: Of the checkpoint's network; is changed.
            exactly: The optimizer must be the same. False: its state is taken for the tensors
                that it fits, and the log tells for how many.

        Raises:
            BodyPoseNetError: They are of another network or optimizer.
        """
        self._restore_optimizer(state, exactly)
        average = _without_prefix("average|", self.tensors)
        if average:  # the model as it was saved, also for a training that keeps no average
            load_tensors(self.path, state.result, average)
        try:
            torch.set_rng_state(self.tensors["random"])
            if self.header.scaler is not None:
                state.scaler.load_state_dict(self.header.scaler)
        except (KeyError, RuntimeError, TypeError) as error:
            raise BodyPoseNetError(
                f"{self.path}: its random state or the scaler of its loss is broken: {error}",
                "Remove the file to go on from the checkpoint before.",
            ) from error

    def _restore_optimizer(self, state: TrainState, exactly: bool) -> None:
        optimizer = state.optimizer
        trained = [part for group in optimizer.param_groups for part in group["params"]]
        state = self._optimizer_state(state.network, trained)
        expected = [
            state_entries(optimizer, group)
            for group in optimizer.param_groups
            for _ in group["params"]
        ]
        fitting = {
            number: entries for number, entries in state.items() if set(entries) == expected[number]
        }
        if not exactly:
            counts = len(fitting), len(trained)
            logger.info("%s: the optimizer's state of %d of %d tensors fits", self.path, *counts)
        elif len(fitting) < len(state):
            raise BodyPoseNetError(
                f"{self.path}: comes from another optimizer",
                "Keep the optimizer of the train spec, or choose another results folder (-r).",
            )
        state = fitting
        if state and isinstance(optimizer, torch.optim.SGD):
            for number, part in enumerate(trained):  # torch's fused SGD needs the momentum of all
                state.setdefault(number, {"momentum_buffer": torch.zeros_like(part)})
        optimizer.load_state_dict(optimizer.state_dict() | {"state": state})

    def _optimizer_state(
        self, network: BodyPoseNetwork, trained: Sequence[nn.Parameter]
    ) -> dict[int, dict[str, Tensor]]:
        """Number among the trained parameters -> what the optimizer remembered of it."""
        numbers = {part: number for number, part in enumerate(trained)}
        parameters = dict(network.named_parameters())
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _without_prefix("optimizer|", self.tensors).items():
            parameter, _, entry = name.rpartition("|")
            if parameter not in parameters:
                raise BodyPoseNetError(
                    f"{self.path}: holds the state of {parameter}, which the network lacks",
                    "Choose another results folder (-r) for another network.",
                )
            owner = parameters[parameter]
            if owner not in numbers:  # it is frozen now
                continue
            if tensor.ndim:  # fused optimizers take the memory layout for granted
                if tensor.shape != owner.shape or not tensor.is_floating_point():
                    raise BodyPoseNetError(
                        f"{self.path}: the optimizer's {name} does not fit: {tensor.dtype} of "
                        f"shape {tuple(tensor.shape)}, its parameter is {tuple(owner.shape)}",
                        "Remove the file to go on from the checkpoint before.",
                    )
                tensor = torch.empty_like(owner).copy_(tensor)
            state.setdefault(numbers[owner], {})[entry] = tensor
        return state


def state_file(path: Path) -> Path | None:
    """The training state of a file: a `.state` itself, or the one beside a `model.epoch-N.tlt`."""
    if path.suffix == ".state":
        return path
    beside = path.with_suffix(".state")
    return beside if _NAME.fullmatch(path.name) and is_file(beside) else None


def list_checkpoints(results_dir: Path) -> list[Path]:
    """The `model.epoch-N.tlt` of a folder that have their state beside them, the oldest first."""
    models = {path: _NAME.fullmatch(path.name) for path in results_dir.glob("model.epoch-*.tlt")}
    complete = {
        path: int(match[1])
        for path, match in models.items()
        if match and is_file(path.with_suffix(".state"))
    }
    return sorted(complete, key=lambda path: complete[path])


def last_checkpoint(results_dir: Path, key: str) -> Checkpoint | None:
    """The checkpoint that is furthest, of an epoch or within one; None where there is none.

    Raises:
        BodyPoseNetError: It cannot be opened.
    """
    candidates = [results_dir / _WITHIN_EPOCH, *list_checkpoints(results_dir)[-1:]]
    found = [Checkpoint.read(path, key) for path in candidates if is_file(path)]
    return max(found, key=lambda checkpoint: checkpoint.position, default=None)


def save_checkpoint(
    results_dir: Path, position: Position, state: TrainState, *, key: str, spec: str, keep: int
) -> None:
    """Write the checkpoint of an epoch, then remove the oldest ones beyond `keep`.

    The state goes first: a model without its state is no checkpoint.

    Args:
        results_dir: The folder.
        position: The end of an epoch.
        state: What to save.
        key: Closes the files; empty: plain.
        spec: Text of the train spec, for the headers.
        keep: How many checkpoints to keep, this one included.

    Raises:
        BodyPoseNetError: The files cannot be written; older checkpoints are intact.
    """
    model = results_dir / f"model.epoch-{position.epoch}.tlt"
    _write_state(model.with_suffix(".state"), position, state, key, spec)
    save_model(model, state.result, key=key, epoch=position.epoch, spec=spec)
    (results_dir / _WITHIN_EPOCH).unlink(missing_ok=True)
    for old in list_checkpoints(results_dir)[:-keep]:
        old.unlink()
    for state in results_dir.glob("model.epoch-*.state"):
        if not state.with_suffix(".tlt").exists():  # just removed, or by a run that was killed
            state.unlink()


def save_position(
    results_dir: Path, position: Position, state: TrainState, *, key: str, spec: str
) -> None:
    """Write the state within an epoch, replacing the one before; arguments as `save_checkpoint`.

    Raises:
        BodyPoseNetError: The file cannot be written; the one before is intact.
    """
    _write_state(results_dir / _WITHIN_EPOCH, position, state, key, spec)


def check_weights(state: TrainState, epoch: int) -> None:
    """Make sure that a checkpoint would be of use.

    Args:
        state: What would be saved.
        epoch: In which one.

    Raises:
        BodyPoseNetError: Weights are no numbers any more, or absurdly large.
    """
    for network in {state.network, state.result}:
        for name, tensor in named_tensors(network).items():
            if tensor.is_floating_point() and not bool((tensor.abs() < _ABSURD).all()):
                raise BodyPoseNetError(
                    f"the weights exploded in epoch {epoch} ({name})",
                    "Older checkpoints are intact. Try a lower base_learning_rate or a longer "
                    "soft_start in another results folder (-r); finetuning_config can begin there "
                    "with a model.epoch-N.tlt of this one.",
                )


def _write_state(path: Path, position: Position, state: TrainState, key: str, spec: str) -> None:
    network, average = state.network, state.average
    header = model_header(network, epoch=position.epoch, spec=spec)
    header |= {"kind": _STATE, "samples": position.samples, "facts": dict(state.facts)}
    if state.scaler.is_enabled():
        header["scaler"] = state.scaler.state_dict()
    tensors = _with_prefix("model|", named_tensors(network))
    if average is not None:
        tensors |= _with_prefix("average|", named_tensors(average.network))
    tensors |= _with_prefix("optimizer|", _optimizer_tensors(state))
    tensors["random"] = torch.get_rng_state()
    write_tensors(path, header, tensors, key=key)


def _optimizer_tensors(state: TrainState) -> dict[str, Tensor]:
    return {
        f"{name}|{entry}": value
        for name, parameter in state.network.named_parameters()
        for entry, value in state.optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def _with_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def _without_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
