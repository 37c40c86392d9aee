"""Connections -> bodies: the strongest first, whichever limb it is of (`mode: accurate`)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bodyposenet.decoding.compiling import compiled

MISSING = -1


class _Groups(NamedTuple):
    """Bodies in the making."""

    parts: NDArray[np.int64]
    """(N, K) the peak of each joint."""
    totals: NDArray[np.float64]
    """(N,) sums of peaks and connections; 0 for a body that another one took over."""
    body_of: NDArray[np.int64]
    """(P,) the body of each peak."""


@compiled
def group_parts(
    connections: NDArray[np.int64],
    strengths: NDArray[np.float64],
    limbs: NDArray[np.int64],
    completing: NDArray[np.bool_],
    scores: NDArray[np.float64],
    joints: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Put the people together.

    A connection starts a body, gives one its other end, or joins two; it is refused where that
    would give a body a second peak of some joint.

    Args:
        connections: (C, 3) limb, start and end peak.
        strengths: (C,) of the connections.
        limbs: (L, 2) the joints of each limb.
        completing: (L,) limbs that come after all others and start no body.
        scores: (P,) of the peaks.
        joints: K of the skeleton.

    Returns:
        (N, K) peaks of each body, -1 where a joint is missing, and (N,) the sums of the scores of
        its peaks and the strengths of the connections between them.
    """
    groups = _Groups(
        np.full((len(connections), joints), MISSING, np.int64),
        np.zeros(len(connections)),
        np.full(len(scores), MISSING, np.int64),
    )
    count = 0
    falling = np.argsort(-strengths, kind="mergesort")
    for completes in (False, True):
        for k in falling:
            limb, start, end = connections[k]
            if completing[limb] != completes:
                continue
            if groups.body_of[start] == MISSING and groups.body_of[end] == MISSING:
                if completes:
                    continue
                _add(groups, count, limbs[limb, 0], start, scores)
                count += 1
            if _connect(groups, limbs[limb], start, end, scores):
                groups.totals[groups.body_of[start]] += strengths[k]
    alive = groups.totals[:count] > 0
    return groups.parts[:count][alive], groups.totals[:count][alive]


@compiled
def _connect(
    groups: _Groups, limb: NDArray[np.int64], start: int, end: int, scores: NDArray[np.float64]
) -> bool:
    """Bring both ends of a connection, one of which has a body, into one body; whether it can."""
    first, second = groups.body_of[start], groups.body_of[end]
    if first == MISSING:
        return _add(groups, second, limb[0], start, scores)
    if second == MISSING:
        return _add(groups, first, limb[1], end, scores)
    return first == second or _join(groups, first, second)


@compiled
def _add(groups: _Groups, body: int, joint: int, peak: int, scores: NDArray[np.float64]) -> bool:
    """Give a body a part; whether it had no such joint yet."""
    if groups.parts[body, joint] != MISSING:
        return False
    groups.parts[body, joint] = peak
    groups.body_of[peak] = body
    groups.totals[body] += scores[peak]
    return True


@compiled
def _join(groups: _Groups, body: int, other: int) -> bool:
    """Move all parts of another body to a body; whether they have no joint in common."""
    for joint in range(groups.parts.shape[1]):
        if groups.parts[body, joint] != MISSING and groups.parts[other, joint] != MISSING:
            return False
    for joint in range(groups.parts.shape[1]):
        peak = groups.parts[other, joint]
        if peak != MISSING:
            groups.parts[body, joint] = peak
            groups.body_of[peak] = body
    groups.totals[body] += groups.totals[other]
    groups.totals[other] = 0.0
    return True
