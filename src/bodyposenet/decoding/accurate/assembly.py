"""Assembly of people from the connections of all limbs, the best first (`mode: accurate`)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bodyposenet.decoding.jit import jit, kernel

MISSING = -1


def assemble(
    connections: NDArray[np.int64],
    connection_scores: NDArray[np.float64],
    limbs: NDArray[np.int64],
    auxiliary: NDArray[np.bool_],
    scores: NDArray[np.float64],
    joints: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Assemble people.

    Of the connections of one limb, the best first, each peak takes at most one. A connection starts
    a person, adds its other end to one, or merges two; it is refused where that would give a person
    a second peak of some joint.

    Args:
        connections: (C, 3) limb, start and end peak.
        connection_scores: (C,) of the connections; of equals the earlier comes first.
        limbs: (L, 2) the joints of each limb.
        auxiliary: (L,) limbs that come after all others and start no person.
        scores: (P,) of the peaks.
        joints: K of the skeleton.

    Returns:
        (N, K) peaks of each person, -1 where a joint is missing, and (N,) the sums of the scores of
        its peaks and of the connections between them.
    """
    parts = np.full((len(scores), joints), MISSING)
    totals = np.zeros(len(scores))
    count = _assemble(
        connections,
        connection_scores,
        np.argsort(-connection_scores, kind="stable"),
        limbs,
        auxiliary,
        scores,
        np.zeros((len(limbs), len(scores)), np.bool_),
        np.full(len(scores), MISSING),
        parts,
        totals,
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
    scores: NDArray[np.float64],
    taken: NDArray[np.bool_],
    person_of: NDArray[np.int64],
    parts: NDArray[np.int64],
    totals: NDArray[np.float64],
) -> int:
    """Fill parts (P, K) and totals (P,), which hold -1 and 0 at first; see `assemble`.

    Args:
        connections: (C, 3) limb, start and end peak.
        connection_scores: (C,) of the connections.
        order: (C,) in which they come.
        limbs: (L, 2) the joints of each limb.
        auxiliary: (L,) limbs that come after all others and start no person.
        scores: (P,) of the peaks.
        taken: (L, P) peaks that a connection of the limb has; False at first.
        person_of: (P,) the person of each peak; -1 at first.
        parts: (P, K) the peaks of each person.
        totals: (P,) of each person; 0 for one that was merged into another.

    Returns:
        How many people were started.
    """
    # Not a literal, for whose type numba would compile `_add` once more.
    people: int = np.int64(0)  # type: ignore[assignment]
    for is_auxiliary in (False, True):
        for place in range(len(order)):
            k = order[place]
            limb, start, end = connections[k, 0], connections[k, 1], connections[k, 2]
            if auxiliary[limb] != is_auxiliary or taken[limb, start] or taken[limb, end]:
                continue
            taken[limb, start] = taken[limb, end] = True
            first: int = person_of[start]  # type: ignore[assignment]
            second: int = person_of[end]  # type: ignore[assignment]
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
    return people


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
    """Add a peak to a person; False if they have such a joint already."""
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
    """Move all parts of another person to a person; False if they have a joint in common."""
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


class People(NamedTuple):
    """N people on the cells of the maps."""

    points: NDArray[np.float64]
    """(N, K, 2) x and y in cells, NaN where a joint is missing."""
    scores: NDArray[np.float64]
    """(N, K) heights of the peaks, 0 where a joint is missing."""
    totals: NDArray[np.float64]
    """(N,) sums of the scores of the peaks and of the connections."""

    @property
    def found(self) -> NDArray[np.bool_]:
        """(N, K) which joints are there."""
        return ~np.isnan(self.points[..., 0])

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> People:
        """The chosen people, in the order in which they are chosen."""
        return People(self.points[chosen], self.scores[chosen], self.totals[chosen])


def person_scores(totals: NDArray[np.float64]) -> NDArray[np.float32]:
    """Scores in 0..1 that keep the order of the totals.

    The original's 1 - 1 / total (TAO reference, section 11.8) is below 0 for the faint people that
    it never keeps. Below a total of 2 the score is total / 4, which touches that curve there.

    Args:
        totals: (N,) at least 0.

    Returns:
        (N,) float32.
    """
    return np.where(totals < 2, totals / 4, 1 - 1 / np.maximum(totals, 2)).astype(np.float32)
