"""Sub-pixel peaks of heatmaps (`mode: accurate`)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bodyposenet.decoding.common import MAX_PEAKS, insert_peak
from bodyposenet.decoding.jit import jit, kernel

_MIN_VALUE = 1e-3
"""Training targets are 0 below this value, so lower values contain no information on distance."""


def find_peaks(
    heatmaps: NDArray[np.float32], threshold: float, sigma: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Find the peaks of every joint's heatmap.

    A cell is a peak if it is the maximum of its 3 x 3 neighborhood (the first of equals) and
    exceeds the threshold. The joint lies up to half a cell away from its center (`peak_offset`);
    the height of the peak is extrapolated to there with the Gaussian of a training target.

    Args:
        heatmaps: (K, h, w), without the background channel.
        threshold: Minimum value of a peak's cell (exclusive).
        sigma: Standard deviation of a joint's Gaussian, in cells.

    Returns:
        Points (P, 2): x and y in cells. Scores (P,): heights of the peaks, at most 1. And first
        (K + 1,): the peaks of joint k are first[k] to first[k + 1] - 1, sorted by row, then column;
        at most the 128 highest.
    """
    joints = len(heatmaps)
    points = np.empty((joints * MAX_PEAKS, 2))
    scores = np.empty(joints * MAX_PEAKS)
    first = np.zeros(joints + 1, np.int64)
    indices, heights = np.empty(MAX_PEAKS, np.int64), np.empty(MAX_PEAKS, np.float32)
    _find_peaks(heatmaps, threshold, sigma, indices, heights, points, scores, first)
    return points[: first[-1]], scores[: first[-1]], first


@kernel
def _find_peaks(
    heatmaps: NDArray[np.float32],
    threshold: float,
    sigma: float,
    indices: NDArray[np.int64],
    heights: NDArray[np.float32],
    points: NDArray[np.float64],
    scores: NDArray[np.float64],
    first: NDArray[np.int64],
) -> None:
    """Fill points, scores and first. Indices and heights (128,) are scratch space."""
    joints, height, width = heatmaps.shape
    for joint in range(joints):
        # Not a literal: numba would compile `insert_peak` a second time for its type.
        count: int = np.int64(0)  # type: ignore[assignment]
        for row in range(height):
            for column in range(width):
                value = heatmaps[joint, row, column]
                if value > threshold and _is_peak(heatmaps, joint, row, column):
                    count = insert_peak(indices, heights, count, row * width + column, value)
        start = first[joint]
        for k in range(count):
            row, column = indices[k] // width, indices[k] % width
            value = np.float64(heights[k])
            left = heatmaps[joint, row, column - 1] if column > 0 else math.nan
            right = heatmaps[joint, row, column + 1] if column < width - 1 else math.nan
            above = heatmaps[joint, row - 1, column] if row > 0 else math.nan
            below = heatmaps[joint, row + 1, column] if row < height - 1 else math.nan
            x = peak_offset(left, value, right, sigma)
            y = peak_offset(above, value, below, sigma)
            points[start + k, 0] = column + x
            points[start + k, 1] = row + y
            peak = value * math.exp((x * x + y * y) / (2 * sigma * sigma))
            scores[start + k] = peak if peak < 1.0 else 1.0
        first[joint + 1] = start + count


@jit
def _is_peak(heatmaps: NDArray[np.float32], joint: int, row: int, column: int) -> bool:
    """Return whether no neighbor is higher and no earlier neighbor is equal."""
    _, height, width = heatmaps.shape
    value = heatmaps[joint, row, column]
    for r in range(row - 1, row + 2):
        for c in range(column - 1, column + 2):
            if r < 0 or c < 0 or r >= height or c >= width:
                continue
            is_earlier = r < row or (r == row and c < column)
            other = heatmaps[joint, r, c]
            if other > value or (is_earlier and other == value):
                return False
    return True


@kernel
def peak_offset(before: float, value: float, after: float, sigma: float) -> float:
    """Estimate the offset of a peak from the center of its cell along one axis.

    The offset is the vertex of the parabola through the logarithms of three cells, which is exact
    for a Gaussian. If one of the three is missing (at the border of the map) or too low (next to a
    narrow Gaussian), the other two and the known width of the Gaussian are enough.

    Args:
        before: Heatmap value of the previous cell, NaN beyond the border.
        value: Heatmap value of the peak's cell.
        after: Heatmap value of the next cell, NaN beyond the border.
        sigma: Standard deviation of a joint's Gaussian, in cells.

    Returns:
        The offset in cells: -0.5 to 0.5, or up to 1 outward in a border cell.
    """
    is_first, is_last = math.isnan(before), math.isnan(after)
    if is_first and is_last:
        return 0.0
    log_value = _log(value)
    log_before = _log(before)
    log_after = _log(after)
    towards_after = 0.5 + sigma * sigma * (log_after - log_value)
    towards_before = 0.5 + sigma * sigma * (log_before - log_value)
    if is_first:
        return _clamp(towards_after, -1.0, 0.5)
    if is_last:
        return -_clamp(towards_before, -1.0, 0.5)
    if before < _MIN_VALUE <= after:
        return _clamp(towards_after, 0.0, 0.5)
    if after < _MIN_VALUE <= before:
        return -_clamp(towards_before, 0.0, 0.5)
    curvature = log_before - 2 * log_value + log_after
    if curvature >= 0:
        return 0.0
    return _clamp((log_before - log_after) / (2 * curvature), -0.5, 0.5)


@jit
def _log(value: float) -> float:
    """Return the logarithm of a heatmap value, which is raised to `_MIN_VALUE` if it is lower."""
    return math.log(value if value > _MIN_VALUE else _MIN_VALUE)


@jit
def _clamp(value: float, low: float, high: float) -> float:
    """Limit a value to a range."""
    if value < low:
        return low
    return high if value > high else value
