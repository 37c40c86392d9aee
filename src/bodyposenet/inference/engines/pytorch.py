"""Engine for model files, and for networks in training, on PyTorch."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from bodyposenet.inference.engines.base import Device, ModelDescription, crop, stage_index
from bodyposenet.inference.engines.fork_safety import check_not_forked
from bodyposenet.model.checkpoint import load_model
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.types import Maps

Result = TypeVar("Result")

CPU = torch.device("cpu")

_IMPORT_PID = os.getpid()
"""Id of the process that imported this module; forked processes inherit it.

That process is assumed to have run PyTorch, because code outside this module may have done so.
"""


class PyTorchEngine:
    """Engine of a PyTorch network in evaluation mode.

    Args:
        network: The network. Moved to the device and set to evaluation mode in place.
        device: Device, or None for `choose_device()`.
        precision: `fp32`, or `bf16`: faster on devices with bf16, but less accurate.
        threads: Number of threads of each run on the CPU, or None for PyTorch's setting of the
            calling thread.
    """

    def __init__(
        self,
        network: BodyPoseNetwork,
        device: torch.device | None = None,
        precision: str = "fp32",
        *,
        threads: int | None = None,
    ) -> None:
        self.device = device or choose_device()
        self._threads = threads
        self._workers = None if threads is None else _Workers(threads)
        _check_process(self.device, threads)
        network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network = network.eval()
        self.skeleton = network.skeleton
        self.stride = network.stride
        self.stages = network.stages
        self.fixed_shape: tuple[int, int] | None = None
        pixels = network.normalization
        self.description = ModelDescription(
            network.skeleton, pixels.image_scale, pixels.image_offset, network.stages,
            network.stride, network.heatmap_sigma,
        )  # fmt: skip
        self.name = f"pytorch {precision}"
        self._mixed = precision == "bf16"

    def infer(self, images: NDArray[np.uint8], stage: int | None = None) -> list[Maps]:
        """Run the network; see `Engine.infer`."""
        _check_process(self.device, self._threads)
        index = stage_index(stage, self.stages)
        if self._workers is None:
            return self._infer(images, index)
        return self._workers.run(lambda: self._infer(images, index))

    def _infer(self, images: NDArray[np.uint8], index: int) -> list[Maps]:
        """Run the network in the current thread and return the maps of a stage."""
        height, width = images.shape[1:3]
        with (
            torch.inference_mode(),
            _WITHOUT_TF32,
            torch.autocast(self.device.type, torch.bfloat16, enabled=self._mixed),
        ):
            # A copy, because torch supports neither read-only arrays nor negative strides.
            pixels = torch.from_numpy(np.array(images, order="C")).to(self.device)
            maps = self.network(self.network.normalize(pixels))
            heatmaps = maps.heatmaps[index].float().cpu().numpy()
            pafs = maps.pafs[index].float().cpu().numpy()
        return crop(heatmaps, pafs, height, width, self.stride, self.network.heatmap_sigma)


class _WithoutTf32:
    """Context manager without TF32, which rounds float32 to 10 bits in convolutions on a GPU.

    The setting applies to the whole process. Threads share the context: the first one that enters
    it disables TF32, the last one that leaves it restores the previous setting.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = True

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before = torch.backends.cudnn.allow_tf32
                torch.backends.cudnn.allow_tf32 = False
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                torch.backends.cudnn.allow_tf32 = self._before


_WITHOUT_TF32 = _WithoutTf32()


