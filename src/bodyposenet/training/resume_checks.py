"""Checks before a training is resumed: its checkpoint and the train spec must match."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.model.checkpoint import named_tensors
from bodyposenet.model.network import BodyPoseNetwork, Normalization
from bodyposenet.specs.training import TrainSpec
from bodyposenet.training.checkpoints import Checkpoint

_CHANGEABLE = {
    "checkpoint_dir", "log_every_n_secs", "checkpoint_n_epoch", "checkpoint_every_n_secs",
    "num_epoch", "summary_every_n_steps", "infrequent_summary_every_n_steps",
    "validation_every_n_epoch", "max_ckpt_to_keep", "pretrained_weights",
    "finetuning_config.is_finetune_exp", "finetuning_config.checkpoint_path",
    "torch_compile", "final_model_name", "validation_max_images", "inference_spec",
    "distillation.teacher", "distillation.maps", "key", "evaluator", "hooks",
    "dataloader.shuffle_buffer_size", "dataloader.dataset_config", "dataloader.workers",
    "dataloader.pose_config", "model.heat_channels",
    "model.paf_channels", "dataloader.image_cache_dir", "dataloader.max_unreadable_share",
}  # fmt: skip
"""Keys of the train spec that may change while a training is resumed, as they do not affect the
result of a step: durations, intervals, speed, paths of files.

The skeleton of the pose configuration, which determines the channels, is compared separately.
"""

_MAX_LISTED_CHANGES = 5


def check_same_spec(spec: TrainSpec, checkpoint: Checkpoint, results_dir: Path) -> None:
    """Check that the train spec equals that of the checkpoint, except for changeable keys.

    Args:
        spec: The train spec.
        checkpoint: The last checkpoint of the results folder.
        results_dir: Results folder, for the error.

    Raises:
        BodyPoseNetError: Keys that affect the result have changed.
    """
    before = TrainSpec.parse(checkpoint.spec)
    if before is not None:
        _raise_if_changed(
            _changes(_flatten(before.model_dump()), _flatten(spec.model_dump())), results_dir
        )


def check_same_invariants(
    invariants: Mapping[str, int | bool], checkpoint: Checkpoint, results_dir: Path
) -> None:
    """Check that the invariants of a training are those of its checkpoint; see `TrainState`.

    Raises:
        BodyPoseNetError: One of them has changed.
    """
    _raise_if_changed(_changes(checkpoint.invariants, invariants), results_dir)


def check_same_inputs(network: BodyPoseNetwork, spec: TrainSpec, path: Path) -> None:
    """Check that skeleton and normalization of a network are those of the train spec.

    Args:
        network: The network of a checkpoint.
        spec: The train spec.
        path: Path of the checkpoint, for the error.

    Raises:
        BodyPoseNetError: They differ.
    """
    ours, theirs = spec.skeleton, network.skeleton
    if (ours.joints, ours.limbs) != (theirs.joints, theirs.limbs):
        raise BodyPoseNetError(
            f"{path}: has the skeleton {theirs.name}, but the train spec has {ours.name}",
            "Use the pose configuration that the model was trained with.",
        )
    expected = normalization(spec)
    if network.normalization != expected:
        raise BodyPoseNetError(
            f"{path}: was trained with {network.normalization}, but the train spec has {expected}",
            "Use the normalization_params that the model was trained with.",
        )


def check_same_tensors(network: BodyPoseNetwork, expected: BodyPoseNetwork, path: Path) -> None:
    """Check that a checkpoint's network has the tensors of the train spec's network.

    Args:
        network: The network of the checkpoint.
        expected: A network built from the train spec.
        path: Path of the checkpoint, for the error.

    Raises:
        BodyPoseNetError: Tensors are missing, or have other shapes.
    """
    ours = {name: tensor.shape for name, tensor in named_tensors(expected).items()}
    theirs = {name: tensor.shape for name, tensor in named_tensors(network).items()}
    names = ours.keys() | theirs.keys()
    differing = sorted(name for name in names if ours.get(name) != theirs.get(name))
    if differing:
        raise BodyPoseNetError(
            f"{path}: its network differs from that of the train spec in {len(differing)} tensors, "
            f"the first is {differing[0]}",
            "Choose another results folder (-r), or use the train spec of this one.",
        )


def normalization(spec: TrainSpec) -> Normalization:
    """Return the normalization of network inputs that the train spec describes."""
    params = spec.dataloader.normalization_params
    return Normalization(params.image_scale, params.image_offset)


def _raise_if_changed(changes: list[str], results_dir: Path) -> None:
    """Raise an error that lists the changes, if there are any."""
    if changes:
        more = len(changes) - _MAX_LISTED_CHANGES
        listed = changes[:_MAX_LISTED_CHANGES] + ([f"and {more} more"] if more > 0 else [])
        raise BodyPoseNetError(
            f"{results_dir}: holds the checkpoints of a training with other settings: "
            f"{'; '.join(listed)}",
            "Choose another results folder (-r) for a new training, or undo these changes to "
            "resume this one. To continue from its weights, set finetuning_config.checkpoint_path "
            "and use another folder.",
        )


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Describe the values that differ, except for changeable keys."""
    return [
        f"{key} was {before.get(key)}, is {now.get(key)}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and not _is_changeable(key)
    ]


def _flatten(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested dicts to one with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _is_changeable(key: str) -> bool:
    """Return whether a dotted key, or one of its parents, may change on resume."""
    parts = key.split(".")
    return any(".".join(parts[:length]) in _CHANGEABLE for length in range(1, len(parts) + 1))
