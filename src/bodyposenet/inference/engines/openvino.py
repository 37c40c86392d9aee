"""Engine for ONNX files and compiled models on OpenVINO, on the CPU.

A compiled model is OpenVINO's own format of a model, compiled for one processor.
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
from bodyposenet.inference.engines.base import Device, ModelDescription
from bodyposenet.inference.engines.engine_file import BUILD_HERE, EngineHeader
from bodyposenet.inference.engines.exported import ExportedEngine, TensorSpec, make_engine
from bodyposenet.inference.engines.fork_safety import check_not_forked, never_destroy_in_forks
from bodyposenet.inference.engines.onnx import check_graph, int8_sums_saturate
from bodyposenet.inference.engines.onnx_file import read_header
from bodyposenet.telemetry import without_telemetry

with without_telemetry():
    import openvino

_DEVICE = "CPU"
_PRECISION_HINTS = {"fp32": "f32", "bf16": "bf16"}

_IMPORT_PID = os.getpid()
"""Id of the process that imported this module; forked processes inherit it."""

_DEQUANTIZATION = ("Multiply", "Subtract", "Convert", "Convert")
"""Operators that OpenVINO converts a DequantizeLinear to, backwards; some may be absent."""

_EXPORT_AGAIN = "Export the model again (bpnet export), or update openvino."


def check_device(device: Device) -> None:
    """Check that a device is the CPU.

    Raises:
        BodyPoseNetError: The device is not the CPU.
    """
    if device.kind not in ("auto", "cpu"):
        raise device.unavailable_error("OpenVINO", ["cpu"])


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
        path: Path of the file.
        expected: Description from a train spec, for files without a header, or None.
        threads: Maximum number of threads, or None for the default of OpenVINO.
        precision: `fp32`, or `bf16`: twice as fast on processors with bf16 and slightly less
            accurate. It is always set, because OpenVINO's own default there is bf16.
        content: Content of the file if it is encrypted or not written yet, or None to read it.

    Raises:
        BodyPoseNetError: The file cannot be read, is not a body pose network, or has no header and
            there is no train spec.
    """
    check_graph(path, content)
    with _convert_errors(path, "read it", _EXPORT_AGAIN):
        header = read_header(path, Path(path).read_bytes() if content is None else content)
        model = openvino.Core().read_model(str(path) if content is None else content)
    compiled = _compile(path, model, _options(threads, precision))
    return _create_engine(path, compiled, header, expected, precision)


def build(
    path: str | Path, content: bytes, model_header: dict[str, Any]
) -> tuple[EngineHeader, bytes]:
    """Compile an ONNX file for this processor.

    Args:
        path: Path of the engine file, for error messages.
        content: Content of the ONNX file.
        model_header: Header of the model.

    Returns:
        Header of the engine file, and OpenVINO's compiled model.

    Raises:
        BodyPoseNetError: OpenVINO cannot read or compile the file, or it is not a body pose
            network.
    """
    version, device = _machine()
    header = EngineHeader(
        runtime="openvino", version=version, device=device, precision="fp32", model=model_header
    )
    with _convert_errors(path, "read it", _EXPORT_AGAIN):
        model = openvino.Core().read_model(content)
    compiled = _compile(path, model, _options(None, header.precision))
    _create_engine(path, compiled, header.model_text, None, header.precision)  # checks the model
    return header, compiled.export_model().getvalue()


def load_built(
    path: str | Path,
    header: EngineHeader,
    body: bytes,
    *,
    threads: int | None = None,
    precision: str | None = None,
) -> ExportedEngine:
    """Open a compiled model.

    Args:
        path: Path of the engine file, for error messages.
        header: Header of the engine file.
        body: The compiled model.
        threads: Maximum number of threads, or None for the default of OpenVINO.
        precision: See `load`; None for the precision in the header.

    Raises:
        BodyPoseNetError: The model was compiled by another version or for another processor, or is
            damaged.
    """
    header.check_machine(path, *_machine())
    precision = precision or header.precision
    with _convert_errors(path, "open it", BUILD_HERE), preserve_signal_stack():
        compiled = openvino.Core().import_model(body, _DEVICE, _options(threads, precision))
    return _create_engine(path, compiled, header.model_text, None, precision)


def _machine() -> tuple[str, str]:
    """Return the version of OpenVINO and the name of the processor."""
    device = openvino.Core().get_property(_DEVICE, "FULL_DEVICE_NAME")
    return openvino.get_version(), str(device).strip()


def _options(threads: int | None, precision: str) -> dict[str, Any]:
    """Return OpenVINO's options for a number of threads and a precision.

    Raises:
        BodyPoseNetError: This process was forked from one that had loaded OpenVINO.
    """
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
    """Compile a model, which is modified, for the CPU."""
    with _convert_errors(path, "compile it", _EXPORT_AGAIN), preserve_signal_stack():
        remove_quantization_before_elu(model)
        return openvino.Core().compile_model(model, _DEVICE, options)


