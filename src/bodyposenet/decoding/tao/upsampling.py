"""Bicubic upsampling of single pixels and windows instead of whole maps (`mode: tao`).

Bicubic upsampling and the smoothing after it are linear and separable, so each pixel is a weighted
sum of a few cells with fixed weights per axis.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bodyposenet.decoding.jit import jit

# TAO's 5x5 kernel is the outer product of this row with itself: square roots of the integrals of a
# standard normal distribution over five equal bins of [-3.7, 3.7], normalized to a sum of 1 (TAO
# reference, section 11.5).
_SMOOTHING = (0.060411, 0.245542, 0.388092, 0.245542, 0.060411)

# Parameter of OpenCV's bicubic kernel, and its size in cells.
_SLOPE = -0.75
_TAPS = 4

OVERSHOOT = -_SLOPE / 4
"""Maximum of -_SLOPE t (1 - t), the absolute sum of the two outer weights at the position t in
[0, 1] between the two inner cells."""


class Axis(NamedTuple):
    """Upsampling along one axis: the cells and weights of each of the P pixels."""

    factor: int
    """Pixels per cell."""
    cells: NDArray[np.int64]
    """(P, 4) cells of each pixel of the upsampled map; the border is repeated."""
    weights: NDArray[np.float64]
    """(P, 4) weights of these cells."""
    smooth_cells: NDArray[np.int64]
    """(P, T) cells of each pixel of the upsampled and smoothed map, ascending."""
    smooth_weights: NDArray[np.float64]
    """(P, T) weights of these cells."""


@lru_cache(maxsize=64)
def upsampled_axis(cells: int, factor: int) -> Axis:
    """Compute the cells and weights of all pixels along one axis.

    Args:
        cells: Number of cells along the axis, at least 1.
        factor: Pixels per cell.
    """
    plain, smooth = (_stencil(cells, factor, row) for row in ((1.0,), _SMOOTHING))
    return Axis(factor, *plain, *smooth)


def _stencil(
    cells: int, factor: int, smoothing: tuple[float, ...]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return (P, T) cells and weights of OpenCV's upsampling and of smoothing with zero padding."""
    pixels = np.arange(cells * factor)
    reach = len(smoothing) // 2
    first = np.floor(_positions(pixels - reach, factor)).astype(int) - 1
    last = np.floor(_positions(pixels + reach, factor)).astype(int) + 2
    near = first[:, None] + np.arange((last - first).max() + 1)
    weights = np.zeros(near.shape)
    for shift, weight in enumerate(smoothing, start=-reach):
        inside = (pixels + shift >= 0) & (pixels + shift < len(pixels))
        distances = _positions(pixels + shift, factor)[:, None] - near
        weights += weight * inside[:, None] * _cubic(distances)
    return near.clip(0, cells - 1), weights


def _positions(pixels: NDArray[np.int64], factor: int) -> NDArray[np.float64]:
    """Return the positions of pixels in cells."""
    return (pixels + 0.5) / factor - 0.5


def _cubic(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Evaluate the cubic convolution kernel (Keys, 1981)."""
    d = np.abs(distances)
    near = ((_SLOPE + 2) * d - (_SLOPE + 3)) * d * d + 1
    far = ((_SLOPE * d - 5 * _SLOPE) * d + 8 * _SLOPE) * d - 4 * _SLOPE
    return np.select([d <= 1, d < 2], [near, far])


@jit
def read_pixel(
    channels: NDArray[np.float32], channel: int, rows: Axis, columns: Axis, row: int, column: int
) -> np.float32:
    """Compute one pixel of an upsampled channel, rounded to single precision as in OpenCV."""
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
    """Upsample and smooth a window of a channel.

    Sums have double precision and are rounded once, so that pixels which are equal by symmetry stay
    equal regardless of the order of summation.

    Args:
        channels: (C, h, w).
        channel: Index of the channel.
        rows: Upsampling of the rows.
        columns: Upsampling of the columns.
        window: First row, end of the rows, first column, end of the columns, in pixels.
        across: (h, W) scratch space, where W is the width of the upsampled map.
        smoothed: (rows, W) result, filled from its first row and column with values of single
            precision.
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
