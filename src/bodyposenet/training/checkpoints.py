"""Checkpoints: saving and restoring the complete state of a training.

`model.epoch-N.tlt` is the model after epoch N, for evaluation and export. `model.epoch-N.state`
beside it is the training state after that epoch: weights, optimizer, moving average, random state.
`latest.state` is a training state within an epoch, saved on a signal or periodically.
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

_KIND = "training state"
"""Value of `kind` in the header of a .state file."""

_LATEST = "latest.state"
_MODEL_NAME = re.compile(r"model\.epoch-(\d+)\.tlt")
_MAX_WEIGHT = 1e6
"""Absolute value from which a weight is considered to have diverged."""

_REMOVE_FILE = "Remove the file to resume from the previous checkpoint."


@dataclass(frozen=True, order=True)
class Position:
    """Progress of a training.

    Args:
        epoch: Number of finished epochs.
        samples: Samples of the next epoch that all ranks together have processed.
    """

    epoch: int
    samples: int = 0


@dataclass(frozen=True, eq=False)
class TrainState:
    """State that training changes, and that a checkpoint holds.

    Args:
        network: The network that is trained.
        optimizer: Its optimizer.
        ema: Exponential moving average of the weights, or None.
        scaler: Gradient scaler for float16, else a disabled one.
        invariants: Name and value of everything besides the train spec that must stay the same when
            the training is resumed.
    """

    network: BodyPoseNetwork
    optimizer: torch.optim.Optimizer
    ema: ExponentialMovingAverage | None = None
    scaler: torch.amp.GradScaler = field(
        default_factory=lambda: torch.amp.GradScaler(enabled=False)
    )
    invariants: Mapping[str, int | bool] = field(default_factory=dict)

    @property
    def eval_network(self) -> BodyPoseNetwork:
        """The network to validate and save as the model: the moving average if there is one."""
        return self.network if self.ema is None else self.ema.network


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Contents of a .state file.

    Args:
        path: The file.
        header: Position, network, train spec and invariants.
        tensors: Weights, moving average, optimizer state and random state.
    """

    path: Path
    header: StateHeader
    tensors: dict[str, Tensor]

    @classmethod
    def read(cls, path: Path, key: str) -> Checkpoint:
        """Read a .state file, or the one beside a `model.epoch-N.tlt`.

        Args:
            path: Path of either file.
            key: Encryption key; empty for plain files.

        Raises:
            BodyPoseNetError: The file is missing, damaged, encrypted with another key, or not a
                training state.
        """
        state = state_file(path)
        if state is None:
            raise BodyPoseNetError(
                f"{path}: not a checkpoint of a training",
                "Use a model.epoch-N.tlt that has its model.epoch-N.state beside it.",
            )
        header, tensors = read_tensors(state, key)
        if header.get("kind") != _KIND:
            raise BodyPoseNetError(f"{state}: not a training state", _REMOVE_FILE)
        return cls(state, StateHeader.read(state, header), tensors)

    @property
    def position(self) -> Position:
        """Progress of the training."""
        return Position(self.header.epoch, self.header.samples)

    @property
    def spec(self) -> str:
        """Text of the train spec."""
        return self.header.spec

    @property
    def invariants(self) -> dict[str, int | bool]:
        """The invariants of the saved `TrainState`."""
        return self.header.invariants

    @cached_property
    def network(self) -> BodyPoseNetwork:
        """The network with the trained weights (not their moving average).

        Raises:
            BodyPoseNetError: The tensors do not fit the network that the header describes.
        """
        return restore_network(self.path, self.header, _without_prefix("model|", self.tensors))

    def restore(self, state: TrainState, *, strict: bool = True) -> None:
        """Restore the optimizer, the moving average, the gradient scaler and the random state.

        Args:
            state: State with the checkpoint's network. Modified in place.
            strict: Whether the optimizer must be the same. If False, only the entries that fit are
                restored, and their number is logged.

        Raises:
            BodyPoseNetError: The checkpoint belongs to another network or optimizer, or is damaged.
        """
        self._restore_optimizer(state, strict)
        average = _without_prefix("average|", self.tensors)
        if average:  # Without a moving average, training starts from the model as it was saved.
            load_tensors(self.path, state.eval_network, average)
        try:
            torch.set_rng_state(self.tensors["random"])
            if self.header.scaler is not None:
                state.scaler.load_state_dict(self.header.scaler)
        except (KeyError, RuntimeError, TypeError) as error:
            raise BodyPoseNetError(
                f"{self.path}: random state or gradient scaler is damaged: {error}", _REMOVE_FILE
            ) from error

    def _restore_optimizer(self, state: TrainState, strict: bool) -> None:
        """Restore the state of the optimizer; see `restore`."""
        optimizer = state.optimizer
        parameters = [part for group in optimizer.param_groups for part in group["params"]]
        saved = self._optimizer_state(state.network, parameters)
        expected = [
            state_entries(optimizer, group)
            for group in optimizer.param_groups
            for _ in group["params"]
        ]
        fitting = {
            number: entries for number, entries in saved.items() if set(entries) == expected[number]
        }
        if not strict:
            logger.info(
                "%s: optimizer state restored for %d of %d tensors",
                self.path, len(fitting), len(parameters),
            )  # fmt: skip
        elif len(fitting) < len(saved):
            raise BodyPoseNetError(
                f"{self.path}: was saved with another optimizer",
                "Keep the optimizer of the train spec, or choose another results folder (-r).",
            )
        if fitting and isinstance(optimizer, torch.optim.SGD):
            for number, parameter in enumerate(parameters):  # Fused SGD needs all buffers.
                fitting.setdefault(number, {"momentum_buffer": torch.zeros_like(parameter)})
        optimizer.load_state_dict(optimizer.state_dict() | {"state": fitting})

    def _optimizer_state(
        self, network: BodyPoseNetwork, parameters: Sequence[nn.Parameter]
    ) -> dict[int, dict[str, Tensor]]:
        """Return the saved optimizer state by the number of the parameter.

        Args:
            network: The network of the state.
            parameters: The optimizer's parameters.
        """
        numbers = {parameter: number for number, parameter in enumerate(parameters)}
        named_parameters = dict(network.named_parameters())
        saved: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _without_prefix("optimizer|", self.tensors).items():
            parameter_name, _, entry = name.rpartition("|")
            if parameter_name not in named_parameters:
                raise BodyPoseNetError(
                    f"{self.path}: holds the optimizer state of {parameter_name}, which is not in "
                    "the network",
                    "Choose another results folder (-r) for another network.",
                )
            parameter = named_parameters[parameter_name]
            if parameter not in numbers:  # It is frozen now.
                continue
            if tensor.ndim:  # Fused optimizers require the memory layout of the parameter.
                if tensor.shape != parameter.shape or not tensor.is_floating_point():
                    raise BodyPoseNetError(
                        f"{self.path}: optimizer state {name}: expected floating point values of "
                        f"shape {tuple(parameter.shape)}, got {tensor.dtype} of shape "
                        f"{tuple(tensor.shape)}",
                        _REMOVE_FILE,
                    )
                tensor = torch.empty_like(parameter).copy_(tensor)
            saved.setdefault(numbers[parameter], {})[entry] = tensor
        return saved


