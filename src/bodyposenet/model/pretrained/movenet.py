"""Weights of MoveNet MultiPose's backbone, with batch normalization folded.

The file (`.safetensors`) names MobileNetV2's convolutions `stem`, `blocks.0` to `blocks.16` and
`last`, and those of the feature pyramid `lateral32` to `fuse8`; its metadata contains the `scale`
of the pixels. Tensors of MoveNet's own heads are not used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from bodyposenet.model.network import Normalization
from bodyposenet.model.pretrained.weights import PretrainedWeights
from bodyposenet.specs.network import BackboneAttributes

_SCALE = 2 / 255
"""Default of the metadata's `scale`, by which pixels are multiplied before 1 is subtracted."""

LEVEL32_SCALE = 16.0
"""Divisor of the pyramid's features of stride 32, which makes them as large as the features that
they are concatenated with. It is a power of two, so later features stay equal, bit by bit."""

# Name of a layer in the file -> layer of the network.
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
    """Return whether tensors are those of MoveNet, by their names."""
    return "stem.conv.weight" in tensors and "lateral32.conv.weight" in tensors


def convert(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> PretrainedWeights:
    """Convert MoveNet's tensors to those of the architecture `movenet`.

    Args:
        tensors: float32 tensors by the names of the file.
        metadata: Metadata of the file.

    Raises:
        ValueError: The metadata's scale is not a positive number.
    """
    scale = float(metadata.get("scale", _SCALE))
    if not 0 < scale < float("inf"):
        raise ValueError(f"scale must be a positive number, not {scale}")
    converted = {_layer_name(name): tensor for name, tensor in tensors.items()}
    for name in converted:
        if name.startswith(("fpn_lateral32_conv.", "fpn_lateral16_conv.")):
            converted[name] = converted[name] / LEVEL32_SCALE
        elif name == "fpn_fuse16_conv.weight":  # follows their sum and a linear convolution
            converted[name] = converted[name] * LEVEL32_SCALE
    return PretrainedWeights(
        converted,
        backbone=BackboneAttributes(architecture="movenet", batch_norm=False),
        normalization=Normalization((1 / scale, 1 / scale, 1 / scale), (1.0, 1.0, 1.0)),
    )


def _layer_name(name: str) -> str:
    """Return the network's name of a tensor, or its own name if the network lacks the layer."""
    layer, _, part = name.rpartition(".")
    for pattern, replacement in _LAYERS.items():
        found = re.fullmatch(pattern, layer)
        if found is not None:
            return f"{found.expand(replacement)}.{part}"
    return name
