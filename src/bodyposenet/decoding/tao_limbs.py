"""Peaks and part affinity fields -> connections, as the original finds them (reference 11.6)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bodyposenet.decoding.compiling import compiled
from bodyposenet.decoding.pairing import take_best_pairs
from bodyposenet.decoding.stencils import Axis, read_pixel

_SAMPLES = 10
_TINY = 1e-6

# One sample of ten may fail. Most pairs are of two people, and fail between them: those samples
# are read first, and the pair is given up at the second that fails.
_ORDER = (5, 4, 6, 3, 7, 2, 8, 1, 9, 0)


@compiled
def find_connections(
    pafs: NDArray[np.float32],
    limbs: NDArray[np.int64],
    points: NDArray[np.int64],
    first: NDArray[np.int64],
    threshold: float,
    rows: Axis,
    columns: Axis,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Connect the peaks of every limb, best pair first, each peak once per limb.

    Args:
        pafs: (2 L, h, w), x and y of each limb's part affinity field.
        limbs: (L, 2) the joints of each limb.
        points: (P, 2) x and y of the peaks, on the enlarged grid.
        first: (K + 1,) where each joint's peaks begin.
        threshold: What the agreement at a sample must exceed to count.
        rows: How rows of cells become rows of pixels.
        columns: The same for columns.

    Returns:
        (C, 3) limb, start and end peak of each connection, and its score (C,).
    """
    most = len(limbs) * len(points)
    connections = np.empty((most, 3), np.int64)
    scores = np.empty(most)
    count = 0
    for limb in range(len(limbs)):
        start, end = limbs[limb]
        pairs, values = _score_pairs(
            pafs[2 * limb], pafs[2 * limb + 1], points,
            first[start : start + 2], first[end : end + 2], threshold, rows, columns,
        )  # fmt: skip
        pairs, values = take_best_pairs(pairs, values, len(points))
        connections[count : count + len(pairs), 0] = limb
        connections[count : count + len(pairs), 1:] = pairs
        scores[count : count + len(pairs)] = values
        count += len(pairs)
    return connections[:count].copy(), scores[:count].copy()


@compiled
def _score_pairs(
    field_x: NDArray[np.float32],
    field_y: NDArray[np.float32],
    points: NDArray[np.int64],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    threshold: float,
    rows: Axis,
    columns: Axis,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The pairs that the field of one limb supports, and how much, in the order of the peaks."""
    most = (starts[1] - starts[0]) * (ends[1] - ends[0])
    pairs = np.empty((most, 2), np.int64)
    scores = np.empty(most)
    count = 0
    for a in range(starts[0], starts[1]):
        for b in range(ends[0], ends[1]):
            score = _agreement(field_x, field_y, points[a], points[b], threshold, rows, columns)
            if score > 0:
                pairs[count, 0], pairs[count, 1] = a, b
                scores[count] = score
                count += 1
    return pairs[:count], scores[:count]


@compiled
def _agreement(
    field_x: NDArray[np.float32],
    field_y: NDArray[np.float32],
    start: NDArray[np.int64],
    end: NDArray[np.int64],
    threshold: float,
    rows: Axis,
    columns: Axis,
) -> float:
    """How well a field points from start to end.

    It is read at ten points from start to end, at the nearest pixel; its component along the line
    is the agreement.

    Returns:
        The mean of the samples above the threshold; 0 where fewer than nine are.
    """
    offset_x, offset_y = end[0] - start[0], end[1] - start[1]
    length = math.sqrt(offset_x * offset_x + offset_y * offset_y) + _TINY
    along_x, along_y = offset_x / length, offset_y / length
    total, count, failed = 0.0, 0, 0
    for k in _ORDER:
        column = int(np.rint(start[0] + k / (_SAMPLES - 1) * offset_x))
        row = int(np.rint(start[1] + k / (_SAMPLES - 1) * offset_y))
        along = (
            read_pixel(field_x, rows.plain, columns.plain, row, column) * along_x
            + read_pixel(field_y, rows.plain, columns.plain, row, column) * along_y
        )
        if along > threshold:
            total += along
            count += 1
        else:
            failed += 1
            if failed == 2:
                return 0.0
    return total / (count + _TINY)
