"""Peaks and fields -> connections: which two peaks a limb joins (`mode: accurate`)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bodyposenet.decoding.compiling import compiled
from bodyposenet.decoding.pairing import take_best_pairs

_SAMPLES = 10
_LEAST_SAMPLES = 8


@compiled
def find_connections(
    pafs: NDArray[np.float32],
    limbs: NDArray[np.int64],
    points: NDArray[np.float64],
    scores: NDArray[np.float64],
    first: NDArray[np.int64],
    threshold: float,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Connect the peaks of every limb, best pair first, each peak once per limb.

    Args:
        pafs: (2 L, h, w), x and y of each limb's part affinity field.
        limbs: (L, 2) the joints of each limb.
        points: (P, 2) x and y of the peaks, in cells.
        scores: (P,) of the peaks.
        first: (K + 1,) where each joint's peaks begin.
        threshold: What the agreement at a sample must exceed to count.

    Returns:
        (C, 3) limb, start and end peak of each connection, and its strength (C,): the mean
        agreement of the samples that count, times the geometric mean of both peaks' scores.
    """
    most = len(limbs) * len(points)
    connections = np.empty((most, 3), np.int64)
    strengths = np.empty(most)
    count = 0
    for limb in range(len(limbs)):
        start, end = limbs[limb]
        pairs, values = _score_pairs(
            pafs[2 * limb], pafs[2 * limb + 1], points, scores,
            first[start : start + 2], first[end : end + 2], threshold,
        )  # fmt: skip
        pairs, values = take_best_pairs(pairs, values, len(points))
        connections[count : count + len(pairs), 0] = limb
        connections[count : count + len(pairs), 1:] = pairs
        strengths[count : count + len(pairs)] = values
        count += len(pairs)
    return connections[:count].copy(), strengths[:count].copy()


@compiled
def _score_pairs(
    field_x: NDArray[np.float32],
    field_y: NDArray[np.float32],
    points: NDArray[np.float64],
    scores: NDArray[np.float64],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    threshold: float,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The pairs that the field of one limb supports, and how much, in the order of the peaks."""
    most = (starts[1] - starts[0]) * (ends[1] - ends[0])
    pairs = np.empty((most, 2), np.int64)
    values = np.empty(most)
    count = 0
    for a in range(starts[0], starts[1]):
        for b in range(ends[0], ends[1]):
            agreement = _agreement_along(field_x, field_y, points[a], points[b], threshold)
            if agreement > 0:
                pairs[count, 0], pairs[count, 1] = a, b
                values[count] = agreement * math.sqrt(scores[a] * scores[b])
                count += 1
    return pairs[:count], values[:count]


@compiled
def _agreement_along(
    field_x: NDArray[np.float32],
    field_y: NDArray[np.float32],
    start: NDArray[np.float64],
    end: NDArray[np.float64],
    threshold: float,
) -> float:
    """How well a field points from start to end.

    It is read, bilinearly, at ten points from start to end; its component along the line is the
    agreement.

    Returns:
        The mean of the samples above the threshold; 0 where fewer than eight are.
    """
    offset_x, offset_y = end[0] - start[0], end[1] - start[1]
    length = math.hypot(offset_x, offset_y)
    if length == 0:
        return 0.0
    total, count = 0.0, 0
    for k in range(_SAMPLES):
        x = start[0] + offset_x * k / (_SAMPLES - 1)
        y = start[1] + offset_y * k / (_SAMPLES - 1)
        along = (
            _read_between(field_x, x, y) * offset_x + _read_between(field_y, x, y) * offset_y
        ) / length
        if along > threshold:
            total += along
            count += 1
        elif k - count == _SAMPLES - _LEAST_SAMPLES:
            return 0.0
    return total / count


@compiled
def _read_between(channel: NDArray[np.float32], x: float, y: float) -> float:
    """The value of (h, w) cells at a point in cells, bilinear; the border goes on outside."""
    height, width = channel.shape
    x = min(max(x, 0.0), width - 1.0)
    y = min(max(y, 0.0), height - 1.0)
    left, top = int(x), int(y)
    right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
    x -= left
    y -= top
    upper = channel[top, left] * (1 - x) + channel[top, right] * x
    lower = channel[bottom, left] * (1 - x) + channel[bottom, right] * x
    return upper * (1 - y) + lower * y