def remove_quantization_before_elu(model: openvino.Model) -> None:
    """Let ELUs read the results of the convolutions before them in float.

    ONNX Runtime only runs a convolution in INT8 if a QuantizeLinear follows it, also before an
    activation that it computes in float. OpenVINO runs the convolution, the ELU and the
    quantization after it as one kernel, but only without one in between, if the shape is dynamic.
    """
    for node in model.get_ops():
        if node.get_type_name() == "Elu":
            node.input(0).replace_source_output(_before_quantization(node.input_value(0)))


def _before_quantization(value: openvino.Output) -> openvino.Output:
    """Return the value that was quantized and dequantized to another, or that one if none was."""
    node = value.get_node()
    for operator in _DEQUANTIZATION:
        if node.get_type_name() == operator:
            node = node.input_value(0).get_node()
    return node.input_value(0) if node.get_type_name() == "FakeQuantize" else value


def _create_engine(
    path: str | Path,
    compiled: openvino.CompiledModel,
    header: str | None,
    expected: ModelDescription | None,
    precision: str,
) -> ExportedEngine:
    """Create the engine of a compiled model; see `make_engine` for the arguments."""
    with _convert_errors(path, "name its inputs and outputs", _EXPORT_AGAIN):
        inputs = {port.any_name: _tensor_spec(port) for port in compiled.inputs}
        outputs = {port.any_name: _tensor_spec(port) for port in compiled.outputs}
    requests = _RequestPool(compiled)

    def run(images: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Run the compiled model."""
        with (
            _convert_errors(
                path,
                f"run it on {images.shape}",
                "Export the model again (bpnet export), or try another input_shape.",
            ),
            requests.borrow() as request,
        ):
            arrays = request.infer([images])
        return {name: arrays[name] for name in outputs}

    name = f"openvino {precision}"
    engine = make_engine(path, inputs, outputs, header, expected, run, name)
    if engine.description.data_type == "int8-tensorrt":
        logger.warning(
            "%s is quantized for TensorRT; OpenVINO may be less accurate on it than ONNX Runtime. "
            "For CPUs, export it with --int8_target cpu.",
            path,
        )
    elif engine.description.data_type == "int8-cpu" and int8_sums_saturate():
        logger.warning(
            "%s: this processor has no VNNI, so INT8 is less accurate with OpenVINO than with ONNX "
            "Runtime (--engine onnx)",
            path,
        )
    return engine


class _RequestPool:
    """Pool of the inference requests of a compiled model, for any number of threads.

    A request contains the tensors of one inference, so threads must not share one.

    Args:
        compiled: The compiled model.
    """

    def __init__(self, compiled: openvino.CompiledModel) -> None:
        self._compiled = compiled
        never_destroy_in_forks(self)
        self._idle: SimpleQueue[openvino.InferRequest] = SimpleQueue()

    @contextmanager
    def borrow(self) -> Iterator[openvino.InferRequest]:
        """Use a request, which is created if all are in use.

        Raises:
            BodyPoseNetError: This process was forked from the one that opened the model.
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
def _convert_errors(path: str | Path, action: str, remedy: str) -> Iterator[None]:
    """Convert errors of OpenVINO, keeping the last line of the message.

    Python raises a UnicodeDecodeError for messages that are not UTF-8, which name a part of a
    damaged file, and a TypeError for data types that NumPy does not have.
    """
    try:
        yield
    except (OSError, RuntimeError, TypeError, UnicodeDecodeError) as error:
        reason = str(error).strip().rpartition("\n")[2]
        raise BodyPoseNetError(f"{path}: OpenVINO cannot {action}: {reason}", remedy) from error


def _tensor_spec(port: openvino.ConstOutput) -> TensorSpec:
    """Convert OpenVINO's description of an input or output."""
    sizes = (size.get_length() if size.is_static else None for size in port.partial_shape)
    return TensorSpec(port.element_type.to_dtype().name, tuple(sizes))


class _Stack(ctypes.Structure):
    """C type `stack_t` of Linux (signal.h)."""

    _fields_ = (
        ("pointer", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("size", ctypes.c_size_t),
    )


@contextmanager
def preserve_signal_stack() -> Iterator[None]:
    """Restore the alternate signal stack on exit, which OpenVINO replaces; Linux only."""
    exchange = getattr(ctypes.CDLL(None), "sigaltstack", None) if sys.platform == "linux" else None
    before = _Stack()
    if exchange is None or exchange(None, ctypes.byref(before)):
        yield
        return
    try:
        yield
    finally:
        exchange(ctypes.byref(before), None)
