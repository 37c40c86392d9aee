"""Assembly of people from connections, limb by limb (`mode: tao`).

TAO's rules (TAO reference, section 11.7) with two additions for other skeletons, which do not
change the results for TAO's own: limbs may be reversed (`orient_limbs`), and a skeleton with fewer
than four joints needs all of them instead of four.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bodyposenet.decoding.common import MISSING
from bodyposenet.decoding.jit import jit, kernel
from bodyposenet.skeleton import Skeleton, part_of

_MIN_PARTS = 4
"""Minimum number of parts of a person."""

_MIN_MEAN = 0.4
"""Minimum total of a person per part."""


class OrientedLimb(NamedTuple):
    """A limb in the direction in which the assembly follows it."""

    start: int
    """Joint that a person must already have."""
    end: int
    """Joint that the limb adds to the person."""
    is_reversed: bool
    """Whether the skeleton lists the limb in the opposite direction."""
    starts_person: bool
    """Whether a connection with no peak of an existing person starts a new one."""


@lru_cache(maxsize=16)
def orient_limbs(skeleton: Skeleton) -> tuple[OrientedLimb, ...]:
    """Choose the direction of each limb, and whether it can start a person.

    TAO's assembly adds only the second joint of a limb to a person, never the first one. So a limb
    is reversed if earlier limbs contain its second joint but not its first; TAO's skeleton has no
    such limb. TAO does not start a person with a limb from eye to ear (edges 17 and 18). For any
    skeleton, this applies to limbs between joints with these names if an earlier limb contains the
    first joint.

    Args:
        skeleton: Joints and limbs.

    Returns:
        The limbs, in the order of the skeleton.
    """
    limbs, reached = [], set()
    for start, end in skeleton.limbs:
        is_reversed = end in reached and start not in reached
        if is_reversed:
            start, end = end, start
        in_face = {"eye", "ear"} == {part_of(skeleton.joints[joint]) for joint in (start, end)}
        limbs.append(OrientedLimb(start, end, is_reversed, not (in_face and start in reached)))
        reached |= {start, end}
    return tuple(limbs)


def assemble(
    connections: NDArray[np.int64],
    connection_scores: NDArray[np.float64],
    scores: NDArray[np.float32],
    skeleton: Skeleton,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Assemble people from candidate connections, limb by limb.

    Each peak has at most one connection per limb; the best connections are chosen first.

    Args:
        connections: (C, 3) limb, start and end peak.
        connection_scores: (C,) connection scores. Of equal scores, the first one wins.
        scores: (P,) scores of the peaks.
        skeleton: Joints and limbs.

    Returns:
        People with at least four parts (all parts of a skeleton with fewer joints) and a total of
        at least 0.4 per part added: indices of their peaks (N, K), -1 for missing joints, and
        totals (N,), the sums of the scores of peaks and connections.
    """
    joints = len(skeleton.joints)
    limbs = np.array(orient_limbs(skeleton), np.int64).reshape(-1, len(OrientedLimb._fields))
    parts = np.full((len(connections), joints), MISSING)
    totals = np.zeros(len(connections))
    counts = np.zeros(len(connections), np.int64)
    taken = np.zeros((len(limbs), len(scores)), np.bool_)
    order = np.lexsort((-connection_scores, connections[:, 0]))
    people = _assemble(
        connections, connection_scores, order, scores, limbs, taken, parts, totals, counts
    )
    parts, totals, counts = parts[:people], totals[:people], counts[:people]
    kept = (counts >= min(_MIN_PARTS, joints)) & (totals >= _MIN_MEAN * counts)
    return parts[kept], totals[kept]


@kernel
def _assemble(
    connections: NDArray[np.int64],
    connection_scores: NDArray[np.float64],
    order: NDArray[np.int64],
    scores: NDArray[np.float32],
    limbs: NDArray[np.int64],
    taken: NDArray[np.bool_],
    parts: NDArray[np.int64],
    totals: NDArray[np.float64],
    counts: NDArray[np.int64],
) -> int:
    """Run the loop of `assemble`.

    A connection starts a person, extends one or merges two, depending on how many people have one
    of its peaks.

    Args:
        connections: (C, 3) limb, start and end peak.
        connection_scores: (C,) connection scores.
        order: (C,) indices of the connections, by limb, then best first.
        scores: (P,) scores of the peaks.
        limbs: (L, 4) fields of each `OrientedLimb`.
        taken: (L, P) True for peaks that already have a connection of the limb. Initially False.
        parts: (C, K) peaks of each person. Initially -1; the result.
        totals: (C,) sum of the scores of each person. Initially 0; the result.
        counts: (C,) number of parts added to each person: more than its parts if one was replaced,
            0 if it was merged into another person. Initially 0; the result.

    Returns:
        The number of people started, including the merged ones.
    """
    # Not a literal: numba would compile `_find_holders` a second time for its type.
    people: int = np.int64(0)  # type: ignore[assignment]
    for rank in range(len(order)):
        k = order[rank]
        limb, start, end = connections[k, 0], connections[k, 1], connections[k, 2]
        if taken[limb, start] or taken[limb, end]:
            continue
        taken[limb, start] = taken[limb, end] = True
        from_joint, to_joint = limbs[limb, 0], limbs[limb, 1]
        is_reversed, starts_person = limbs[limb, 2], limbs[limb, 3]
        if is_reversed:
            start, end = end, start
        holders, first, second = _find_holders(parts, people, from_joint, start, to_joint, end)
        gain = scores[end] + connection_scores[k]
        if holders == 0:
            if starts_person:
                parts[people, from_joint], parts[people, to_joint] = start, end
                totals[people] = scores[start] + gain
                counts[people] = 2
                people += 1
        elif holders == 2 and _are_disjoint(parts, first, second):
            for joint in range(parts.shape[1]):
                parts[first, joint] = max(parts[first, joint], parts[second, joint])
                parts[second, joint] = MISSING
            totals[first] += totals[second] + connection_scores[k]
            counts[first] += counts[second]
            counts[second] = 0
        elif holders == 2 or (holders == 1 and parts[first, to_joint] != end):
            # A part that the person already has is replaced and counted again, as in TAO.
            parts[first, to_joint] = end
            totals[first] += gain
            counts[first] += 1
    return people


@jit
def _find_holders(
    parts: NDArray[np.int64], people: int, from_joint: int, start: int, to_joint: int, end: int
) -> tuple[int, int, int]:
    """Count the people with one of a connection's peaks; also return the first two of them."""
    holders, first, second = 0, MISSING, MISSING
    for person in range(people):
        if parts[person, from_joint] == start or parts[person, to_joint] == end:
            if holders == 0:
                first = person
            elif holders == 1:
                second = person
            holders += 1
    return holders, first, second


@jit
def _are_disjoint(parts: NDArray[np.int64], first: int, second: int) -> bool:
    """Return whether two people have no joint in common."""
    for joint in range(parts.shape[1]):
        if parts[first, joint] != MISSING and parts[second, joint] != MISSING:
            return False
    return True
