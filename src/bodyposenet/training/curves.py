"""The history of a training in, its curves over the epochs out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import cycle

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from bodyposenet.evaluation.plots import GREEN, INK, LIGHT, MIDDLE, ORANGE, clean, write_title
from bodyposenet.training.history import History

Curve = Mapping[int, float]
"""Epoch -> value; below 0, infinite or NaN where nothing was measured."""

_COLORS = (MIDDLE, ORANGE, GREEN, LIGHT)
_FEW = 30
"""Up to so many points each is marked: a line of one point would not be seen."""
_LEAST_SHARE = 0.05
"""A share of waiting below this is none to look at closely."""
_WIDE = 20
"""Losses whose largest is so many times the smallest go on a logarithmic axis."""


def draw_curves(history: History) -> list[Figure]:
    """Draw what is known: losses, AP, learning rate, images per second, waiting for data."""
    losses = {
        "training": history.reported("loss"),
        "validation": history.validated("validation_loss"),
    }
    accuracy = {name: history.validated(f"AP_{name}") for name in history.datasets()}
    speed, waiting = history.reported("images_per_s"), history.reported("data_wait_share")
    figures = (
        _draw("Loss", "per sample, all stages", losses, logarithmic=True),
        _draw("Accuracy", "AP of the test images, OKS 0.50 to 0.95", accuracy),
        _draw("Learning rate", "at the end of each epoch", {"": history.reported("learning_rate")}),
        _draw("Speed", "images per second, mean of each epoch", {"": speed}),
        _draw("Waiting for data", "share of each epoch's time", {"": waiting}, percent=True),
    )
    return [figure for figure in figures if figure is not None]


def _draw(
    title: str, subtitle: str, curves: Mapping[str, Curve], *,
    logarithmic: bool = False, percent: bool = False,
) -> Figure | None:  # fmt: skip
    """One plot, with a legend where its curves have names; None where nothing was measured."""
    known = {name: found for name, curve in curves.items() if (found := _measured(curve))}
    values = [value for curve in known.values() for value in curve.values()]
    if not values:
        return None
    figure = Figure(figsize=(5.4, 3.5), layout="constrained")
    axes = figure.subplots()
    for (name, curve), color in zip(known.items(), cycle(_COLORS), strict=False):
        style = "-o" if len(curve) <= _FEW else "-"
        axes.plot(
            list(curve), list(curve.values()), style,
            linewidth=2, markersize=4, color=color,
            label=name.replace("$", r"\$"),  # a name is no formula
        )  # fmt: skip
    axes.yaxis.set_major_formatter("{x:g}")
    if logarithmic and 0 < _WIDE * min(values) < max(values):
        axes.set_yscale("log")
        axes.yaxis.set(
            major_locator=LogLocator(subs=(1, 2, 5)), major_formatter="{x:g}",
            minor_formatter=NullFormatter(),
        )  # fmt: skip
    else:
        axes.set_ylim(bottom=0)
    if percent:
        axes.set_ylim(0, 1.08 * max(*values, _LEAST_SHARE))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set(xlabel="epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    write_title(axes, title, subtitle)
    clean(axes)
    if any(known):
        axes.legend(frameon=False, labelcolor=INK)
    return figure


def _measured(curve: Curve) -> Curve:
    return {epoch: value for epoch, value in curve.items() if 0 <= value < math.inf}
