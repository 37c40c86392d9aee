"""Where a training begins: fresh, from pretrained weights, from a checkpoint (reference 10.3)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from bodyposenet.console import logger
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.model.checkpoint import load_model, tensors_of
from bodyposenet.model.network import BodyPoseNetwork, Normalization
from bodyposenet.model.weights import load_pretrained
from bodyposenet.specs.training import TrainSpec
from bodyposenet.training.checkpoints import Checkpoint, list_checkpoints


@dataclass(frozen=True, eq=False)
class Start:
    """What a training begins with.

    Args:
        network: The network.
        checkpoint: Where the optimizer's state comes from; None: it starts empty.
        epochs_done: Epochs that count as done.
        schedule_start: Epochs that were done when the learning rate schedule began.
        resumed: The checkpoint is the last one of the results folder.
    """

    network: BodyPoseNetwork
    checkpoint: Checkpoint | None
    epochs_done: int
    schedule_start: int
    resumed: bool = False


def prepare_start(spec: TrainSpec, results_dir: Path, key: str) -> Start:
    """Resume from the results folder if it holds a checkpoint; else begin as the spec says.

    Raises:
        BodyPoseNetError: A file is missing, broken, or of another network.
    """
    torch.manual_seed(spec.random_seed)
    tuning = spec.finetuning_config
    first = tuning.ckpt_epoch_num if tuning.is_finetune_exp else 0
    checkpoints = list_checkpoints(results_dir)
    if checkpoints:
        last = checkpoints[-1]
        _check_epochs(spec, last, results_dir)
        logger.info("resuming after epoch %d from %s", last.epoch, last.model)
        return Start(_network_of(last, spec, key), last, last.epoch, first, resumed=True)
    if tuning.is_finetune_exp:
        assert tuning.checkpoint_path is not None  # checked by the spec
        path = spec.existing("finetuning_config.checkpoint_path", tuning.checkpoint_path)
        checkpoint = Checkpoint.of(path)
        logger.info("fine-tuning from %s; epochs count from %d", path, first)
        return Start(_network_of(checkpoint, spec, key), checkpoint, first, first)
    return Start(_fresh_network(spec, key), None, 0, 0)


def _check_epochs(spec: TrainSpec, last: Checkpoint, results_dir: Path) -> None:
    tuning = spec.finetuning_config
    source = tuning.checkpoint_path if tuning.is_finetune_exp else None
    if source is not None and Path(source).parent.resolve() == results_dir.resolve():
        spec.fail(
            "finetuning_config.checkpoint_path",
            f"lies in the results folder {results_dir}, where a run would be resumed",
            "Give the fine-tuning a results folder of its own (-r).",
        )
    if last.epoch > spec.num_epoch:
        spec.fail(
            "num_epoch",
            f"is {spec.num_epoch}, {results_dir} holds epoch {last.epoch} already",
            "Raise it, or choose another results folder (-r).",
        )


def _fresh_network(spec: TrainSpec, key: str) -> BodyPoseNetwork:
    if spec.pretrained_weights is None:
        return _build_network(spec)
    path = spec.existing("pretrained_weights", spec.pretrained_weights)
    if spec.load_graph:
        network = load_model(path, key)
        _check_agreement(network, spec, path)
        logger.info("graph and weights from %s; regularization is off", path)
        ours, theirs = spec.model.model_dump(), network.spec.model_dump()
        differing = [key for key in spec.model.model_fields_set if ours[key] != theirs[key]]
        if differing:
            logger.info("of no effect beside load_graph: model.%s", ", model.".join(differing))
        return network
    network = _build_network(spec)
    report = load_pretrained(network, path, key)
    for line in report.lines():
        logger.info("%s: %s", path, line)
    return network


def _build_network(spec: TrainSpec) -> BodyPoseNetwork:
    """The network that a train spec describes, with fresh weights."""
    return BodyPoseNetwork(spec.skeleton, spec.model, _normalization(spec))


def _normalization(spec: TrainSpec) -> Normalization:
    params = spec.dataloader.normalization_params
    return Normalization(params.image_scale, params.image_offset)


def _network_of(checkpoint: Checkpoint, spec: TrainSpec, key: str) -> BodyPoseNetwork:
    network = load_model(checkpoint.model, key)
    _check_agreement(network, spec, checkpoint.model)
    if not spec.load_graph:
        wanted = {name: part.shape for name, part in tensors_of(_build_network(spec)).items()}
        found = {name: part.shape for name, part in tensors_of(network).items()}
        if wanted != found:
            differing = sorted(
                name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)
            )
            raise BodyPoseNetError(
                f"{checkpoint.model}: is another network than the train spec's "
                f"({len(differing)} tensors differ, the first is {differing[0]})",
                "Choose another results folder (-r), or the train spec that belongs to this one.",
            )
    return network


def _check_agreement(network: BodyPoseNetwork, spec: TrainSpec, path: Path) -> None:
    """A model that is trained further keeps its skeleton and its normalization."""
    ours, theirs = spec.skeleton, network.skeleton
    if (ours.joints, ours.limbs) != (theirs.joints, theirs.limbs):
        raise BodyPoseNetError(
            f"{path}: has the skeleton {theirs.name}, the train spec's is {ours.name}",
            "Use the pose configuration that the model was trained with.",
        )
    if network.normalization != _normalization(spec):
        raise BodyPoseNetError(
            f"{path}: was trained with {network.normalization}, the train spec has "
            f"{_normalization(spec)}",
            "Use the normalization_params that the model was trained with.",
        )
