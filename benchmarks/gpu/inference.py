"""Inference of the network alone on a GPU: ms per image, images/s at the best batch size.

python -m benchmarks.gpu.inference [--device NAME] [--compile] [--quick] [--json FILE]

In bf16 and fp16, from uint8 images in the device's memory to the maps of the last stage, replayed
as one CUDA graph. TAO's guide reports, for vgg in FP16 on an RTX 2080: 2.27 ms at 224 x 320,
2.58 ms at 288 x 384, 3.13 ms at 320 x 448.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch import Tensor

from bodyposenet.model.network import BodyPoseNetwork

from .. import harness
from ..train_step import SHIPPED_SPECS
from . import device as gpu

_SIZES = ((224, 320), (288, 384), (320, 448))
_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_BATCHES = (8, 32, 64, 128, 256)


def measure(arguments: argparse.Namespace) -> harness.Figures:
    """Measure every network, size and dtype."""
    device = gpu.select_device(arguments.device)
    tiny = arguments.quick or device.type != "cuda"
    figures: dict[str, float] = {}
    for architecture in SHIPPED_SPECS:
        for name, dtype in _TYPES.items():
            network = gpu.build_network(gpu.load_train_spec(architecture), device).eval()
            _set_dtype(network, dtype)
            forward = _forward(network, dtype, arguments.compile)
            for height, width in ((64, 96),) if tiny else _SIZES:
                key = f"{architecture}_{height}x{width}_{name}"
                seconds, rates = _times(forward, device, height, width, (2,) if tiny else _BATCHES)
                figures[f"{key}_ms"] = 1e3 * seconds
                best = max(rates, key=rates.__getitem__)
                figures[f"{key}_images_per_s"] = rates[best]
                figures[f"{key}_best_batch"] = best
    return figures


def _set_dtype(network: BodyPoseNetwork, dtype: torch.dtype) -> None:
    """Set the dtype of the layers; images are still normalized in float32."""
    network.backbone.to(dtype)
    network.stage_list.to(dtype)


def _forward(
    network: BodyPoseNetwork, dtype: torch.dtype, compiled: bool
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Return a function from uint8 images to the maps of the last stage."""

    def forward(images: Tensor) -> tuple[Tensor, Tensor]:
        maps = network(network.normalize(images).to(dtype))
        return maps.heatmaps[-1].float(), maps.pafs[-1].float()

    return torch.compile(forward, dynamic=False) if compiled else forward


def _times(
    forward: Callable[[Tensor], object],
    device: torch.device,
    height: int,
    width: int,
    batches: tuple[int, ...],
) -> tuple[float, dict[int, float]]:
    """Return seconds per image, and images/s for every batch size that fits into memory."""
    calls = 50 if device.type == "cuda" else 1
    seconds: dict[int, float] = {}
    for count in (1, *batches):
        images = torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8, device=device)
        try:
            turn = gpu.repeated(_captured(forward, images), calls, device)
            seconds[count] = harness.time_alternately({"forward": turn}, 5)["forward"] / calls
        except torch.OutOfMemoryError:
            print(f"batches of {count} do not fit into the device's memory")
            break
    return seconds[1], {count: count / taken for count, taken in seconds.items()}


@torch.inference_mode()
def _captured(forward: Callable[[Tensor], object], images: Tensor) -> Callable[[], object]:
    """Return a replay of a CUDA graph of the call; on a CPU the call itself."""
    if images.device.type != "cuda":
        return torch.inference_mode()(lambda: forward(images))
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # cuDNN selects its convolutions before the capture
        for _ in range(3):
            forward(images)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        forward(images)
    return graph.replay


if __name__ == "__main__":
    flags = gpu.parser("gpu.inference", __doc__)
    flags.add_argument(
        "--compile", action="store_true", help="compile the network with torch.compile"
    )
    harness.run("gpu.inference", flags, measure)
