"""The outcome of an evaluation -> two figures: precision over recall, and error by keypoint."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from bodyposenet.evaluation.keypoint_ap import KeypointAP
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
    errors = [error for error in outcome.joint_errors if error.joint not in outcome.left_out]
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
