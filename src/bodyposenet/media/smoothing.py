"""Tracked poses of one frame after another in, the same poses with less jitter out.

The One-Euro filter: Casiez, Roussel and Vogel, "1 EUR Filter: A Simple Speed-based Low-pass Filter
for Noisy Input in Interactive Systems", CHI 2012. A low-pass whose cutoff rises with the speed: a
joint at rest keeps still, a fast one is hardly late.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bodyposenet.types import Poses

_LONGEST_GAP = 0.5
"""Seconds from one sight of a joint to the next; after that its filter starts afresh."""

_LEAST_STEPS = 2
"""Frames from one sight of a joint to the next that are no gap, however rare they are."""


class Smoother:
    """Filters every joint of every tracked person.

    Speeds are measured in lengths of the person per second, so that the same settings hold near
    and far and at any resolution.

    Args:
        cutoff: Cutoff frequency of a joint at rest, in Hz; lower: calmer.
        beta: By how many Hz the cutoff rises with each length of the person per second; higher:
            less late.
        speed_cutoff: Cutoff frequency of the speeds, in Hz.
    """

    def __init__(
        self, *, cutoff: float = 1.0, beta: float = 20.0, speed_cutoff: float = 1.0
    ) -> None:
        self._cutoff = cutoff
        self._beta = beta
        self._speed_cutoff = speed_cutoff
        self._people: dict[int, _Person] = {}
        self._times: deque[float] = deque(maxlen=1 + _LEAST_STEPS)

    def smooth(self, poses: Poses, time: float) -> Poses:
        """Take the next frame.

        Args:
            poses: The people in it, with their `track_ids`; negative ones stay as they are.
            time: Of the frame, in seconds; later than that of the frame before.

        Returns:
            The same people; joints that are missing stay missing.
        """
        if poses.track_ids is None:
            return poses
        self._times.append(time)
        oldest = min(time - _LONGEST_GAP, self._times[0])
        keypoints = poses.keypoints.copy()
        for index in np.flatnonzero(poses.track_ids >= 0):
            person = self._people.setdefault(
                int(poses.track_ids[index]), _Person(keypoints.shape[1])
            )
            keypoints[index] = self._filter(person, poses.keypoints[index], time, oldest)
        self._people = {
            identity: person
            for identity, person in self._people.items()
            if person.times.max() >= oldest
        }
        return replace(poses, keypoints=keypoints)

    def _filter(
        self, person: _Person, points: NDArray[np.float32], time: float, oldest: float
    ) -> NDArray[np.float64]:
        """One person's next joints, (K, 2), as the paper has it; the filters are brought on.

        Those of joints that were last seen before `oldest` start afresh.
        """
        found = ~np.isnan(points[:, 0])
        recent = person.times >= oldest
        known = found & recent
        smooth = points.astype(np.float64)
        if known.any():
            length = max(float(np.ptp(person.points[recent], axis=0).max()), 1.0)
            seconds = np.maximum(time - person.times[known], 1e-3)[:, None]
            steps = smooth[known] - person.points[known]
            velocities = person.velocities[known]
            velocities += _share(self._speed_cutoff, seconds) * (steps / seconds - velocities)
            speeds = np.hypot(*velocities.T)[:, None] / length
            share = _share(self._cutoff + self._beta * speeds, seconds)
            smooth[known] = person.points[known] + share * steps
            person.velocities[known] = velocities
        person.velocities[found & ~recent] = 0
        person.points[found] = smooth[found]
        person.times[found] = time
        return smooth


class _Person:
    """What the filters of one person's joints have come to.

    Attributes:
        points: (K, 2) filtered, in pixels.
        velocities: (K, 2) filtered, in pixels per second.
        times: (K,) when each joint was seen last, in seconds; -inf: never.
    """

    def __init__(self, joints: int) -> None:
        self.points = np.zeros((joints, 2))
        self.velocities = np.zeros((joints, 2))
        self.times = np.full(joints, -np.inf)


def _share(
    cutoff: NDArray[np.float64] | float, seconds: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weight of the newest value in a low-pass: 1 / (1 + tau / T) with tau = 1 / (2 pi cutoff)."""
    return 1 / (1 + 1 / (2 * np.pi * cutoff * seconds))
