"""What a network costs: parameters, and multiply-accumulates for an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.pruning.threshold_rule import Ranking

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


def compute_cost(network: BodyPoseNetwork, out_channels: Mapping[str, int] | None = None) -> Cost:
    """Count, with nothing calculated.

    Args:
        network: The network.
        out_channels: Convolution's TAO name -> the output channels that it is to have instead.
    """
    macs = 0

    def count(layer: nn.Conv2d, _: object, output: Tensor) -> None:
        nonlocal macs
        macs += output.numel() * layer.weight[0].numel()

    with torch.device("meta"), torch.inference_mode():
        shadow = BodyPoseNetwork(
            network.skeleton, network.spec, network.normalization,
            network.out_channels() | dict(out_channels or {}),
        )  # fmt: skip
        for layer in shadow.layers().values():
            if isinstance(layer, nn.Conv2d):
                layer.register_forward_hook(count)
        shadow(torch.zeros(1, 3, SIZE, SIZE))
    return Cost(sum(part.numel() for part in shadow.parameters()), macs)


def table(
    before: BodyPoseNetwork, after: BodyPoseNetwork, ranking: Ranking, *, norms: bool = False
) -> list[str]:
    """A line for each convolution, and two for what all of them cost.

    Args:
        before: The network.
        after: The same, pruned.
        ranking: Tells why a layer stays whole.
        norms: Also tell the least, the median and the largest norm of each layer's filters; layers
            that keep the same filters have them in common.
    """
    out_channels, narrowed = before.out_channels(), after.out_channels()
    notes = dict(ranking.whole)
    if norms:
        notes |= {
            name: "norms {:.3g} {:.3g} {:.3g}".format(*np.quantile(group.norms, (0, 0.5, 1)))
            for group in ranking.groups
            for name in group.convolutions
        }
    whole, pruned = compute_cost(before), compute_cost(after)
    rows = [
        (name, str(out_channels[name]), str(narrowed[name]), notes.get(name, ""))
        for name in out_channels
    ]
    for name, large, small, unit in (
        ("million parameters", whole.parameters, pruned.parameters, 1e6),
        (f"GMAC at {SIZE} x {SIZE}", whole.macs, pruned.macs, 1e9),
    ):
        rows.append((name, f"{large / unit:.2f}", f"{small / unit:.2f}", f"{small / large:.1%}"))
    width = max(len(name) for name, *_ in rows)
    lines = [f"{'layer':<{width}}  {'before':>7}  {'after':>7}"]
    lines += [f"{name:<{width}}  {a:>7}  {b:>7}  {note}".rstrip() for name, a, b, note in rows]
    return lines
