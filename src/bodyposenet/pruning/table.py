"""A network before and after pruning in, a table for people out."""

from __future__ import annotations

import numpy as np

from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.pruning.cost import SIZE, cost_of
from bodyposenet.pruning.ranking import Ranking


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
