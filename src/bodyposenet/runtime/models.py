"""A model file in, the engine that runs it out, or the predictor around it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bodyposenet.console import logger
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.runtime.engine import Engine
from bodyposenet.runtime.predictor import Predictor
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.specs.training import TrainSpec

if TYPE_CHECKING:
    from bodyposenet.model.network import BodyPoseNetwork

_NOT_RUN = {
    ".hdf5": "Keras weights are no model of ours; name them as pretrained_weights of a training.",
    ".onnx": "ONNX files are not run yet; give the .tlt file.",
    ".etlt": "Exported files are not run yet; give the .tlt file.",
    ".engine": "Engines are not run yet; give the .tlt file.",
}
"""Extension -> what to do instead."""


def open_predictor(inference_spec: str | None, model: str | None, key: str) -> Predictor:
    """The predictor that a command line asks for.

    Args:
        inference_spec: An inference spec; None: the defaults.
        model: A model file; None: the spec's `model_path`.
        key: Key of a sealed file.

    Raises:
        BodyPoseNetError: The spec or the model is missing or wrong.
    """
    spec = InferenceSpec.load(inference_spec) if inference_spec else InferenceSpec()
    return Predictor(open_engine(spec, model, key), spec)


def open_engine(spec: InferenceSpec, model: str | None = None, key: str = "") -> Engine:
    """Load the model that the user means.

    Args:
        spec: Its `model_path` counts where `model` is not given; its `train_spec`, where it is
            given and exists, must agree with the model.
        model: A model file (`-m`).
        key: Key of a sealed file.

    Raises:
        BodyPoseNetError: No model is named; the file is missing, broken, sealed with another key
            or of a kind that does not run; or the train spec describes another model.
    """
    path = _model_path(spec, model)
    extension = path.suffix.lower()
    if extension != ".tlt":
        remedy = _NOT_RUN.get(extension, "Give a .tlt file that `bpnet train` wrote.")
        raise BodyPoseNetError(f"{path}: no model that can be run", remedy)
    from bodyposenet.runtime import pytorch

    engine = pytorch.load(path, key)
    _check_train_spec(spec, engine.network, path)
    return engine


def _model_path(spec: InferenceSpec, model: str | None) -> Path:
    if model:
        if not Path(model).is_file():
            raise BodyPoseNetError(
                f"{model}: no such model file",
                "Check -m; the path is relative to the working directory.",
            )
        return Path(model)
    if not spec.model_path:
        raise BodyPoseNetError(
            "no model is named", "Give -m MODEL.tlt, or model_path in the inference spec."
        )
    path = spec.existing("model_path", spec.model_path)
    if not path.is_file():
        spec.fail("model_path", f"{path} is a folder", "Name the model file in it.")
    return path


def _check_train_spec(spec: InferenceSpec, network: BodyPoseNetwork, model: Path) -> None:
    """A train spec adds nothing to what the model file knows; a contradiction is a mistake."""
    if not spec.train_spec:
        return
    try:
        path = spec.existing("train_spec", spec.train_spec)
    except BodyPoseNetError:
        logger.warning(
            "train_spec %s does not exist; all that counts stands in the model file",
            spec.train_spec,
        )
        return
    train = TrainSpec.load(path)
    claimed, known = train.dataloader.normalization_params, network.normalization
    pairs = {
        "joints": (train.skeleton.joints, network.skeleton.joints),
        "limbs": (train.skeleton.limbs, network.skeleton.limbs),
        "image_scale": (claimed.image_scale, known.image_scale),
        "image_offset": (claimed.image_offset, known.image_offset),
    }
    differing = [name for name, (ours, theirs) in pairs.items() if tuple(ours) != tuple(theirs)]
    if differing:
        spec.fail(
            "train_spec",
            f"{path} and the model {model} differ in {', '.join(differing)}",
            "Name the spec that the model was trained with, or leave train_spec out.",
        )
