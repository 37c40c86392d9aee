"""Weights of a file of any format, under our layer names."""

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
        tensors: `<layer>.<weight, bias, running_mean ...>` -> tensor.
        backbone: The only kind of network that they fit; None if names and shapes decide.
        normalization: The input that the first convolution is made for; None if it is unknown.
        skeleton: What the maps are of; None if it is unknown.
        spec: The network's architecture; None if the file holds weights only.
        out_channels: Convolution -> output channels, for a file whose `spec` is known.
        notes: What was changed while reading, for the log.
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
    """Make a first convolution give the same for differently normalized pixels.

    With u = x / scale - offset of `after`, the old input is (scale / scale_before) u + (scale
    offset / scale_before - offset_before): the factor goes into the weight, the constant into the
    bias. At the image's border, where zeros are padded, these now stand for the pixel scale x
    offset of `after`.

    Args:
        weight: (out, 3, k, k), input channels RGB.
        bias: (out,).
        before: What the convolution was made for.
        after: What it is to be made for.
    """
    scale, offset = torch.tensor(after.image_scale), torch.tensor(after.image_offset)
    scale_before = torch.tensor(before.image_scale)
    factor = scale / scale_before
    shift = scale * offset / scale_before - torch.tensor(before.image_offset)
    return weight * factor.view(1, 3, 1, 1), bias + torch.einsum("oikl,i->o", weight, shift)
