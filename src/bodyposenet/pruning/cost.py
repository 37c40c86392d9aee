"""What a network costs: parameters, and multiply-accumulates for an image."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.pruning.rule import Ranking

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


def find_threshold(network: BodyPoseNetwork, ranking: Ranking, share: float) -> float:
    """The threshold of the largest network with at most this share of the multiply-accumulates.

    The larger the threshold, the fewer filters any layer keeps: a bisection over the norms finds
    the network. All thresholds from its norm up to the next give it; of these it is the shortest.

    Args:
        network: The network before pruning.
        ranking: Its filters.
        share: Of its multiply-accumulates, between 0 and 1.

    Raises:
        BodyPoseNetError: Every threshold leaves more.
    """
    whole = cost_of(network).macs
    # At the largest norm no filter would stand out any more (see `check_threshold`).
    norms = ranking.norms()
    thresholds = [0.0, *norms[:-1]]

    def spared(threshold: float) -> float:
        return 1 - cost_of(network, ranking.widths(threshold)).macs / whole

    place = bisect_left(thresholds, 1 - share, key=spared)
    if place == len(thresholds):
        raise BodyPoseNetError(
            f"--target_macs {share:g}: the least that is possible is "
            f"{1 - spared(thresholds[-1]):.3g} of the multiply-accumulates",
            "Ask for more, lower --min_num_filters and --pruning_granularity, or exclude fewer "
            "layers.",
        )
    return _shortest(float(thresholds[place]), float(norms[place]))


def _shortest(least: float, limit: float) -> float:
    """The number from `least` to below `limit` with the fewest decimals."""
    rounded = (math.ceil(least * 10**digits) / 10**digits for digits in range(1, 16))
    return next((number for number in rounded if least <= number < limit), least)


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
    widths, narrowed = before.widths(), after.widths()
    notes = dict(ranking.whole)
    if norms:
        notes |= {
            name: "norms {:.3g} {:.3g} {:.3g}".format(*np.quantile(group.norms, (0, 0.5, 1)))
            for group in ranking.groups
            for name in group.convolutions
        }
    whole, pruned = cost_of(before), cost_of(after)
    rows = [(name, str(widths[name]), str(narrowed[name]), notes.get(name, "")) for name in widths]
    for name, large, small, unit in (
        ("million parameters", whole.parameters, pruned.parameters, 1e6),
        (f"GMAC at {SIZE} x {SIZE}", whole.macs, pruned.macs, 1e9),
    ):
        rows.append((name, f"{large / unit:.2f}", f"{small / unit:.2f}", f"{small / large:.1%}"))
    width = max(len(name) for name, *_ in rows)
    lines = [f"{'layer':<{width}}  {'before':>7}  {'after':>7}"]
    lines += [f"{name:<{width}}  {a:>7}  {b:>7}  {note}".rstrip() for name, a, b, note in rows]
    return lines
