"""The engine on ONNX Runtime: an ONNX file behind `Engine`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import onnxruntime
from numpy.typing import NDArray

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.runtime.description import ModelDescription
from bodyposenet.runtime.engines.exported import Tensor
from bodyposenet.runtime.engines.exported_engine import ExportedEngine, wrap_model
from bodyposenet.runtime.engines.processor import sums_bytes_in_16_bits
from bodyposenet.sealing import METADATA_KEY

Provider = tuple[str, dict[str, str]]
"""A device as ONNX Runtime calls it, and its options."""

_CUDA: Provider = (
    "CUDAExecutionProvider",
    {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"},
)
"""In true float32, as on the CPU; and without trying every algorithm at every new shape."""
_CPU: Provider = ("CPUExecutionProvider", {})

_DTYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8"}
"""ONNX Runtime's names -> numpy's."""

_ERRORS_ONLY = 3

_EXACT_BYTES = "session.x64quantprecision"
"""Option of ONNX Runtime: weights become unsigned, which x86 adds in 32 bits; slower."""


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
        content: What the file would hold, where it is not written yet or is sealed.
        on_cpu: Run it there, even where there is a GPU.

    Raises:
        BodyPoseNetError: The file cannot be read, is no body pose network, or does not say what its
            joints are and no train spec does.
    """
    session = open_session(path, threads=threads, content=content, on_cpu=on_cpu)
    inputs, outputs = read_tensors(session.get_inputs()), read_tensors(session.get_outputs())

    def run(images: NDArray[Any]) -> dict[str, Any]:
        try:
            found = session.run(list(outputs), dict.fromkeys(inputs, images))
        except Exception as error:
            raise BodyPoseNetError(
                f"{path}: ONNX Runtime cannot run it on {images.shape}: {_reason(error)}",
                "Export the model again (bpnet export), or try another input_shape.",
            ) from error
        return dict(zip(outputs, found, strict=True))

    return wrap_model(path, inputs, outputs, header_of(session), claimed, run, "onnx")


def open_session(
    path: str | Path,
    *,
    threads: int | None = None,
    content: bytes | None = None,
    on_cpu: bool = False,
) -> onnxruntime.InferenceSession:
    """Open any ONNX file; the arguments are those of `load`.

    Raises:
        BodyPoseNetError: The file cannot be read.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = _ERRORS_ONLY
    providers = [_CUDA, _CPU] if has_cuda() and not on_cpu else [_CPU]
    session = _read(path, content, options, providers)
    if _overflows(path, session):
        options.add_session_config_entry(_EXACT_BYTES, "1")
        session = _read(path, content, options, providers)
    return session


def check_graph(path: str | Path, content: bytes | None = None) -> None:
    """Check an ONNX file for another runtime, whose reader may crash on a graph that is not valid.

    Args:
        path: The file.
        content: What the file would hold, where it is not written yet or is sealed.

    Raises:
        BodyPoseNetError: ONNX Runtime cannot read it.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.disable_prepacking", "1")
    _read(path, content, options, [_CPU])


def has_cuda() -> bool:
    """Whether ONNX Runtime was built for GPUs."""
    return _CUDA[0] in onnxruntime.get_available_providers()


def header_of(session: onnxruntime.InferenceSession) -> str | None:
    """What the file says of its model, as JSON; None: nothing."""
    return session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)


def read_tensors(declared: Iterable[onnxruntime.NodeArg]) -> dict[str, Tensor]:
    """Inputs or outputs of a session, by name."""
    return {argument.name: _tensor(argument) for argument in declared}


def _overflows(path: str | Path, session: onnxruntime.InferenceSession) -> bool:
    """Whether this processor would cut off sums that the model needs whole."""
    header = header_of(session)
    if header is None or ModelDescription.from_header(path, header).data_type != "int8-cpu":
        return False
    return sums_bytes_in_16_bits()


def _read(
    path: str | Path,
    content: bytes | None,
    options: onnxruntime.SessionOptions,
    providers: list[Provider],
) -> onnxruntime.InferenceSession:
    try:
        session = onnxruntime.InferenceSession(
            str(path) if content is None else content, options, providers=providers
        )
        # Names and metadata that are not UTF-8 fail when they are first asked for.
        _ = header_of(session), [(part.name, part.shape) for part in _tensors_of(session)]
        return session
    except Exception as error:  # ONNX Runtime's have no type in common
        raise BodyPoseNetError(
            f"{path}: ONNX Runtime cannot read it: {_reason(error)}",
            "Export the model again (bpnet export), or update onnxruntime.",
        ) from error


def _tensors_of(session: onnxruntime.InferenceSession) -> list[onnxruntime.NodeArg]:
    return [*session.get_inputs(), *session.get_outputs()]


def _tensor(declared: onnxruntime.NodeArg) -> Tensor:
    """Names in its shape stand for dimensions of any size."""
    kind = str(declared.type)
    return Tensor(
        _DTYPES.get(kind, kind),
        tuple(size if isinstance(size, int) else None for size in declared.shape),
    )


def _reason(error: Exception) -> str:
    """What ONNX Runtime says first."""
    return str(error).partition("\n")[0]
