"""Fakes of the parts of the packages tensorrt and cuda.bindings that the engine uses.

A plan is the ONNX file with its profile. ONNX Runtime runs it in the memory of this process.
"""

# The names are CUDA's and TensorRT's.
# ruff: noqa: N801, N802, N815

import ctypes
import pickle
from enum import Enum, IntEnum
from types import ModuleType, SimpleNamespace

import numpy as np
import onnxruntime

GPU = "Stand-in 9000"


class Severity(Enum):
    INTERNAL_ERROR, ERROR, WARNING = range(3)


class ILogger:
    Severity = Severity


class NetworkDefinitionCreationFlag(IntEnum):
    STRONGLY_TYPED = 1


class MemoryPoolType(Enum):
    WORKSPACE = 0


class BuilderFlag(Enum):
    TF32 = 0


class TensorIOMode(Enum):
    INPUT, OUTPUT = range(2)


class TimingCache:
    def __init__(self, content):
        self.content = content

    def serialize(self):
        return memoryview(b"times of " + GPU.encode())


class Profile:
    def __init__(self):
        self.shapes = {}

    def set_shape(self, name, smallest, usual, largest):
        self.shapes[name] = (smallest, usual, largest)


class Config:
    def __init__(self):
        self.limits, self.profiles, self.cache, self.tf32 = {}, [], None, True

    def set_memory_pool_limit(self, pool, size):
        self.limits[pool] = size

    def clear_flag(self, flag):
        assert flag is BuilderFlag.TF32
        self.tf32 = False

    def add_optimization_profile(self, profile):
        self.profiles.append(profile)
        ordered = all(np.all(np.diff(shapes, axis=0) >= 0) for shapes in profile.shapes.values())
        return len(self.profiles) - 1 if ordered else -1

    def create_timing_cache(self, content):
        return TimingCache(content)

    def set_timing_cache(self, cache, ignore_mismatch):
        if cache.content and not cache.content.endswith(GPU.encode()):
            return False
        self.cache = cache
        return True

    def get_timing_cache(self):
        return self.cache


class Builder:
    last_config = None

    def __init__(self, logger):
        self.logger = logger

    def create_network(self, flags):
        assert flags == 2
        return SimpleNamespace()

    def create_builder_config(self):
        Builder.last_config = Config()
        return Builder.last_config

    def create_optimization_profile(self):
        return Profile()

    def build_serialized_network(self, network, config):
        if config.limits[MemoryPoolType.WORKSPACE] < 100:
            self.logger.log(Severity.WARNING, "slow")
            self.logger.log(Severity.ERROR, "no kernel fits into the workspace")
            return None
        (profile,) = config.profiles
        return memoryview(pickle.dumps((network.content, profile.shapes)))


class OnnxParser:
    def __init__(self, network, logger):
        self.network, self.num_errors = network, 0

    def parse(self, content):
        try:
            session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        except Exception as error:
            self.error, self.num_errors = str(error), 1
            return False
        (images,) = session.get_inputs()
        shape = [side if isinstance(side, int) else -1 for side in images.shape]
        self.network.content = content
        self.network.get_input = lambda index: SimpleNamespace(name=images.name, shape=shape)
        return True

    def get_error(self, index):
        return SimpleNamespace(desc=lambda: self.error)


class Runtime:
    def __init__(self, logger):
        self.logger = logger

    def deserialize_cuda_engine(self, plan):
        try:
            return Engine(*pickle.loads(plan))
        except pickle.UnpicklingError:
            self.logger.log(Severity.ERROR, "magic tag does not match")
            return None


class Engine:
    def __init__(self, content, profile):
        self.session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        self.profile = profile
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        self.tensors = {tensor.name: tensor for tensor in (*inputs, *outputs)}
        self.num_io_tensors = len(self.tensors)

    def get_tensor_name(self, index):
        return list(self.tensors)[index]

    def get_tensor_mode(self, name):
        return TensorIOMode.INPUT if name in self.profile else TensorIOMode.OUTPUT

    def get_tensor_shape(self, name):
        return [side if isinstance(side, int) else -1 for side in self.tensors[name].shape]

    def get_tensor_dtype(self, name):
        return self.tensors[name].type

    def get_tensor_profile_shape(self, name, index):
        assert index == 0
        return self.profile[name]

    def create_execution_context(self):
        return Context(self)


