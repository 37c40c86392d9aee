"""Engine for plans on TensorRT, and the build of plans from ONNX files for the GPU of this machine.

Written against the documentation of TensorRT 10 and 11 and of CUDA's Python bindings. It has NOT
been run on a GPU: the tests use fakes of both packages.
"""

# Neither package is installed where types are checked.
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorrt as trt
from cuda.bindings import runtime as cuda
from numpy.typing import NDArray

from bodyposenet.console import logger
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import atomic_write, exists
from bodyposenet.inference.engines.base import AUTO, Device
from bodyposenet.inference.engines.engine_file import BUILD_HERE, EngineHeader
from bodyposenet.inference.engines.exported import ExportedEngine, TensorSpec, make_engine

_UPDATE = "Export the model again (bpnet export), or update tensorrt."


def device_name(index: int = 0) -> str:
    """Return the name of a GPU. Engines are built for CUDA's first GPU.

    Args:
        index: Index of the GPU.

    Raises:
        BodyPoseNetError: There is no such GPU, or its driver is incompatible.
    """
    return _checked(cuda.cudaGetDeviceProperties(index)).name.decode().rstrip("\0")


def build(
    path: str | Path,
    content: bytes,
    model_header: dict[str, Any],
    *,
    shape: tuple[int, int],
    opt_batch_size: int,
    max_batch_size: int,
    workspace: int,
    timing_cache: Path | None,
) -> tuple[EngineHeader, bytes]:
    """Build a plan for the GPU of this machine.

    The network is strongly typed: it uses the data types of the ONNX file, including float16 and
    INT8 (by Q/DQ nodes). float32 is full float32, not TF32, as on the other engines.

    Args:
        path: Path of the engine file, for error messages.
        content: Content of the ONNX file.
        model_header: Header of the model.
        shape: Height and width of the input, unless they are fixed in the file.
        opt_batch_size: Batch size to optimize for.
        max_batch_size: Maximum batch size, unless it is fixed in the file.
        workspace: Maximum bytes of scratch memory of a layer.
        timing_cache: File of the timing cache, which is read and updated, or None for none.

    Returns:
        Header of the engine file, and the plan.

    Raises:
        BodyPoseNetError: TensorRT cannot build the plan, or the model is quantized for CPUs.
    """
    header = EngineHeader(
        runtime="tensorrt", version=trt.__version__, device=device_name(),
        precision=model_header.get("data_type", "fp32"), model=model_header,
    )  # fmt: skip
    if header.precision == "int8-cpu":
        raise BodyPoseNetError(
            f"{path}: quantized for CPUs, with zero points that TensorRT does not support",
            "Export with --int8_target tensorrt.",
        )
    log = _Log()
    builder = trt.Builder(log)
    network = _parse(path, builder, content, log)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)
    config.clear_flag(trt.BuilderFlag.TF32)
    sizes = (1, opt_batch_size, max_batch_size)
    profile = _profile(builder, network.get_input(0), sizes, shape)
    if config.add_optimization_profile(profile) < 0:
        raise log.error(f"{path}: TensorRT does not accept the batch sizes {sizes}", _UPDATE)
    if timing_cache is not None:
        _use_timing_cache(config, timing_cache)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise log.error(f"{path}: TensorRT cannot build it", _UPDATE)
    if timing_cache is not None:
        _save_timing_cache(config, timing_cache)
    return header, bytes(plan)


def load_built(
    path: str | Path, header: EngineHeader, body: bytes, *, device: Device = AUTO
) -> ExportedEngine:
    """Open a plan.

    Args:
        path: Path of the engine file, for error messages.
        header: Header of the engine file.
        body: The plan.
        device: A GPU, or `auto` for the first one.

    Raises:
        BodyPoseNetError: The plan was built by another version or for another GPU, or is damaged;
            or the device is missing.
    """
    index = device.index or 0
    gpus = _checked(cuda.cudaGetDeviceCount())
    if device.kind not in ("auto", "cuda") or index >= gpus:
        raise device.unavailable_error("TensorRT", [f"cuda:{index}" for index in range(gpus)])
    header.check_machine(path, trt.__version__, device_name(index))
    plan = Plan(path, body, index)
    text = header.model_text
    return make_engine(path, plan.inputs, plan.outputs, text, None, plan.run, "tensorrt")


