"""Cells and a factor -> stencils: which cells, weighted how, make a pixel of the enlarged map.

Bicubic enlargement and the smoothing after it are linear and go axis by axis, so any pixel follows
from a few cells, and the enlarged map is never made.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bodyposenet.decoding.compiling import compiled

# The original's 5x5 kernel is the outer product of this row with itself: square roots of the
# integrals of a unit normal over five equal bins on [-3.7, 3.7], made to sum to 1 (reference 11.5).
_SMOOTHING = (0.060411, 0.245542, 0.388092, 0.245542, 0.060411)

# The slope of OpenCV's bicubic kernel, and how many cells it reaches over.
_SLOPE = -0.75
_TAPS = 4

OVERSHOOT = -_SLOPE / 4
"""What the two outer of four weights sum to at most, without their sign: -_SLOPE t (1 - t), t being
the place between the inner two."""


class Stencil(NamedTuple):
    """How the pixels along one axis follow from its cells."""

    cells: NDArray[np.int64]
    """(P, T) the cells that make each pixel, ascending; the border is repeated."""
    weights: NDArray[np.float64]
    """(P, T) their weights."""


class Axis(NamedTuple):
    """One axis of a map, and of the same map enlarged."""

    factor: int
    """Pixels per cell."""
    plain: Stencil
    """To the enlarged map, T = 4."""
    smooth: Stencil
    """To the enlarged and smoothed map."""


class Window(NamedTuple):
    """Pixels of the enlarged map; bottom and right are the first row and column beyond them."""

    top: int
    bottom: int
    left: int
    right: int


@lru_cache(maxsize=64)
def enlarge_axis(cells: int, factor: int) -> Axis:
    """The stencils of one axis.

    Args:
        cells: Along the axis, at least 1.
        factor: Pixels per cell.
    """
    return Axis(factor, _stencil(cells, factor, (1.0,)), _stencil(cells, factor, _SMOOTHING))


def _stencil(cells: int, factor: int, smoothing: tuple[float, ...]) -> Stencil:
    """Enlarge as OpenCV does, edges onto edges; then smooth, as if all around were 0."""
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
    return Stencil(near.clip(0, cells - 1), weights)


def _places(pixels: NDArray[np.int64], factor: int) -> NDArray[np.float64]:
    """Where pixels lie among the cells."""
    return (pixels + 0.5) / factor - 0.5


def _cubic(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic convolution kernel."""
    d = np.abs(distances)
    near = ((_SLOPE + 2) * d - (_SLOPE + 3)) * d * d + 1
    far = ((_SLOPE * d - 5 * _SLOPE) * d + 8 * _SLOPE) * d - 4 * _SLOPE
    return np.select([d <= 1, d < 2], [near, far])


@compiled
def read_pixel(
    channel: NDArray[np.float32], rows: Stencil, columns: Stencil, row: int, column: int
) -> np.float32:
    """One pixel of the enlarged channel, rounded to single precision as OpenCV's are."""
    total = 0.0
    for j in range(_TAPS):
        line = channel[rows.cells[row, j]]
        across = 0.0
        for k in range(_TAPS):
            across += line[columns.cells[column, k]] * columns.weights[column, k]
        total += across * rows.weights[row, j]
    return np.float32(total)


@compiled
def smooth_window(
    channel: NDArray[np.float32], rows: Stencil, columns: Stencil, window: Window
) -> NDArray[np.float32]:
    """A window of the enlarged and smoothed channel.

    Sums are of double precision and rounded once: pixels that are equal by symmetry stay equal,
    whatever the order of their cells.
    """
    top, bottom, left, right = window
    lowest, highest = rows.cells[top, 0], rows.cells[bottom - 1, -1]
    across = np.zeros((highest - lowest + 1, right - left))
    for line in range(len(across)):
        for column in range(right - left):
            for k in range(columns.cells.shape[1]):
                cell = columns.cells[left + column, k]
                across[line, column] += (
                    channel[lowest + line, cell] * columns.weights[left + column, k]
                )
    smoothed = np.zeros((bottom - top, right - left))
    for row in range(bottom - top):
        for k in range(rows.cells.shape[1]):
            line, weight = rows.cells[top + row, k] - lowest, rows.weights[top + row, k]
            for column in range(right - left):
                smoothed[row, column] += across[line, column] * weight
    return smoothed.astype(np.float32)
