"""The model that comes with the package: which of its files runs here, and how."""

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
"""Its files and MODEL_CARD.md."""

INT8_FILE, FLOAT16_FILE = "default-int8.onnx", "default-fp16.onnx"
DEFAULT_MODEL_WEIGHTS = DEFAULT_MODEL_FOLDER / FLOAT16_FILE
"""The file in float, which a training can start from."""

DEFAULT_INFERENCE_SPEC = DEFAULT_MODEL_FOLDER / "infer_spec.yaml"
"""What holds where the user gives neither a model nor an inference spec."""


def default_model(engine: str = "auto", device: Device = AUTO) -> Path:
    """The file for this machine: INT8, or float16 where ONNX Runtime can use a GPU.

    Args:
        engine: What will run it, one of `choices.ENGINES`.
        device: Where it will run.
    """
    from bodyposenet.inference.engines.onnx import has_cuda

    on_gpu = engine in ("auto", "onnx") and has_cuda(device)
    return DEFAULT_MODEL_FOLDER / (FLOAT16_FILE if on_gpu else INT8_FILE)


_REMEDIES = {
    ".tlt": "Export the model first: bpnet export -m MODEL.tlt -o MODEL.onnx",
    ".hdf5": "Export the model first: bpnet export -m MODEL.hdf5 -o MODEL.onnx",
    ".onnx": "PyTorch runs the .tlt file that it was exported from, TensorRT an engine made of it: "
    "bpnet export --engine_file.",
    ".etlt": "PyTorch runs the .tlt file that it was exported from, TensorRT an engine made of it: "
    "bpnet export --engine_file.",
    ".engine": "Leave the engine out: the runtime that built an .engine file runs it.",
}
"""Extension -> what to do where another runtime is asked for."""

_REMEDY_OF_DEFAULT = (
    "Make its .tlt file in a checkout of the repository (python -m "
    f"examples.default_model.convert_weights --weights {DEFAULT_MODEL_WEIGHTS} -o default.tlt): "
    "PyTorch runs that, and bpnet export --engine_file builds TensorRT's engine of it."
)
"""The same for the default model, beside which no .tlt file lies."""

