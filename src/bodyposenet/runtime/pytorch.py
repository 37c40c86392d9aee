"""The engine on PyTorch: a model file, or a network that is being trained, behind `Engine`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bodyposenet.model.checkpoint import load_model
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.runtime.engine import crop, stage_index
from bodyposenet.types import Maps


class PyTorchEngine:
    """Runs a network in float32, in evaluation mode.

    Args:
        network: Is moved to the device and set to evaluation mode.
        device: Where to run; None: `choose_device()`.
    """

    def __init__(self, network: BodyPoseNetwork, device: torch.device | None = None) -> None:
        self.device = device or choose_device()
        network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network = network.eval()
        self.skeleton = network.skeleton
        self.stride = network.stride
        self.stages = network.stages

    def infer(self, images: NDArray[np.uint8], stage: int | None = None) -> list[Maps]:
        """Run the network; see `Engine.infer`."""
        index = stage_index(stage, self.stages)
        height, width = images.shape[1:3]
        with torch.inference_mode():
            # A copy, as torch takes neither read-only arrays nor mirrored views.
            pixels = torch.from_numpy(np.array(images, order="C")).to(self.device)
            maps = self.network(self.network.normalize(pixels))
            heatmaps = maps.heatmaps[index].float().cpu().numpy()
            pafs = maps.pafs[index].float().cpu().numpy()
        return crop(heatmaps, pafs, height, width, self.stride)


def choose_device() -> torch.device:
    """CUDA where there is one, else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def load(path: str | Path, key: str = "", device: torch.device | None = None) -> PyTorchEngine:
    """Open a model file (`.tlt`).

    Args:
        path: The file.
        key: Its key, if it is sealed.
        device: Where to run; None: `choose_device()`.

    Raises:
        BodyPoseNetError: The file cannot be opened or holds no model.
    """
    return PyTorchEngine(load_model(path, key), device)
