"""Common parts of the GPU benchmarks: device, timing, matrix product rate, networks."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib.resources import as_file, files

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from bodyposenet.inference.engines.pytorch import choose_device
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.specs.training import TrainSpec

from .. import harness
from ..train_step import SHIPPED_SPECS


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Create a parser with the flags of every benchmark, and `--device`."""
    flags = harness.parser(name, description)
    flags.add_argument("--device", metavar="NAME", help="cuda or cpu; default: cuda if available")
    return flags


def select_device(name: str | None) -> torch.device:
    """Return a device, print its name, and enable cuDNN's benchmark mode."""
    device = choose_device() if name is None else torch.device(name)
    torch.backends.cudnn.benchmark = True
    print(torch.cuda.get_device_name(device) if device.type == "cuda" else "no CUDA device")
    return device


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished all work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def repeated(
    function: Callable[[], object], calls: int, device: torch.device
) -> Callable[[], None]:
    """Return a function that calls `function` several times, then waits for the device."""

    def run() -> None:
        for _ in range(calls):
            function()
        synchronize(device)

    return run


def matrix_rate(device: torch.device, size: int) -> float:
    """Measure the FLOP/s of a bfloat16 product of two random square matrices."""
    left, right = torch.randn(2, size, size, device=device, dtype=torch.bfloat16)
    calls = 20
    multiply = repeated(lambda: torch.mm(left, right), calls, device)
    return 2 * size**3 * calls / harness.time_alternately({"mm": multiply}, 5)["mm"]


def load_train_spec(architecture: str) -> TrainSpec:
    """Load the train spec of the package for an architecture."""
    shipped = files("bodyposenet") / "resources" / "specs" / SHIPPED_SPECS[architecture]
    with as_file(shipped) as path:
        return TrainSpec.load(path)


def build_network(spec: TrainSpec, device: torch.device) -> BodyPoseNetwork:
    """Build the network of a train spec with random weights, channels last."""
    torch.manual_seed(0)
    network = BodyPoseNetwork(spec.skeleton, spec.model)
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def forward_flops(network: BodyPoseNetwork, images: Tensor) -> int:
    """Count the floating point operations (two per multiply-add) of a pass on normalized images."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(images)
    return counter.get_total_flops()
