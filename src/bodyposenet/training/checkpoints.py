"""A training's state on disk: `model.epoch-N.tlt`, and `model.epoch-N.state` beside it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.model.checkpoint import (
    read_tensors,
    save_model,
    tensors_of,
    write_tensors,
)
from bodyposenet.model.network import BodyPoseNetwork

_STATE = "training state"
_ABSURD = 1e6
_NAME = re.compile(r"model\.epoch-(\d+)\.tlt")


@dataclass(frozen=True)
class Checkpoint:
    """Weights after an epoch, and what is needed to go on from there.

    Args:
        epoch: Epochs done.
        model: The weights.
        state: Optimizer and random state.
    """

    epoch: int
    model: Path
    state: Path

    @classmethod
    def of(cls, model: Path) -> Checkpoint:
        """The checkpoint whose weights have that name.

        Raises:
            BodyPoseNetError: It is not named like a checkpoint, or its state is missing.
        """
        match = _NAME.fullmatch(model.name)
        state = model.with_suffix(".state")
        if match is None or not state.is_file():
            raise BodyPoseNetError(
                f"{model}: not a checkpoint of a training",
                "Name a model.epoch-N.tlt that has its model.epoch-N.state beside it.",
            )
        return cls(int(match[1]), model, state)


def list_checkpoints(results_dir: Path) -> list[Checkpoint]:
    """The complete checkpoints of a folder, the oldest first."""
    models = [path for path in results_dir.glob("model.epoch-*.tlt") if _NAME.fullmatch(path.name)]
    complete = [path for path in models if path.with_suffix(".state").is_file()]
    return sorted((Checkpoint.of(path) for path in complete), key=lambda found: found.epoch)


def save_checkpoint(
    results_dir: Path,
    epoch: int,
    network: BodyPoseNetwork,
    optimizer: torch.optim.Optimizer,
    *,
    key: str,
    spec: str,
    keep: int,
) -> None:
    """Write a checkpoint, then remove the oldest ones beyond `keep`.

    The state goes first: a model without its state is no checkpoint.

    Args:
        results_dir: The folder.
        epoch: Epochs done.
        network: The weights.
        optimizer: Its state.
        key: Closes the files; empty: plain.
        spec: Text of the train spec, for the model's header.
        keep: How many checkpoints to keep, this one included.

    Raises:
        BodyPoseNetError: The files cannot be written; older checkpoints are intact.
    """
    model = results_dir / f"model.epoch-{epoch}.tlt"
    tensors = _optimizer_tensors(optimizer, network)
    tensors["random"] = torch.get_rng_state()
    write_tensors(model.with_suffix(".state"), {"kind": _STATE, "epoch": epoch}, tensors, key=key)
    save_model(model, network, key=key, epoch=epoch, spec=spec)
    for old in list_checkpoints(results_dir)[:-keep]:
        old.model.unlink()
        old.state.unlink()


def check_weights(network: BodyPoseNetwork, epoch: int) -> None:
    """Make sure that a checkpoint would be of use.

    Raises:
        BodyPoseNetError: Weights are no numbers any more, or absurdly large.
    """
    for name, tensor in tensors_of(network).items():
        if tensor.is_floating_point() and not bool((tensor.abs() < _ABSURD).all()):
            raise BodyPoseNetError(
                f"the weights exploded in epoch {epoch} ({name})",
                "Try a lower base_learning_rate or a longer soft_start; older checkpoints are "
                "intact.",
            )


def restore_optimizer(
    checkpoint: Checkpoint, network: BodyPoseNetwork, optimizer: torch.optim.Optimizer, key: str
) -> None:
    """Put a checkpoint's optimizer and random state back.

    Args:
        checkpoint: Where from.
        network: Whose parameters the optimizer trains.
        optimizer: Gets the state.
        key: Opens the file.

    Raises:
        BodyPoseNetError: The file is broken, sealed with another key, or of another optimizer.
    """
    header, tensors = read_tensors(checkpoint.state, key)
    if (header.get("kind"), header.get("epoch")) != (_STATE, checkpoint.epoch):
        raise BodyPoseNetError(
            f"{checkpoint.state}: is not the training state of epoch {checkpoint.epoch}",
            "Remove the files of this epoch to go on from the checkpoint before.",
        )
    torch.set_rng_state(tensors.pop("random"))
    parameters = dict(network.named_parameters())
    for name, tensor in tensors.items():
        parameter, _, entry = name.rpartition("|")
        if parameter not in parameters:
            raise BodyPoseNetError(
                f"{checkpoint.state}: holds the state of {parameter}, which the network lacks",
                "Choose another results folder (-r) for another network.",
            )
        where = parameters[parameter].device if tensor.ndim else tensor.device
        optimizer.state[parameters[parameter]][entry] = tensor.to(where)
    _check_kind(checkpoint, optimizer)


def _optimizer_tensors(
    optimizer: torch.optim.Optimizer, network: BodyPoseNetwork
) -> dict[str, Tensor]:
    return {
        f"{name}|{entry}": value.detach().cpu()
        for name, parameter in network.named_parameters()
        for entry, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def _check_kind(checkpoint: Checkpoint, optimizer: torch.optim.Optimizer) -> None:
    found = {entry for state in optimizer.state.values() for entry in state}
    is_sgd = isinstance(optimizer, torch.optim.SGD)
    wanted = {"momentum_buffer"} if is_sgd else {"step", "exp_avg", "exp_avg_sq"}
    if not found <= wanted:
        raise BodyPoseNetError(
            f"{checkpoint.state}: comes from another optimizer",
            "Keep the optimizer of the train spec, or choose another results folder (-r).",
        )
