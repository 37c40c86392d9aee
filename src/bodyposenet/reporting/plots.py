"""Plots of the reports: evaluation results, curves of a training, and statistics of labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    LogLocator,
    MaxNLocator,
    NullFormatter,
    PercentFormatter,
    ScalarFormatter,
)
from numpy.typing import NDArray

from bodyposenet.data.label_statistics import LabelStatistics
from bodyposenet.evaluation.analysis import OKS_BINS, Analysis
from bodyposenet.evaluation.error_types import ErrorSummary, ErrorType
from bodyposenet.evaluation.keypoint_ap import KeypointAP
from bodyposenet.evaluation.pck import THRESHOLDS, PckScores
from bodyposenet.reporting.training_history import TrainingHistory
from bodyposenet.skeleton import side_of

Curve = Mapping[int, float]
"""Values by epoch; below 0, infinite or NaN where nothing was measured."""

TEXT_COLOR, GRID_COLOR = "#33384a", "#e3e6ee"
DARK_BLUE, BLUE, LIGHT_BLUE = "#1f4e9c", "#3b8ed8", "#8cc4f2"
ORANGE, GREEN = "#f2884b", "#5fae6b"
YELLOW, RED, PURPLE, GRAY = "#f0c04b", "#d8504d", "#9163c4", "#9aa1b3"

_SIDE_COLORS = {"left": BLUE, "right": ORANGE, "": GREEN}
_ERROR_COLORS = {
    ErrorType.GOOD: GREEN, ErrorType.JITTER: YELLOW, ErrorType.INVERSION: BLUE,
    ErrorType.SWAP: PURPLE, ErrorType.MISS: RED, ErrorType.UNDETECTED: GRAY,
}  # fmt: skip
_CURVE_COLORS = (BLUE, ORANGE, GREEN, LIGHT_BLUE)
_MAX_MARKERS = 30
"""Curves of up to this many points have markers, as a single point would be invisible."""
_MAX_PEOPLE_SHOWN = 20
_SIZE_BINS = 30
_LOG_SIZE_RATIO = 8
"""Ratio of the largest to the smallest size from which the axis is logarithmic."""
_MIN_PERCENT_RANGE = 0.05
"""Smallest upper limit of a percent axis, so that small shares look small."""
_LOG_SCALE_RATIO = 20
"""Ratio of the largest to the smallest loss from which the axis is logarithmic."""


def plot_precision_recall(accuracy: KeypointAP) -> Figure:
    """Plot precision over recall at OKS .50 and .75, and averaged over .50 to .95.

    Args:
        accuracy: Result of an evaluation.
    """
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.subplots()
    recall = np.linspace(0, 1, accuracy.precision.shape[1])
    curves = (
        ("OKS 0.50", accuracy.precision[0], accuracy.values[1], LIGHT_BLUE),
        ("OKS 0.75", accuracy.precision[5], accuracy.values[2], BLUE),
        ("OKS 0.50 to 0.95", accuracy.precision.mean(axis=0), accuracy.ap, DARK_BLUE),
    )
    for name, precision, ap, color in curves:
        if ap < 0:
            continue
        axes.fill_between(recall, precision, color=color, alpha=0.08, linewidth=0)
        axes.plot(recall, precision, color=color, linewidth=2, label=f"{name}   AP {ap:.3f}")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    _set_title(axes, "Precision and recall", _counts(accuracy))
    _style_axes(axes)
    if accuracy.people:
        axes.legend(frameon=False, labelcolor=TEXT_COLOR)
    else:
        axes.text(
            0.5, 0.5, "no ground truth", ha="center", color=TEXT_COLOR, transform=axes.transAxes
        )
    return figure


def plot_keypoint_errors(accuracy: KeypointAP) -> Figure:
    """Plot the distance error and the detection rate of each keypoint.

    Args:
        accuracy: Result of an evaluation.
    """
    errors = [error for error in accuracy.joint_errors if error.joint not in accuracy.not_evaluated]
    figure = Figure(figsize=(9.2, 1.6 + 0.27 * max(len(errors), 4)), layout="constrained")
    distance, rate = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    rows = np.arange(len(errors))
    colors = [_SIDE_COLORS[side_of(error.joint)] for error in errors]
    distance.barh(rows, [_nan_to_zero(error.median) for error in errors], 0.7, color=colors)
    distance.plot([error.mean for error in errors], rows, "|", color=TEXT_COLOR, markersize=9)
    rate.barh(rows, [error.labeled > 0 for error in errors], 0.7, color=GRID_COLOR)
    rate.barh(rows, [_nan_to_zero(error.detected) for error in errors], 0.7, color=colors)
    names = [error.joint.replace("_", " ") for error in errors]
    distance.set_yticks(rows, names, parse_math=False)  # Names may contain $.
    limit = max((_nan_to_zero(max(error.mean, error.median)) for error in errors), default=0)
    distance.set(xlim=(0, 1.08 * limit or 0.1), ylim=(max(len(errors), 1) - 0.4, -0.6))
    distance.set(xlabel="median distance, share of the person's size (line: mean)")
    rate.set(xlabel="detected, share of those labeled", xlim=(0, 1))
    subtitle = f"{_counts(accuracy)}; over matched people (OKS at least 0.5)"
    _set_title(distance, "Error by keypoint", subtitle)
    for axes in (distance, rate):
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=None))
        _style_axes(axes)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
    return figure


def plot_error_types(errors: ErrorSummary) -> Figure:
    """Plot the shares of the types of joints, for each joint with labels.

    Args:
        errors: Errors of an evaluation.
    """
    totals = errors.counts.sum(axis=1)
    rows = [row for row, total in enumerate(totals) if total]
    figure = Figure(figsize=(9.2, 2.1 + 0.27 * max(len(rows), 4)), layout="constrained")
    axes = figure.subplots()
    shares = errors.counts[rows] / totals[rows, None]
    starts = np.cumsum(shares, axis=1) - shares
    places = np.arange(len(rows))
    for kind, color in _ERROR_COLORS.items():
        axes.barh(places, shares[:, kind], 0.7, left=starts[:, kind], color=color, label=kind.label)
    names = [errors.joints[row].replace("_", " ") for row in rows]
    axes.set_yticks(places, names, parse_math=False)  # Names may contain $.
    axes.set(xlim=(0, 1), ylim=(max(len(rows), 1) - 0.4, -0.6))
    axes.set(xlabel="share of the labeled joints of matched poses")
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    _set_title(axes, "Error types by keypoint", f"{totals.sum():,} joints")
    _style_axes(axes)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside lower center", ncols=len(ErrorType),
        frameon=False, labelcolor=TEXT_COLOR,
    )  # fmt: skip
    return figure


def plot_oks_histogram(analysis: Analysis) -> Figure:
    """Plot a histogram of the OKS of all people, and the number of those without a pose.

    Args:
        analysis: Analysis of an evaluation.
    """
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    counts, without_pose = analysis.oks_histogram()
    width = 1 / OKS_BINS
    axes.bar(np.arange(OKS_BINS) * width, counts, 0.9 * width, align="edge", color=BLUE)
    axes.bar(-0.12, without_pose, 0.1, color=RED)
    axes.set_xticks([-0.12, 0, 0.25, 0.5, 0.75, 1], ["no pose", "0", "0.25", "0.5", "0.75", "1"])
    axes.set(xlim=(-0.19, 1), xlabel="OKS of the person and the matched pose", ylabel="people")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    _set_title(axes, "Similarity of poses and people", f"{len(analysis.person_oks):,} people")
    _style_axes(axes)
    axes.grid(visible=False, axis="x")
    return figure


def plot_pck(scores: PckScores) -> Figure:
    """Plot the PCK over the distance that counts as correct.

    Args:
        scores: Scores of the protocol `pck`.
    """
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    limit = THRESHOLDS[scores.reference][-1]
    distances = np.linspace(0, limit, 51)
    axes.plot(distances, [max(scores.pck(one), 0) for one in distances], color=BLUE, linewidth=2)
    axes.set(xlim=(0, limit), ylim=(0, 1), ylabel="correct keypoints")
    axes.set(xlabel=f"distance, share of the reference length ({scores.reference})")
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    _set_title(axes, "Percentage of correct keypoints", f"{len(scores.distances):,} keypoints")
    _style_axes(axes)
    return figure


def plot_training_curves(history: TrainingHistory) -> list[Figure]:
    """Plot losses, AP, learning rate, images per second and data wait, where measured.

    Args:
        history: History of the training.
    """
    losses = {
        "training": history.epoch_values("loss"),
        "validation": history.validation_values("validation_loss"),
    }
    accuracy = {name: history.validation_values(f"AP_{name}") for name in history.datasets()}
    rate = history.epoch_values("learning_rate")
    speed, wait = history.epoch_values("images_per_s"), history.epoch_values("data_wait_share")
    figures = (
        _plot_curves("Loss", "per sample, all stages", losses, logarithmic=True),
        _plot_curves("Accuracy", "AP of the test images, OKS 0.50 to 0.95", accuracy),
        _plot_curves("Learning rate", "at the end of each epoch", {"": rate}),
        _plot_curves("Speed", "images per second, mean of each epoch", {"": speed}),
        _plot_curves("Waiting for data", "share of each epoch's time", {"": wait}, percent=True),
    )
    return [figure for figure in figures if figure is not None]


def plot_label_statistics(statistics: LabelStatistics) -> list[Figure]:
    """Plot people per image, their sizes, labeled joints, limb lengths and image sizes.

    Args:
        statistics: Statistics of a dataset.

    Returns:
        The plots for which there is data.
    """
    figures = []
    if statistics.images:
        per_image = statistics.people_per_image
        figures.append(
            _plot_counts("People per image", "without crowds", per_image, _MAX_PEOPLE_SHOWN)
        )
    if statistics.labeled_people:
        figures += [
            _plot_counts(
                "Labeled joints per person", "of people with labeled joints",
                statistics.joints_per_person, len(statistics.skeleton.joints),
            ),
            _plot_sizes(
                "Size of people", "longer side of the box in pixels", statistics.person_sizes
            ),
            _plot_shares(
                "Size of people in the image", "longer side of the box / of the image",
                statistics.relative_sizes,
            ),
            _plot_joint_counts(statistics),
        ]  # fmt: skip
    if not np.isnan(statistics.median_limb_lengths).all():
        figures.append(_plot_limb_lengths(statistics))
    if statistics.images:
        figures.append(
            _plot_sizes("Image size", "longer side in pixels", statistics.image_sizes.max(axis=1))
        )
    return figures


def _plot_counts(title: str, subtitle: str, counts: NDArray[np.int64], largest: int) -> Figure:
    """Plot how often each number occurs; numbers above the largest one are counted with it."""
    figure, axes = _small_plot()
    values = np.bincount(np.minimum(counts, largest), minlength=2)
    axes.bar(np.arange(len(values)), values, 0.8, color=BLUE)
    if counts.max(initial=0) > largest:
        axes.set_xticks([0, largest // 2, largest], ["0", str(largest // 2), f"{largest}+"])
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _finish_histogram(figure, axes, title, subtitle)


def _plot_sizes(title: str, subtitle: str, sizes: NDArray[np.floating | np.integer]) -> Figure:
    """Plot a histogram of sizes in pixels, with a logarithmic axis if they differ much."""
    figure, axes = _small_plot()
    low, high = max(float(sizes.min()), 1.0), max(float(sizes.max()), 1.0)
    if high < _LOG_SIZE_RATIO * low:
        axes.hist(sizes, np.linspace(0, 1.05 * high, _SIZE_BINS).tolist(), color=BLUE)
    else:
        axes.hist(sizes, np.geomspace(0.95 * low, 1.05 * high, _SIZE_BINS).tolist(), color=BLUE)
        axes.set_xscale("log")
        axes.xaxis.set(
            major_locator=LogLocator(subs=(1, 2, 5)), major_formatter=ScalarFormatter(),
            minor_formatter=NullFormatter(),
        )  # fmt: skip
    return _finish_histogram(figure, axes, title, subtitle)


def _plot_shares(title: str, subtitle: str, shares: NDArray[np.float64]) -> Figure:
    """Plot a histogram of shares; those above 1 are counted as 1."""
    figure, axes = _small_plot()
    axes.hist(np.minimum(shares, 1), np.linspace(0, 1, 21).tolist(), color=BLUE)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return _finish_histogram(figure, axes, title, subtitle)


def _small_plot() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.3, 3.2), layout="constrained")
    return figure, figure.subplots()


def _finish_histogram(figure: Figure, axes: Axes, title: str, subtitle: str) -> Figure:
    """Set title and style of a histogram."""
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    _set_title(axes, title, subtitle)
    _style_axes(axes)
    axes.grid(visible=False, axis="x")
    return figure


def _plot_joint_counts(statistics: LabelStatistics) -> Figure:
    """Plot the share of the labeled people in whom each joint is labeled."""
    joints = statistics.skeleton.joints
    shares = statistics.joint_counts / max(statistics.labeled_people, 1)
    figure, axes = _bar_plot(joints)
    axes.barh(np.arange(len(joints)), shares, 0.7, color=[_SIDE_COLORS[side_of(j)] for j in joints])
    axes.set(xlim=(0, 1))
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    subtitle = f"share of {statistics.labeled_people:,} labeled people; left blue, right orange"
    _set_title(axes, "Labeled joints", subtitle)
    return figure


def _plot_limb_lengths(statistics: LabelStatistics) -> Figure:
    """Plot median, quartiles, and 1st to 99th percentile of the length of each limb."""
    skeleton, lengths = statistics.skeleton, statistics.limb_lengths
    limbs = [k for k in range(len(skeleton.limbs)) if not np.isnan(lengths[:, k]).all()]
    ends = [[skeleton.joints[joint] for joint in skeleton.limbs[k]] for k in limbs]
    figure, axes = _bar_plot([" to ".join(names) for names in ends])
    for row, (limb, names) in enumerate(zip(limbs, ends, strict=True)):
        low, first, median, third, high = np.nanpercentile(lengths[:, limb], (1, 25, 50, 75, 99))
        sides = {side_of(name) for name in names} - {""}
        color = _SIDE_COLORS[sides.pop() if len(sides) == 1 else ""]
        axes.plot([low, high], [row, row], color=color, linewidth=1.5)
        axes.barh(row, third - first, 0.6, left=first, color=color)
        axes.plot(median, row, "|", color=TEXT_COLOR, markersize=9)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    _set_title(axes, "Limb lengths", "share of the person's size")
    return figure


def _bar_plot(names: Sequence[str]) -> tuple[Figure, Axes]:
    """Create a plot with a row for each name."""
    figure = Figure(figsize=(5.3, 1.4 + 0.25 * max(len(names), 3)), layout="constrained")
    axes = figure.subplots()
    labels = [name.replace("_", " ") for name in names]
    axes.set_yticks(np.arange(len(names)), labels, parse_math=False)  # Names may contain $.
    axes.set_ylim(len(names) - 0.4, -0.6)
    _style_axes(axes)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    return figure, axes


def _plot_curves(
    title: str, subtitle: str, curves: Mapping[str, Curve], *,
    logarithmic: bool = False, percent: bool = False,
) -> Figure | None:  # fmt: skip
    """Plot curves, with a legend if they have names; return None if all values are missing."""
    measured = {name: values for name, curve in curves.items() if (values := _measured(curve))}
    values = [value for curve in measured.values() for value in curve.values()]
    if not values:
        return None
    figure = Figure(figsize=(5.4, 3.5), layout="constrained")
    axes = figure.subplots()
    for (name, curve), color in zip(measured.items(), cycle(_CURVE_COLORS), strict=False):
        style = "-o" if len(curve) <= _MAX_MARKERS else "-"
        axes.plot(
            list(curve), list(curve.values()), style,
            linewidth=2, markersize=4, color=color,
            label=name.replace("$", r"\$"),  # Names are not formulas.
        )  # fmt: skip
    axes.yaxis.set_major_formatter("{x:g}")
    if logarithmic and 0 < _LOG_SCALE_RATIO * min(values) < max(values):
        axes.set_yscale("log")
        axes.yaxis.set(
            major_locator=LogLocator(subs=(1, 2, 5)), major_formatter="{x:g}",
            minor_formatter=NullFormatter(),
        )  # fmt: skip
    else:
        axes.set_ylim(bottom=0)
    if percent:
        axes.set_ylim(0, 1.08 * max(*values, _MIN_PERCENT_RANGE))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set(xlabel="epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    _set_title(axes, title, subtitle)
    _style_axes(axes)
    if any(measured):
        axes.legend(frameon=False, labelcolor=TEXT_COLOR)
    return figure


def _set_title(axes: Axes, title: str, subtitle: str) -> None:
    """Set a bold title with a smaller subtitle, left-aligned."""
    axes.set_title(title, loc="left", pad=24, color=TEXT_COLOR, fontsize=13, fontweight="bold")
    axes.annotate(
        subtitle, (0, 1), (0, 9), "axes fraction", "offset points", color=TEXT_COLOR, fontsize=9
    )


def _style_axes(axes: Axes) -> None:
    """Draw a faint grid, and only the left and bottom spines."""
    axes.set_axisbelow(True)
    axes.grid(color=GRID_COLOR)
    axes.tick_params(color=GRID_COLOR, labelcolor=TEXT_COLOR, labelsize=9)
    axes.xaxis.label.set_color(TEXT_COLOR)
    axes.yaxis.label.set_color(TEXT_COLOR)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(GRID_COLOR)


def _counts(accuracy: KeypointAP) -> str:
    """Return a subtitle with the numbers of images, people and poses."""
    return f"{accuracy.images:,} images, {accuracy.people:,} people, {accuracy.poses:,} poses"


def _measured(curve: Curve) -> Curve:
    """Return the values that were measured."""
    return {epoch: value for epoch, value in curve.items() if 0 <= value < math.inf}


def _nan_to_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value
