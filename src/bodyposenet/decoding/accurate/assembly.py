"""Assembly of people from connections, best first over all limbs (`mode: accurate`)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bodyposenet.decoding.common import MISSING
from bodyposenet.decoding.jit import jit, kernel

_MAX_LENGTH = 4.0
"""Maximum length of a connection, in sizes of the larger one of the people that it belongs to."""

_MIN_PEAKS = 5
"""Minimum number of peaks of a person whose size limits the connections."""


class People(NamedTuple):
    """N people, in the coordinates of the cells of the maps."""

    points: NDArray[np.float64]
    """(N, K, 2) x and y in cells, NaN for missing joints."""
    scores: NDArray[np.float64]
    """(N, K) heights of the peaks, 0 for missing joints."""
    totals: NDArray[np.float64]
    """(N,) sums of the scores of peaks and connections."""

    @property
    def found(self) -> NDArray[np.bool_]:
        """(N, K) True for joints that are not missing."""
        return ~np.isnan(self.points[..., 0])

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> People:
        """Select people by a boolean mask or by indices, in the order of the indices."""
        return People(self.points[chosen], self.scores[chosen], self.totals[chosen])


def assemble(
    connections: NDArray[np.int64],
    connection_scores: NDArray[np.float64],
    limbs: NDArray[np.int64],
    auxiliary: NDArray[np.bool_],
    points: NDArray[np.float64],
    scores: NDArray[np.float64],
    joints: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Assemble people from candidate connections, greedily from the highest score.

    Each peak has at most one connection per limb. A connection starts a new person, adds a peak to
    a person, or merges two people. It is rejected if a person would get two peaks of one joint, or
    if it is much longer than the person: in rows of people, fields of one direction can form a line
    from one end to the other.

    Args:
        connections: (C, 3) limb, start and end peak.
        connection_scores: (C,) connection scores. Of equal scores, the first one wins.
        limbs: (L, 2) joints of each limb.
        auxiliary: (L,) True for auxiliary limbs, which are connected after all others and never
            start a person.
        points: (P, 2) x and y of the peaks.
        scores: (P,) scores of the peaks.
        joints: Number of joints of the skeleton (K).

    Returns:
        Indices of each person's peaks (N, K), -1 for missing joints, and each person's sum of the
        scores of peaks and connections (N,).
    """
    parts = np.full((len(scores), joints), MISSING)
    totals = np.zeros(len(scores))
    count = _assemble(
        connections,
        connection_scores,
        np.argsort(-connection_scores, kind="stable"),
        limbs,
        auxiliary,
        points,
        scores,
        np.zeros((len(limbs), len(scores)), np.bool_),
        np.full(len(scores), MISSING),
        parts,
        totals,
        np.zeros(len(scores)),
    )
    kept = totals[:count] > 0
    return parts[:count][kept], totals[:count][kept]


