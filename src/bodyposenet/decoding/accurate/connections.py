"""Scores of candidate connections along the part affinity fields (`mode: accurate`)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bodyposenet.decoding.common import allocate_connections
from bodyposenet.decoding.jit import jit, kernel

_SAMPLES = 10
_MIN_SAMPLES = 8


def score_connections(
    pafs: NDArray[np.float32],
    limbs: NDArray[np.int64],
    points: NDArray[np.float64],
    scores: NDArray[np.float64],
    first: NDArray[np.int64],
    threshold: float,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Score the pairs of peaks that a limb could connect.

    Args:
        pafs: (2 L, h, w) x and y of each limb's part affinity field.
        limbs: (L, 2) joints of each limb.
        points: (P, 2) x and y of the peaks, in cells.
        scores: (P,) scores of the peaks.
        first: (K + 1,) index of each joint's first peak.
        threshold: Minimum PAF score of a sample (exclusive).

    Returns:
        Candidate connections (C, 3): limb, start and end peak, by limb, then by peaks. And their
        scores (C,): the mean PAF score of the samples above the threshold times the geometric mean
        of the scores of both peaks.
    """
    connections, connection_scores = allocate_connections(limbs, first)
    count = _score_connections(
        pafs, limbs, points, scores, first, threshold, connections, connection_scores
    )
    return connections[:count], connection_scores[:count]


@kernel
def _score_connections(
    pafs: NDArray[np.float32],
    limbs: NDArray[np.int64],
    points: NDArray[np.float64],
    scores: NDArray[np.float64],
    first: NDArray[np.int64],
    threshold: float,
    connections: NDArray[np.int64],
    connection_scores: NDArray[np.float64],
) -> int:
    """Fill the connections and their scores. Returns their number."""
    count = 0
    for limb in range(len(limbs)):
        start_joint, end_joint = limbs[limb, 0], limbs[limb, 1]
        for start in range(first[start_joint], first[start_joint + 1]):
            for end in range(first[end_joint], first[end_joint + 1]):
                x, y = points[start, 0], points[start, 1]
                paf_score = _paf_score(
                    pafs, limb, x, y, points[end, 0] - x, points[end, 1] - y, threshold
                )
                if paf_score > 0:
                    connections[count, 0] = limb
                    connections[count, 1] = start
                    connections[count, 2] = end
                    connection_scores[count] = paf_score * math.sqrt(scores[start] * scores[end])
                    count += 1
    return count


@jit
def _paf_score(
    pafs: NDArray[np.float32],
    limb: int,
    start_x: float,
    start_y: float,
    offset_x: float,
    offset_y: float,
    threshold: float,
) -> float:
    """Approximate the line integral of a limb's field by ten samples.

    Returns:
        The mean of the samples above the threshold, or 0 if there are fewer than eight.
    """
    length = math.hypot(offset_x, offset_y)
    if length == 0:
        return 0.0
    total, count = 0.0, 0
    for k in range(_SAMPLES):
        x = start_x + offset_x * k / (_SAMPLES - 1)
        y = start_y + offset_y * k / (_SAMPLES - 1)
        along = (
            _bilinear_sample(pafs, 2 * limb, x, y) * offset_x
            + _bilinear_sample(pafs, 2 * limb + 1, x, y) * offset_y
        ) / length
        if along > threshold:
            total += along
            count += 1
        elif k - count == _SAMPLES - _MIN_SAMPLES:
            return 0.0
    return total / count


@jit
def _bilinear_sample(channels: NDArray[np.float32], channel: int, x: float, y: float) -> float:
    """Sample a channel at a point in cells; outside, the border is repeated."""
    _, height, width = channels.shape
    x = 0.0 if x < 0.0 else x
    y = 0.0 if y < 0.0 else y
    x = width - 1.0 if x > width - 1.0 else x
    y = height - 1.0 if y > height - 1.0 else y
    left, top = int(x), int(y)
    right = left + 1 if left + 1 < width else left
    bottom = top + 1 if top + 1 < height else top
    x -= left
    y -= top
    upper = channels[channel, top, left] * (1 - x) + channels[channel, top, right] * x
    lower = channels[channel, bottom, left] * (1 - x) + channels[channel, bottom, right] * x
    return upper * (1 - y) + lower * y
