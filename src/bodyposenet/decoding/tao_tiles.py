"""Heatmap -> the tiles of its enlargement that can hold a peak.

A tile is made of the pixels between four centers of cells, which are made of the 4 x 4 cells
around; tile (0, 0) lies before the first center.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bodyposenet.decoding.compiling import compiled
from bodyposenet.decoding.stencils import OVERSHOOT, Axis


@compiled
def find_tiles(heatmap: NDArray[np.float32], threshold: np.float32) -> NDArray[np.bool_]:
    """Find the tiles in which a pixel can exceed the threshold.

    Args:
        heatmap: (h, w).
        threshold: At least 0.

    Returns:
        (h + 1, w + 1).
    """
    height, width = heatmap.shape
    tiles = np.zeros((height + 1, width + 1), np.bool_)
    least = threshold / (1 + 2 * OVERSHOOT) ** 2  # by the sum of all weights without their signs
    for row in range(height):
        for column in range(width):
            if abs(heatmap[row, column]) > least:
                tiles[max(row - 1, 0) : row + 3, max(column - 1, 0) : column + 3] = True
    for row in range(height + 1):
        for column in range(width + 1):
            if tiles[row, column]:
                tiles[row, column] = _bound(heatmap, row, column) > threshold
    return tiles


@compiled
def _bound(heatmap: NDArray[np.float32], row: int, column: int) -> float:
    """What no pixel of a tile exceeds: the bound of one axis, taken twice."""
    height, width = heatmap.shape
    inner, outer = -np.inf, np.inf
    for j in range(-2, 2):
        line = heatmap[min(max(row + j, 0), height - 1)]
        before, after = line[max(column - 2, 0)], line[min(column + 1, width - 1)]
        first, second = line[max(column - 1, 0)], line[min(column, width - 1)]
        if j == -1 or j == 0:
            inner = max(inner, _overshoot(max(first, second), min(before, after)))
        else:
            outer = min(outer, -_overshoot(-min(first, second), -max(before, after)))
    return _overshoot(inner, outer)


@compiled
def _overshoot(inner: float, outer: float) -> float:
    """What bicubic interpolation does not exceed between two cells, whatever the place.

    Args:
        inner: The higher of the two. Their weights are not negative and sum to 1 + s.
        outer: The lower of the next two. Their weights are not positive and sum to -s; s is at
            most OVERSHOOT.
    """
    return inner + OVERSHOOT * max(inner - outer, 0.0)


@compiled
def tile_edge(tile: int, axis: Axis) -> int:
    """The first pixel of a tile along one axis; that of the tile after the last is the end."""
    return min(max((2 * tile - 1) * axis.factor // 2, 0), len(axis.plain.cells))
