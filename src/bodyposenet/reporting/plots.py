"""The outcome of an evaluation -> two figures: precision over recall, and error by keypoint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from bodyposenet.evaluation.keypoint_ap import KeypointAP
from bodyposenet.reporting.training_history import TrainingHistory
from bodyposenet.skeleton import side_of

INK, GRID = "#33384a", "#e3e6ee"
DARK, MIDDLE, LIGHT = "#1f4e9c", "#3b8ed8", "#8cc4f2"
ORANGE, GREEN = "#f2884b", "#5fae6b"
_SIDES = {"left": MIDDLE, "right": ORANGE, "": GREEN}


def plot_precision_recall(outcome: KeypointAP) -> Figure:
    """Draw precision over recall at OKS .50 and .75 and averaged over .50 to .95."""
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.subplots()
    recall = np.linspace(0, 1, outcome.precision.shape[1])
    curves = (
        ("OKS 0.50", outcome.precision[0], outcome.values[1], LIGHT),
        ("OKS 0.75", outcome.precision[5], outcome.values[2], MIDDLE),
        ("OKS 0.50 to 0.95", outcome.precision.mean(axis=0), outcome.ap, DARK),
    )
    for name, precision, ap, color in curves:
        if ap < 0:
            continue
        axes.fill_between(recall, precision, color=color, alpha=0.08, linewidth=0)
        axes.plot(recall, precision, color=color, linewidth=2, label=f"{name}   AP {ap:.3f}")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    write_title(axes, "Precision and recall", _describe(outcome))
    clean(axes)
    if outcome.people:
        axes.legend(frameon=False, labelcolor=INK)
    else:
        axes.text(0.5, 0.5, "no ground truth", ha="center", color=INK, transform=axes.transAxes)
    return figure


def plot_keypoint_errors(outcome: KeypointAP) -> Figure:
    """Draw for each keypoint how far it lies off, and how often it is found at all."""
    errors = [error for error in outcome.joint_errors if error.joint not in outcome.not_evaluated]
    figure = Figure(figsize=(9.2, 1.6 + 0.27 * max(len(errors), 4)), layout="constrained")
    distance, share = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    places = np.arange(len(errors))
    colors = [_SIDES[side_of(error.joint)] for error in errors]
    distance.barh(places, [_or_zero(error.median) for error in errors], 0.7, color=colors)
    distance.plot([error.mean for error in errors], places, "|", color=INK, markersize=9)
    share.barh(places, [error.labelled > 0 for error in errors], 0.7, color=GRID)
    share.barh(places, [_or_zero(error.found) for error in errors], 0.7, color=colors)
    names = [error.joint.replace("_", " ") for error in errors]
    distance.set_yticks(places, names, parse_math=False)  # a name with $ is no formula
    most = max((_or_zero(max(error.mean, error.median)) for error in errors), default=0)
    distance.set(xlim=(0, 1.08 * most or 0.1), ylim=(max(len(errors), 1) - 0.4, -0.6))
    distance.set(xlabel="median distance, share of the person's size (line: mean)")
    share.set(xlabel="found, share of those labelled", xlim=(0, 1))
    matched = "over the people found (OKS at least 0.5)"
    write_title(distance, "Error by keypoint", f"{_describe(outcome)}; {matched}")
    for axes in (distance, share):
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=None))
        clean(axes)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
    return figure


def _describe(outcome: KeypointAP) -> str:
    return f"{outcome.images:,} images, {outcome.people:,} people, {outcome.poses:,} poses"


def write_title(axes: Axes, title: str, subtitle: str) -> None:
    """Write a heading and a finer line over a plot, at its left."""
    axes.set_title(title, loc="left", pad=24, color=INK, fontsize=13, fontweight="bold")
    axes.annotate(subtitle, (0, 1), (0, 9), "axes fraction", "offset points", color=INK, fontsize=9)


def clean(axes: Axes) -> None:
    """Leave a faint grid and two of the four sides of the frame; ink for what is to be read."""
    axes.set_axisbelow(True)
    axes.grid(color=GRID)
    axes.tick_params(color=GRID, labelcolor=INK, labelsize=9)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(GRID)


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value


Curve = Mapping[int, float]
"""Epoch -> value; below 0, infinite or NaN where nothing was measured."""

_COLORS = (MIDDLE, ORANGE, GREEN, LIGHT)
_FEW = 30
"""Up to so many points each is marked: a line of one point would not be seen."""
_LEAST_SHARE = 0.05
"""A share of waiting below this is none to look at closely."""
_WIDE = 20
"""Losses whose largest is so many times the smallest go on a logarithmic axis."""


def plot_training_curves(history: TrainingHistory) -> list[Figure]:
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
