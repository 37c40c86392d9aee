"""ImageNet weights of VGG19 (Simonyan and Zisserman 2015) for vgg with mtype `pooling`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from bodyposenet.model.network import Normalization
from bodyposenet.model.pretrained.weights import PretrainedWeights
from bodyposenet.specs.network import BackboneAttributes

FEATURE_SCALE = 256.0
"""Divisor of VGG19's features, which brings them close to 1."""

_FIRST = "conv1_1"

# Convolution of VGG19 -> layer of the pooling backbone.
_LAYERS = {
    _FIRST: "block_1a_conv_1", "conv1_2": "block_1b_conv_1",
    "conv2_1": "block_2a_conv_1", "conv2_2": "block_2b_conv_1",
    "conv3_1": "block_3a_conv_1", "conv3_2": "block_3b_conv_1",
    "conv3_3": "block_3c_conv_1", "conv3_4": "block_3d_conv_1",
    "conv4_1": "block_4a_conv_1", "conv4_2": "block_4b_conv_1",
}  # fmt: skip

_MEAN_RGB = (123.68, 116.779, 103.939)


def is_vgg19(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether tensors are those of VGG19, by their names."""
    return any(_paper_name(name).startswith(f"{_FIRST}.") for name in tensors)


def convert(tensors: Mapping[str, Tensor]) -> PretrainedWeights:
    """Convert VGG19's tensors to those of the pooling backbone.

    Args:
        tensors: `conv1_1.weight` (out, in, 3, 3), `conv1_1.bias` (out,) and so on, of any float
            type, for BGR pixels minus the ImageNet mean. Keras' names (`block1_conv1.weight`) are
            accepted. Tensors of other layers keep their names.
    """
    renamed = {}
    for name, tensor in tensors.items():
        layer, _, part = _paper_name(name).rpartition(".")
        renamed[f"{_LAYERS.get(layer, layer)}.{part}"] = tensor.float()
    weight = f"{_LAYERS[_FIRST]}.weight"
    if weight in renamed:
        # ReLU and max pooling commute with positive factors: dividing the first weights and all
        # biases divides the features. VGG's are in the hundreds, where new layers would diverge.
        renamed[weight] = renamed[weight].flip(1) / FEATURE_SCALE
        for name in renamed:
            if name.endswith(".bias"):
                renamed[name] = renamed[name] / FEATURE_SCALE
    return PretrainedWeights(
        renamed,
        backbone=BackboneAttributes(architecture="vgg", mtype="pooling", use_bias=True),
        normalization=Normalization((1.0, 1.0, 1.0), _MEAN_RGB),
    )


def _paper_name(name: str) -> str:
    """Return the name of a tensor with the layer names of the paper."""
    return re.sub(r"^block(\d)_conv(\d)", r"conv\1_\2", name)