class _Log(trt.ILogger):
    """Collects TensorRT's error messages, because its functions return only success or failure."""

    def __init__(self) -> None:
        super().__init__()
        self._errors: list[str] = []

    def log(self, severity: Any, msg: str) -> None:
        """Receive a message from TensorRT."""
        if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
            self._errors.append(msg)
        else:
            logger.debug("TensorRT: %s", msg)

    def error(self, what: str, remedy: str) -> BodyPoseNetError:
        """Return an error with the first message of TensorRT."""
        return BodyPoseNetError(": ".join([what, *self._errors[:1]]), remedy)


def _parse(path: str | Path, builder: Any, content: bytes, log: _Log) -> Any:
    """Parse an ONNX file; TensorRT 11 only supports strongly typed networks."""
    flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, log)
    if not parser.parse(content):
        reasons = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        raise BodyPoseNetError(
            f"{path}: TensorRT cannot read it: {'; '.join(reasons) or 'no reason given'}", _UPDATE
        )
    return network


def _profile(builder: Any, images: Any, sizes: Sequence[int], shape: tuple[int, int]) -> Any:
    """Create the profile of the input: minimum, optimum and maximum batch size of one shape."""
    profile = builder.create_optimization_profile()
    profile.set_shape(images.name, *(_fill(images.shape, size, shape) for size in sizes))
    return profile


def _fill(declared: Sequence[int], count: int, shape: tuple[int, int]) -> tuple[int, ...]:
    """Fill in the dynamic dimensions (-1) of the shape of an input."""
    sizes = (count, *shape, 3) if declared[3] == 3 else (count, 3, *shape)
    return tuple(size if side == -1 else side for side, size in zip(declared, sizes, strict=True))


def _use_timing_cache(config: Any, file: Path) -> None:
    """Load the measurements of earlier builds, if the file has those of this GPU and version."""
    try:
        saved = file.read_bytes() if exists(file) else b""
    except OSError as error:
        raise BodyPoseNetError(
            f"{file}: cannot be read: {error.strerror}", "Choose another --timing_cache."
        ) from error
    cache = config.create_timing_cache(saved)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        logger.warning("%s is from another GPU or version of TensorRT and is replaced", file)
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def _save_timing_cache(config: Any, file: Path) -> None:
    """Save the measurements for the next build."""
    with atomic_write(file) as cache:
        cache.write(bytes(config.get_timing_cache().serialize()))


