"""Peaks of the upsampled heatmaps, as in TAO (`mode: tao`).

See the TAO reference, sections 11.4 and 11.5.

The upsampled and smoothed heatmap is computed only where a pixel can exceed the threshold, in
tiles. A tile contains the pixels between the centers of four cells, which depend on the 4 x 4 cells
around them. Tile (0, 0) lies before the center of the first cell.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bodyposenet.decoding.common import MAX_PEAKS, insert_peak
from bodyposenet.decoding.jit import jit, kernel
from bodyposenet.decoding.tao.upsampling import OVERSHOOT, Axis, read_pixel, smooth_window


def find_peaks(
    heatmaps: NDArray[np.float32], threshold: float, rows: Axis, columns: Axis
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """Find the peaks of every joint's heatmap.

    A pixel is a peak if its smoothed value is the maximum of its 3 x 3 neighborhood and its
    unsmoothed value exceeds the threshold. A plateau has several peaks.

    Args:
        heatmaps: (K, h, w), without the background channel.
        threshold: Minimum value of a peak (exclusive), at least 0.
        rows: Upsampling of the rows.
        columns: Upsampling of the columns.

    Returns:
        Points (P, 2): x and y in pixels of the upsampled maps. Scores (P,): unsmoothed heatmap
        values of the peaks. And first (K + 1,): the peaks of joint k are first[k] to
        first[k + 1] - 1, sorted by row, then column; at most the 128 highest.
    """
    joints, height, width = heatmaps.shape
    pixels = len(columns.cells)
    points = np.empty((joints * MAX_PEAKS, 2), np.int64)
    scores = np.empty(joints * MAX_PEAKS, np.float32)
    first = np.zeros(joints + 1, np.int64)
    _find_peaks(
        heatmaps,
        threshold,
        rows,
        columns,
        np.empty((height + 1, width + 1), np.bool_),
        np.empty((height, pixels)),
        np.empty((rows.factor + 2, pixels)),
        np.empty(MAX_PEAKS, np.int64),
        np.empty(MAX_PEAKS, np.float32),
        points,
        scores,
        first,
    )
    return points[: first[-1]], scores[: first[-1]], first


@kernel
def _find_peaks(
    heatmaps: NDArray[np.float32],
    threshold: float,
    rows: Axis,
    columns: Axis,
    tiles: NDArray[np.bool_],
    across: NDArray[np.float64],
    smoothed: NDArray[np.float64],
    indices: NDArray[np.int64],
    heights: NDArray[np.float32],
    points: NDArray[np.int64],
    scores: NDArray[np.float32],
    first: NDArray[np.int64],
) -> None:
    """Fill points, scores and first.

    Scratch space: tiles (h + 1, w + 1), across and smoothed (see `smooth_window`), indices and
    heights (128,).
    """
    joints, height, width = heatmaps.shape
    limit = np.float32(threshold)
    pixels = len(columns.cells)
    for joint in range(joints):
        _mark_tiles(heatmaps, joint, limit, tiles)
        # Not a literal: numba would compile `_add_peaks` a second time for its type.
        count: int = np.int64(0)  # type: ignore[assignment]
        for row in range(height + 1):
            top, bottom = _tile_edge(row, rows), _tile_edge(row + 1, rows)
            end = 0
            for column in range(width + 1):
                if column < end or not tiles[row, column]:
                    continue
                end = column + 1
                while end <= width and tiles[row, end]:
                    end += 1
                left, right = _tile_edge(column, columns), _tile_edge(end, columns)
                if top < bottom and left < right:
                    count = _add_peaks(
                        heatmaps, joint, limit, rows, columns, (top, bottom, left, right),
                        across, smoothed, indices, heights, count,
                    )  # fmt: skip
        start = first[joint]
        for k in range(count):
            points[start + k, 0], points[start + k, 1] = indices[k] % pixels, indices[k] // pixels
            scores[start + k] = heights[k]
        first[joint + 1] = start + count


@jit
def _mark_tiles(
    heatmaps: NDArray[np.float32], joint: int, threshold: np.float32, tiles: NDArray[np.bool_]
) -> None:
    """Mark the tiles of a joint in which a pixel can exceed the threshold.

    Args:
        heatmaps: (K, h, w).
        joint: Index of the heatmap.
        threshold: The threshold, at least 0.
        tiles: (h + 1, w + 1) result.
    """
    _, height, width = heatmaps.shape
    for row in range(height + 1):
        for column in range(width + 1):
            tiles[row, column] = False
    least = threshold / (1 + 2 * OVERSHOOT) ** 2  # divided by the sum of all absolute weights
    for row in range(height):
        for column in range(width):
            if abs(heatmaps[joint, row, column]) > least:
                for r in range(max(row - 1, 0), min(row + 3, height + 1)):
                    for c in range(max(column - 1, 0), min(column + 3, width + 1)):
                        tiles[r, c] = True
    for row in range(height + 1):
        for column in range(width + 1):
            if tiles[row, column]:
                tiles[row, column] = _upper_bound(heatmaps, joint, row, column) > threshold


@jit
def _upper_bound(heatmaps: NDArray[np.float32], joint: int, row: int, column: int) -> float:
    """Return an upper bound of the pixels of a tile: the bound of one axis, applied twice."""
    _, height, width = heatmaps.shape
    inner, outer = -np.inf, np.inf
    for j in range(-2, 2):
        line = min(max(row + j, 0), height - 1)
        before = np.float64(heatmaps[joint, line, max(column - 2, 0)])
        first = np.float64(heatmaps[joint, line, max(column - 1, 0)])
        second = np.float64(heatmaps[joint, line, min(column, width - 1)])
        after = np.float64(heatmaps[joint, line, min(column + 1, width - 1)])
        if j == -1 or j == 0:
            inner = max(inner, _overshoot(max(first, second), min(before, after)))
        else:
            outer = min(outer, -_overshoot(-min(first, second), -max(before, after)))
    return _overshoot(inner, outer)


@jit
def _overshoot(inner: float, outer: float) -> float:
    """Return an upper bound of bicubic interpolation between two cells.

    Args:
        inner: Maximum of the two cells. Their weights are at least 0 and their sum is 1 + s.
        outer: Minimum of the next cells on both sides. Their weights are at most 0 and their sum is
            -s, where s is at most OVERSHOOT.
    """
    return inner + OVERSHOOT * max(inner - outer, 0.0)


@jit
def _tile_edge(tile: int, axis: Axis) -> int:
    """Return the first pixel of a tile along one axis (of the tile after the last: the end)."""
    return min(max((2 * tile - 1) * axis.factor // 2, 0), len(axis.cells))


@jit
def _add_peaks(
    heatmaps: NDArray[np.float32],
    joint: int,
    threshold: np.float32,
    rows: Axis,
    columns: Axis,
    window: tuple[int, int, int, int],
    across: NDArray[np.float64],
    smoothed: NDArray[np.float64],
    indices: NDArray[np.int64],
    heights: NDArray[np.float32],
    count: int,
) -> int:
    """Add the peaks of a window to the list of the highest. Returns their new number."""
    height, width = len(rows.cells), len(columns.cells)
    top, bottom, left, right = window
    first_row, end_row = max(top - 1, 0), min(bottom + 1, height)
    first_column, end_column = max(left - 1, 0), min(right + 1, width)
    around = (first_row, end_row, first_column, end_column)
    smooth_window(heatmaps, joint, rows, columns, around, across, smoothed)
    for row in range(top, bottom):
        for column in range(left, right):
            if _is_highest(
                smoothed,
                row - first_row,
                column - first_column,
                end_row - first_row,
                end_column - first_column,
            ):
                score = read_pixel(heatmaps, joint, rows, columns, row, column)
                if score > threshold:
                    count = insert_peak(indices, heights, count, row * width + column, score)
    return count


@jit
def _is_highest(
    values: NDArray[np.float64], row: int, column: int, height: int, width: int
) -> bool:
    """Return whether no neighbor is higher, within the first rows and columns of the values."""
    value = values[row, column]
    for r in range(max(row - 1, 0), min(row + 2, height)):
        for c in range(max(column - 1, 0), min(column + 2, width)):
            if values[r, c] > value:
                return False
    return True