class Context:
    def __init__(self, engine):
        self.engine, self.shapes, self.addresses = engine, {}, {}

    def set_input_shape(self, name, shape):
        smallest, _, largest = self.engine.profile[name]
        fits = all(
            low <= side <= high for low, side, high in zip(smallest, shape, largest, strict=True)
        )
        if fits:
            kind = nptype(self.engine.get_tensor_dtype(name))
            names = [name for name in self.engine.tensors if name not in self.engine.profile]
            arrays = self.engine.session.run(names, {name: np.zeros(shape, kind)})
            self.shapes = {name: shape} | {n: a.shape for n, a in zip(names, arrays, strict=True)}
        return fits

    def get_tensor_shape(self, name):
        return self.shapes[name]

    def set_tensor_address(self, name, address):
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream):
        assert stream == 7
        feeds = {name: np.array(self.view(name)) for name in self.engine.profile}
        names = [name for name in self.shapes if name not in feeds]
        for name, array in zip(names, self.engine.session.run(names, feeds), strict=True):
            self.view(name)[...] = array
        return True

    def view(self, name):
        kind = np.dtype(nptype(self.engine.get_tensor_dtype(name)))
        size = int(np.prod(self.shapes[name])) * kind.itemsize
        memory = (ctypes.c_char * size).from_address(self.addresses[name])
        return np.frombuffer(memory, kind).reshape(self.shapes[name])


def nptype(kind):
    return {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}[kind]


class Cuda:
    """`cuda.bindings.runtime`; functions return an error code, then their results."""

    class cudaError_t(Enum):
        cudaSuccess, cudaErrorMemoryAllocation, cudaErrorNoDevice = 0, 2, 100

    class cudaMemcpyKind(Enum):
        cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost = 1, 2

    def __init__(self):
        self.memory, self.capacity = {}, float("inf")
        self.gpu, self.gpus, self.device = GPU, 1, 0

    def cudaGetDeviceProperties(self, device):
        if self.gpu is None:
            return self.cudaError_t.cudaErrorNoDevice, None
        return self.cudaError_t.cudaSuccess, SimpleNamespace(name=self.gpu.encode())

    def cudaGetDeviceCount(self):
        if self.gpu is None:
            return self.cudaError_t.cudaErrorNoDevice, None
        return self.cudaError_t.cudaSuccess, self.gpus

    def cudaSetDevice(self, device):
        assert device < self.gpus
        self.device = device
        return (self.cudaError_t.cudaSuccess,)

    def cudaGetErrorString(self, error):
        no_device = error is self.cudaError_t.cudaErrorNoDevice
        text = b"no CUDA-capable device is detected" if no_device else b"out of memory"
        return self.cudaError_t.cudaSuccess, text

    def cudaMalloc(self, size):
        if sum(map(len, self.memory.values())) + size > self.capacity:
            return self.cudaError_t.cudaErrorMemoryAllocation, 0
        buffer = ctypes.create_string_buffer(size)
        self.memory[ctypes.addressof(buffer)] = buffer
        return self.cudaError_t.cudaSuccess, ctypes.addressof(buffer)

    def cudaFree(self, address):
        del self.memory[address]
        return (self.cudaError_t.cudaSuccess,)

    def cudaMemcpyAsync(self, to, source, count, kind, stream):
        on_gpu = to if kind is self.cudaMemcpyKind.cudaMemcpyHostToDevice else source
        assert stream == 7 and count <= len(self.memory[on_gpu])
        ctypes.memmove(to, source, count)
        return (self.cudaError_t.cudaSuccess,)

    def cudaStreamCreate(self):
        return self.cudaError_t.cudaSuccess, 7

    def cudaStreamDestroy(self, stream):
        return (self.cudaError_t.cudaSuccess,)

    def cudaStreamSynchronize(self, stream):
        return (self.cudaError_t.cudaSuccess,)


def make_modules() -> dict[str, object]:
    """Return the modules for `import tensorrt` and `from cuda.bindings import runtime`, by name."""
    tensorrt = ModuleType("tensorrt")
    vars(tensorrt).update({k: v for k, v in globals().items() if not k.startswith("_")})
    vars(tensorrt)["__version__"] = "11.0"
    bindings = ModuleType("cuda.bindings")
    vars(bindings)["runtime"] = Cuda()
    return {"tensorrt": tensorrt, "cuda": ModuleType("cuda"), "cuda.bindings": bindings}
