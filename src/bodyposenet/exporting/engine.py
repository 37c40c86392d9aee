"""An exported model in, an engine file for this machine out: TensorRT's plan or OpenVINO's model.

What is built is told by the model: its calculation has the types that it has in the ONNX file.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.exporting.device import DeviceOptions
from bodyposenet.runtime.engines.engine_file import EngineHeader, write_engine
from bodyposenet.runtime.engines.onnx_metadata import read_header
from bodyposenet.telemetry import without_telemetry

Runtime = Literal["openvino", "tensorrt"]


@dataclass(frozen=True)
class EngineOptions:
    """What an engine is built for; all but the runtime is for TensorRT.

    OpenVINO's engines take images of any number and size, as the ONNX file does.

    Args:
        runtime: What builds it; `auto`: see `choose_runtime`.
        device: What it will be given.
        timing_cache: File of the kernels' times, read if it exists and written again; it makes the
            next build faster.
    """

    runtime: Literal["auto"] | Runtime = "auto"
    device: DeviceOptions = field(default_factory=DeviceOptions)
    timing_cache: Path | None = None


def build_engine_file(
    content: bytes, path: str | Path, options: EngineOptions, key: str = ""
) -> EngineHeader:
    """Build an engine and write it.

    Args:
        content: Of an ONNX file, of any form.
        path: The `.engine` file.
        options: What it is built for.
        key: Seals the file; empty: a plain file.

    Returns:
        What stands in the file about the engine.

    Raises:
        BodyPoseNetError: There is no runtime that builds engines, it cannot build this one, or the
            file cannot be written.
        ModuleNotFoundError: The package of the runtime that is asked for is not installed.
    """
    model = _model_header(path, content)
    if choose_runtime(options.runtime, model.get("data_type", "fp32")) == "tensorrt":
        from bodyposenet.runtime.engines import tensorrt

        device = options.device
        header, body = tensorrt.build(
            path, content, model,
            shape=device.shape, opt_batch_size=device.opt_batch_size,
            max_batch_size=device.max_batch_size, workspace=device.workspace,
            timing_cache=options.timing_cache,
        )  # fmt: skip
    else:
        from bodyposenet.runtime.engines import openvino

        header, body = openvino.build(path, content, model)
    write_engine(path, header, body, key)
    return header


def _model_header(path: str | Path, content: bytes) -> dict[str, Any]:
    text = read_header(path, content)
    if text is None:
        raise BodyPoseNetError(
            f"{path}: the ONNX file does not say what its model is, and an engine file must",
            "Build the engine from what `bpnet export` wrote.",
        )
    return json.loads(text)


def choose_runtime(asked: Literal["auto"] | Runtime = "auto", data_type: str = "fp32") -> Runtime:
    """What builds an engine here.

    Args:
        asked: `auto`: TensorRT where it is installed, finds a GPU and takes the type of data, else
            OpenVINO.
        data_type: Of the model, as its header has it; TensorRT takes no `int8-cpu`.

    Raises:
        BodyPoseNetError: What is asked for does not work here, or nothing does.
        ModuleNotFoundError: The package of the runtime that is asked for is not installed.
    """
    if asked != "auto":
        _load(asked)
        return asked
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
        "engines are built by OpenVINO or by TensorRT, and neither works here",
        "pip install 'bodyposenet[openvino]', or with an NVIDIA GPU 'bodyposenet[tensorrt]'.",
    )


def _load(runtime: Runtime) -> None:
    """Load it, and find what it builds for."""
    try:
        if runtime == "tensorrt":
            from bodyposenet.runtime.engines import tensorrt

            tensorrt.find_device()
        else:
            with without_telemetry():
                import openvino  # noqa: F401
    except ModuleNotFoundError:
        raise
    except ImportError as error:  # a library that it needs is missing, or does not fit
        raise BodyPoseNetError(
            f"{runtime} is installed but cannot be loaded: {error}",
            "`bpnet doctor` tells what works here.",
        ) from error
