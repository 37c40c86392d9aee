"""A checkpoint and a train spec in; an error out where they are not of one training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.model.checkpoint import named_tensors
from bodyposenet.model.network import BodyPoseNetwork, Normalization
from bodyposenet.specs.training import TrainSpec
from bodyposenet.training.checkpoints import Checkpoint

_FREE = {
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
"""Keys that may change within a training: how long, how often, how fast, where the files lie.

The skeleton of the pose configuration, from which the channels follow, is compared by itself.
"""

_MOST_TOLD = 5


def check_same_spec(spec: TrainSpec, checkpoint: Checkpoint, results_dir: Path) -> None:
    """Make sure that a results folder goes on with the training that it holds.

    Raises:
        BodyPoseNetError: The spec of the folder's checkpoint says something else.
    """
    before = TrainSpec.parse(checkpoint.spec)
    if before is not None:
        _refuse(_differing(_flat(before.model_dump()), _flat(spec.model_dump())), results_dir)


def check_same_facts(
    facts: Mapping[str, int | bool], checkpoint: Checkpoint, results_dir: Path
) -> None:
    """The same for what the result depends on beside the spec.

    Raises:
        BodyPoseNetError: The facts of the folder's checkpoint are others.
    """
    _refuse(_differing(checkpoint.facts, facts), results_dir)


def _refuse(changes: list[str], results_dir: Path) -> None:
    if changes:
        more = len(changes) - _MOST_TOLD
        told = "; ".join([*changes[:_MOST_TOLD], *([f"and {more} more"] if more > 0 else [])])
        raise BodyPoseNetError(
            f"{results_dir}: holds another training: {told}",
            "Choose another results folder (-r) for a new training; take these changes back to go "
            "on with this one; or go on from its weights with finetuning_config.checkpoint_path in "
            "another folder.",
        )


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [
        f"{key} was {before.get(key)}, is {now.get(key)}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and not _is_free(key)
    ]


def check_agreement(network: BodyPoseNetwork, spec: TrainSpec, path: Path) -> None:
    """Make sure that a model to be trained further keeps its skeleton and its normalization.

    Raises:
        BodyPoseNetError: It does not.
    """
    ours, theirs = spec.skeleton, network.skeleton
    if (ours.joints, ours.limbs) != (theirs.joints, theirs.limbs):
        raise BodyPoseNetError(
            f"{path}: has the skeleton {theirs.name}, the train spec's is {ours.name}",
            "Use the pose configuration that the model was trained with.",
        )
    wanted = normalization(spec)
    if network.normalization != wanted:
        raise BodyPoseNetError(
            f"{path}: was trained with {network.normalization}, the train spec has {wanted}",
            "Use the normalization_params that the model was trained with.",
        )


def check_tensors(network: BodyPoseNetwork, wanted: BodyPoseNetwork, path: Path) -> None:
    """Make sure that a checkpoint's network is the one that the train spec describes.

    Raises:
        BodyPoseNetError: Tensors are missing, or have other shapes.
    """
    ours = {name: part.shape for name, part in named_tensors(wanted).items()}
    theirs = {name: part.shape for name, part in named_tensors(network).items()}
    names = ours.keys() | theirs.keys()
    differing = sorted(name for name in names if ours.get(name) != theirs.get(name))
    if differing:
        raise BodyPoseNetError(
            f"{path}: is another network than the train spec's ({len(differing)} tensors differ, "
            f"the first is {differing[0]})",
            "Choose another results folder (-r), or the train spec that belongs to this one.",
        )


def normalization(spec: TrainSpec) -> Normalization:
    """How the train spec makes network inputs of pixels."""
    params = spec.dataloader.normalization_params
    return Normalization(params.image_scale, params.image_offset)


def _flat(content: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Nested dicts as one, with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        below = _flat(value, f"{above}{key}.") if isinstance(value, dict) else {above + key: value}
        flat |= below
    return flat


def _is_free(key: str) -> bool:
    parts = key.split(".")
    return any(".".join(parts[:length]) in _FREE for length in range(1, len(parts) + 1))
