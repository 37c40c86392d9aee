"""Connections -> bodies: limb after limb, a connection joins the body that holds one of its ends.

The original's rules (TAO reference, section 11.7), with two additions that leave its own skeleton's
results as they are and make every skeleton work: limbs are walked outward (`orient_limbs`), and a
skeleton of fewer than four joints needs all of them instead of four.
"""

from __future__ import annotations

from dataclasses import dataclass

from bodyposenet.decoding.tao.assembly import OrientedLimb, orient_limbs
from bodyposenet.skeleton import Skeleton

from .limbs import Connection
from .peaks import Peaks

_LEAST_PARTS = 4
_LEAST_MEAN = 0.4
_MISSING = -1


@dataclass(eq=False)
class Body:
    """A person in the making.

    Args:
        parts: K indices of peaks, -1 where a joint is missing.
        total: Sum of the scores of its peaks and connections.
        count: How often a part was added; more than the parts it has if one was replaced.
    """

    parts: list[int]
    total: float
    count: int

    def shares_a_joint_with(self, other: Body) -> bool:
        """Whether both have some joint."""
        return any(min(pair) > _MISSING for pair in zip(self.parts, other.parts, strict=True))

    def absorb(self, other: Body) -> None:
        """Take over all parts of a body that has none of the same joints."""
        self.parts = [max(pair) for pair in zip(self.parts, other.parts, strict=True)]
        self.total += other.total
        self.count += other.count


def connect_parts(
    connections: list[list[Connection]], peaks: Peaks, skeleton: Skeleton
) -> list[Body]:
    """Put the people together.

    Args:
        connections: For each limb of the skeleton its connections, best first.
        peaks: What the connections' indices point to.
        skeleton: The joints and limbs.

    Returns:
        The bodies of at least four parts (all parts of a skeleton that has fewer joints) whose
        total is at least 0.4 per part added.
    """
    bodies: list[Body] = []
    for step, limb_connections in zip(orient_limbs(skeleton), connections, strict=True):
        for connection in limb_connections:
            _add_connection(bodies, step, connection, peaks, skeleton)
    least = min(_LEAST_PARTS, len(skeleton.joints))
    return [
        body for body in bodies if body.count >= least and body.total >= _LEAST_MEAN * body.count
    ]


def _add_connection(
    bodies: list[Body], step: OrientedLimb, connection: Connection, peaks: Peaks, skeleton: Skeleton
) -> None:
    """Extend, join or start a body, depending on how many hold one of the connection's ends."""
    start, end, score = connection
    if peaks.joints[start] != step.start:
        start, end = end, start
    holders = [
        body for body in bodies if body.parts[step.start] == start or body.parts[step.end] == end
    ]
    gain = float(peaks.scores[end]) + score
    if not holders:
        if step.starts_person:
            parts = [_MISSING] * len(skeleton.joints)
            parts[step.start], parts[step.end] = start, end
            bodies.append(Body(parts, float(peaks.scores[start]) + gain, 2))
    elif len(holders) == 2 and not holders[0].shares_a_joint_with(holders[1]):
        holders[0].absorb(holders[1])
        holders[0].total += score
        bodies.remove(holders[1])
    elif len(holders) == 2 or (len(holders) == 1 and holders[0].parts[step.end] != end):
        # A part that the body has already is replaced and counts once more, as in the original.
        holders[0].parts[step.end] = end
        holders[0].total += gain
        holders[0].count += 1
