"""MoveNet MultiPose's trunk under our layer names, from a file whose batch normalization is folded.

The file (`.safetensors`) has MobileNetV2's convolutions as `stem`, `blocks.0` to `blocks.16` and
`last`, those of the feature pyramid as `lateral32` ... `fuse8`, and in its metadata the `scale` of
the pixels. What only MoveNet's own heads need stays unused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from bodyposenet.model.network import Normalization
from bodyposenet.model.pretrained.weights import PretrainedWeights
from bodyposenet.specs.network import BackboneAttributes

_SCALE = 2 / 255
"""Of pixels before 1 is subtracted, where the metadata does not tell it."""

LEVEL32_SCALE = 16.0
"""The pyramid's features of stride 32 are divided by this: then they are as large as the others,
beside which they are read. A power of two: those behind them stay the same, bit by bit."""

# Name of a layer in the file -> ours.
_LAYERS = {
    r"stem\.conv": "block_stem_conv",
    r"blocks\.(\d+)\.depthwise\.conv": r"block_\1_dwconv",
    r"blocks\.(\d+)\.(expand|project)\.conv": r"block_\1_\2_conv",
    r"last\.conv": "block_last_conv",
    r"lateral(8|16|32)\.conv": r"fpn_lateral\1_conv",
    r"fuse(8|16)\.0\.conv": r"fpn_fuse\1_dwconv",
    r"fuse(8|16)\.1\.conv": r"fpn_fuse\1_conv",
}


def is_movenet(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the tensors of a file are MoveNet's, by their names."""
    return "stem.conv.weight" in tensors and "lateral32.conv.weight" in tensors


def convert(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> PretrainedWeights:
    """Convert MoveNet's tensors to those of our network.

    Args:
        tensors: Under the names of the file, float32.
        metadata: Of the file.

    Raises:
        ValueError: The metadata's scale is not a positive number.
    """
    scale = float(metadata.get("scale", _SCALE))
    if not 0 < scale < float("inf"):
        raise ValueError(f"scale must be a positive number, not {scale}")
    ours = {_our_name(name): tensor for name, tensor in tensors.items()}
    for name in ours:
        if name.startswith(("fpn_lateral32_conv.", "fpn_lateral16_conv.")):
            ours[name] = ours[name] / LEVEL32_SCALE
        elif name == "fpn_fuse16_conv.weight":  # behind their sum and a linear convolution
            ours[name] = ours[name] * LEVEL32_SCALE
    return PretrainedWeights(
        ours,
        backbone=BackboneAttributes(architecture="movenet", batch_norm=False),
        normalization=Normalization((1 / scale, 1 / scale, 1 / scale), (1.0, 1.0, 1.0)),
    )


def _our_name(name: str) -> str:
    """Our name of a tensor; that of the file for what our network does not have."""
    layer, _, part = name.rpartition(".")
    for theirs, ours in _LAYERS.items():
        found = re.fullmatch(theirs, layer)
        if found is not None:
            return f"{found.expand(ours)}.{part}"
    return name