def state_file(path: Path) -> Path | None:
    """Return the .state file of a path: the path itself, or the one beside a `model.epoch-N.tlt`.

    None if there is no such file.
    """
    if path.suffix == ".state":
        return path
    beside = path.with_suffix(".state")
    return beside if _MODEL_NAME.fullmatch(path.name) and is_file(beside) else None


def list_checkpoints(results_dir: Path) -> list[Path]:
    """Return each `model.epoch-N.tlt` that has its .state file beside it, oldest first."""
    models = {
        path: _MODEL_NAME.fullmatch(path.name) for path in results_dir.glob("model.epoch-*.tlt")
    }
    complete = {
        path: int(match[1])
        for path, match in models.items()
        if match and is_file(path.with_suffix(".state"))
    }
    return sorted(complete, key=lambda path: complete[path])


def last_checkpoint(results_dir: Path, key: str) -> Checkpoint | None:
    """Read the most advanced checkpoint, after or within an epoch, or return None without any.

    Raises:
        BodyPoseNetError: A checkpoint cannot be read.
    """
    candidates = [results_dir / _LATEST, *list_checkpoints(results_dir)[-1:]]
    checkpoints = [Checkpoint.read(path, key) for path in candidates if is_file(path)]
    return max(checkpoints, key=lambda checkpoint: checkpoint.position, default=None)


