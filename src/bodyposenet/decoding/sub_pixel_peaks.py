"""Heatmaps -> peaks: where a joint may be, between the cells (`mode: accurate`)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bodyposenet.decoding.compiling import compiled

MOST_PEAKS = 128
"""Peaks that are kept per joint, the highest. A sound heatmap has one per person; a noisy one has
one at every fourth cell, and the pairs of two joints are the square of that."""

_LEAST_HEAT = 1e-3
"""Targets are 0 below this; a lower value does not tell how far away the joint is."""


@compiled
def find_peaks(
    heatmaps: NDArray[np.float32], threshold: float, sigma: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Find the peaks of every joint's heatmap.

    A cell is a peak if it is the highest of the 3x3 cells around it, the first of equals, and
    exceeds the threshold. The joint lies up to half a cell beside (see `offset`), where the
    heatmap is as much higher as the Gaussian of a target would be.

    Args:
        heatmaps: (K, h, w), without the background.
        threshold: What a cell must exceed.
        sigma: Standard deviation of a joint's Gaussian, in cells.

    Returns:
        Points (P, 2), x and y in cells; scores (P,), the heights of the peaks, at most 1; and first
        (K + 1,): joint k has the peaks first[k] to first[k + 1] - 1, by row, then column; at most
        128, the highest.
    """
    joints = len(heatmaps)
    points = np.empty((joints * MOST_PEAKS, 2))
    scores = np.empty(joints * MOST_PEAKS)
    first = np.zeros(joints + 1, np.int64)
    count = 0
    for joint in range(joints):
        heatmap = heatmaps[joint]
        for row, column in _highest_cells(heatmap, threshold):
            x = offset(heatmap[row], column, sigma)
            y = offset(heatmap[:, column], row, sigma)
            height = heatmap[row, column] * math.exp((x * x + y * y) / (2 * sigma * sigma))
            points[count, 0], points[count, 1] = column + x, row + y
            scores[count] = min(height, 1.0)
            count += 1
        first[joint + 1] = count
    return points[:count].copy(), scores[:count].copy(), first


@compiled
def _highest_cells(heatmap: NDArray[np.float32], threshold: float) -> NDArray[np.int64]:
    """(N, 2) rows and columns of the cells that are peaks."""
    height, width = heatmap.shape
    cells = np.empty((height * width, 2), np.int64)
    heights = np.empty(height * width, np.float32)
    count = 0
    for row in range(height):
        for column in range(width):
            value = heatmap[row, column]
            if value > threshold and _is_highest(heatmap, row, column):
                cells[count, 0], cells[count, 1] = row, column
                heights[count] = value
                count += 1
    if count <= MOST_PEAKS:
        return cells[:count]
    falling = np.argsort(-heights[:count], kind="mergesort")
    return cells[np.sort(falling[:MOST_PEAKS])]


@compiled
def _is_highest(values: NDArray[np.float32], row: int, column: int) -> bool:
    """Whether no cell around is higher, nor an earlier one as high."""
    height, width = values.shape
    value = values[row, column]
    for r in range(max(row - 1, 0), min(row + 2, height)):
        for c in range(max(column - 1, 0), min(column + 2, width)):
            is_earlier = r < row or (r == row and c < column)
            if values[r, c] > value or (is_earlier and values[r, c] == value):
                return False
    return True


@compiled
def offset(line: NDArray[np.float32], cell: int, sigma: float) -> float:
    """How far beside the center of its cell a peak lies, along one axis.

    It is the vertex of the parabola through the logarithms of three cells, which is exact for a
    Gaussian. Where one of the three is missing (at the map's border) or too low to tell (beside a
    narrow Gaussian), the known width of the Gaussian makes two cells enough.

    Args:
        line: (n,) the row or column of the heatmap.
        cell: Index of the peak in it.
        sigma: Standard deviation of a joint's Gaussian, in cells.

    Returns:
        In cells, within -.5 to .5, or to 1 beyond the center of a border cell.
    """
    last = len(line) - 1
    if last == 0:
        return 0.0
    center = math.log(max(line[cell], _LEAST_HEAT))
    before = math.log(max(line[max(cell - 1, 0)], _LEAST_HEAT))
    after = math.log(max(line[min(cell + 1, last)], _LEAST_HEAT))
    towards_after = 0.5 + sigma * sigma * (after - center)
    towards_before = 0.5 + sigma * sigma * (before - center)
    if cell == 0:
        return min(max(towards_after, -1.0), 0.5)
    if cell == last:
        return -min(max(towards_before, -1.0), 0.5)
    if line[cell - 1] < _LEAST_HEAT <= line[cell + 1]:
        return min(max(towards_after, 0.0), 0.5)
    if line[cell + 1] < _LEAST_HEAT <= line[cell - 1]:
        return -min(max(towards_before, 0.0), 0.5)
    curvature = before - 2 * center + after
    if curvature >= 0:
        return 0.0
    return min(max((before - after) / (2 * curvature), -0.5), 0.5)