class _Workers:
    """Worker threads that run PyTorch with their own number of threads.

    `torch.set_num_threads` applies to the calling thread and to each thread that later uses PyTorch
    for the first time. So each worker sets its own number once, see `_set_threads`.

    Args:
        number: Number of threads of each run.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._start()

    def run(self, function: Callable[[], Result]) -> Result:
        """Call a function in a worker and return its result; callers do not wait for each other."""
        if os.getpid() != self._process:  # a forked process does not have the workers
            self._start()
        return self._pool.submit(function).result()

    def _start(self) -> None:
        """Create the pool of workers for this process."""
        # One worker per concurrent caller; `Predictor` limits their number.
        self._pool = ThreadPoolExecutor(1024, "pytorch", _set_threads, (self._number,))
        self._process = os.getpid()


_SETTING = threading.Lock()
"""Held while the number of threads of the process is changed, and during a fork."""
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(
        before=_SETTING.acquire,
        after_in_parent=_SETTING.release,
        after_in_child=_SETTING.release,
    )


def _set_threads(number: int) -> None:
    """Set PyTorch's number of threads only for the calling thread, which must be a new one."""
    with _SETTING:
        before = torch.get_num_threads()  # a thread takes that of the process at its first call
        if (set_openmp := _openmp_setter()) is not None:
            set_openmp(number)
        if torch.get_num_threads() == number:
            return
        with ThreadPoolExecutor(1) as another:  # restores the number of the process
            torch.set_num_threads(number)
            another.submit(torch.set_num_threads, before).result()


@cache
def _openmp_setter() -> Callable[[int], None] | None:
    """Load `omp_set_num_threads` of PyTorch's OpenMP, which applies only to the calling thread.

    Returns:
        The function, or None if PyTorch is built without OpenMP or it cannot be found (Windows).
    """
    for library in (Path(torch.__file__).parent / "lib").glob("libtorch_cpu.*"):
        with suppress(AttributeError, OSError):
            function = ctypes.CDLL(str(library)).omp_set_num_threads
            function.argtypes, function.restype = [ctypes.c_int], None
            return function
    return None


def _check_process(device: torch.device, threads: int | None) -> None:
    """Raise an error where PyTorch would wait forever for threads that do not exist after a fork.

    Raises:
        BodyPoseNetError: This process was forked from one that may have run PyTorch, and the run
            would use a GPU or more than one thread.
    """
    if device.type != "cpu" or (threads or torch.get_num_threads()) > 1:
        check_not_forked("PyTorch", _IMPORT_PID, "on the CPU, use load(..., threads=1)")


def choose_device() -> torch.device:
    """Return CUDA if available, else Apple's MPS if available, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def to_torch_device(device: Device) -> torch.device:
    """Convert a device; `auto` becomes `choose_device()`.

    Raises:
        BodyPoseNetError: This machine does not have the device.
    """
    if device.kind == "auto":
        return choose_device()
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    available = ["cpu", *(f"cuda:{index}" for index in range(gpus))]
    if torch.backends.mps.is_available():
        available.append("mps")
    if device.kind not in available and f"{device.kind}:{device.index or 0}" not in available:
        raise device.unavailable_error("PyTorch", available)
    return torch.device(str(device))


def load(
    path: str | Path,
    key: str = "",
    device: torch.device | None = None,
    *,
    threads: int | None = None,
    precision: str = "fp32",
    expected: ModelDescription | None = None,
) -> PyTorchEngine:
    """Open a model file (`.tlt`, or TAO 5's `.hdf5`).

    Args:
        path: Path of the file.
        key: Key of an encrypted file.
        device: Device, or None for `choose_device()`.
        threads: Maximum number of threads of each run on the CPU, or None for PyTorch's default.
        precision: See `PyTorchEngine`.
        expected: Description from a train spec, for TAO's own files, which do not contain it, or
            None.

    Raises:
        BodyPoseNetError: The file cannot be opened or is not a model.
    """
    device = device or choose_device()
    _check_process(device, threads)  # building the network runs PyTorch already

    def build() -> BodyPoseNetwork:
        """Load the network."""
        return load_model(path, key, None if expected is None else expected.training_entries())

    network = build() if threads is None else _Workers(threads).run(build)
    return PyTorchEngine(network, device, precision, threads=threads)