@kernel
def _assemble(
    connections: NDArray[np.int64],
    connection_scores: NDArray[np.float64],
    order: NDArray[np.int64],
    limbs: NDArray[np.int64],
    auxiliary: NDArray[np.bool_],
    points: NDArray[np.float64],
    scores: NDArray[np.float64],
    taken: NDArray[np.bool_],
    person_of: NDArray[np.int64],
    parts: NDArray[np.int64],
    totals: NDArray[np.float64],
    sizes: NDArray[np.float64],
) -> int:
    """Run the loop of `assemble`.

    Args:
        connections: (C, 3) limb, start and end peak.
        connection_scores: (C,) connection scores.
        order: (C,) indices of the connections, best first.
        limbs: (L, 2) joints of each limb.
        auxiliary: (L,) True for auxiliary limbs.
        points: (P, 2) x and y of the peaks.
        scores: (P,) scores of the peaks.
        taken: (L, P) True for peaks that already have a connection of the limb. Initially False.
        person_of: (P,) person of each peak. Initially -1.
        parts: (P, K) peaks of each person. Initially -1; the result.
        totals: (P,) sum of the scores of each person, 0 for a person merged into another one.
            Initially 0; the result.
        sizes: (P,) size of each person, see `_size`. Initially 0.

    Returns:
        The number of people started, including the merged ones.
    """
    # Not a literal: numba would compile `_add` a second time for its type.
    people: int = np.int64(0)  # type: ignore[assignment]
    for is_auxiliary in (False, True):
        for rank in range(len(order)):
            k = order[rank]
            limb, start, end = connections[k, 0], connections[k, 1], connections[k, 2]
            if auxiliary[limb] != is_auxiliary or taken[limb, start] or taken[limb, end]:
                continue
            first: int = person_of[start]  # type: ignore[assignment]
            second: int = person_of[end]  # type: ignore[assignment]
            size = 0.0
            for each in (first, second):
                if each != MISSING:
                    size = max(size, sizes[each])
            length = math.hypot(
                points[start, 0] - points[end, 0], points[start, 1] - points[end, 1]
            )
            if length > _MAX_LENGTH * size > 0:
                continue
            taken[limb, start] = taken[limb, end] = True
            if first == MISSING and second == MISSING:
                if is_auxiliary:
                    continue
                first = people
                people += 1
                _add(parts, totals, person_of, scores, first, limbs[limb, 0], start)
            person = first
            if first == MISSING:
                person = second
                fits = _add(parts, totals, person_of, scores, second, limbs[limb, 0], start)
            elif second == MISSING:
                fits = _add(parts, totals, person_of, scores, first, limbs[limb, 1], end)
            else:
                fits = first == second or _merge(parts, totals, person_of, first, second)
            if fits:
                totals[person] += connection_scores[k]
                sizes[person] = _size(parts[person], points)
    return people


@jit
def _size(peaks: NDArray[np.int64], points: NDArray[np.float64]) -> float:
    """Return the longer side of the box around peaks; 0 for fewer than `_MIN_PEAKS`."""
    count = 0
    left, top, right, bottom = math.inf, math.inf, -math.inf, -math.inf
    for peak in peaks:
        if peak != MISSING:
            count += 1
            x, y = points[peak, 0], points[peak, 1]
            left, right = min(left, x), max(right, x)
            top, bottom = min(top, y), max(bottom, y)
    return max(right - left, bottom - top) if count >= _MIN_PEAKS else 0.0


@jit
def _add(
    parts: NDArray[np.int64],
    totals: NDArray[np.float64],
    person_of: NDArray[np.int64],
    scores: NDArray[np.float64],
    person: int,
    joint: int,
    peak: int,
) -> bool:
    """Add a peak to a person. Returns False if the person already has a peak of this joint."""
    if parts[person, joint] != MISSING:
        return False
    parts[person, joint] = peak
    person_of[peak] = person
    totals[person] += scores[peak]
    return True


@jit
def _merge(
    parts: NDArray[np.int64],
    totals: NDArray[np.float64],
    person_of: NDArray[np.int64],
    person: int,
    other: int,
) -> bool:
    """Move all peaks of a person to another one. Returns False if both have a common joint."""
    joints = parts.shape[1]
    for joint in range(joints):
        if parts[person, joint] != MISSING and parts[other, joint] != MISSING:
            return False
    for joint in range(joints):
        peak = parts[other, joint]
        if peak != MISSING:
            parts[person, joint] = peak
            person_of[peak] = person
    totals[person] += totals[other]
    totals[other] = 0.0
    return True


def person_scores(totals: NDArray[np.float64]) -> NDArray[np.float32]:
    """Map totals to scores in 0..1, monotonically.

    TAO's score is 1 - 1 / total (TAO reference, section 11.8). It is negative for totals below 1,
    which TAO never keeps. Below a total of 2 this score is total / 4, the tangent of TAO's there.

    Args:
        totals: (N,) sums of scores, at least 0.

    Returns:
        (N,) float32 scores.
    """
    return np.where(totals < 2, totals / 4, 1 - 1 / np.maximum(totals, 2)).astype(np.float32)
