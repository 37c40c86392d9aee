"""The engine on OpenVINO: an ONNX file behind `Engine`, on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.runtime.description import ModelDescription
from bodyposenet.runtime.exported import ExportedEngine, Tensor, build_engine
from bodyposenet.runtime.signal_stack import keeping_signal_stack

_DEVICE = "CPU"
_PRECISION_HINTS = {"fp32": "f32", "bf16": "bf16"}


def load(
    path: str | Path,
    claimed: ModelDescription | None = None,
    *,
    threads: int | None = None,
    precision: str = "fp32",
) -> ExportedEngine:
    """Open an ONNX file.

    Args:
        path: The file.
        claimed: What a train spec says of the model; counts where the file has no header.
        threads: At most so many; None: OpenVINO chooses.
        precision: `fp32`, or `bf16`: twice as fast on processors that have it, a little less exact.
            OpenVINO itself would choose bf16 there, unasked.

    Raises:
        BodyPoseNetError: The file cannot be read, is no body pose network, or does not say what its
            joints are and no train spec does.
    """
    options: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": _PRECISION_HINTS[precision],
    }
    if threads is not None:
        options["INFERENCE_NUM_THREADS"] = threads
    core = openvino.Core()
    try:
        model = core.read_model(str(path))
        with keeping_signal_stack():
            compiled = core.compile_model(model, _DEVICE, options)
    except RuntimeError as error:
        raise BodyPoseNetError(
            f"{path}: OpenVINO cannot read it: {_reason(error)}",
            "Export the model again (bpnet export), or update openvino.",
        ) from error
    inputs = {port.any_name: _tensor(port) for port in compiled.inputs}
    outputs = {port.any_name: _tensor(port) for port in compiled.outputs}
    request = compiled.create_infer_request()

    def run(images: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        try:
            found = request.infer([images])
        except RuntimeError as error:
            raise BodyPoseNetError(
                f"{path}: OpenVINO cannot run it on {images.shape}: {_reason(error)}",
                "Export the model again (bpnet export), or try another input_shape.",
            ) from error
        return {name: found[name] for name in outputs}

    return build_engine(path, inputs, outputs, _metadata(model), claimed, run)


def _tensor(port: openvino.ConstOutput) -> Tensor:
    sizes = (size.get_length() if size.is_static else None for size in port.partial_shape)
    return Tensor(port.element_type.to_dtype().name, tuple(sizes))


def _reason(error: RuntimeError) -> str:
    """What OpenVINO says last: before it stands where in its code it gave up."""
    return str(error).strip().rpartition("\n")[2]


def _metadata(model: openvino.Model) -> dict[str, str]:
    """What the ONNX file says of itself; OpenVINO keeps it under the framework's name."""
    if "framework" not in model.get_rt_info():
        return {}
    return {key: str(value) for key, value in model.get_rt_info("framework").value.items()}
