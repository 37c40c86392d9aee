"""Engine files for this machine: TensorRT plans and compiled OpenVINO models.

An engine computes in the data types of the ONNX file that it is built from.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.exporting import DataType
from bodyposenet.inference.engines.engine_file import EngineHeader, write_engine
from bodyposenet.inference.engines.onnx_file import read_header
from bodyposenet.specs.network import STRIDE
from bodyposenet.telemetry import without_telemetry

Runtime = Literal["openvino", "tensorrt"]


@dataclass(frozen=True)
class DeviceOptions:
    """Sizes and limits on the device; they may be dynamic in the ONNX file, but not in an engine.

    Args:
        shape: Height and width of the network's input in pixels.
        opt_batch_size: Batch size that the engine is optimized for.
        max_batch_size: Largest batch size.
        workspace: Bytes that TensorRT may use for a layer while it builds and runs.
    """

    shape: tuple[int, int] = (256, 256)
    opt_batch_size: int = 1
    max_batch_size: int = 1
    workspace: int = 2 * 2**30

    def __post_init__(self) -> None:
        """Check the batch sizes."""
        if self.opt_batch_size > self.max_batch_size:
            raise BodyPoseNetError(
                f"--opt_batch_size {self.opt_batch_size} exceeds the maximum batch size, "
                f"{self.max_batch_size}",
                "Give a larger --max_batch_size.",
            )


@dataclass(frozen=True)
class EngineOptions:
    """Options of an engine; all but the runtime apply to TensorRT.

    The batch size and input size of OpenVINO's engines are as dynamic as those of the ONNX file.

    Args:
        runtime: Runtime that builds the engine; for `auto` see `choose_runtime`.
        device: Input size and batch sizes.
        timing_cache: File with TensorRT's measured times of kernels, which makes the next build
            faster. It is created if missing, and updated.
    """

    runtime: Literal["auto"] | Runtime = "auto"
    device: DeviceOptions = field(default_factory=DeviceOptions)
    timing_cache: Path | None = None


def input_shape(dims: tuple[int, int, int], channels_last: bool) -> tuple[int, int]:
    """Return the height and width of TAO's `--input_dims`.

    Args:
        dims: (height, width, 3) or (3, height, width), in pixels.
        channels_last: Whether it is the former.

    Raises:
        BodyPoseNetError: The number of channels is not 3, or a side is not a multiple of the
            stride.
    """
    (height, width), channels = (dims[:2], dims[2]) if channels_last else (dims[1:], dims[0])
    flag = f"--input_dims {','.join(map(str, dims))}"
    if channels != 3:
        layout, order = ("last", "H,W,C") if channels_last else ("first", "C,H,W")
        raise BodyPoseNetError(
            f"{flag}: {channels} channels, but images have 3",
            f"With --data_format channels_{layout} the order is {order}.",
        )
    if height % STRIDE or width % STRIDE or min(height, width) < 1:
        raise BodyPoseNetError(
            f"{flag}: height and width must be multiples of {STRIDE}",
            f"The nearest are {_multiples(height)} for the height and {_multiples(width)} for the "
            "width.",
        )
    return height, width


def _multiples(side: int) -> str:
    """Format the multiples of the stride closest to a number of pixels."""
    below = max(side // STRIDE * STRIDE, STRIDE)
    if below >= side:
        return str(below)
    return f"{below} or {below + STRIDE}"


def build_engine_file(
    content: bytes, path: str | Path, options: EngineOptions, key: str = ""
) -> EngineHeader:
    """Build an engine and write it.

    Args:
        content: Content of an exported ONNX file.
        path: The `.engine` file.
        options: Runtime, sizes and limits.
        key: Key that encrypts the file; a plain file is written if it is empty.

    Returns:
        Header of the file.

    Raises:
        BodyPoseNetError: No runtime that builds engines works on this machine, the engine cannot be
            built, or the file cannot be written.
        ModuleNotFoundError: The package of the requested runtime is not installed.
    """
    model = _read_header(path, content)
    if choose_runtime(options.runtime, model.get("data_type", "fp32")) == "tensorrt":
        from bodyposenet.inference.engines import tensorrt

        device = options.device
        header, body = tensorrt.build(
            path, content, model,
            shape=device.shape, opt_batch_size=device.opt_batch_size,
            max_batch_size=device.max_batch_size, workspace=device.workspace,
            timing_cache=options.timing_cache,
        )  # fmt: skip
    else:
        from bodyposenet.inference.engines import openvino

        header, body = openvino.build(path, content, model)
    write_engine(path, header, body, key)
    return header


def _read_header(path: str | Path, content: bytes) -> dict[str, Any]:
    """Read the header of the model from an ONNX file; `path` is the engine, for errors."""
    text = read_header(path, content)
    if text is None:
        raise BodyPoseNetError(
            f"{path}: the ONNX file has no bodyposenet header, which an engine file requires",
            "Build the engine from a file that `bpnet export` wrote.",
        )
    return json.loads(text)


def choose_runtime(
    requested: Literal["auto"] | Runtime = "auto", data_type: DataType = "fp32"
) -> Runtime:
    """Choose the runtime that builds an engine on this machine, and check that it works.

    Args:
        requested: `auto` chooses TensorRT if it is installed, finds a GPU and supports the data
            type, otherwise OpenVINO.
        data_type: Data type of the model; TensorRT does not support `int8-cpu`.

    Raises:
        BodyPoseNetError: The requested runtime does not work on this machine, or none does.
        ModuleNotFoundError: The package of the requested runtime is not installed.
    """
    if requested != "auto":
        _load(requested)
        return requested
    candidates: tuple[Runtime, ...] = ("tensorrt", "openvino")
    if data_type == "int8-cpu":
        candidates = ("openvino",)
    for runtime in candidates:
        try:
            _load(runtime)
        except (ModuleNotFoundError, BodyPoseNetError):  # not installed, broken, or no GPU
            continue
        return runtime
    raise BodyPoseNetError(
        "Engines are built by OpenVINO or TensorRT, and neither works on this machine",
        "Install one: pip install 'bodyposenet[openvino]', or with an NVIDIA GPU "
        "'bodyposenet[tensorrt]'.",
    )


def find_builder(
    engine: Path, requested: Literal["auto"] | Runtime | None, data_type: DataType
) -> Runtime | None:
    """Find the runtime that builds an engine file, before any work is done.

    Args:
        engine: The engine file.
        requested: Runtime that must work on this machine, or None for TensorRT if it works.
        data_type: Data type of the model.

    Returns:
        None if no runtime is requested and TensorRT does not work, see `tensorrt_problem`.

    Raises:
        BodyPoseNetError: The extension of the file is not `.engine`, TensorRT cannot read the data
            type, or the requested runtime does not work on this machine.
        ModuleNotFoundError: The package of the requested runtime is not installed.
    """
    if engine.suffix.lower() != ".engine":
        raise BodyPoseNetError(
            f"Unsupported extension: --engine_file {engine}", "Give a name that ends in .engine."
        )
    if requested in (None, "tensorrt") and data_type == "int8-cpu":
        raise BodyPoseNetError(
            "--engine_file: TensorRT cannot read INT8 for the target cpu",
            "Give --int8_target tensorrt, or --engine_runtime openvino.",
        )
    if requested is None:
        return None if tensorrt_problem() else "tensorrt"
    return choose_runtime(requested, data_type)


def tensorrt_problem() -> str:
    """Return why TensorRT cannot build engines on this machine; empty if it can."""
    try:
        _load("tensorrt")
    except ModuleNotFoundError as error:
        return f"the package {error.name} is not installed"
    except BodyPoseNetError as error:
        return error.what
    return ""


def tensorrt_missing(model: Path, engine: Path) -> BodyPoseNetError:
    """Return the error for an engine file that TensorRT cannot build on this machine.

    Args:
        model: The exported file, which has been written.
        engine: The engine file, which has not.
    """
    return BodyPoseNetError(
        f"{model} was written, but not the engine {engine}: TensorRT cannot build it, because "
        f"{tensorrt_problem()}",
        "Export on a machine that has an NVIDIA GPU and TensorRT (pip install "
        "'bodyposenet[tensorrt]'), or convert the file with trtexec there; --engine_runtime "
        "openvino builds an engine for the CPU of this machine.",
    )


def _load(runtime: Runtime) -> None:
    """Import the runtime, and check that there is a device that it can build for."""
    try:
        if runtime == "tensorrt":
            from bodyposenet.inference.engines import tensorrt

            tensorrt.device_name()
        else:
            with without_telemetry():
                import openvino  # noqa: F401
    except ModuleNotFoundError:
        raise
    except ImportError as error:  # a shared library is missing or incompatible
        raise BodyPoseNetError(
            f"{runtime} is installed but cannot be loaded: {error}",
            "`bpnet doctor` shows what works on this machine.",
        ) from error
