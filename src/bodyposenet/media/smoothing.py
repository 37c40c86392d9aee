"""Temporal smoothing of tracked poses with the One-Euro filter.

Casiez, Roussel and Vogel, "1 EUR Filter: A Simple Speed-based Low-pass Filter for Noisy Input in
Interactive Systems", CHI 2012. The cutoff frequency rises with the speed, so that joints at rest do
not jitter and fast joints hardly lag.
"""

from __future__ import annotations

import warnings
from collections import deque
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.media.tracking import check_frame
from bodyposenet.poses import Poses

_MAX_GAP = 0.5
"""The filter of a joint restarts if the joint was missing for more than this many seconds."""

_MIN_GAP_FRAMES = 2
"""The filter of a joint does not restart after a gap of this many frames, at any frame rate."""


class OneEuroFilter:
    """One-Euro filter of the joints of tracked people.

    Speeds are relative to the person's size, so that the same parameters suit small and large
    people. Parameters have the paper's names. Use one filter per video, in one thread at a time.

    Args:
        min_cutoff: Cutoff frequency of a joint at rest, in Hz; a lower one removes more jitter.
        beta: Rise of the cutoff frequency, in Hz per person length per second; a higher one
            reduces the lag.
        d_cutoff: Cutoff frequency of the speeds, in Hz.

    Raises:
        BodyPoseNetError: A cutoff frequency is not positive, or beta is negative.
    """

    def __init__(
        self, *, min_cutoff: float = 1.0, beta: float = 20.0, d_cutoff: float = 1.0
    ) -> None:
        if not (min_cutoff > 0 and d_cutoff > 0 and beta >= 0):
            raise BodyPoseNetError(
                "OneEuroFilter: invalid parameters: "
                f"min_cutoff={min_cutoff}, beta={beta}, d_cutoff={d_cutoff}",
                "Cutoff frequencies must be positive, beta must not be negative.",
            )
        self._min_cutoff = min_cutoff
        self._beta = beta
        self._d_cutoff = d_cutoff
        self._people: dict[int, _Person] = {}
        self._times: deque[float] = deque(maxlen=1 + _MIN_GAP_FRAMES)

    def smooth(self, poses: Poses, time: float) -> Poses:
        """Filter the poses of the next frame.

        Args:
            poses: The people in it. People with a negative track id, and poses without
                `track_ids`, are returned unchanged.
            time: Time of the frame in seconds, not before that of the previous frame.

        Returns:
            The same people; missing joints stay missing.

        Raises:
            BodyPoseNetError: The time decreases, or `poses` has a wrong type.
        """
        check_frame("OneEuroFilter.smooth", poses, time, self._times)
        if poses.track_ids is None:
            return poses
        self._times.append(time)
        oldest = min(time - _MAX_GAP, self._times[0])
        keypoints = poses.keypoints.copy()
        for index in np.flatnonzero(poses.track_ids >= 0):
            person = self._people.setdefault(
                int(poses.track_ids[index]), _Person(keypoints.shape[1])
            )
            keypoints[index] = self._filter(person, poses.keypoints[index], time, oldest)
        self._people = {
            track_id: person
            for track_id, person in self._people.items()
            if person.times.max() >= oldest
        }
        return replace(poses, keypoints=keypoints)

    def _filter(
        self, person: _Person, points: NDArray[np.float32], time: float, oldest: float
    ) -> NDArray[np.float64]:
        """Return one person's filtered joints, (K, 2), and update the state of the filters.

        Filters of joints that were last detected before `oldest` are restarted.
        """
        visible = ~np.isnan(points[:, 0])
        recent = person.times >= oldest
        known = visible & recent
        smooth = points.astype(np.float64)
        if known.any():
            length = max(float(np.ptp(person.points[recent], axis=0).max()), 1.0)
            seconds = np.maximum(time - person.times[known], 1e-3)[:, None]
            steps = smooth[known] - person.points[known]
            velocities = person.velocities[known]
            velocities += _smoothing_factor(self._d_cutoff, seconds) * (
                steps / seconds - velocities
            )
            speeds = np.hypot(*velocities.T)[:, None] / length
            alpha = _smoothing_factor(self._min_cutoff + self._beta * speeds, seconds)
            smooth[known] = person.points[known] + alpha * steps
            person.velocities[known] = velocities
        person.velocities[visible & ~recent] = 0
        person.points[visible] = smooth[visible]
        person.times[visible] = time
        return smooth


class _Person:
    """State of the filters of one person's joints.

    Attributes:
        points: (K, 2) filtered, in pixels.
        velocities: (K, 2) filtered, in pixels per second.
        times: (K,) time of the last detection of each joint in seconds; -inf if there was none.
    """

    def __init__(self, joints: int) -> None:
        self.points = np.zeros((joints, 2))
        self.velocities = np.zeros((joints, 2))
        self.times = np.full(joints, -np.inf)


def _smoothing_factor(
    cutoff: NDArray[np.float64] | float, seconds: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return alpha, the weight of the new value: 1 / (1 + tau / T) with tau = 1 / (2 pi cutoff)."""
    return 1 / (1 + 1 / (2 * np.pi * cutoff * seconds))


def __getattr__(name: str) -> Any:
    if name == "Smoother":
        message = "Smoother is deprecated; use OneEuroFilter"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        return OneEuroFilter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
