"""Assembly of connections into people, limb by limb (TAO reference, section 11.7).

Two additions support any skeleton, without effect on TAO's own skeleton: limbs are ordered outward
(`orient_limbs`), and people of a skeleton with fewer than four joints need all joints instead of
four.
"""

from __future__ import annotations

from dataclasses import dataclass

from bodyposenet import Skeleton
from bodyposenet.decoding.tao.assembly import OrientedLimb, orient_limbs

from .limbs import Connection
from .peaks import Peaks

_MIN_PARTS = 4
_MIN_MEAN_SCORE = 0.4
_MISSING = -1


@dataclass(eq=False)
class PersonCandidate:
    """A person instance during assembly.

    Args:
        parts: K indices of peaks, -1 for missing joints.
        total: Sum of the scores of the peaks and connections.
        count: Number of added parts, including replaced ones.
    """

    parts: list[int]
    total: float
    count: int

    def shares_joint_with(self, other: PersonCandidate) -> bool:
        """Return whether some joint is present in both."""
        return any(min(pair) > _MISSING for pair in zip(self.parts, other.parts, strict=True))

    def merge(self, other: PersonCandidate) -> None:
        """Add all parts of another person, which has none of the same joints."""
        self.parts = [max(pair) for pair in zip(self.parts, other.parts, strict=True)]
        self.total += other.total
        self.count += other.count


def connect_parts(
    connections: list[list[Connection]], peaks: Peaks, skeleton: Skeleton
) -> list[PersonCandidate]:
    """Assemble the people.

    Args:
        connections: For each limb of the skeleton its connections, best first.
        peaks: The peaks to which the connections refer.
        skeleton: The joints and limbs.

    Returns:
        The people of at least four parts (all parts of a skeleton with fewer joints) whose total
        is at least 0.4 per added part.
    """
    people: list[PersonCandidate] = []
    for step, limb_connections in zip(orient_limbs(skeleton), connections, strict=True):
        for connection in limb_connections:
            _add_connection(people, step, connection, peaks, skeleton)
    least = min(_MIN_PARTS, len(skeleton.joints))
    return [
        person
        for person in people
        if person.count >= least and person.total >= _MIN_MEAN_SCORE * person.count
    ]


def _add_connection(
    people: list[PersonCandidate],
    step: OrientedLimb,
    connection: Connection,
    peaks: Peaks,
    skeleton: Skeleton,
) -> None:
    """Extend, merge or start a person, depending on how many contain an end of the connection."""
    start, end, score = connection
    if peaks.joints[start] != step.start:
        start, end = end, start
    holders = [
        person
        for person in people
        if person.parts[step.start] == start or person.parts[step.end] == end
    ]
    gain = float(peaks.scores[end]) + score
    if not holders:
        if step.starts_person:
            parts = [_MISSING] * len(skeleton.joints)
            parts[step.start], parts[step.end] = start, end
            people.append(PersonCandidate(parts, float(peaks.scores[start]) + gain, 2))
    elif len(holders) == 2 and not holders[0].shares_joint_with(holders[1]):
        holders[0].merge(holders[1])
        holders[0].total += score
        people.remove(holders[1])
    elif len(holders) == 2 or (len(holders) == 1 and holders[0].parts[step.end] != end):
        # An existing part is replaced and counts again, as in TAO.
        holders[0].parts[step.end] = end
        holders[0].total += gain
        holders[0].count += 1
