"""Scores of candidate connections along the part affinity fields, as in TAO (`mode: tao`).

See the TAO reference, section 11.6.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bodyposenet.decoding.common import allocate_connections
from bodyposenet.decoding.jit import jit, kernel
from bodyposenet.decoding.tao.upsampling import Axis, read_pixel

_SAMPLES = 10
_TINY = 1e-6

# One of ten samples may be below the threshold. Most pairs belong to two different people and fail
# halfway between them. So these samples are read first, and the second failure ends the loop.
_ORDER = (5, 4, 6, 3, 7, 2, 8, 1, 9, 0)


def score_connections(
    pafs: NDArray[np.float32],
    limbs: NDArray[np.int64],
    points: NDArray[np.int64],
    first: NDArray[np.int64],
    threshold: float,
    rows: Axis,
    columns: Axis,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Score the pairs of peaks that a limb could connect.

    Args:
        pafs: (2 L, h, w) x and y of each limb's part affinity field.
        limbs: (L, 2) joints of each limb.
        points: (P, 2) x and y of the peaks, in pixels of the upsampled maps.
        first: (K + 1,) index of each joint's first peak.
        threshold: Minimum PAF score of a sample (exclusive).
        rows: Upsampling of the rows.
        columns: Upsampling of the columns.

    Returns:
        Candidate connections (C, 3): limb, start and end peak, by limb, then by peaks. And their
        scores (C,): the mean PAF score of the samples above the threshold.
    """
    connections, connection_scores = allocate_connections(limbs, first)
    count = _score_connections(
        pafs, limbs, points, first, threshold, rows, columns, connections, connection_scores
    )
    return connections[:count], connection_scores[:count]


@kernel
def _score_connections(
    pafs: NDArray[np.float32],
    limbs: NDArray[np.int64],
    points: NDArray[np.int64],
    first: NDArray[np.int64],
    threshold: float,
    rows: Axis,
    columns: Axis,
    connections: NDArray[np.int64],
    connection_scores: NDArray[np.float64],
) -> int:
    """Fill the connections and their scores. Returns their number."""
    count = 0
    for limb in range(len(limbs)):
        start_joint, end_joint = limbs[limb, 0], limbs[limb, 1]
        for start in range(first[start_joint], first[start_joint + 1]):
            for end in range(first[end_joint], first[end_joint + 1]):
                paf_score = _paf_score(pafs, limb, points, start, end, threshold, rows, columns)
                if paf_score > 0:
                    connections[count, 0] = limb
                    connections[count, 1] = start
                    connections[count, 2] = end
                    connection_scores[count] = paf_score
                    count += 1
    return count


@jit
def _paf_score(
    pafs: NDArray[np.float32],
    limb: int,
    points: NDArray[np.int64],
    start: int,
    end: int,
    threshold: float,
    rows: Axis,
    columns: Axis,
) -> float:
    """Approximate the line integral of a limb's field between two peaks by ten pixels.

    Returns:
        The mean of the samples above the threshold, or 0 if there are fewer than nine.
    """
    start_x, start_y = points[start, 0], points[start, 1]
    offset_x, offset_y = points[end, 0] - start_x, points[end, 1] - start_y
    length = math.sqrt(offset_x * offset_x + offset_y * offset_y) + _TINY
    along_x, along_y = offset_x / length, offset_y / length
    total, count, failed = 0.0, 0, 0
    for k in _ORDER:
        column = int(np.rint(start_x + k / (_SAMPLES - 1) * offset_x))
        row = int(np.rint(start_y + k / (_SAMPLES - 1) * offset_y))
        along = (
            read_pixel(pafs, 2 * limb, rows, columns, row, column) * along_x
            + read_pixel(pafs, 2 * limb + 1, rows, columns, row, column) * along_y
        )
        if along > threshold:
            total += along
            count += 1
        else:
            failed += 1
            if failed == 2:
                return 0.0
    return total / (count + _TINY)
