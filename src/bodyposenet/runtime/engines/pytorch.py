"""The engine on PyTorch: a model file, or a network that is being trained, behind `Engine`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bodyposenet.model.checkpoint import load_model
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.runtime.description import ModelDescription
from bodyposenet.runtime.engines.protocol import crop, stage_index
from bodyposenet.types import Maps

CPU = torch.device("cpu")


class PyTorchEngine:
    """Runs a network in evaluation mode.

    Args:
        network: Is moved to the device and set to evaluation mode.
        device: Where to run; None: `choose_device()`.
        precision: `fp32`, or `bf16`: faster on processors and GPUs that have it, less exact.
    """

    def __init__(
        self,
        network: BodyPoseNetwork,
        device: torch.device | None = None,
        precision: str = "fp32",
    ) -> None:
        self.device = device or choose_device()
        network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network = network.eval()
        self.skeleton = network.skeleton
        self.stride = network.stride
        self.stages = network.stages
        self.fixed_shape: tuple[int, int] | None = None
        pixels = network.normalization
        self.description = ModelDescription(
            network.skeleton, pixels.image_scale, pixels.image_offset, network.stages
        )
        self.name = f"pytorch {precision}"
        self._mixed = precision == "bf16"

    def infer(self, images: NDArray[np.uint8], stage: int | None = None) -> list[Maps]:
        """Run the network; see `Engine.infer`."""
        index = stage_index(stage, self.stages)
        height, width = images.shape[1:3]
        with (
            torch.inference_mode(),
            _without_tf32(),
            torch.autocast(self.device.type, torch.bfloat16, enabled=self._mixed),
        ):
            # A copy, as torch takes neither read-only arrays nor mirrored views.
            pixels = torch.from_numpy(np.array(images, order="C")).to(self.device)
            maps = self.network(self.network.normalize(pixels))
            heatmaps = maps.heatmaps[index].float().cpu().numpy()
            pafs = maps.pafs[index].float().cpu().numpy()
        return crop(heatmaps, pafs, height, width, self.stride)


@contextmanager
def _without_tf32() -> Iterator[None]:
    """On a GPU, convolutions would else round float32 to 10 bits; for training that is enough."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def choose_device() -> torch.device:
    """CUDA where there is one, else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def load(
    path: str | Path,
    key: str = "",
    device: torch.device | None = None,
    *,
    threads: int | None = None,
    precision: str = "fp32",
) -> PyTorchEngine:
    """Open a model file (`.tlt`).

    Args:
        path: The file.
        key: Its key, if it is sealed.
        device: Where to run; None: `choose_device()`.
        threads: At most so many, in all of the process; None: PyTorch chooses.
        precision: See `PyTorchEngine`.

    Raises:
        BodyPoseNetError: The file cannot be opened or holds no model.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    return PyTorchEngine(load_model(path, key), device, precision)
