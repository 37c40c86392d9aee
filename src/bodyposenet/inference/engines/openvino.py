"""Engine that runs an ONNX file, or what OpenVINO compiled of one, on OpenVINO.

On the CPU. A compiled model is OpenVINO's own file format of the model, ready for one processor.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from numpy.typing import NDArray

from bodyposenet.console import logger
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.inference.engines.base import (
    Device,
    ModelDescription,
)
from bodyposenet.inference.engines.engine_file import BUILD_HERE, EngineHeader
from bodyposenet.inference.engines.exported import ExportedEngine, TensorSpec, make_engine
from bodyposenet.inference.engines.forks import check_not_forked, never_destroy_in_forks
from bodyposenet.inference.engines.onnx import check_graph
from bodyposenet.inference.engines.onnx_file import read_header
from bodyposenet.telemetry import without_telemetry

with without_telemetry():
    import openvino

_DEVICE = "CPU"
_PRECISION_HINTS = {"fp32": "f32", "bf16": "bf16"}

_IMPORT_PID = os.getpid()
"""The process that imported this, also in processes forked off it."""

_EXPORT_AGAIN = "Export the model again (bpnet export), or update openvino."


def check_device(device: Device) -> None:
    """Refuse devices other than the CPU.

    Raises:
        BodyPoseNetError: It is another one.
    """
    if device.kind not in ("auto", "cpu"):
        raise device.missing("OpenVINO", ["cpu"])


def load(
    path: str | Path,
    expected: ModelDescription | None = None,
    *,
    threads: int | None = None,
    precision: str = "fp32",
    content: bytes | None = None,
) -> ExportedEngine:
    """Open an ONNX file.

    Args:
        path: The file.
        expected: What a train spec says of the model; counts where the file has no header.
        threads: At most so many; None: OpenVINO chooses.
        precision: `fp32`, or `bf16`: twice as fast on processors that have it, a little less exact.
            OpenVINO itself would choose bf16 there, unasked.
        content: What the file would hold, where it is not written yet or is sealed.

    Raises:
        BodyPoseNetError: The file cannot be read, is no body pose network, or does not say what its
            joints are and no train spec does.
    """
    check_graph(path, content)
    with _explaining(path, "read it", _EXPORT_AGAIN):
        header = read_header(path, Path(path).read_bytes() if content is None else content)
        model = openvino.Core().read_model(str(path) if content is None else content)
    compiled = _compile(path, model, _options(threads, precision))
    return _engine(path, compiled, header, expected, precision)


def build(
    path: str | Path, content: bytes, model_header: dict[str, Any]
) -> tuple[EngineHeader, bytes]:
    """Compile an ONNX file for this processor.

    Args:
        path: The engine file, for errors.
        content: Of the ONNX file.
        model_header: What it says of the model.

    Returns:
        What the engine file says of the engine, and OpenVINO's compiled model.

    Raises:
        BodyPoseNetError: OpenVINO cannot read or compile it, or it is no body pose network.
    """
    version, device = _machine()
    header = EngineHeader(
        runtime="openvino", version=version, device=device, precision="fp32", model=model_header
    )
    with _explaining(path, "read it", _EXPORT_AGAIN):
        model = openvino.Core().read_model(content)
    compiled = _compile(path, model, _options(None, header.precision))
    _engine(path, compiled, header.model_text, None, header.precision)  # which checks it
    return header, compiled.export_model().getvalue()


def load_built(
    path: str | Path,
    header: EngineHeader,
    body: bytes,
    *,
    threads: int | None = None,
    precision: str | None = None,
) -> ExportedEngine:
    """Open what `build` made.

    Args:
        path: The engine file, for errors.
        header: What it says of the engine.
        body: The compiled model.
        threads: At most so many; None: OpenVINO chooses.
        precision: See `load`; None: the header's.

    Raises:
        BodyPoseNetError: It was compiled by another version or for another processor, or is broken.
    """
    header.check_machine(path, *_machine())
    precision = precision or header.precision
    with _explaining(path, "open it", BUILD_HERE), preserve_signal_stack():
        compiled = openvino.Core().import_model(body, _DEVICE, _options(threads, precision))
    return _engine(path, compiled, header.model_text, None, precision)


def _machine() -> tuple[str, str]:
    """OpenVINO's version, and the processor's name."""
    device = openvino.Core().get_property(_DEVICE, "FULL_DEVICE_NAME")
    return openvino.get_version(), str(device).strip()


def _options(threads: int | None, precision: str) -> dict[str, Any]:
    check_not_forked("OpenVINO", _IMPORT_PID)
    options: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": _PRECISION_HINTS[precision],
    }
    if threads is not None:
        options["INFERENCE_NUM_THREADS"] = threads
    return options


def _compile(
    path: str | Path, model: openvino.Model, options: dict[str, Any]
) -> openvino.CompiledModel:
    with _explaining(path, "compile it", _EXPORT_AGAIN), preserve_signal_stack():
        return openvino.Core().compile_model(model, _DEVICE, options)


def _engine(
    path: str | Path,
    compiled: openvino.CompiledModel,
    header: str | None,
    expected: ModelDescription | None,
    precision: str,
) -> ExportedEngine:
    with _explaining(path, "name its inputs and outputs", _EXPORT_AGAIN):
        inputs = {port.any_name: _tensor(port) for port in compiled.inputs}
        outputs = {port.any_name: _tensor(port) for port in compiled.outputs}
    requests = _RequestPool(compiled)

    def run(images: NDArray[Any]) -> dict[str, NDArray[Any]]:
        with (
            _explaining(
                path,
                f"run it on {images.shape}",
                "Export the model again (bpnet export), or try another input_shape.",
            ),
            requests.borrow() as request,
        ):
            found = request.infer([images])
        return {name: found[name] for name in outputs}

    name = f"openvino {precision}"
    engine = make_engine(path, inputs, outputs, header, expected, run, name)
    if engine.description.data_type == "int8-tensorrt":
        logger.warning(
            "%s is quantized for TensorRT: OpenVINO may compute it less exactly than ONNX Runtime; "
            "for CPUs, export it with --int8_target cpu",
            path,
        )
    return engine


class _RequestPool:
    """Infer requests of a compiled model, for any number of threads.

    A request holds the tensors of one inference: threads that share one get each other's outputs.

    Args:
        compiled: The model.
    """

    def __init__(self, compiled: openvino.CompiledModel) -> None:
        self._compiled = compiled
        never_destroy_in_forks(self)
        self._idle: SimpleQueue[openvino.InferRequest] = SimpleQueue()

    @contextmanager
    def borrow(self) -> Iterator[openvino.InferRequest]:
        """Lend a request to one call; a new one is created where all are in use.

        Raises:
            BodyPoseNetError: This process was forked off the one that opened the model.
        """
        check_not_forked("OpenVINO", _IMPORT_PID)
        try:
            request = self._idle.get_nowait()
        except Empty:
            request = self._compiled.create_infer_request()
        try:
            yield request
        finally:
            self._idle.put(request)


@contextmanager
def _explaining(path: str | Path, deed: str, remedy: str) -> Iterator[None]:
    """Raise OpenVINO's errors as ours, with the last line of its message.

    In the place of an error whose text is not UTF-8, as it names a part of a damaged file, Python
    has a UnicodeDecodeError; of types that NumPy lacks, a TypeError.
    """
    try:
        yield
    except (OSError, RuntimeError, TypeError, UnicodeDecodeError) as error:
        reason = str(error).strip().rpartition("\n")[2]
        raise BodyPoseNetError(f"{path}: OpenVINO cannot {deed}: {reason}", remedy) from error


def _tensor(port: openvino.ConstOutput) -> TensorSpec:
    sizes = (size.get_length() if size.is_static else None for size in port.partial_shape)
    return TensorSpec(port.element_type.to_dtype().name, tuple(sizes))


class _Stack(ctypes.Structure):
    """`stack_t` of Linux (signal.h)."""

    _fields_ = (
        ("pointer", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("size", ctypes.c_size_t),
    )


@contextmanager
def preserve_signal_stack() -> Iterator[None]:
    """What is set on entering is set again on leaving; does nothing where it is not Linux."""
    exchange = getattr(ctypes.CDLL(None), "sigaltstack", None) if sys.platform == "linux" else None
    before = _Stack()
    if exchange is None or exchange(None, ctypes.byref(before)):
        yield
        return
    try:
        yield
    finally:
        exchange(ctypes.byref(before), None)
