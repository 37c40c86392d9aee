"""Connections between peaks along the part affinity fields (TAO reference, section 11.6)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bodyposenet import Skeleton

from .peaks import Peaks, upsample

_SAMPLES = 10
_MIN_SHARE = 0.8  # of samples above the threshold, exclusive: at least 9 of 10
_EPSILON = 1e-6


class Connection(NamedTuple):
    """A detected limb, from one peak to another."""

    start: int
    """Index of the peak at the limb's first joint."""
    end: int
    """Index of the peak at its second joint."""
    score: float
    """Mean PAF score along the line between the peaks."""


def find_connections(
    pafs: NDArray[np.float32],
    peaks: Peaks,
    skeleton: Skeleton,
    threshold: float,
    upsampling: tuple[int, int],
) -> list[list[Connection]]:
    """Connect the peaks of every limb, best pair first, each peak once per limb.

    Args:
        pafs: (2 L, h, w), x and y of each limb's part affinity field.
        peaks: The candidates, on the upsampled grid.
        skeleton: The joints that each limb connects.
        threshold: PAF score that a sample must exceed to count.
        upsampling: Vertical and horizontal factor of the peaks' grid.

    Returns:
        For each limb its connections, by descending score.
    """
    connections = []
    for limb, (start, end) in enumerate(skeleton.limbs):
        starts, ends = peaks.of_joint(start), peaks.of_joint(end)
        if len(starts) and len(ends):
            field = np.stack([upsample(paf, upsampling) for paf in pafs[2 * limb : 2 * limb + 2]])
            scores = score_pairs(field, peaks.points[starts], peaks.points[ends], threshold)
            pairs = _best_pairs(scores)
        else:
            scores, pairs = np.zeros((0, 0)), []
        connections.append(
            [Connection(int(starts[a]), int(ends[b]), float(scores[a, b])) for a, b in pairs]
        )
    return connections


def score_pairs(
    field: NDArray[np.float32],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    threshold: float,
) -> NDArray[np.float64]:
    """Compute the connection score of each pair of peaks of one limb.

    The field is sampled at ten points from start to end, at the nearest pixel; the PAF score of a
    sample is the field's component along the line. The connection score is the mean PAF score of
    the samples above the threshold, or 0 unless more than eight samples are.

    Args:
        field: (2, H, W), x and y.
        starts: (A, 2) x and y of the peaks at the limb's first joint.
        ends: (B, 2) x and y of the peaks at its second joint.
        threshold: PAF score that a sample must exceed to count.

    Returns:
        (A, B) scores.
    """
    offsets = ends[None, :] - starts[:, None]
    directions = offsets / (np.linalg.norm(offsets, axis=-1, keepdims=True) + _EPSILON)
    steps = np.arange(_SAMPLES) / (_SAMPLES - 1)
    samples = starts[:, None, None] + steps[:, None] * offsets[:, :, None]
    columns, rows = np.moveaxis(np.rint(samples).astype(int), -1, 0)
    along = field[0, rows, columns] * directions[..., :1]
    along += field[1, rows, columns] * directions[..., 1:]
    is_above = along > threshold
    count = is_above.sum(axis=-1)
    scores = np.where(is_above, along, 0).sum(axis=-1) / (count + _EPSILON)
    return np.where(count > _MIN_SHARE * _SAMPLES, scores, 0)


def _best_pairs(scores: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Select pairs by descending score (ties in the order of the peaks), each peak at most once."""
    pairs: list[tuple[int, int]] = []
    used_starts, used_ends = set(), set()
    for index in np.argsort(-scores, axis=None, kind="stable"):
        start, end = divmod(int(index), scores.shape[1])
        if scores[start, end] <= 0:
            break
        if start not in used_starts and end not in used_ends:
            used_starts.add(start)
            used_ends.add(end)
            pairs.append((start, end))
    return pairs
