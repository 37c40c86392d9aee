"""Cost of a network: its parameters, and its multiply-accumulates (MACs) for one image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.pruning.threshold_rule import Ranking

SIZE = 256
"""Height and width in pixels of the image that MACs are counted for."""


@dataclass(frozen=True)
class Cost:
    """Cost of a network.

    Args:
        parameters: Number of trainable parameters.
        macs: Multiply-accumulates of all convolutions for an image of SIZE x SIZE pixels.
    """

    parameters: int
    macs: int


def compute_cost(network: BodyPoseNetwork, out_channels: Mapping[str, int] | None = None) -> Cost:
    """Compute the cost of a network from shapes only, on PyTorch's meta device.

    Args:
        network: The network.
        out_channels: Output channels of convolutions by layer name, for the cost of a pruned
            version of the network; convolutions that are not listed keep theirs.
    """
    macs = 0

    def count(layer: nn.Conv2d, _: object, output: Tensor) -> None:
        """Add the MACs of a convolution."""
        nonlocal macs
        macs += output.numel() * layer.weight[0].numel()

    with torch.device("meta"), torch.inference_mode():
        meta_network = BodyPoseNetwork(
            network.skeleton, network.spec, network.normalization,
            network.out_channels() | dict(out_channels or {}),
        )  # fmt: skip
        for layer in meta_network.layers().values():
            if isinstance(layer, nn.Conv2d):
                layer.register_forward_hook(count)
        meta_network(torch.zeros(1, 3, SIZE, SIZE))
    return Cost(sum(parameter.numel() for parameter in meta_network.parameters()), macs)


def comparison_table(
    before: BodyPoseNetwork, after: BodyPoseNetwork, ranking: Ranking, *, norms: bool = False
) -> list[str]:
    """Format a table of the network before and after pruning.

    Args:
        before: The network.
        after: The pruned network.
        ranking: The ranking of its filters, with the reasons why layers are not pruned.
        norms: Whether to add the smallest, the median and the largest norm of each layer's filters;
            all layers of a dependency group have the same norms.

    Returns:
        A header, one line per convolution with its number of filters, and a line each for the
        parameters and the MACs.
    """
    filters_before, filters_after = before.out_channels(), after.out_channels()
    notes = dict(ranking.unpruned)
    if norms:
        notes |= {
            name: "norms {:.3g} {:.3g} {:.3g}".format(*np.quantile(group.norms, (0, 0.5, 1)))
            for group in ranking.groups
            for name in group.convolutions
        }
    rows = [
        (name, str(filters_before[name]), str(filters_after[name]), notes.get(name, ""))
        for name in filters_before
    ]
    cost_before, cost_after = compute_cost(before), compute_cost(after)
    for name, large, small, unit in (
        ("million parameters", cost_before.parameters, cost_after.parameters, 1e6),
        (f"GMAC at {SIZE} x {SIZE}", cost_before.macs, cost_after.macs, 1e9),
    ):
        rows.append((name, f"{large / unit:.2f}", f"{small / unit:.2f}", f"{small / large:.1%}"))
    width = max(len(name) for name, *_ in rows)
    lines = [f"{'layer':<{width}}  {'before':>7}  {'after':>7}"]
    lines += [f"{name:<{width}}  {a:>7}  {b:>7}  {note}".rstrip() for name, a, b, note in rows]
    return lines
