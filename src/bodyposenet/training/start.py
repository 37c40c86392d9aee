"""Where a training begins: fresh, from pretrained weights, from a checkpoint.

See the TAO reference, section 10.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from bodyposenet.console import logger
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.inference.models import DEFAULT_MODEL_WEIGHTS
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.model.pretrained import WeightReport, build_pretrained, load_pretrained
from bodyposenet.specs.training import DEFAULT_WEIGHTS, TrainSpec
from bodyposenet.training.checkpoints import Checkpoint, Position, last_checkpoint, state_file
from bodyposenet.training.resume_checks import (
    check_agreement,
    check_same_spec,
    check_tensors,
    normalization,
)

_CHECKPOINT = "finetuning_config.checkpoint_path"


@dataclass(frozen=True, eq=False)
class Start:
    """What a training begins with.

    Args:
        network: The network.
        checkpoint: Where the optimizer's state comes from; None: it starts empty.
        position: What counts as done.
        schedule_start: Epochs that were done when the learning rate schedule began.
        resumed: The checkpoint is the last one of the results folder.
    """

    network: BodyPoseNetwork
    checkpoint: Checkpoint | None
    position: Position
    schedule_start: int
    resumed: bool = False


def prepare_start(spec: TrainSpec, results_dir: Path, key: str) -> Start:
    """Resume from the results folder if it holds a checkpoint; else begin as the spec says.

    Raises:
        BodyPoseNetError: A file is missing, broken, or of another network or training.
    """
    torch.manual_seed(spec.random_seed)
    tuning = spec.finetuning_config
    first = tuning.ckpt_epoch_num if tuning.is_finetune_exp else 0
    last = last_checkpoint(results_dir, key)
    if last is not None:
        _check_epochs(spec, last, results_dir)
        check_same_spec(spec, last, results_dir)
        _check_network(last, spec)
        done = last.position
        within = f" and {done.samples} samples" if done.samples else ""
        logger.info("resuming after epoch %d%s from %s", done.epoch, within, last.path)
        if done.epoch == spec.num_epoch:
            logger.info("nothing is left to train: num_epoch is %d, and all are done", done.epoch)
        return Start(last.network, last, done, first, resumed=True)
    if tuning.is_finetune_exp:
        return _prepare_finetuning(spec, key)
    if spec.pretrained_weights is None:
        return Start(_build_network(spec), None, Position(0), 0)
    path = _model_path(spec, "pretrained_weights", spec.pretrained_weights)
    network = _pretrained_network(spec, path, key)
    return Start(network, None, Position(0), 0)


def _prepare_finetuning(spec: TrainSpec, key: str) -> Start:
    """Begin with a checkpoint of the spec's network, or with the weights of any model file."""
    tuning = spec.finetuning_config
    assert tuning.checkpoint_path is not None  # checked by the spec
    path = _model_path(spec, _CHECKPOINT, tuning.checkpoint_path)
    first = tuning.ckpt_epoch_num
    logger.info("fine-tuning from %s; epochs count from %d", path, first)
    if state_file(path) is None:
        logger.info("%s: has no training state beside it: the optimizer starts anew", path)
    else:
        checkpoint = Checkpoint.read(path, key)
        try:
            _check_network(checkpoint, spec)
            return Start(checkpoint.network, checkpoint, Position(first), first)
        except BodyPoseNetError as error:
            if path.suffix == ".state":  # holds no model
                raise
            logger.warning(
                "%s: its weights are taken by name, the optimizer starts anew", error.what
            )
    return Start(_pretrained_network(spec, path, key), None, Position(first), first)


def _check_epochs(spec: TrainSpec, last: Checkpoint, results_dir: Path) -> None:
    tuning = spec.finetuning_config
    first = spec.find_model(tuning.checkpoint_path or "") if tuning.is_finetune_exp else None
    if first is not None and first.parent.resolve() == results_dir.resolve():
        spec.fail(
            _CHECKPOINT,
            f"lies in the results folder {results_dir}, where a run would be resumed",
            "Give the fine-tuning a results folder of its own (-r).",
        )
    done = last.position
    if (done.epoch, done.samples) > (spec.num_epoch, 0):
        spec.fail(
            "num_epoch",
            f"is {spec.num_epoch}, {results_dir} holds epoch {done.epoch} already",
            "Raise it, or choose another results folder (-r).",
        )


def _pretrained_network(spec: TrainSpec, path: Path, key: str) -> BodyPoseNetwork:
    if path == DEFAULT_MODEL_WEIGHTS:  # which are plain, and part of the program
        key = ""
    if spec.load_graph:
        network, report = build_pretrained(path, key, spec.skeleton, normalization(spec))
        _log(report, path)
        logger.info("graph and weights from %s; regularization is off", path)
        ours, theirs = spec.model.model_dump(), network.spec.model_dump()
        differing = [key for key in spec.model.model_fields_set if ours[key] != theirs[key]]
        if differing:
            logger.info("of no effect beside load_graph: model.%s", ", model.".join(differing))
        return network
    network = _build_network(spec)
    report = load_pretrained(network, path, key)
    _log(report, path)
    if report.mismatched:
        logger.warning("%s: if this model was pruned, load_graph: true takes its widths", path)
    return network


def _model_path(spec: TrainSpec, location: str, name: str) -> Path:
    """The model file that a spec names; the package's own under the name DEFAULT_WEIGHTS."""
    if name == DEFAULT_WEIGHTS:
        return DEFAULT_MODEL_WEIGHTS
    return spec.existing_model_path(location, name)


def _log(report: WeightReport, path: Path) -> None:
    for line in report.lines():
        logger.info("%s: %s", path, line)


def _build_network(spec: TrainSpec) -> BodyPoseNetwork:
    """The network that a train spec describes, with fresh weights."""
    return BodyPoseNetwork(spec.skeleton, spec.model, normalization(spec))


def _check_network(checkpoint: Checkpoint, spec: TrainSpec) -> None:
    """Raise an error unless the checkpoint's network is the spec's."""
    check_agreement(checkpoint.network, spec, checkpoint.path)
    if not spec.load_graph:
        check_tensors(checkpoint.network, _build_network(spec), checkpoint.path)
