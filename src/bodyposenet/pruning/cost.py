"""What a network costs: parameters, and multiply-accumulates for an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bodyposenet.model.network import BodyPoseNetwork

SIZE = 256
"""Height and width of the image that the multiply-accumulates are counted for."""


@dataclass(frozen=True)
class Cost:
    """The cost of a network.

    Args:
        parameters: What training changes.
        macs: Multiply-accumulates of all convolutions for an image of SIZE x SIZE.
    """

    parameters: int
    macs: int


def cost_of(network: BodyPoseNetwork, widths: Mapping[str, int] | None = None) -> Cost:
    """Count, with nothing calculated.

    Args:
        network: The network.
        widths: Convolution's TAO name -> the output channels that it is to have instead.
    """
    macs = 0

    def count(layer: nn.Conv2d, _: object, output: Tensor) -> None:
        nonlocal macs
        macs += output.numel() * layer.weight[0].numel()

    with torch.device("meta"), torch.inference_mode():
        shadow = BodyPoseNetwork(
            network.skeleton, network.spec, network.normalization,
            network.widths() | dict(widths or {}),
        )  # fmt: skip
        for layer in shadow.layers().values():
            if isinstance(layer, nn.Conv2d):
                layer.register_forward_hook(count)
        shadow(torch.zeros(1, 3, SIZE, SIZE))
    return Cost(sum(part.numel() for part in shadow.parameters()), macs)
