"""Code that both decoders use: lists of peaks, candidate connections, and peaks as keypoints.

The decoders share no more than this on purpose. Their kernels for peaks, scores and assembly have
similar loops but different rules inside; one kernel for both would take flags or functions as
arguments and compile longer than the two together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from bodyposenet.decoding.jit import jit

MAX_PEAKS = 128
"""Number of peaks kept per joint, the highest ones.

A good heatmap has one peak per person. A flat or noisy one has a peak every few cells, and the
number of candidate connections grows with the square of that.
"""

MISSING = -1
"""Index of the peak of a joint that a person does not have."""


@jit
def insert_peak(
    indices: NDArray[np.int64],
    heights: NDArray[np.float32],
    count: int,
    index: int,
    height: np.float32,
) -> int:
    """Insert a peak into the list of a joint's highest peaks, which is sorted by flat index.

    A full list drops its lowest peak, the last one of equals, which may be the new one.

    Args:
        indices: (128,) flat indices of the peaks (row * width + column), ascending. Modified in
            place.
        heights: (128,) heatmap value of each peak. Modified in place.
        count: Number of peaks in the list.
        index: Flat index of the new peak.
        height: Heatmap value of the new peak.

    Returns:
        The new number of peaks.
    """
    if count == MAX_PEAKS:
        lowest = 0
        for k in range(1, count):
            if heights[k] <= heights[lowest]:
                lowest = k
        if height < heights[lowest] or (height == heights[lowest] and index > indices[lowest]):
            return count
        count -= 1
        for k in range(lowest, count):
            indices[k] = indices[k + 1]
            heights[k] = heights[k + 1]
    k = count
    while k > 0 and indices[k - 1] > index:
        indices[k] = indices[k - 1]
        heights[k] = heights[k - 1]
        k -= 1
    indices[k] = index
    heights[k] = height
    return count + 1


def allocate_connections(
    limbs: NDArray[np.int64], first: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Allocate arrays for all pairs of peaks that a limb could connect.

    Args:
        limbs: (L, 2) joints of each limb.
        first: (K + 1,) index of each joint's first peak.

    Returns:
        Uninitialized arrays: (C, 3) for limb, start and end peak, and (C,) for scores.
    """
    peaks = np.diff(first)
    pairs = int((peaks[limbs[:, 0]] * peaks[limbs[:, 1]]).sum())
    return np.empty((pairs, 3), np.int64), np.empty(pairs)


def keypoints_of(
    parts: NDArray[np.int64],
    points: NDArray[Any],
    scores: NDArray[Any],
    dtype: DTypeLike,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Look up the peaks of people.

    Args:
        parts: (N, K) indices of peaks, `MISSING` where a person lacks a joint.
        points: (P, 2) x and y of the peaks.
        scores: (P,) scores of the peaks.
        dtype: Floating-point type of the results.

    Returns:
        Keypoints (N, K, 2), NaN for missing joints, and their scores (N, K), 0 for missing joints.
    """
    found = parts != MISSING
    keypoints = np.full((*parts.shape, 2), np.nan, dtype)
    keypoints[found] = points[parts[found]]
    keypoint_scores = np.zeros(parts.shape, dtype)
    keypoint_scores[found] = scores[parts[found]]
    return keypoints, keypoint_scores
