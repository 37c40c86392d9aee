"""Engine for ONNX files on ONNX Runtime, on the CPU or CUDA."""

from __future__ import annotations

import io
import itertools
import os
import platform
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import onnxruntime
from numpy.typing import NDArray

from bodyposenet.console import logger
from bodyposenet.encryption import METADATA_KEY
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.inference.engines.base import AUTO, Device, ModelDescription
from bodyposenet.inference.engines.exported import ExportedEngine, TensorSpec, make_engine
from bodyposenet.inference.engines.fork_safety import check_not_forked, never_destroy_in_forks

Provider = tuple[str, dict[str, str]]
"""Name and options of an execution provider of ONNX Runtime."""

_CUDA = "CUDAExecutionProvider"
_CUDA_OPTIONS = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
"""Full float32 precision as on the CPU, and no benchmark of algorithms for every new shape."""
_CPU: Provider = ("CPUExecutionProvider", {})

_IDENTITY = (
    b'\x08\x08:7\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01'
    b"\x12\x04\n\x02\x08\x01b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)
"""A minimal ONNX file: y = x for one float32."""

_DTYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8"}
"""NumPy's names of the data types of ONNX Runtime."""

_WARNINGS, _ERRORS, _FATAL = 2, 3, 4
"""Log levels of ONNX Runtime."""

_IMPORT_PID = os.getpid()
"""Id of the process that imported this module; forked processes inherit it."""

_AVOID_SATURATION = "session.x64quantprecision"
"""Option of ONNX Runtime that converts weights to uint8, whose products x86 accumulates in 32 bits.
It is slower."""


def load(
    path: str | Path,
    expected: ModelDescription | None = None,
    *,
    threads: int | None = None,
    content: bytes | None = None,
    device: Device | str = AUTO,
) -> ExportedEngine:
    """Open an ONNX file.

    Args:
        path: Path of the file.
        expected: Description from a train spec, for files without a header, or None.
        threads: Maximum number of threads, or None for the default of ONNX Runtime.
        content: Content of the file if it is encrypted or not written yet, or None to read it.
        device: Device, or its name (see `Device.parse`).

    Raises:
        BodyPoseNetError: The file cannot be read, is not a body pose network, or has no header and
            there is no train spec; or the device is missing.
    """
    session = open_session(path, threads=threads, content=content, device=device)
    inputs, outputs = read_tensors(session.get_inputs()), read_tensors(session.get_outputs())

    def run(images: NDArray[Any]) -> dict[str, Any]:
        """Run the session."""
        try:
            arrays = session.run(list(outputs), dict.fromkeys(inputs, images))
        except Exception as error:
            raise BodyPoseNetError(
                f"{path}: ONNX Runtime cannot run it on {images.shape}: {_reason(error)}",
                "Export the model again (bpnet export), or try another input_shape.",
            ) from error
        return dict(zip(outputs, arrays, strict=True))

    return make_engine(path, inputs, outputs, session_header(session), expected, run, "onnx")


def open_session(
    path: str | Path,
    *,
    threads: int | None = None,
    content: bytes | None = None,
    device: Device | str = AUTO,
) -> onnxruntime.InferenceSession:
    """Open any ONNX file as a session; see `load` for the arguments.

    Raises:
        BodyPoseNetError: The file cannot be read, or the device is missing.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = _ERRORS
    providers = _providers(Device.parse(device))
    session = _create_session(path, content, options, providers)
    if _may_saturate(path, session):
        options.add_session_config_entry(_AVOID_SATURATION, "1")
        session = _create_session(path, content, options, providers)
    return session


def check_graph(path: str | Path, content: bytes | None = None) -> None:
    """Check an ONNX file before another runtime reads it, which may crash on an invalid graph.

    Args:
        path: Path of the file.
        content: Content of the file if it is encrypted or not written yet, or None to read it.

    Raises:
        BodyPoseNetError: ONNX Runtime cannot read the file.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.disable_prepacking", "1")
    _create_session(path, content, options, [_CPU])


def has_cuda(device: Device = AUTO) -> bool:
    """Return whether a network that is opened for this device runs on a GPU."""
    return device.kind in ("auto", "cuda") and cuda_problem(device.index or 0) is None


@cache
def cuda_problem(index: int = 0) -> str | None:
    """Find out why ONNX Runtime cannot use a GPU.

    A build for GPUs reports CUDA as available even without a GPU, a driver or the libraries of
    CUDA. This only shows when a network is opened, so a minimal one is opened here.

    Args:
        index: Index of the GPU.

    Returns:
        The reason, or None if ONNX Runtime can use the GPU.
    """
    if _CUDA not in onnxruntime.get_available_providers():
        return _why_no_cuda()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS
    missing_library, problem = _preload_cuda(), None
    try:
        with _silent_logger():
            session = onnxruntime.InferenceSession(
                _IDENTITY, options, providers=[_cuda_provider(index)], enable_fallback=False
            )
        if _CUDA not in session.get_providers():
            problem = missing_library or "the GPU, its driver or a library of CUDA is missing"
    except Exception as error:  # ONNX Runtime's errors have no common base class
        problem = _reason(error)
    if problem is not None and not index:
        logger.info("ONNX Runtime has CUDA, but cannot use it: %s", problem)
    return problem


def _why_no_cuda() -> str:
    """Return why this build of ONNX Runtime has no CUDA.

    The packages onnxruntime and onnxruntime-gpu have files of the same names, so the one that is
    installed last replaces the other.
    """
    try:
        version("onnxruntime-gpu")
    except PackageNotFoundError:
        return "this build of ONNX Runtime has no CUDA (pip install 'bodyposenet[gpu]')"
    return (
        "the package onnxruntime has replaced files of onnxruntime-gpu (pip uninstall -y "
        "onnxruntime; pip install --force-reinstall --no-deps onnxruntime-gpu)"
    )


def _preload_cuda() -> str:
    """Load the libraries of CUDA and cuDNN that are installed as packages (nvidia-...).

    Returns:
        The first library that cannot be loaded, or an empty text.
    """
    preload = getattr(onnxruntime, "preload_dlls", None)  # since ONNX Runtime 1.21
    if preload is None:
        return ""
    messages = io.StringIO()
    with redirect_stdout(messages):  # it prints "Failed to load libcublas.so.13: ..."
        preload()
    return messages.getvalue().partition(":")[0]


@contextmanager
def _silent_logger() -> Iterator[None]:
    """Turn off the messages that do not belong to a session, such as missing libraries."""
    onnxruntime.set_default_logger_severity(_FATAL)
    try:
        yield
    finally:
        onnxruntime.set_default_logger_severity(_WARNINGS)


def available_devices() -> list[str]:
    """List the names of the devices that ONNX Runtime can use, the CPU first."""
    gpus = itertools.takewhile(lambda index: cuda_problem(index) is None, itertools.count())
    return ["cpu", *(f"cuda:{index}" for index in gpus)]


def _providers(device: Device) -> list[Provider]:
    """Return the execution providers for a device, in order of priority.

    Raises:
        BodyPoseNetError: The device is missing.
    """
    if device.kind == "mps":
        raise device.unavailable_error("ONNX Runtime", available_devices())
    if has_cuda(device):
        check_not_forked("CUDA", _IMPORT_PID, 'run the model on the CPU: device="cpu"')
        return [_cuda_provider(device.index or 0), _CPU]
    if device.kind == "cuda":
        reason = cuda_problem(device.index or 0) or ""
        raise device.unavailable_error("ONNX Runtime", available_devices(), reason)
    return [_CPU]


def _cuda_provider(index: int) -> Provider:
    """Return the CUDA execution provider for a GPU."""
    return _CUDA, _CUDA_OPTIONS | {"device_id": str(index)}


def session_header(session: onnxruntime.InferenceSession) -> str | None:
    """Read the model header of a session's file as JSON, or None if there is none."""
    return session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)