def save_checkpoint(
    results_dir: Path, position: Position, state: TrainState, *, key: str, spec: str, keep: int
) -> None:
    """Save model and state after an epoch, and remove the oldest checkpoints beyond `keep`.

    The state is written first, as a model without its state is not a checkpoint.

    Args:
        results_dir: Results folder.
        position: End of an epoch.
        state: State to save.
        key: Encryption key of the files; empty for plain files.
        spec: Text of the train spec, for the headers.
        keep: Number of checkpoints to keep, including this one.

    Raises:
        BodyPoseNetError: The files cannot be written. Older checkpoints are intact.
    """
    model = results_dir / f"model.epoch-{position.epoch}.tlt"
    _write_state(model.with_suffix(".state"), position, state, key, spec)
    save_model(model, state.eval_network, key=key, epoch=position.epoch, spec=spec)
    (results_dir / _LATEST).unlink(missing_ok=True)
    for old in list_checkpoints(results_dir)[:-keep]:
        old.unlink()
    for path in results_dir.glob("model.epoch-*.state"):
        if not path.with_suffix(".tlt").exists():  # Removed above, or left by a killed run.
            path.unlink()


def save_latest(
    results_dir: Path, position: Position, state: TrainState, *, key: str, spec: str
) -> None:
    """Save the state within an epoch as `latest.state`, replacing the previous one.

    See `save_checkpoint` for the arguments.

    Raises:
        BodyPoseNetError: The file cannot be written. The previous one is intact.
    """
    _write_state(results_dir / _LATEST, position, state, key, spec)


def check_weights(state: TrainState, epoch: int) -> None:
    """Check that the weights are finite and not absurdly large, before they are saved.

    Args:
        state: State to save.
        epoch: Current epoch, for the error.

    Raises:
        BodyPoseNetError: The weights have diverged.
    """
    for network in {state.network, state.eval_network}:
        for name, tensor in named_tensors(network).items():
            if tensor.is_floating_point() and not bool((tensor.abs() < _MAX_WEIGHT).all()):
                raise BodyPoseNetError(
                    f"the weights have diverged in epoch {epoch} ({name})",
                    "Older checkpoints are intact. Use a lower base_learning_rate or a longer "
                    "soft_start in another results folder (-r); finetuning_config can start there "
                    "from a model.epoch-N.tlt of this one.",
                )


def _write_state(path: Path, position: Position, state: TrainState, key: str, spec: str) -> None:
    """Write a .state file."""
    header = model_header(state.network, epoch=position.epoch, spec=spec)
    header |= {"kind": _KIND, "samples": position.samples, "facts": dict(state.invariants)}
    if state.scaler.is_enabled():
        header["scaler"] = state.scaler.state_dict()
    tensors = _with_prefix("model|", named_tensors(state.network))
    if state.ema is not None:
        tensors |= _with_prefix("average|", named_tensors(state.ema.network))
    tensors |= _with_prefix("optimizer|", _optimizer_tensors(state))
    tensors["random"] = torch.get_rng_state()
    write_tensors(path, header, tensors, key=key)


def _optimizer_tensors(state: TrainState) -> dict[str, Tensor]:
    """Return the tensors of the optimizer state by `parameter|entry`."""
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
