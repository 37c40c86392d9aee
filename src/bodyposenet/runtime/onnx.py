"""The engine on ONNX Runtime: an ONNX file behind `Engine`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.runtime.description import ModelDescription
from bodyposenet.runtime.exported import ExportedEngine, Tensor, build_engine

_CUDA = "CUDAExecutionProvider", {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
"""In true float32, as on the CPU; and without trying every algorithm at every new shape."""
_CPU = "CPUExecutionProvider", {}

_ERRORS_ONLY = 3


def load(
    path: str | Path,
    claimed: ModelDescription | None = None,
    *,
    threads: int | None = None,
    content: bytes | None = None,
    on_cpu: bool = False,
) -> ExportedEngine:
    """Open an ONNX file.

    Args:
        path: The file.
        claimed: What a train spec says of the model; counts where the file has no header.
        threads: At most so many; None: ONNX Runtime chooses.
        content: What the file would hold, where it is not written yet.
        on_cpu: Run it there, even where there is a GPU.

    Raises:
        BodyPoseNetError: The file cannot be read, is no body pose network, or does not say what its
            joints are and no train spec does.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = _ERRORS_ONLY
    has_cuda = _CUDA[0] in onnxruntime.get_available_providers()
    providers = [_CUDA, _CPU] if has_cuda and not on_cpu else [_CPU]
    try:
        session = onnxruntime.InferenceSession(
            str(path) if content is None else content, options, providers=providers
        )
    except Exception as error:  # ONNX Runtime's have no type in common
        raise BodyPoseNetError(
            f"{path}: ONNX Runtime cannot read it: {_reason(error)}",
            "Export the model again (bpnet export), or update onnxruntime.",
        ) from error
    inputs = {tensor.name: _tensor(tensor) for tensor in session.get_inputs()}
    outputs = {tensor.name: _tensor(tensor) for tensor in session.get_outputs()}

    def run(images: NDArray[np.float32]) -> dict[str, Any]:
        try:
            found = session.run(list(outputs), dict.fromkeys(inputs, images))
        except Exception as error:
            raise BodyPoseNetError(
                f"{path}: ONNX Runtime cannot run it on {images.shape}: {_reason(error)}",
                "Export the model again (bpnet export), or try another input_shape.",
            ) from error
        return dict(zip(outputs, found, strict=True))

    metadata = session.get_modelmeta().custom_metadata_map
    return build_engine(path, inputs, outputs, metadata, claimed, run)


def _tensor(declared: onnxruntime.NodeArg) -> Tensor:
    """Names in its shape stand for dimensions of any size."""
    dtype = "float32" if declared.type == "tensor(float)" else declared.type
    return Tensor(dtype, tuple(size if isinstance(size, int) else None for size in declared.shape))


def _reason(error: Exception) -> str:
    """What ONNX Runtime says first."""
    return str(error).partition("\n")[0]
