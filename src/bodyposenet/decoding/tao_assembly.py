"""Connections -> bodies: limb after limb, a connection joins the body that holds one of its ends.

The original's rules (reference 11.7), with two additions that leave its own skeleton's results as
they are and make every skeleton work: limbs are walked outward (`walk_limbs`), and a skeleton of
fewer than four joints needs all of them instead of four.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bodyposenet.decoding.compiling import compiled
from bodyposenet.skeleton import Skeleton, part_of

MISSING = -1

_LEAST_PARTS = 4
_LEAST_MEAN = 0.4


class Step(NamedTuple):
    """One limb, as the assembly takes it."""

    start: int
    """The joint that a body must hold for the limb to add the other one."""
    end: int
    """The joint that it adds."""
    turned: bool
    """Whether the skeleton lists the limb the other way round."""
    starts_body: bool
    """Whether a connection that belongs to no body yet makes a new one."""


def walk_limbs(skeleton: Skeleton) -> list[Step]:
    """Orient the limbs for the assembly; they come as the skeleton lists them.

    A body that holds only the second joint of a limb never gains the first, so a limb whose first
    joint no earlier limb had, while its second was had, is taken the other way round; in the
    original's skeleton there is none. There the limbs from eye to ear cannot start a body (edges
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
    return steps


def assemble(
    connections: NDArray[np.int64],
    strengths: NDArray[np.float64],
    scores: NDArray[np.float32],
    skeleton: Skeleton,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Put the people together.

    Args:
        connections: (C, 3) limb, start and end peak; limb by limb, best first.
        strengths: (C,) scores of the connections.
        scores: (P,) of the peaks.
        skeleton: The joints and limbs.

    Returns:
        The bodies of at least four parts (all parts of a skeleton that has fewer joints) whose
        total is at least 0.4 per part added: (N, K) peaks, -1 where a joint is missing, and totals
        (N,), the sums of their peaks and connections.
    """
    joints = len(skeleton.joints)
    steps = np.array(walk_limbs(skeleton), np.int64).reshape(-1, len(Step._fields))
    parts, totals, counts = _connect_parts(connections, strengths, scores, steps, joints)
    kept = (counts >= min(_LEAST_PARTS, joints)) & (totals >= _LEAST_MEAN * counts)
    return parts[kept], totals[kept]


@compiled
def _connect_parts(
    connections: NDArray[np.int64],
    strengths: NDArray[np.float64],
    scores: NDArray[np.float32],
    steps: NDArray[np.int64],
    joints: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Extend, join or start a body, depending on how many hold one of a connection's ends.

    Returns:
        Parts (N, K) and totals (N,), and how often a part was added to each body (N,): more than
        the parts it has if one was replaced, 0 if another body took over all it had.
    """
    parts = np.full((len(connections), joints), MISSING)
    totals = np.zeros(len(connections))
    counts = np.zeros(len(connections), np.int64)
    bodies = 0
    for k in range(len(connections)):
        limb, start, end = connections[k]
        from_joint, to_joint, turned, starts_body = steps[limb]
        if turned:
            start, end = end, start
        holders, first, second = _find_holders(parts[:bodies], from_joint, start, to_joint, end)
        gain = scores[end] + strengths[k]
        if holders == 0:
            if starts_body:
                parts[bodies, from_joint], parts[bodies, to_joint] = start, end
                totals[bodies] = scores[start] + gain
                counts[bodies] = 2
                bodies += 1
        elif holders == 2 and not np.any(np.minimum(parts[first], parts[second]) > MISSING):
            parts[first] = np.maximum(parts[first], parts[second])
            totals[first] += totals[second] + strengths[k]
            counts[first] += counts[second]
            parts[second] = MISSING
            counts[second] = 0
        elif holders == 2 or (holders == 1 and parts[first, to_joint] != end):
            # A part that the body has already is replaced and counts once more, as in the original.
            parts[first, to_joint] = end
            totals[first] += gain
            counts[first] += 1
    return parts[:bodies], totals[:bodies], counts[:bodies]


@compiled
def _find_holders(
    parts: NDArray[np.int64], from_joint: int, start: int, to_joint: int, end: int
) -> tuple[int, int, int]:
    """How many bodies hold a connection's start or end, and the first two of them."""
    holders, first, second = 0, MISSING, MISSING
    for body in range(len(parts)):
        if parts[body, from_joint] == start or parts[body, to_joint] == end:
            if holders == 0:
                first = body
            elif holders == 1:
                second = body
            holders += 1
    return holders, first, second
