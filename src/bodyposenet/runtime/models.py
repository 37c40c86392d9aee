"""A model file in, the engine that runs it out, or the predictor around it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bodyposenet.console import logger
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.runtime.choices import ENGINES, PRECISIONS, RUNTIMES
from bodyposenet.runtime.description import ModelDescription
from bodyposenet.runtime.engine import Engine
from bodyposenet.runtime.predictor import Predictor
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.specs.training import TrainSpec

if TYPE_CHECKING:
    from bodyposenet.runtime.exported import ExportedEngine
    from bodyposenet.runtime.pytorch import PyTorchEngine

_NOT_RUN = {
    ".hdf5": "Keras weights are no model of ours; name them as pretrained_weights of a training.",
    ".etlt": "Sealed exports are not run yet; give the .tlt file, or an .onnx file.",
    ".engine": "Compiled engines are not run yet; give the .tlt file, or an .onnx file.",
}
"""Extension -> what to do instead."""


def open_predictor(
    inference_spec: str | None,
    model: str | None,
    key: str,
    engine: str = "auto",
    threads: int | None = None,
    precision: str | None = None,
) -> Predictor:
    """The predictor that a command line asks for.

    Args:
        inference_spec: An inference spec; None: the defaults.
        model: A model file; None: the spec's `model_path`.
        key: Key of a sealed file.
        engine: See `open_engine`.
        threads: See `open_engine`.
        precision: See `open_engine`.

    Raises:
        BodyPoseNetError: The spec or the model is missing or wrong.
    """
    spec = InferenceSpec.load(inference_spec) if inference_spec else InferenceSpec()
    return Predictor(open_engine(spec, model, key, engine, threads, precision), spec)


def open_engine(
    spec: InferenceSpec,
    model: str | None = None,
    key: str = "",
    engine: str = "auto",
    threads: int | None = None,
    precision: str | None = None,
) -> Engine:
    """Load the model that the user means.

    Args:
        spec: Its `model_path` counts where `model` is not given. Its `train_spec`, where it is
            given and exists, must agree with the model; it describes one that has no header, such
            as NVIDIA's own ONNX files.
        model: A model file (`-m`).
        key: Key of a sealed file.
        engine: One of `ENGINES`.
        threads: Of the network, at most; None: the runtime chooses.
        precision: One of `PRECISIONS`; None: the first.

    Raises:
        BodyPoseNetError: No model is named; the file is missing, broken, sealed with another key
            or of a kind that does not run there; the train spec describes another model; the model
            lacks the stage of the spec; or an option is wrong.
    """
    _check_options(engine, threads, precision)
    path = _model_path(spec, model)
    runtime = _choose_runtime(path, engine)
    claimed = _train_description(spec)
    opened = _open(runtime, path, key, claimed, threads, precision or PRECISIONS[0])
    if claimed is not None and (differing := claimed.differences(opened.description)):
        spec.fail(
            "train_spec",
            f"{spec.train_spec} and the model {path} differ in {', '.join(differing)}",
            "Name the spec that the model was trained with, or leave train_spec out.",
        )
    if runtime != "pytorch":
        _check_stage(spec, opened.stages)
    return opened


def _check_options(engine: str, threads: int | None, precision: str | None) -> None:
    if engine not in ENGINES:
        raise BodyPoseNetError(f"there is no engine {engine}", f"There are: {', '.join(ENGINES)}.")
    if threads is not None and (not isinstance(threads, int) or threads < 1):
        raise BodyPoseNetError(
            f"{threads!r} threads: it must be a whole number, at least 1",
            "Leave it out for the usual.",
        )
    if precision is not None and precision not in PRECISIONS:
        raise BodyPoseNetError(
            f"there is no precision {precision}", f"There are: {', '.join(PRECISIONS)}."
        )


def _model_path(spec: InferenceSpec, model: str | None) -> Path:
    if model:
        if not Path(model).is_file():
            raise BodyPoseNetError(
                f"{model}: no such model file",
                "Check the path; it is relative to the working directory.",
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


def _choose_runtime(path: Path, engine: str) -> str:
    """What runs this file, by its extension and the user's wish."""
    extension = path.suffix.lower()
    runtimes = RUNTIMES.get(extension)
    if runtimes is None:
        remedy = "Give a .tlt file of `bpnet train`, or an .onnx file of `bpnet export`."
        raise BodyPoseNetError(f"{path}: no model that can be run", _NOT_RUN.get(extension, remedy))
    if engine == "auto":
        return runtimes[0]
    if engine not in runtimes:
        raise BodyPoseNetError(
            f"{path}: {engine} runs no {extension} files",
            "Export the model first: bpnet export -m MODEL.tlt -o MODEL.onnx"
            if extension == ".tlt"
            else "Give the .tlt file that it was exported from.",
        )
    return engine


def _open(
    runtime: str,
    path: Path,
    key: str,
    claimed: ModelDescription | None,
    threads: int | None,
    precision: str,
) -> PyTorchEngine | ExportedEngine:
    """Load the file; a runtime is imported only where it is used."""
    if runtime == "pytorch":
        from bodyposenet.runtime import pytorch

        return pytorch.load(path, key, threads=threads, precision=precision)
    if runtime == "openvino":
        from bodyposenet.runtime import openvino

        return openvino.load(path, claimed, threads=threads, precision=precision)
    from bodyposenet.runtime import onnx

    if precision != PRECISIONS[0]:
        raise BodyPoseNetError(
            f"precision {precision}: ONNX Runtime computes in that of the file",
            "Choose the engine openvino, or pytorch with the .tlt file.",
        )
    return onnx.load(path, claimed, threads=threads)


def _train_description(spec: InferenceSpec) -> ModelDescription | None:
    """What the train spec says of the model; None where there is none."""
    if not spec.train_spec:
        return None
    path = spec.find(spec.train_spec)
    if path is None:
        logger.warning("train_spec %s does not exist; the model file alone counts", spec.train_spec)
        return None
    return ModelDescription.from_train_spec(TrainSpec.load(path))


def _check_stage(spec: InferenceSpec, stages: int) -> None:
    """Exported models hold the last stage only; say so before any image is read."""
    if spec.output_stage_to_use not in (None, stages):
        spec.fail(
            "output_stage_to_use",
            f"stage {spec.output_stage_to_use}, but an exported model holds the last one only",
            f"Write null or {stages}, or run the .tlt file.",
        )
