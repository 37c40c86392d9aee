"""Initial state of a training: fresh weights, pretrained weights, or those of a checkpoint.

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
    check_same_inputs,
    check_same_spec,
    check_same_tensors,
    normalization,
)

_CHECKPOINT = "finetuning_config.checkpoint_path"


@dataclass(frozen=True, eq=False)
class InitialState:
    """State at the beginning of a run.

    Args:
        network: The network with its weights.
        checkpoint: Checkpoint to restore the optimizer from, or None for a new optimizer state.
        position: Epochs and samples that count as done.
        schedule_start: Number of epochs before the learning rate schedule begins.
        resumed: Whether the checkpoint is the last one of the results folder.
    """

    network: BodyPoseNetwork
    checkpoint: Checkpoint | None
    position: Position
    schedule_start: int
    resumed: bool = False


def load_initial_state(spec: TrainSpec, results_dir: Path, key: str) -> InitialState:
    """Resume from the results folder if it holds a checkpoint, else initialize from the spec.

    Args:
        spec: The train spec.
        results_dir: Results folder.
        key: Encryption key of model files.

    Raises:
        BodyPoseNetError: A file is missing or damaged, or belongs to another network or training.
    """
    torch.manual_seed(spec.random_seed)
    tuning = spec.finetuning_config
    first_epoch = tuning.ckpt_epoch_num if tuning.is_finetune_exp else 0
    last = last_checkpoint(results_dir, key)
    if last is not None:
        _check_position(spec, last, results_dir)
        check_same_spec(spec, last, results_dir)
        _check_network(last, spec)
        done = last.position
        samples = f" and {done.samples} samples" if done.samples else ""
        logger.info("Resuming after epoch %d%s from %s", done.epoch, samples, last.path)
        if done.epoch == spec.num_epoch:
            logger.info("Training is complete: all %d epochs (num_epoch) are done", done.epoch)
        return InitialState(last.network, last, done, first_epoch, resumed=True)
    if tuning.is_finetune_exp:
        return _prepare_finetuning(spec, key)
    if spec.pretrained_weights is None:
        return InitialState(_build_network(spec), None, Position(0), 0)
    path = _model_path(spec, "pretrained_weights", spec.pretrained_weights)
    network = _pretrained_network(spec, path, key)
    return InitialState(network, None, Position(0), 0)


def _prepare_finetuning(spec: TrainSpec, key: str) -> InitialState:
    """Initialize from a checkpoint of the same network, or from the weights of any model file."""
    tuning = spec.finetuning_config
    assert tuning.checkpoint_path is not None  # Checked by the spec.
    path = _model_path(spec, _CHECKPOINT, tuning.checkpoint_path)
    first_epoch = tuning.ckpt_epoch_num
    logger.info("Fine-tuning from %s, starting at epoch %d", path, first_epoch)
    if state_file(path) is None:
        logger.info("%s: no .state file beside it, so the optimizer state is reset", path)
    else:
        checkpoint = Checkpoint.read(path, key)
        try:
            _check_network(checkpoint, spec)
            return InitialState(checkpoint.network, checkpoint, Position(first_epoch), first_epoch)
        except BodyPoseNetError as error:
            if path.suffix == ".state":  # It holds no model to take weights from.
                raise
            logger.warning(
                "%s. Its weights are loaded by name, and the optimizer state is reset", error.what
            )
    network = _pretrained_network(spec, path, key)
    return InitialState(network, None, Position(first_epoch), first_epoch)


def _check_position(spec: TrainSpec, last: Checkpoint, results_dir: Path) -> None:
    """Check that fine-tuning has its own results folder, and that num_epoch is not exceeded."""
    tuning = spec.finetuning_config
    first = spec.find_model(tuning.checkpoint_path or "") if tuning.is_finetune_exp else None
    if first is not None and first.parent.resolve() == results_dir.resolve():
        spec.fail(
            _CHECKPOINT,
            f"the file is in the results folder {results_dir}, whose training would be resumed "
            "instead of fine-tuned",
            "Choose another results folder (-r) for the fine-tuning.",
        )
    done = last.position
    if (done.epoch, done.samples) > (spec.num_epoch, 0):
        spec.fail(
            "num_epoch",
            f"{spec.num_epoch} is less than the training in {results_dir}, which has finished "
            f"epoch {done.epoch}",
            "Raise num_epoch, or choose another results folder (-r).",
        )


def _check_network(checkpoint: Checkpoint, spec: TrainSpec) -> None:
    """Raise an error unless the checkpoint's network is the one of the spec."""
    check_same_inputs(checkpoint.network, spec, checkpoint.path)
    if not spec.load_graph:
        check_same_tensors(checkpoint.network, _build_network(spec), checkpoint.path)


def _pretrained_network(spec: TrainSpec, path: Path, key: str) -> BodyPoseNetwork:
    """Build the network and load weights by name, or its graph as well with `load_graph`."""
    if path == DEFAULT_MODEL_WEIGHTS:  # Part of the package and not encrypted.
        key = ""
    if spec.load_graph:
        network, report = build_pretrained(path, key, spec.skeleton, normalization(spec))
        _log_report(report, path)
        logger.info("Graph and weights loaded from %s; regularization is off", path)
        ours, theirs = spec.model.model_dump(), network.spec.model_dump()
        ignored = [key for key in spec.model.model_fields_set if ours[key] != theirs[key]]
        if ignored:
            logger.info("Ignored because of load_graph: model.%s", ", model.".join(ignored))
        return network
    network = _build_network(spec)
    report = load_pretrained(network, path, key)
    _log_report(report, path)
    if report.mismatched:
        logger.warning(
            "%s: if this model was pruned, set load_graph: true to use its layer sizes", path
        )
    return network


def _model_path(spec: TrainSpec, location: str, name: str) -> Path:
    """Return the path of a model file in a spec; DEFAULT_WEIGHTS stands for the default model."""
    if name == DEFAULT_WEIGHTS:
        return DEFAULT_MODEL_WEIGHTS
    return spec.existing_model_path(location, name)


def _log_report(report: WeightReport, path: Path) -> None:
    """Log which weights were loaded."""
    for line in report.lines():
        logger.info("%s: %s", path, line)


def _build_network(spec: TrainSpec) -> BodyPoseNetwork:
    """Build the network of a train spec with random weights."""
    return BodyPoseNetwork(spec.skeleton, spec.model, normalization(spec))
