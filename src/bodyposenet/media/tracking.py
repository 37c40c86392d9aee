"""The poses of one frame after another in, the same poses with an id per person out."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from itertools import count

import numpy as np
from numpy.typing import NDArray

from bodyposenet.oks import compare_poses, pose_areas
from bodyposenet.skeleton import Skeleton
from bodyposenet.types import Poses

NO_ID = -1
"""Track id of people who are not followed: nobody known, and of too low a score to be new."""

_ENOUGH_JOINTS = 3
"""With fewer joints to compare, the missing ones count as disagreeing."""

_LEAST_MISSES = 3
"""Updates that a track outlives without being seen, however rare they are."""

_VELOCITY_GAIN = 0.3
"""Least weight of the newest step in the velocity; the first steps are averaged."""

_DOUBT_PER_SECOND = 4.0
"""How fast the tolerated squared distance of a person out of sight grows, relative to its start."""


class Tracker:
    """Follows people over the frames of a video.

    Each track expects its joints where a constant velocity takes them. A person may be the one of
    a track by their object keypoint similarity (COCO's OKS, over the joints that both have); pairs
    are made from the one that agrees in the most joints down. OKS falls off so fast that hardly
    anybody resembles two tracks at once: on synthetic crowds this greedy choice and an optimal
    assignment change the same number of ids.

    Args:
        skeleton: The joints of all poses, and their sigmas.
        memory: Seconds that a track outlives without being seen; at least `_LEAST_MISSES` updates.
        new_track_score: A person of this score or higher who fits no track starts one.
        least_similarity: OKS from which a person can be the one of a track.
    """

    def __init__(
        self,
        skeleton: Skeleton,
        *,
        memory: float = 1.0,
        new_track_score: float = 0.6,
        least_similarity: float = 0.2,
    ) -> None:
        self._sigmas = np.array(skeleton.sigmas)
        self._memory = memory
        self._new_track_score = new_track_score
        self._least_similarity = least_similarity
        self._tracks: list[_Track] = []
        self._times: deque[float] = deque(maxlen=1 + _LEAST_MISSES)
        self._ids = count(1)

    def update(self, poses: Poses, time: float) -> Poses:
        """Take the next frame.

        Args:
            poses: The people in it.
            time: Of the frame, in seconds; later than that of the frame before.

        Returns:
            The same people, with `track_ids`: from 1, each given once, or `NO_ID`.
        """
        ids = np.full(len(poses), NO_ID, np.int64)
        points = poses.keypoints.astype(np.float64)
        seen = ~np.isnan(points[..., 0]).all(axis=1)
        for track, person in self._pairs(points, time):
            track.follow(points[person], time)
            ids[person] = track.id
        self._times.append(time)
        oldest = min(time - self._memory, self._times[0])
        self._tracks = [track for track in self._tracks if track.time >= oldest]
        for person in np.flatnonzero(seen & (ids == NO_ID)):
            if poses.scores[person] >= self._new_track_score:
                ids[person] = next(self._ids)
                self._tracks.append(_Track(int(ids[person]), points[person], time))
        return replace(poses, track_ids=ids)

    def move(self, poses: Poses, since: float, time: float) -> Poses:
        """Where the people of an earlier frame are now, if their velocities lasted.

        Args:
            poses: What `update` gave, smoothed perhaps.
            since: The time of that frame, in seconds.
            time: Now, in seconds.
        """
        if poses.track_ids is None:
            return poses
        velocities = {track.id: track.velocity for track in self._tracks}
        shifts = [velocities.get(int(track), np.zeros(2)) for track in poses.track_ids]
        keypoints = poses.keypoints.copy()
        for points, shift in zip(keypoints, shifts, strict=True):
            points += shift * (time - since)
        return replace(poses, keypoints=keypoints)

    def _pairs(self, points: NDArray[np.float64], time: float) -> list[tuple[_Track, int]]:
        """Tracks and the people who are theirs, each at most once."""
        if not self._tracks or not len(points):
            return []
        agreement, common = self._compare(points, time)
        rows, people = np.nonzero(agreement >= self._least_similarity * common)
        pairs: dict[int, int] = {}
        for best in np.argsort(-agreement[rows, people], kind="stable"):
            row, person = int(rows[best]), int(people[best])
            if row not in pairs and person not in pairs.values():
                pairs[row] = person
        return [(self._tracks[row], person) for row, person in pairs.items()]

    def _compare(
        self, points: NDArray[np.float64], time: float
    ) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        """Compare where T tracks are expected with where N people are.

        Returns:
            (T, N) the sum over their joints of what OKS is the mean of, and (T, N) how many joints
            both have, at least `_ENOUGH_JOINTS`.
        """
        expected = np.stack([track.expected(time) for track in self._tracks])
        doubt = np.array([1 + _DOUBT_PER_SECOND * (time - track.time) for track in self._tracks])
        areas = np.maximum(pose_areas(expected)[:, None], pose_areas(points)[None]) * doubt[:, None]
        agreement, common = compare_poses(expected, points, areas, self._sigmas)
        return agreement, np.maximum(common, min(_ENOUGH_JOINTS, len(self._sigmas)))


class _Track:
    """One person over time.

    Args:
        identity: The id.
        points: (K, 2) joints in pixels, NaN where they are missing.
        time: When they were seen, in seconds.
    """

    def __init__(self, identity: int, points: NDArray[np.float64], time: float) -> None:
        self.id = identity
        self.time = time
        self._points = points
        self._velocities = np.zeros_like(points)
        self._steps = 0

    @property
    def velocity(self) -> NDArray[np.float64]:
        """(2,) the median over the joints, in pixels per second."""
        return np.median(self._velocities, axis=0)

    def expected(self, time: float) -> NDArray[np.float64]:
        """(K, 2) where the joints are then if they go on as they did."""
        return self._points + self._velocities * (time - self.time)

    def follow(self, points: NDArray[np.float64], time: float) -> None:
        """The person has been found again; joints that are missing move along with the body."""
        seconds = max(time - self.time, 1e-3)
        self._steps += 1
        gain = max(1 / self._steps, _VELOCITY_GAIN)
        both = ~np.isnan(points[:, 0]) & ~np.isnan(self._points[:, 0])
        steps = (points[both] - self._points[both]) / seconds
        self._velocities[both] += gain * (steps - self._velocities[both])
        if both.any():
            self._velocities[~both] = np.median(self._velocities[both], axis=0)
        missing = np.isnan(points[:, 0])
        expected = self.expected(time)
        self._points = np.where(missing[:, None], expected, points)
        self.time = time
