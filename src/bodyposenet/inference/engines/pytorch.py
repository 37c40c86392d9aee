"""Engine that runs a model file, or a network that is being trained, on PyTorch."""

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

from bodyposenet.inference.engines.base import (
    Device,
    ModelDescription,
    crop,
    stage_index,
)
from bodyposenet.inference.engines.forks import check_not_forked
from bodyposenet.model.checkpoint import load_model
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.types import Maps

Result = TypeVar("Result")

CPU = torch.device("cpu")

_IMPORT_PID = os.getpid()
"""The process that imported this, also in processes forked off it.

That it has run PyTorch cannot be seen: its own code may have, without an engine of ours.
"""


class PyTorchEngine:
    """Runs a network in evaluation mode.

    Args:
        network: Is moved to the device and set to evaluation mode.
        device: Where to run; None: `choose_device()`.
        precision: `fp32`, or `bf16`: faster on processors and GPUs that have it, less exact.
        threads: Of each run on the CPU; None: PyTorch's own number for the calling thread.
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
        height, width = images.shape[1:3]
        with (
            torch.inference_mode(),
            _WITHOUT_TF32,
            torch.autocast(self.device.type, torch.bfloat16, enabled=self._mixed),
        ):
            # A copy, as torch takes neither read-only arrays nor mirrored views.
            pixels = torch.from_numpy(np.array(images, order="C")).to(self.device)
            maps = self.network(self.network.normalize(pixels))
            heatmaps = maps.heatmaps[index].float().cpu().numpy()
            pafs = maps.pafs[index].float().cpu().numpy()
        return crop(heatmaps, pafs, height, width, self.stride, self.network.heatmap_sigma)


class _WithoutTf32:
    """Turns TF32 off: on a GPU, convolutions would round float32 to 10 bits.

    The setting is the whole process's. Threads that run at the same time share the context: the
    first one in turns it off, the last one out restores what was set before.
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
    """Threads that compute on a number of PyTorch's threads which holds for them alone.

    `torch.set_num_threads` counts for the calling thread, and for each thread that uses PyTorch for
    the first time afterwards. So every worker sets a number of its own once, see `_set_threads`.

    Args:
        number: Threads of each run.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._start()

    def run(self, function: Callable[[], Result]) -> Result:
        """Call a function in a worker and wait for its result; callers need not wait for others."""
        if os.getpid() != self._process:  # the workers are not in a forked process
            self._start()
        return self._pool.submit(function).result()

    def _start(self) -> None:
        # As many as there are callers at the same time, which `Predictor` bounds.
        self._pool = ThreadPoolExecutor(1024, "pytorch", _set_threads, (self._number,))
        self._process = os.getpid()


_SETTING = threading.Lock()
"""Held while the number of the process is another one, also by who forks."""
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(
        before=_SETTING.acquire,
        after_in_parent=_SETTING.release,
        after_in_child=_SETTING.release,
    )


def _set_threads(number: int) -> None:
    """Set PyTorch's number of threads for the calling thread, which is a new one, only."""
    with _SETTING:
        before = torch.get_num_threads()  # the process's, which a thread takes at its first call
        if (set_openmp := _openmp_setter()) is not None:
            set_openmp(number)
        if torch.get_num_threads() == number:
            return
        with ThreadPoolExecutor(1) as another:  # meanwhile, the number is that of the process too
            torch.set_num_threads(number)
            another.submit(torch.set_num_threads, before).result()


@cache
def _openmp_setter() -> Callable[[int], None] | None:
    """`omp_set_num_threads` of PyTorch's OpenMP, which is for the calling thread alone.

    Returns:
        None where PyTorch is built without OpenMP, or the system does not find it (Windows).
    """
    for library in (Path(torch.__file__).parent / "lib").glob("libtorch_cpu.*"):
        with suppress(AttributeError, OSError):
            function = ctypes.CDLL(str(library)).omp_set_num_threads
            function.argtypes, function.restype = [ctypes.c_int], None
            return function
    return None


def _check_process(device: torch.device, threads: int | None) -> None:
    """Refuse to run where PyTorch would wait forever for threads that a fork did not copy.

    Raises:
        BodyPoseNetError: This process was forked off one that may have run PyTorch, and would use
            more than one thread, or a GPU.
    """
    if device.type != "cpu" or (threads or torch.get_num_threads()) > 1:
        check_not_forked("PyTorch", _IMPORT_PID, "on the CPU, give load(..., threads=1)")


def choose_device() -> torch.device:
    """CUDA where there is one, else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def find_device(device: Device) -> torch.device:
    """The device of a name; for `auto`, `choose_device()`.

    Raises:
        BodyPoseNetError: It is missing here.
    """
    if device.kind == "auto":
        return choose_device()
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    available = ["cpu", *(f"cuda:{index}" for index in range(gpus))]
    if torch.backends.mps.is_available():
        available.append("mps")
    if device.kind not in available and f"{device.kind}:{device.index or 0}" not in available:
        raise device.missing("PyTorch", available)
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
        path: The file.
        key: Its key, if it is sealed.
        device: Where to run; None: `choose_device()`.
        threads: Of each run on the CPU, at most; None: PyTorch chooses.
        precision: See `PyTorchEngine`.
        expected: What a train spec tells of the model, for a file of TAO's, which does not tell how
            it was trained.

    Raises:
        BodyPoseNetError: The file cannot be opened or holds no model.
    """
    device = device or choose_device()
    _check_process(device, threads)  # building the network runs PyTorch already

    def build() -> BodyPoseNetwork:
        return load_model(path, key, None if expected is None else expected.training())

    network = build() if threads is None else _Workers(threads).run(build)
    return PyTorchEngine(network, device, precision, threads=threads)