def read_tensors(declared: Iterable[onnxruntime.NodeArg]) -> dict[str, TensorSpec]:
    """Describe inputs or outputs of a session by name."""
    return {argument.name: _tensor_spec(argument) for argument in declared}


def _may_saturate(path: str | Path, session: onnxruntime.InferenceSession) -> bool:
    """Return whether INT8 sums of this model can saturate on this processor."""
    header = session_header(session)
    if header is None or ModelDescription.from_header(path, header).data_type != "int8-cpu":
        return False
    return int8_sums_saturate()


def _create_session(
    path: str | Path,
    content: bytes | None,
    options: onnxruntime.SessionOptions,
    providers: list[Provider],
) -> onnxruntime.InferenceSession:
    """Create a session, given the path or the content of a file.

    Raises:
        BodyPoseNetError: ONNX Runtime cannot read the file.
    """
    try:
        session = onnxruntime.InferenceSession(
            str(path) if content is None else content,
            options,
            providers=providers,
            enable_fallback=False,  # the fallback prints and continues without the GPU
        )
        # Names and metadata that are not UTF-8 raise an error at their first access.
        _ = session_header(session), [(part.name, part.shape) for part in _tensors_of(session)]
        never_destroy_in_forks(session)
        return session
    except Exception as error:  # ONNX Runtime's errors have no common base class
        raise BodyPoseNetError(
            f"{path}: ONNX Runtime cannot read it: {_reason(error)}",
            "Export the model again (bpnet export), or update onnxruntime.",
        ) from error


def _tensors_of(session: onnxruntime.InferenceSession) -> list[onnxruntime.NodeArg]:
    """List the inputs and outputs of a session."""
    return [*session.get_inputs(), *session.get_outputs()]


def _tensor_spec(declared: onnxruntime.NodeArg) -> TensorSpec:
    """Convert a declaration; names in its shape are dynamic dimensions."""
    kind = str(declared.type)
    return TensorSpec(
        _DTYPES.get(kind, kind),
        tuple(size if isinstance(size, int) else None for size in declared.shape),
    )


def _reason(error: Exception) -> str:
    """Return the first line of an error message of ONNX Runtime."""
    return str(error).partition("\n")[0]


_X86 = ("x86_64", "amd64", "i386", "i686", "x86")
_VNNI_FEATURES = ("avx512vnni", "avxvnni")
"""LLVM's names of instructions that accumulate products of bytes in 32 bits (VNNI)."""


@cache
def int8_sums_saturate() -> bool:
    """Return whether sums of INT8 products saturate at 16 bits on this processor.

    This is the case on x86 processors without VNNI (`vpmaddubsw`, unsigned activations by signed
    weights).
    """
    if platform.machine().lower() not in _X86:
        return False
    from llvmlite import binding  # a dependency of numba, which the decoder needs anyway

    features = binding.get_host_cpu_features()
    return not any(features.get(name) for name in _VNNI_FEATURES)