_OWN_FILES = (
    "Give a .tlt file of `bpnet train`, TAO 5's .hdf5, or what `bpnet export` wrote (.onnx, .etlt, "
    ".engine): models of other libraries are not supported."
)
_NAME_THE_FILE = "Name the model file in it."


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
    """The predictor that a command line asks for.

    Args:
        inference_spec: An inference spec; None: the defaults, or those of the default model.
        model: A model file; None: the spec's `model_path`, else the default model.
        key: Key of a sealed file.
        engine: See `open_engine`.
        threads: See `open_engine`.
        precision: See `open_engine`.
        device: See `open_engine`.
        score_threshold: See `Predictor`.
        max_people: See `Predictor`.

    Raises:
        BodyPoseNetError: The spec or the model is missing or wrong.
    """
    chosen = inference_spec or (DEFAULT_INFERENCE_SPEC if model is None else None)
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
    """The predictor of a model file, whose spec names that file.

    Args:
        spec: See `open_engine`.
        path: The model file.
        key: See `open_engine`.
        engine: See `open_engine`.
        threads: See `open_engine`.
        precision: See `open_engine`.
        device: See `open_engine`.
        score_threshold: See `Predictor`.
        max_people: See `Predictor`.
        concurrency: See `Predictor`; None: 2, or as many as have their `threads` on the usable
            cores.

    Raises:
        BodyPoseNetError: See `open_engine` and `Predictor`.
    """
    _check_options(engine, threads, precision)
    _check_runtime(path, engine)
    if path.suffix.lower() == ".onnx":
        check_onnx(path)
    # After the checks that take no time: the end of the process waits for it.
    warm_up_in_background(spec.mode)
    opened = open_engine(spec, str(path), key, engine, threads, precision, device=device)
    named = spec.model_copy(update={"model_path": path.as_posix()})
    if concurrency is None:
        concurrency = max(CONCURRENCY, usable_cores() // threads if threads else 0)
    return Predictor(
        opened, named,
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
    """Load the model that the user means.

    Args:
        spec: Its `model_path` counts where `model` is not given. Its `train_spec`, where it is
            given and exists, must agree with the model; it describes one that has no header, such
            as NVIDIA's own ONNX files.
        model: A model file (`-m`); see `find_model`.
        key: Key of a sealed file.
        engine: One of `ENGINES`.
        threads: Of the network, at most, and no more than there are usable cores; None: the runtime
            chooses, or a quota of CPU time does.
        precision: One of `PRECISIONS`; None: the first, or what an engine file was built for.
        device: `auto` (a GPU where the runtime can use one, else the CPU), `cpu`, `cuda`, `cuda:1`,
            or `mps` (PyTorch on a Mac).

    Raises:
        BodyPoseNetError: The file is missing, broken, sealed with another key, built on another
            machine or of a kind that does not run there; the train spec describes another model;
            the model lacks the stage of the spec; the device is missing; or an option is wrong.
    """
    place = Device.parse(device)
    _check_options(engine, threads, precision)
    threads = quota_cores() if threads is None else _usable(threads)
    path = find_model(spec, model, engine, device)
    _check_runtime(path, engine)
    expected = _train_description(spec)
    if path.suffix.lower() == ".engine":
        opened = _open_built(path, key, engine, threads, precision, place)
    else:
        opened = _open(path, key, engine, expected, threads, precision or PRECISIONS[0], place)
    if expected is not None and (differing := expected.differences(opened.description)):
        spec.fail(
            "train_spec",
            f"{spec.train_spec} and the model {path} differ in {', '.join(differing)}",
            "Name the spec that the model was trained with, or leave train_spec out.",
        )
    if "pytorch" not in RUNTIMES[path.suffix.lower()]:
        _check_stage(spec, opened.stages)
    return opened


def find_model(
    spec: InferenceSpec, model: str | None, engine: str = "auto", device: str = "auto"
) -> Path:
    """The file that the user means: `model`, else the spec's `model_path`, else the default model.

    Args:
        spec: May name it.
        model: The file; None: the spec counts.
        engine: What will run it, which decides on the file of the default model.
        device: Where it will run, which does so too.

    Raises:
        BodyPoseNetError: The file that is named is missing.
    """
    if model is not None:
        path = model_file(Path(model))
        found = exists(path) if model else False
        if found and is_folder(path):
            raise BodyPoseNetError(f"{model}: is a folder", _NAME_THE_FILE)
        if not found:
            foreign = path.suffix and path.suffix.lower() not in RUNTIMES
            raise BodyPoseNetError(
                f"{model or 'an empty name'}: no such model file",
                f"{_OWN_FILES} Without a name the default model runs."
                if foreign
                else "Check the path; it is relative to the working directory. Without a name the "
                "default model runs.",
            )
        return path
    if spec.model_path is None:
        logger.info("no model given: using the default model")
        return default_model(engine, Device.parse(device))
    if not spec.model_path:
        spec.fail("model_path", "is empty", "Name a model, or leave it out for the default model.")
    path = spec.existing_model_path("model_path", spec.model_path)
    if not is_file(path):
        spec.fail("model_path", f"{path} is a folder", _NAME_THE_FILE)
    return path


def _check_options(engine: str, threads: int | None, precision: str | None) -> None:
    if engine not in ENGINES:
        raise BodyPoseNetError(f"unknown engine: {engine}", f"Choose one of {', '.join(ENGINES)}.")
    if threads is not None:
        check_count("threads", threads, 1)
    if precision is not None and precision not in PRECISIONS:
        raise BodyPoseNetError(
            f"unknown precision: {precision}", f"Choose one of {', '.join(PRECISIONS)}."
        )


def _usable(threads: int) -> int:
    """Limit a number of threads to the usable cores: more would wait for each other."""
    cores = usable_cores()
    if threads > cores:
        logger.warning("threads=%d: limited to the %d usable cores", threads, cores)
    return int(min(threads, cores))


def _check_runtime(path: Path, engine: str) -> None:
    """Refuse files that nothing runs, or not what the user wishes; by their extension."""
    extension = path.suffix.lower()
    runtimes = RUNTIMES.get(extension)
    if runtimes is None:
        raise BodyPoseNetError(
            f"{path}: not a model file",
            f"{_OWN_FILES} Without a name the default model runs.",
        )
    if engine not in ("auto", *runtimes):
        if path.parent == DEFAULT_MODEL_FOLDER:
            what = f"the default model: {engine} runs no {extension} files"
            raise BodyPoseNetError(what, _REMEDY_OF_DEFAULT)
        raise BodyPoseNetError(f"{path}: {engine} runs no {extension} files", _REMEDIES[extension])


def _open(
    path: Path,
    key: str,
    engine: str,
    expected: ModelDescription | None,
    threads: int | None,
    precision: str,
    device: Device,
) -> PyTorchEngine | ExportedEngine:
    """Load a model or an export; a runtime is imported only where it is used."""
    extension = path.suffix.lower()
    runtime = RUNTIMES[extension][0] if engine == "auto" else engine
    if runtime == "pytorch":
        from bodyposenet.inference.engines import pytorch

        return pytorch.load(
            path, key, pytorch.find_device(device),
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
            f"precision {precision}: ONNX Runtime computes in that of the file",
            "Choose the engine openvino, or pytorch with the .tlt file.",
        )
    return onnx.load(path, expected, threads=threads, content=content, device=device)


def _open_built(
    path: Path, key: str, engine: str, threads: int | None, precision: str | None, device: Device
) -> ExportedEngine:
    """Load an engine file on the runtime that built it."""
    from bodyposenet.inference.engines.engine_file import BUILD_HERE, read_engine

    header, body = read_engine(path, key)
    if engine not in ("auto", header.runtime):
        raise BodyPoseNetError(
            f"{path}: built by {header.runtime}, which alone runs it",
            f"Leave the engine out, or choose {header.runtime}.",
        )
    if header.runtime == "tensorrt" and precision not in (None, header.precision):
        raise BodyPoseNetError(
            f"precision {precision}: {path} was built for {header.precision}",
            "Leave the precision out, or build another engine.",
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
            f"{BUILD_HERE}; on the one that it is for: pip install 'bodyposenet[{header.runtime}]'",
        ) from error


def _train_description(spec: InferenceSpec) -> ModelDescription | None:
    """What the train spec says of the model; None where there is none."""
    if not spec.train_spec:
        return None
    path = spec.find_path(spec.train_spec)
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