class Plan:
    """Plan with its execution context and memory, which run one call at a time.

    Args:
        path: Path of the engine file, for error messages.
        body: The plan.
        device: Index of the GPU.
    """

    def __init__(self, path: str | Path, body: bytes, device: int) -> None:
        self._path, self._log, self._device = path, _Log(), device
        _checked(cuda.cudaSetDevice(device))
        self._runtime = trt.Runtime(self._log)  # must outlive its engine
        self._engine = self._runtime.deserialize_cuda_engine(body)
        if self._engine is None:
            raise self._log.error(f"{path}: TensorRT cannot open it", BUILD_HERE)
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise self._log.error(f"{path}: TensorRT cannot run it", "Free GPU memory.")
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        modes = {name: self._engine.get_tensor_mode(name) for name in names}
        inputs = [name for name in names if modes[name] == trt.TensorIOMode.INPUT]
        self.inputs = {name: self._input(name) for name in inputs}
        self.outputs = {name: self._output(name) for name in names if name not in inputs}
        self._memory = {name: _Memory() for name in names}
        self._lock = threading.Lock()
        self._stream = _checked(cuda.cudaStreamCreate())
        weakref.finalize(self, cuda.cudaStreamDestroy, self._stream)

    def run(self, images: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """Run the plan on a batch of any size. Returns the outputs by name."""
        (name,) = self.inputs
        max_batch = self._engine.get_tensor_profile_shape(name, 0)[2][0]
        with self._lock:
            _checked(cuda.cudaSetDevice(self._device))  # a setting of the thread
            parts = [
                self._run(name, images[start : start + max_batch])
                for start in range(0, len(images), max_batch)
            ]
        return {name: np.concatenate([part[name] for part in parts]) for name in self.outputs}

    def _run(self, name: str, images: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """Run the plan on a batch of at most its maximum size."""
        images = np.ascontiguousarray(images)
        if not self._context.set_input_shape(name, images.shape):
            raise self._run_error(images)
        kinds = cuda.cudaMemcpyKind
        address = self._bind(name, images)
        self._copy(address, images.ctypes.data, images, kinds.cudaMemcpyHostToDevice)
        results = {
            output: np.empty(tuple(self._context.get_tensor_shape(output)), np.float32)
            for output in self.outputs
        }
        addresses = {output: self._bind(output, maps) for output, maps in results.items()}
        if not self._context.execute_async_v3(int(self._stream)):
            raise self._run_error(images)
        for output, maps in results.items():
            self._copy(maps.ctypes.data, addresses[output], maps, kinds.cudaMemcpyDeviceToHost)
        _checked(cuda.cudaStreamSynchronize(self._stream))
        return results

    def _bind(self, name: str, array: NDArray[Any]) -> int:
        """Reserve GPU memory for a tensor with the size of an array. Returns its address."""
        address = self._memory[name].reserve(array.nbytes)
        self._context.set_tensor_address(name, address)
        return address

    def _copy(self, to: int, source: int, array: NDArray[Any], kind: Any) -> None:
        """Copy the bytes of an array between two addresses on the stream."""
        _checked(cuda.cudaMemcpyAsync(to, source, array.nbytes, kind, self._stream))

    def _run_error(self, images: NDArray[Any]) -> BodyPoseNetError:
        """Create the error for a batch that the plan cannot run."""
        return self._log.error(
            f"{self._path}: TensorRT cannot run it on {images.shape}", "Build the engine again."
        )

    def _input(self, name: str) -> TensorSpec:
        """Describe an input; dimensions with a range in the plan's profile are dynamic."""
        smallest, _, largest = self._engine.get_tensor_profile_shape(name, 0)
        sizes = zip(smallest, largest, strict=True)
        return self._tensor(name, tuple(low if low == high else None for low, high in sizes))

    def _output(self, name: str) -> TensorSpec:
        """Describe an output; dimensions of size -1 are dynamic."""
        shape = self._engine.get_tensor_shape(name)
        return self._tensor(name, tuple(None if size == -1 else size for size in shape))

    def _tensor(self, name: str, shape: tuple[int | None, ...]) -> TensorSpec:
        """Combine the data type of a tensor with a shape."""
        return TensorSpec(np.dtype(trt.nptype(self._engine.get_tensor_dtype(name))).name, shape)


class _Memory:
    """Block of GPU memory that grows when necessary."""

    def __init__(self) -> None:
        self._size = self._address = 0

    def reserve(self, size: int) -> int:
        """Return the address of a block of at least `size` bytes."""
        if size > self._size:
            if self._size:
                self._free()
                self._size = self._address = 0  # in case the next allocation fails
            self._address = _checked(cuda.cudaMalloc(size))
            self._free = weakref.finalize(self, cuda.cudaFree, self._address)
            self._size = size
        return self._address


def _checked(result: tuple[Any, ...]) -> Any:
    """Return the result of a CUDA function without its error code.

    Raises:
        BodyPoseNetError: The function failed.
    """
    error, *values = result
    if error != cuda.cudaError_t.cudaSuccess:
        _, text = cuda.cudaGetErrorString(error)
        raise BodyPoseNetError(
            f"the GPU cannot be used: {text.decode()}",
            "Check the GPU, its driver and its free memory with nvidia-smi.",
        )
    return values[0] if values else None
