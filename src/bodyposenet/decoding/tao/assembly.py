"""Assembly of people from connections, limb after limb (`mode: tao`).

The original's rules (TAO reference, section 11.7), with two additions that leave its own skeleton's
results as they are and make every skeleton work: limbs are walked outward (`walk_limbs`), and a
skeleton of fewer than four joints needs all of them instead of four.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bodyposenet.decoding.jit import jit, kernel
from bodyposenet.skeleton import Skeleton, part_of

MISSING = -1

_MIN_PARTS = 4
_MIN_MEAN = 0.4


class Step(NamedTuple):
    """One limb, as the assembly takes it."""

    start: int
    """The joint that a person must hold for the limb to add the other one."""
    end: int
    """The joint that it adds."""
    turned: bool
    """Whether the skeleton lists the limb the other way round."""
    starts_person: bool
    """Whether a connection that belongs to no body yet makes a new one."""


@lru_cache(maxsize=16)
def walk_limbs(skeleton: Skeleton) -> tuple[Step, ...]:
    """Orient the limbs for the assembly; they come as the skeleton lists them.

    A person that holds only the second joint of a limb never gains the first, so a limb whose first
    joint no earlier limb had, while its second was had, is taken the other way round; in the
    original's skeleton there is none. There the limbs from eye to ear cannot start a person (edges
    17 and 18); by name this holds for any skeleton, once the eye or ear that the limb starts from
    has been reached by an earlier limb.
    """
    steps, reached = [], set()
    for start, end in skeleton.limbs:
        turned = end in reached and start not in reached
        if turned:
            start, end = end, start
        in_face = {"eye", "ear"} == {part_of(skeleton.joints[joint]) for joint in (start, end)}
        steps.append(Step(start, end, turned, not (in_face and start in reached)))
        reached |= {start, end}
    return tuple(steps)


def assemble(
    connections: NDArray[np.int64],
    connection_scores: NDArray[np.float64],
    scores: NDArray[np.float32],
    skeleton: Skeleton,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Assemble people.

    Of the connections of one limb, the best first, each peak takes at most one.

    Args:
        connections: (C, 3) limb, start and end peak.
        connection_scores: (C,) of the connections; of equals the earlier comes first.
        scores: (P,) of the peaks.
        skeleton: The joints and limbs.

    Returns:
        The people of at least four parts (all parts of a skeleton that has fewer joints) whose
        total is at least 0.4 per part added: (N, K) peaks, -1 where a joint is missing, and totals
        (N,), the sums of their peaks and connections.
    """
    joints = len(skeleton.joints)
    steps = np.array(walk_limbs(skeleton), np.int64).reshape(-1, len(Step._fields))
    parts = np.full((len(connections), joints), MISSING)
    totals = np.zeros(len(connections))
    counts = np.zeros(len(connections), np.int64)
    taken = np.zeros((len(steps), len(scores)), np.bool_)
    order = np.lexsort((-connection_scores, connections[:, 0]))
    people = _assemble(
        connections, connection_scores, order, scores, steps, taken, parts, totals, counts
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
    steps: NDArray[np.int64],
    taken: NDArray[np.bool_],
    parts: NDArray[np.int64],
    totals: NDArray[np.float64],
    counts: NDArray[np.int64],
) -> int:
    """Extend, merge or start a person, depending on how many hold one of a connection's ends.

    Args:
        connections: (C, 3) limb, start and end peak.
        connection_scores: (C,) of the connections.
        order: (C,) in which they come.
        scores: (P,) of the peaks.
        steps: (L, 4) the fields of each limb's `Step`.
        taken: (L, P) peaks that a connection of the limb has; False at first.
        parts: (C, K) the peaks of each person; -1 at first.
        totals: (C,) of each person; 0 at first.
        counts: (C,) how often a part was added to each person: more than the parts they have if one
            was replaced, 0 if they were merged into another; 0 at first.

    Returns:
        How many people were started.
    """
    # Not a literal, for whose type numba would compile `_find_holders` once more.
    people: int = np.int64(0)  # type: ignore[assignment]
    for place in range(len(order)):
        k = order[place]
        limb, start, end = connections[k, 0], connections[k, 1], connections[k, 2]
        if taken[limb, start] or taken[limb, end]:
            continue
        taken[limb, start] = taken[limb, end] = True
        from_joint, to_joint = steps[limb, 0], steps[limb, 1]
        is_turned, starts_person = steps[limb, 2], steps[limb, 3]
        if is_turned:
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
            # A part that the person has already is replaced and counts once more, as in the
            # original.
            parts[first, to_joint] = end
            totals[first] += gain
            counts[first] += 1
    return people


@jit
def _find_holders(
    parts: NDArray[np.int64], people: int, from_joint: int, start: int, to_joint: int, end: int
) -> tuple[int, int, int]:
    """How many people hold a connection's start or end, and the first two of them."""
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
    """Whether two people have no joint in common."""
    for joint in range(parts.shape[1]):
        if parts[first, joint] != MISSING and parts[second, joint] != MISSING:
            return False
    return True
