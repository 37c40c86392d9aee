"""ImageNet's VGG19 in, the same features of our pooling backbone out.

The weights of Simonyan and Zisserman are made for BGR pixels minus a mean; ours for RGB pixels as
the network normalizes them, and their features are smaller by a factor.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.model.network import BodyPoseNetwork, Normalization

VGG19_FEATURE_SCALE = 256.0
"""The features of VGG19's front are divided by this: then they are around 1."""

_FIRST = "conv1_1"

# The convolutions of VGG19's front and the layers of the pooling backbone that they are.
_LAYERS = {
    _FIRST: "block_1a_conv_1", "conv1_2": "block_1b_conv_1",
    "conv2_1": "block_2a_conv_1", "conv2_2": "block_2b_conv_1",
    "conv3_1": "block_3a_conv_1", "conv3_2": "block_3b_conv_1",
    "conv3_3": "block_3c_conv_1", "conv3_4": "block_3d_conv_1",
    "conv4_1": "block_4a_conv_1", "conv4_2": "block_4b_conv_1",
}  # fmt: skip

_MEAN_BGR = (103.939, 116.779, 123.68)


def is_vgg19(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the tensors of a file are VGG19's, by their names."""
    return any(_standard(name).startswith(f"{_FIRST}.") for name in tensors)


def vgg19_front(
    tensors: Mapping[str, Tensor], network: BodyPoseNetwork, path: Path
) -> dict[str, Tensor]:
    """VGG19's tensors as those of the network, by its names.

    Args:
        tensors: `conv1_1.weight` (out, in, 3, 3), `conv1_1.bias` (out,) ... of any float type;
            Keras' names, `block1_conv1.weight`, will do. Layers that ours do not have stay as
            they are.
        network: Whose names and normalization they are for.
        path: Where they come from, for errors.

    Raises:
        BodyPoseNetError: The network is of another layout.
    """
    attributes = network.spec.backbone_attributes
    if attributes.architecture != "vgg" or attributes.mtype != "pooling":
        raise BodyPoseNetError(
            f"{path}: the weights of VGG19 fit only its own layout",
            "Set architecture: vgg and mtype: pooling in model.backbone_attributes.",
        )
    renamed = {}
    for name, tensor in tensors.items():
        layer, _, part = _standard(name).rpartition(".")
        renamed[f"{_LAYERS.get(layer, layer)}.{part}"] = tensor.float()
    weight, bias = (f"{_LAYERS[_FIRST]}.{part}" for part in ("weight", "bias"))
    if weight in renamed and bias in renamed:
        renamed[weight], renamed[bias] = _fold_input(
            renamed[weight], renamed[bias], network.normalization
        )
        # ReLU and max pooling pass factors on: smaller first weights and biases give the same
        # features, only smaller. VGG's are in the hundreds, where fresh layers would diverge.
        renamed[weight] /= VGG19_FEATURE_SCALE
        for name in renamed:
            if name.endswith(".bias"):
                renamed[name] /= VGG19_FEATURE_SCALE
    return renamed


def _standard(name: str) -> str:
    """The name of a tensor as the paper's layers are called."""
    return re.sub(r"^block(\d)_conv(\d)", r"conv\1_\2", name)


def _fold_input(
    weight: Tensor, bias: Tensor, normalization: Normalization
) -> tuple[Tensor, Tensor]:
    """Make a first convolution on BGR pixels minus VGG's mean take normalized RGB.

    With u = x / scale - offset the old input x - mean is scale u + (scale offset - mean): the
    scale goes into the weight, the constant into the bias. At the image's border, where zeros are
    padded, they now stand for the pixel scale x offset (gray) instead of the mean.

    Args:
        weight: (out, 3, k, k), input channels BGR.
        bias: (out,).
        normalization: How the network's input is made.

    Returns:
        The new weight, input channels RGB, and the new bias.
    """
    weight = weight.flip(1)
    scale = torch.tensor(normalization.image_scale)
    offset = torch.tensor(normalization.image_offset)
    shift = scale * offset - torch.tensor(_MEAN_BGR).flip(0)
    return weight * scale.view(1, 3, 1, 1), bias + torch.einsum("oikl,i->o", weight, shift)
