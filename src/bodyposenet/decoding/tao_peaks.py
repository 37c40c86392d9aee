"""Heatmaps -> peaks on the enlarged grid, as the original finds them (reference 11.4, 11.5).

The enlarged, smoothed heatmap is worked out only where a pixel can exceed the threshold: in tiles,
each the pixels between four centers of cells.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bodyposenet.decoding.compiling import compiled
from bodyposenet.decoding.stencils import Axis, Window, read_pixel, smooth_window
from bodyposenet.decoding.tao_tiles import find_tiles, tile_edge

MOST_PEAKS = 128
"""Peaks that are kept per joint, the highest. A sound heatmap has one per person; a flat or noisy
one has one at every other pixel, and the pairs of two joints are the square of that."""


@compiled
def find_peaks(
    heatmaps: NDArray[np.float32], threshold: float, rows: Axis, columns: Axis
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """Find the peaks of every joint's heatmap.

    A pixel is a peak if its smoothed value is the largest of the 3x3 pixels around it and its
    unsmoothed value exceeds the threshold. A plateau has several peaks.

    Args:
        heatmaps: (K, h, w), without the background.
        threshold: What a peak must exceed.
        rows: How rows of cells become rows of pixels.
        columns: The same for columns.

    Returns:
        Points (P, 2), x and y in pixels of the enlarged grid; scores (P,), the unsmoothed heatmap
        there; and first (K + 1,): joint k has the peaks first[k] to first[k + 1] - 1, by row, then
        column; at most 128, the highest.
    """
    joints = len(heatmaps)
    points = np.empty((joints * MOST_PEAKS, 2), np.int64)
    scores = np.empty(joints * MOST_PEAKS, np.float32)
    first = np.zeros(joints + 1, np.int64)
    width = len(columns.plain.cells)
    for joint in range(joints):
        places, heights = _highest_places(heatmaps[joint], np.float32(threshold), rows, columns)
        count = first[joint]
        for k in np.argsort(places, kind="mergesort"):
            points[count, 0], points[count, 1] = places[k] % width, places[k] // width
            scores[count] = heights[k]
            count += 1
        first[joint + 1] = count
    count = first[joints]
    return points[:count].copy(), scores[:count].copy(), first


@compiled
def _highest_places(
    heatmap: NDArray[np.float32], threshold: np.float32, rows: Axis, columns: Axis
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The peaks of one joint, highest first: row * width + column of each, and its height."""
    height, width = heatmap.shape
    places = np.empty(MOST_PEAKS + 1, np.int64)
    heights = np.empty(MOST_PEAKS + 1, np.float32)
    count = 0
    tiles = find_tiles(heatmap, threshold)
    for row in range(height + 1):
        top, bottom = tile_edge(row, rows), tile_edge(row + 1, rows)
        end = 0
        for column in range(width + 1):
            if tiles[row, column] and column >= end:
                end = column + 1
                while end <= width and tiles[row, end]:
                    end += 1
                left, right = tile_edge(column, columns), tile_edge(end, columns)
                window = Window(top, bottom, left, right)
                count = _add_peaks(
                    places, heights, count, heatmap, threshold, rows, columns, window
                )
    return places[:count], heights[:count]


@compiled
def _add_peaks(
    places: NDArray[np.int64],
    heights: NDArray[np.float32],
    count: int,
    heatmap: NDArray[np.float32],
    threshold: np.float32,
    rows: Axis,
    columns: Axis,
    window: Window,
) -> int:
    """Add a window's peaks to the highest; how many these are now."""
    height, width = len(rows.plain.cells), len(columns.plain.cells)
    top, bottom, left, right = window
    around = Window(
        max(top - 1, 0), min(bottom + 1, height), max(left - 1, 0), min(right + 1, width)
    )
    smoothed = smooth_window(heatmap, rows.smooth, columns.smooth, around)
    for row in range(top, bottom):
        for column in range(left, right):
            if _is_highest(smoothed, row - around.top, column - around.left):
                value = read_pixel(heatmap, rows.plain, columns.plain, row, column)
                if value > threshold:
                    count = _insert(places, heights, count, row * width + column, value)
    return count


@compiled
def _is_highest(values: NDArray[np.float32], row: int, column: int) -> bool:
    """Whether no pixel around is higher."""
    height, width = values.shape
    value = values[row, column]
    for r in range(max(row - 1, 0), min(row + 2, height)):
        for c in range(max(column - 1, 0), min(column + 2, width)):
            if values[r, c] > value:
                return False
    return True


@compiled
def _insert(
    places: NDArray[np.int64],
    heights: NDArray[np.float32],
    count: int,
    place: int,
    height: np.float32,
) -> int:
    """Insert a peak among the highest, the earlier of equals first; how many these are now."""
    k = count
    while k > 0 and (
        heights[k - 1] < height or (heights[k - 1] == height and places[k - 1] > place)
    ):
        places[k], heights[k] = places[k - 1], heights[k - 1]
        k -= 1
    places[k], heights[k] = place, height
    return min(count + 1, MOST_PEAKS)
