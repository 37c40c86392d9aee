"""The list of one joint's highest peaks, filled by the kernels of both decoders."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bodyposenet.decoding.jit import jit

MAX_PEAKS = 128
"""Peaks that are kept per joint, the highest. A sound heatmap has one per person; a flat or noisy
one has one at every few cells, and the pairs of two joints are the square of that."""


@jit
def insert_peak(
    places: NDArray[np.int64],
    heights: NDArray[np.float32],
    count: int,
    place: int,
    height: np.float32,
) -> int:
    """Insert a peak among the highest, in the order of places.

    A full list drops its lowest peak, the last of equals, which may be the new one.

    Args:
        places: (128,) row * width + column of each peak, ascending.
        heights: (128,) heatmap value of each.
        count: How many there are.
        place: Of the new peak.
        height: Of the new peak.

    Returns:
        How many there are now.
    """
    if count == MAX_PEAKS:
        lowest = 0
        for k in range(1, count):
            if heights[k] <= heights[lowest]:
                lowest = k
        if height < heights[lowest] or (height == heights[lowest] and place > places[lowest]):
            return count
        count -= 1
        for k in range(lowest, count):
            places[k] = places[k + 1]
            heights[k] = heights[k + 1]
    k = count
    while k > 0 and places[k - 1] > place:
        places[k] = places[k - 1]
        heights[k] = heights[k - 1]
        k -= 1
    places[k] = place
    heights[k] = height
    return count + 1
