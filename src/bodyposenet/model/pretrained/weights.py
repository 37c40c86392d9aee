"""Pretrained weights of a file of any format, by the layer names of `BodyPoseNetwork`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bodyposenet.model.network import Normalization
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.network import BackboneAttributes, ModelConfig


@dataclass(frozen=True)
class PretrainedWeights:
    """Weights to start a training from.

    Args:
        tensors: Tensors by the names of `checkpoint.named_tensors`.
        backbone: The backbone that they require, or None if only names and shapes must match.
        normalization: Normalization that the first convolution was trained with, or None if it is
            unknown.
        skeleton: Skeleton of the maps, or None if it is unknown.
        spec: Architecture of the network, or None if the file holds weights only.
        out_channels: Output channels of convolutions by layer name, if `spec` is known.
        notes: Changes made while reading, for the log.
    """

    tensors: Mapping[str, Tensor]
    backbone: BackboneAttributes | None = None
    normalization: Normalization | None = None
    skeleton: Skeleton | None = None
    spec: ModelConfig | None = None
    out_channels: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def change_normalization(
    weight: Tensor, bias: Tensor, before: Normalization, after: Normalization
) -> tuple[Tensor, Tensor]:
    """Adapt a first convolution to another normalization of the pixels, with the same output.

    With u = x / scale - offset of `after`, the old input is (scale / scale_before) u + (scale
    offset / scale_before - offset_before). The factor is folded into the weight and the constant
    into the bias. Only at the border does the output change: the zeros padded there now stand for
    pixels of the value scale x offset of `after`.

    Args:
        weight: (out, 3, k, k), input channels RGB.
        bias: (out,).
        before: Normalization that the convolution was trained with.
        after: Normalization of the network's input.

    Returns:
        The new weight and bias.
    """
    scale, offset = torch.tensor(after.image_scale), torch.tensor(after.image_offset)
    scale_before = torch.tensor(before.image_scale)
    factor = scale / scale_before
    shift = scale * offset / scale_before - torch.tensor(before.image_offset)
    return weight * factor.view(1, 3, 1, 1), bias + torch.einsum("oikl,i->o", weight, shift)
