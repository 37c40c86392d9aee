"""Selection of the model file and of the engine that runs it.

Used by `bodyposenet.load` and by the commands: `find_model` selects the file (the given one, that
of the inference spec, or the default model), `open_engine` its runtime, and `build_predictor`
returns a `Predictor` with both.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from bodyposenet.console import logger
from bodyposenet.cpu import quota_cores, usable_cores
from bodyposenet.decoding import warm_up_in_background
from bodyposenet.encryption import check_plain, model_file
from bodyposenet.errors import BodyPoseNetError, check_count
from bodyposenet.files import exists, is_file, is_folder
from bodyposenet.inference.engines.base import (
    AUTO,
    ENGINES,
    PRECISIONS,
    RUNTIMES,
    Device,
    ModelDescription,
    ModelEngine,
)
from bodyposenet.inference.engines.onnx_file import check_onnx
from bodyposenet.inference.predictor import CONCURRENCY, Predictor
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.specs.training import TrainSpec

if TYPE_CHECKING:
    from bodyposenet.inference.engines.exported import ExportedEngine
    from bodyposenet.inference.engines.pytorch import PyTorchEngine


DEFAULT_MODEL_FOLDER = Path(str(files("bodyposenet") / "resources" / "default_model"))
"""Folder of the default model, with its files and MODEL_CARD.md."""

INT8_FILE, FLOAT16_FILE = "default-int8.onnx", "default-fp16.onnx"
DEFAULT_MODEL_WEIGHTS = DEFAULT_MODEL_FOLDER / FLOAT16_FILE
"""Floating-point weights of the default model, from which training can start."""

DEFAULT_INFERENCE_SPEC = DEFAULT_MODEL_FOLDER / "infer_spec.yaml"
"""Inference spec that is used if neither a model nor an inference spec is given."""

PRESETS = {
    "default": DEFAULT_INFERENCE_SPEC,
    "fast": DEFAULT_MODEL_FOLDER / "infer_spec_fast.yaml",
    "accurate": DEFAULT_MODEL_FOLDER / "infer_spec_accurate.yaml",
}
"""Presets of the default model: a name that is accepted instead of a model file, and its inference
spec."""


_REMEDIES = {
    ".tlt": "Export the model first: bpnet export -m MODEL.tlt -o MODEL.onnx",
    ".hdf5": "Export the model first: bpnet export -m MODEL.hdf5 -o MODEL.onnx",
    ".onnx": "PyTorch runs the .tlt file of the model; TensorRT runs an engine file (bpnet export "
    "--engine_file).",
    ".etlt": "PyTorch runs the .tlt file of the model; TensorRT runs an engine file (bpnet export "
    "--engine_file).",
    ".engine": "Omit the engine: the runtime that built an .engine file runs it.",
}
"""Remedy by extension, for engines that cannot run such a file."""

_REMEDY_OF_DEFAULT = (
    "Create its .tlt file in a checkout of the repository (python -m "
    f"examples.default_model.convert_weights --weights {DEFAULT_MODEL_WEIGHTS} -o default.tlt): "
    "PyTorch runs that file, and bpnet export --engine_file builds a TensorRT engine from it."
)
"""Remedy for the default model, which has no .tlt file in the package."""

_SUPPORTED_FILES = (
    "Use a .tlt file of `bpnet train`, an .hdf5 file of TAO 5, or a file of `bpnet export` (.onnx, "
    ".etlt, .engine); models of other libraries are not supported."
)
_DEFAULT_MODEL_HINT = (
    f"Without a path, the default model is used; its presets: {', '.join(PRESETS)}."
)
_NAME_THE_FILE = "Give the path of the model file in it."


def default_model(engine: str = "auto", device: Device = AUTO) -> Path:
    """Return the default model's file for a device: float16 on a GPU of ONNX Runtime, else INT8.

    Args:
        engine: One of `ENGINES`.
        device: Device that runs the model.
    """
    from bodyposenet.inference.engines.onnx import has_cuda

    on_gpu = engine in ("auto", "onnx") and has_cuda(device)
    return DEFAULT_MODEL_FOLDER / (FLOAT16_FILE if on_gpu else INT8_FILE)


def preset_spec(model: str | None) -> Path | None:
    """Return the inference spec of a preset, of which None is the default, or None for a file."""
    return PRESETS.get("default" if model is None else model)


def open_predictor(
    inference_spec: str | None,
    model: str | None,
    key: str,
    engine: str = "auto",
    threads: int | None = None,
    precision: str | None = None,
    *,
    device: str = "auto",
    score_threshold: float | None = None,
    max_people: int | None = None,
) -> Predictor:
    """Open a predictor from the paths of an inference spec and a model.

    Args:
        inference_spec: Path of an inference spec, or None for the default options.
        model: Path of a model file, one of `PRESETS`, or None for the spec's `model_path` or the
            default model.
        key: Key of an encrypted file.
        engine: See `open_engine`.
        threads: See `open_engine`.
        precision: See `open_engine`.
        device: See `open_engine`.
        score_threshold: See `Predictor`.
        max_people: See `Predictor`.

    Raises:
        BodyPoseNetError: The spec or the model is missing or wrong, or a preset other than
            `default` is combined with a spec.
    """
    chosen = inference_spec or preset_spec(model)
    if inference_spec and model in PRESETS and model != "default":
        raise BodyPoseNetError(
            f"{model}: a preset has its own inference spec, so {inference_spec} would have no "
            "effect",
            f"Omit the inference spec, or begin with a copy of the preset's: {PRESETS[model]}",
        )
    spec = InferenceSpec.load(chosen) if chosen else InferenceSpec()
    path = find_model(spec, model, engine, device)
    return build_predictor(
        spec, path, key, engine, threads, precision,
        device=device, score_threshold=score_threshold, max_people=max_people,
    )  # fmt: skip


def build_predictor(
    spec: InferenceSpec,
    path: Path,
    key: str,
    engine: str,
    threads: int | None,
    precision: str | None,
    *,
    device: str = "auto",
    score_threshold: float | None = None,
    max_people: int | None = None,
    concurrency: int | None = None,
) -> Predictor:
    """Open the predictor of a model file.

    Args:
        spec: Inference spec. The predictor's copy has the model's path as `model_path`.
        path: Path of the model file.
        key: See `open_engine`.
        engine: See `open_engine`.
        threads: See `open_engine`.
        precision: See `open_engine`.
        device: See `open_engine`.
        score_threshold: See `Predictor`.
        max_people: See `Predictor`.
        concurrency: See `Predictor`; None for 2, or for the usable cores divided by `threads` if
            that is more.

    Raises:
        BodyPoseNetError: See `open_engine` and `Predictor`.
    """
    _check_options(engine, threads, precision)
    _check_runtime(path, engine)
    if path.suffix.lower() == ".onnx":
        check_onnx(path)
    # After the quick checks, because the end of the process waits for this thread.
    warm_up_in_background(spec.mode)
    opened = open_engine(spec, str(path), key, engine, threads, precision, device=device)
    spec = spec.model_copy(update={"model_path": path.as_posix()})
    if concurrency is None:
        concurrency = max(CONCURRENCY, usable_cores() // threads if threads else 0)
    return Predictor(
        opened, spec,
        score_threshold=score_threshold, max_people=max_people, concurrency=concurrency,
    )  # fmt: skip


def open_engine(
    spec: InferenceSpec,
    model: str | None = None,
    key: str = "",
    engine: str = "auto",
    threads: int | None = None,
    precision: str | None = None,
    *,
    device: str = "auto",
) -> ModelEngine:
    """Open the engine of a model file.

    Args:
        spec: Inference spec. Its `model_path` is used if `model` is None. Its `train_spec`, if that
            file exists, must match the model; it describes models without a header, such as
            NVIDIA's own ONNX files.
        model: Path of a model file, or None; see `find_model`.
        key: Key of an encrypted file.
        engine: One of `ENGINES`.
        threads: Maximum number of threads of the network, limited to the usable cores. None for the
            default of the runtime or, if there is one, the quota of CPU time.
        precision: One of `PRECISIONS`, or None for fp32 or the precision of an engine file.
        device: `auto` (a GPU if the runtime can use one, else the CPU), `cpu`, `cuda`, `cuda:1`,
            or `mps` (PyTorch on a Mac).

    Raises:
        BodyPoseNetError: The file is missing, damaged, encrypted with another key, built on another
            machine or not supported by the engine; the train spec describes another model; the
            model does not have the stage of the spec; the device is missing; or an option is wrong.
    """
    target = Device.parse(device)
    _check_options(engine, threads, precision)
    threads = quota_cores() if threads is None else _limit_threads(threads)
    path = find_model(spec, model, engine, device)
    _check_runtime(path, engine)
    expected = _train_description(spec)
    if path.suffix.lower() == ".engine":
        opened = _open_built(path, key, engine, threads, precision, target)
    else:
        opened = _open(path, key, engine, expected, threads, precision or PRECISIONS[0], target)
    if expected is not None and (differing := expected.differences(opened.description)):
        spec.fail(
            "train_spec",
            f"{spec.train_spec} and the model {path} differ in {', '.join(differing)}",
            "Use the spec that the model was trained with, or omit train_spec.",
        )
    if "pytorch" not in RUNTIMES[path.suffix.lower()]:
        _check_stage(spec, opened.stages)
    return opened


def find_model(
    spec: InferenceSpec, model: str | None, engine: str = "auto", device: str = "auto"
) -> Path:
    """Return the path of `model`, else of the spec's `model_path`, else of the default model.

    Args:
        spec: Inference spec, which may have a `model_path`.
        model: Path of a model file, one of `PRESETS`, or None.
        engine: Engine that runs the model, which determines the file of the default model.
        device: Device that runs the model, which determines the file of the default model.

    Raises:
        BodyPoseNetError: The file does not exist.
    """
    if model in PRESETS:
        return default_model(engine, Device.parse(device))
    if model is not None:
        path = model_file(Path(model))
        found = exists(path) if model else False
        if found and is_folder(path):
            raise BodyPoseNetError(f"{model}: is a folder", _NAME_THE_FILE)
        if not found:
            foreign = path.suffix and path.suffix.lower() not in RUNTIMES
            raise BodyPoseNetError(
                f"{model or 'an empty name'}: no such model file",
                f"{_SUPPORTED_FILES} {_DEFAULT_MODEL_HINT}"
                if foreign
                else "Check the path, which is relative to the working directory. "
                f"{_DEFAULT_MODEL_HINT}",
            )
        return path
    if spec.model_path is None:
        logger.info("no model given: using the default model")
        return default_model(engine, Device.parse(device))
    if not spec.model_path:
        spec.fail("model_path", "is empty", "Give a path, or omit it for the default model.")
    path = spec.existing_model_path("model_path", spec.model_path)
    if not is_file(path):
        spec.fail("model_path", f"{path} is a folder", _NAME_THE_FILE)
    return path


def _check_options(engine: str, threads: int | None, precision: str | None) -> None:
    """Raise an error if an option of `open_engine` is unknown or out of range."""
    if engine not in ENGINES:
        raise BodyPoseNetError(f"unknown engine: {engine}", f"Choose one of {', '.join(ENGINES)}.")
    if threads is not None:
        check_count("threads", threads, 1)
    if precision is not None and precision not in PRECISIONS:
        raise BodyPoseNetError(
            f"unknown precision: {precision}", f"Choose one of {', '.join(PRECISIONS)}."
        )


def _limit_threads(threads: int) -> int:
    """Limit a number of threads to the usable cores; more would only compete for them."""
    cores = usable_cores()
    if threads > cores:
        logger.warning("threads=%d: limited to the %d usable cores", threads, cores)
    return int(min(threads, cores))


def _check_runtime(path: Path, engine: str) -> None:
    """Check by the extension that an engine can run a file."""
    extension = path.suffix.lower()
    runtimes = RUNTIMES.get(extension)
    if runtimes is None:
        raise BodyPoseNetError(
            f"{path}: not a model file",
            f"{_SUPPORTED_FILES} {_DEFAULT_MODEL_HINT}",
        )
    if engine not in ("auto", *runtimes):
        if path.parent == DEFAULT_MODEL_FOLDER:
            what = f"the default model: {engine} cannot run {extension} files"
            raise BodyPoseNetError(what, _REMEDY_OF_DEFAULT)
        raise BodyPoseNetError(
            f"{path}: {engine} cannot run {extension} files", _REMEDIES[extension]
        )


def _open(
    path: Path,
    key: str,
    engine: str,
    expected: ModelDescription | None,
    threads: int | None,
    precision: str,
    device: Device,
) -> PyTorchEngine | ExportedEngine:
    """Open a model file; only the runtime that is used is imported."""
    extension = path.suffix.lower()
    runtime = RUNTIMES[extension][0] if engine == "auto" else engine
    if runtime == "pytorch":
        from bodyposenet.inference.engines import pytorch

        return pytorch.load(
            path, key, pytorch.to_torch_device(device),
            threads=threads, precision=precision, expected=expected,
        )  # fmt: skip
    content = None
    if extension == ".onnx":
        check_plain(path, key)
    if extension == ".etlt":
        from bodyposenet.inference.engines.onnx_file import read_etlt

        content = read_etlt(path, key)
    if runtime == "openvino":
        from bodyposenet.inference.engines import openvino

        openvino.check_device(device)
        return openvino.load(path, expected, threads=threads, precision=precision, content=content)
    from bodyposenet.inference.engines import onnx

    if precision != PRECISIONS[0]:
        raise BodyPoseNetError(
            f"precision {precision}: ONNX Runtime always uses the precision of the file",
            "Use the engine openvino, or pytorch with the .tlt file.",
        )
    return onnx.load(path, expected, threads=threads, content=content, device=device)


def _open_built(
    path: Path, key: str, engine: str, threads: int | None, precision: str | None, device: Device
) -> ExportedEngine:
    """Open an engine file with the runtime that built it."""
    from bodyposenet.inference.engines.engine_file import BUILD_HERE, read_engine

    header, body = read_engine(path, key)
    if engine not in ("auto", header.runtime):
        raise BodyPoseNetError(
            f"{path}: built by {header.runtime}, so {engine} cannot run it",
            f"Omit the engine, or choose {header.runtime}.",
        )
    if header.runtime == "tensorrt" and precision not in (None, header.precision):
        raise BodyPoseNetError(
            f"precision {precision}: {path} was built for {header.precision}",
            "Omit the precision, or build another engine.",
        )
    try:
        if header.runtime == "openvino":
            from bodyposenet.inference.engines import openvino

            openvino.check_device(device)
            return openvino.load_built(path, header, body, threads=threads, precision=precision)
        from bodyposenet.inference.engines import tensorrt

        return tensorrt.load_built(path, header, body, device=device)
    except ImportError as error:
        raise BodyPoseNetError(
            f"{path}: built by {header.runtime} {header.version} for {header.device}, but "
            f"{header.runtime} cannot be loaded here: {error}",
            f"{BUILD_HERE}; on a {header.device}: pip install 'bodyposenet[{header.runtime}]'",
        ) from error


def _train_description(spec: InferenceSpec) -> ModelDescription | None:
    """Describe the model of the train spec, or return None if there is none."""
    if not spec.train_spec:
        return None
    path = spec.find_path(spec.train_spec)
    if path is None:
        logger.warning("train_spec %s does not exist and is ignored", spec.train_spec)
        return None
    return ModelDescription.from_train_spec(TrainSpec.load(path))


def _check_stage(spec: InferenceSpec, stages: int) -> None:
    """Check before any image is read that an exported model has the stage of the spec."""
    if spec.output_stage_to_use not in (None, stages):
        spec.fail(
            "output_stage_to_use",
            f"stage {spec.output_stage_to_use}, but an exported model has only the last one",
            f"Write null or {stages}, or use the .tlt file of the model.",
        )
