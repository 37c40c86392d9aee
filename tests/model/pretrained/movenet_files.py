"""Narrow MoveNet backbone, with the names, shapes and topology of the published files."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

SCALE = 0.0078125
"""Factor of the pixels, before 1 is subtracted."""

STEM, LAST, LEVEL32, LEVEL16, LEVEL8 = 8, 160, 8, 8, 8
# Expansion, channels, blocks, stride, with 1/8 of the width.
GROUPS = (
    (1, 8, 1, 1), (6, 8, 2, 2), (6, 8, 3, 2), (6, 16, 4, 2), (6, 16, 3, 1), (6, 32, 3, 2),
    (6, 64, 1, 1),
)  # fmt: skip


def tiny_file(path: Path, metadata: dict[str, str] | None = None) -> dict[str, Tensor]:
    """Write a file of random weights; return its tensors."""
    tensors = random_tensors()
    save_file(
        {name: tensor.half() for name, tensor in tensors.items()},
        path,
        {"scale": str(SCALE)} if metadata is None else metadata,
    )
    return {name: tensor.half().float() for name, tensor in tensors.items()}


def random_tensors() -> dict[str, Tensor]:
    """Return random weights of a backbone."""
    random, tensors = torch.Generator().manual_seed(3), {}

    def add(name: str, inputs: int, outputs: int, kernel: int = 1, bias: bool = True) -> None:
        fan_in = inputs * kernel**2
        weight = torch.randn(outputs, inputs, kernel, kernel, generator=random)
        tensors[f"{name}.conv.weight"] = weight * (2 / fan_in) ** 0.5
        if bias:
            tensors[f"{name}.conv.bias"] = torch.randn(outputs, generator=random) * 0.3

    add("stem", 3, STEM, 3)
    channels, taps, number = STEM, {}, 0
    for expansion, outputs, blocks, _ in GROUPS:
        for _ in range(blocks):
            hidden = channels * expansion
            if expansion > 1:
                add(f"blocks.{number}.expand", channels, hidden)
            add(f"blocks.{number}.depthwise", 1, hidden, 3)
            add(f"blocks.{number}.project", hidden, outputs)
            channels = taps[number] = outputs
            number += 1
    add("last", channels, LAST)
    add("lateral32", LAST, LEVEL32)
    for stride, block, sum_, outputs in (
        (16, 9, LEVEL32, LEVEL16), (8, 5, LEVEL16, LEVEL8), (4, 2, LEVEL8, 8),
    ):  # fmt: skip
        add(f"lateral{stride}", taps[block], sum_)
        add(f"fuse{stride}.0", 1, sum_, 3, bias=False)
        add(f"fuse{stride}.1", sum_, outputs)
    add("heads.heatmap.0.0", 1, 8, 3, bias=False)
    add("heads.heatmap.0.1", 8, 16)
    add("heads.heatmap.1", 16, 17)
    return tensors


def features(tensors: dict[str, Tensor], pixels: Tensor) -> list[Tensor]:
    """Compute block 5, block 12, the lateral of stride 32 and the level of stride 8.

    Args:
        tensors: Tensors of the file.
        pixels: (N, 3, H, W) RGB; height and width are multiples of 32.
    """

    def convolve(name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight, bias = tensors[f"{name}.conv.weight"], tensors.get(f"{name}.conv.bias")
        groups = x.shape[1] if weight.shape[1] == 1 else 1
        kernel = weight.shape[-1]
        if stride == 2:
            return functional.conv2d(functional.pad(x, (0, 1, 0, 1)), weight, bias, 2, 0, 1, groups)
        return functional.conv2d(x, weight, bias, 1, kernel // 2, 1, groups)

    def level(name: str, coarser: Tensor, lateral: Tensor) -> Tensor:
        large = functional.interpolate(coarser, scale_factor=2.0, mode="bilinear")
        return convolve(f"{name}.1", convolve(f"{name}.0", large + lateral)).relu()

    relu6 = functional.relu6
    x = relu6(convolve("stem", pixels * SCALE - 1, 2))
    taps, number = [], 0
    for expansion, _, blocks, first_stride in GROUPS:
        for index in range(blocks):
            name, before = f"blocks.{number}", x
            if expansion > 1:
                x = relu6(convolve(f"{name}.expand", x))
            x = relu6(convolve(f"{name}.depthwise", x, 1 if index else first_stride))
            x = convolve(f"{name}.project", x)
            x = x + before if index else x
            taps.append(x)
            number += 1
    level32 = convolve("lateral32", relu6(convolve("last", x)))
    level16 = level("fuse16", level32, convolve("lateral16", taps[9]))
    level8 = level("fuse8", level16, convolve("lateral8", taps[5]))
    return [taps[5], taps[12], level32, level8]
