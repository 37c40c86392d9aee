"""Bicubic enlargement of single pixels and windows, without enlarging the maps (`mode: tao`).

Bicubic enlargement and the smoothing after it are linear and go axis by axis, so any pixel follows
from a few cells with fixed weights.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bodyposenet.decoding.jit import jit

# The original's 5x5 kernel is the outer product of this row with itself: square roots of the
# integrals of a unit normal over five equal bins on [-3.7, 3.7], made to sum to 1 (TAO reference,
# section 11.5).
_SMOOTHING = (0.060411, 0.245542, 0.388092, 0.245542, 0.060411)

# The slope of OpenCV's bicubic kernel, and how many cells it reaches over.
_SLOPE = -0.75
_TAPS = 4

OVERSHOOT = -_SLOPE / 4
"""What the two outer of four weights sum to at most, without their sign: -_SLOPE t (1 - t), t being
the place between the inner two."""


class Axis(NamedTuple):
    """One axis of a map, and how the P pixels of the enlarged map follow from its cells."""

    factor: int
    """Pixels per cell."""
    cells: NDArray[np.int64]
    """(P, 4) the cells that make each pixel of the enlarged map; the border is repeated."""
    weights: NDArray[np.float64]
    """(P, 4) their weights."""
    smooth_cells: NDArray[np.int64]
    """(P, T) the same for the enlarged and smoothed map, ascending."""
    smooth_weights: NDArray[np.float64]
    """(P, T) their weights."""


@lru_cache(maxsize=64)
def enlarge_axis(cells: int, factor: int) -> Axis:
    """How one axis is enlarged.

    Args:
        cells: Along the axis, at least 1.
        factor: Pixels per cell.
    """
    plain, smooth = (_stencil(cells, factor, row) for row in ((1.0,), _SMOOTHING))
    return Axis(factor, *plain, *smooth)


def _stencil(
    cells: int, factor: int, smoothing: tuple[float, ...]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(P, T) cells and weights: enlarge as OpenCV does, then smooth as if all around were 0."""
    pixels = np.arange(cells * factor)
    reach = len(smoothing) // 2
    first = np.floor(_places(pixels - reach, factor)).astype(int) - 1
    last = np.floor(_places(pixels + reach, factor)).astype(int) + 2
    near = first[:, None] + np.arange((last - first).max() + 1)
    weights = np.zeros(near.shape)
    for shift, weight in enumerate(smoothing, start=-reach):
        inside = (pixels + shift >= 0) & (pixels + shift < len(pixels))
        distances = _places(pixels + shift, factor)[:, None] - near
        weights += weight * inside[:, None] * _cubic(distances)
    return near.clip(0, cells - 1), weights


def _places(pixels: NDArray[np.int64], factor: int) -> NDArray[np.float64]:
    """Where pixels lie among the cells."""
    return (pixels + 0.5) / factor - 0.5


def _cubic(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic convolution kernel."""
    d = np.abs(distances)
    near = ((_SLOPE + 2) * d - (_SLOPE + 3)) * d * d + 1
    far = ((_SLOPE * d - 5 * _SLOPE) * d + 8 * _SLOPE) * d - 4 * _SLOPE
    return np.select([d <= 1, d < 2], [near, far])


@jit
def read_pixel(
    channels: NDArray[np.float32], channel: int, rows: Axis, columns: Axis, row: int, column: int
) -> np.float32:
    """One pixel of an enlarged channel, rounded to single precision as OpenCV's are."""
    total = 0.0
    for j in range(_TAPS):
        line = rows.cells[row, j]
        across = 0.0
        for k in range(_TAPS):
            cell = columns.cells[column, k]
            across += channels[channel, line, cell] * columns.weights[column, k]
        total += across * rows.weights[row, j]
    return np.float32(total)


@jit
def smooth_window(
    channels: NDArray[np.float32],
    channel: int,
    rows: Axis,
    columns: Axis,
    window: tuple[int, int, int, int],
    across: NDArray[np.float64],
    smoothed: NDArray[np.float64],
) -> None:
    """Enlarge and smooth a window of a channel.

    Sums are of double precision and rounded once: pixels that are equal by symmetry stay equal,
    whatever the order of their cells.

    Args:
        channels: (C, h, w).
        channel: Index of the channel.
        rows: How rows of cells become rows of pixels.
        columns: The same for columns.
        window: First row, end of the rows, first column, end of the columns, in pixels.
        across: (h, W) scratch space, for W pixels of an enlarged row.
        smoothed: (rows, W) filled from its first row and column, with values that single precision
            holds.
    """
    top, bottom, left, right = window
    lowest, highest = rows.smooth_cells[top, 0], rows.smooth_cells[bottom - 1, -1]
    for line in range(lowest, highest + 1):
        for column in range(left, right):
            total = 0.0
            for k in range(columns.smooth_cells.shape[1]):
                cell = columns.smooth_cells[column, k]
                total += channels[channel, line, cell] * columns.smooth_weights[column, k]
            across[line, column - left] = total
    width = right - left
    for row in range(top, bottom):
        for column in range(width):
            smoothed[row - top, column] = 0.0
        for k in range(rows.smooth_cells.shape[1]):
            line, weight = rows.smooth_cells[row, k], rows.smooth_weights[row, k]
            for column in range(width):
                smoothed[row - top, column] += across[line, column] * weight
        for column in range(width):
            smoothed[row - top, column] = np.float32(smoothed[row - top, column])
