"""Multi-person tracking by object keypoint similarity."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from itertools import count

import numpy as np
from numpy.typing import NDArray

from bodyposenet.errors import BodyPoseNetError, check_type
from bodyposenet.oks import compare_poses, pose_areas
from bodyposenet.poses import NO_ID, Poses
from bodyposenet.skeleton import Skeleton

_MIN_COMMON_JOINTS = 3
"""Minimum number of common joints; missing ones count with a similarity of 0."""

_MIN_UPDATES = 3
"""Updates without a match after which a track is still kept, at any frame rate."""

_VELOCITY_GAIN = 0.3
"""Minimum weight of the latest step in the velocity; the first steps are averaged."""

_UNCERTAINTY_PER_SECOND = 4.0
"""Growth per second of the tolerated squared distance of people who are not detected."""


class Tracker:
    """Track people over the frames of a video.

    The joints of a track are predicted with a constant velocity and compared with those of the
    detections by object keypoint similarity (COCO's OKS, over the joints that both have).
    Detections are assigned greedily, the highest sum over the joints first: on synthetic crowds, an
    optimal assignment has as many id switches. Use one tracker per video, in one thread at a time.

    Args:
        skeleton: Skeleton of all poses, with the OKS sigmas.
        max_age: Seconds without a match after which a track ends, but at least 3 updates.
        new_track_score: Minimum score of a detection without a match to start a track.
        min_oks: Minimum OKS of a match.
    """

    def __init__(
        self,
        skeleton: Skeleton,
        *,
        max_age: float = 1.0,
        new_track_score: float = 0.6,
        min_oks: float = 0.2,
    ) -> None:
        self._sigmas = np.array(skeleton.sigmas)
        self._max_age = max_age
        self._new_track_score = new_track_score
        self._min_oks = min_oks
        self._tracks: list[_Track] = []
        self._times: deque[float] = deque(maxlen=1 + _MIN_UPDATES)
        self._ids = count(1)

    def update(self, poses: Poses, time: float) -> Poses:
        """Assign track ids to the poses of the next frame.

        Args:
            poses: The people in it.
            time: Time of the frame in seconds, not before that of the previous frame.

        Returns:
            The same people with `track_ids`, unique numbers from 1; or -1 for people who match no
            track and whose score is too low to start one.

        Raises:
            BodyPoseNetError: The time decreases, or `poses` has a wrong type or skeleton.
        """
        check_frame("Tracker.update", poses, time, self._times)
        if poses.keypoints.shape[1] != len(self._sigmas):
            raise BodyPoseNetError(
                f"Tracker.update: expected {len(self._sigmas)} joints, "
                f"got the {poses.keypoints.shape[1]} of {poses.skeleton.name}",
                "Create the tracker with the skeleton of the poses: Tracker(poses.skeleton).",
            )
        ids = np.full(len(poses), NO_ID, np.int64)
        points = poses.keypoints.astype(np.float64)
        has_joints = ~np.isnan(points[..., 0]).all(axis=1)
        for track, person in self._pairs(points, time):
            track.update(points[person], time)
            ids[person] = track.id
        self._times.append(time)
        oldest = min(time - self._max_age, self._times[0])
        self._tracks = [track for track in self._tracks if track.time >= oldest]
        for person in np.flatnonzero(has_joints & (ids == NO_ID)):
            if poses.scores[person] >= self._new_track_score:
                ids[person] = next(self._ids)
                self._tracks.append(_Track(int(ids[person]), points[person], time))
        return replace(poses, track_ids=ids)

    def move(self, poses: Poses, since: float, time: float) -> Poses:
        """Extrapolate the poses of an earlier frame with the velocities of their tracks.

        Args:
            poses: Result of `update`, optionally smoothed.
            since: Time of that frame in seconds.
            time: Time to extrapolate to, in seconds.

        Returns:
            The same people at that time; those without a track do not move.
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
        """Return the matches of tracks and people, each at most once."""
        if not self._tracks or not len(points):
            return []
        similarity, common = self._compare(points, time)
        rows, people = np.nonzero(similarity >= self._min_oks * common)
        pairs: dict[int, int] = {}
        for best in np.argsort(-similarity[rows, people], kind="stable"):
            row, person = int(rows[best]), int(people[best])
            if row not in pairs and person not in pairs.values():
                pairs[row] = person
        return [(self._tracks[row], person) for row, person in pairs.items()]

    def _compare(
        self, points: NDArray[np.float64], time: float
    ) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        """Compare T predicted tracks with N people.

        Returns:
            (T, N) sums of the joints' similarities, of which OKS is the mean, and (T, N) numbers
            of joints that both have, at least `_MIN_COMMON_JOINTS`.
        """
        predicted = np.stack([track.predict(time) for track in self._tracks])
        ages = np.array([time - track.time for track in self._tracks])
        uncertainty = 1 + _UNCERTAINTY_PER_SECOND * ages
        areas = np.maximum(pose_areas(predicted)[:, None], pose_areas(points)[None])
        similarity, common = compare_poses(
            predicted, points, areas * uncertainty[:, None], self._sigmas
        )
        return similarity, np.maximum(common, min(_MIN_COMMON_JOINTS, len(self._sigmas)))


def check_frame(caller: str, poses: object, time: float, times: Sequence[float]) -> None:
    """Check the arguments of a method that processes the frames of a video.

    Args:
        caller: Name of the method, for error messages.
        poses: The argument `poses`.
        time: Time of the frame in seconds.
        times: Times of earlier frames.

    Raises:
        BodyPoseNetError: `poses` has a wrong type, or the time is not finite or decreases.
    """
    check_type(caller, poses, Poses, "Give the poses of each frame, in their order.")
    if not math.isfinite(time) or (times and time < times[-1]):
        before = f" after {times[-1]:g}" if times else ""
        raise BodyPoseNetError(
            f"{caller}: the time decreases: {time:g}{before} seconds",
            "Give seconds from the start of the video, and create a new object for each video.",
        )


class _Track:
    """The track of one person.

    Args:
        track_id: Track id.
        points: (K, 2) joints in pixels, NaN where they are missing.
        time: Time of the frame in seconds.
    """

    def __init__(self, track_id: int, points: NDArray[np.float64], time: float) -> None:
        self.id = track_id
        self.time = time
        self._points = points
        self._velocities = np.zeros_like(points)
        self._steps = 0

    @property
    def velocity(self) -> NDArray[np.float64]:
        """(2,) median velocity of the joints, in pixels per second."""
        return np.median(self._velocities, axis=0)

    def predict(self, time: float) -> NDArray[np.float64]:
        """Return the joints, (K, 2), at a later time, with constant velocities."""
        return self._points + self._velocities * (time - self.time)

    def update(self, points: NDArray[np.float64], time: float) -> None:
        """Update the track with a match; missing joints move with the median of the others."""
        seconds = max(time - self.time, 1e-3)
        self._steps += 1
        gain = max(1 / self._steps, _VELOCITY_GAIN)
        both = ~np.isnan(points[:, 0]) & ~np.isnan(self._points[:, 0])
        steps = (points[both] - self._points[both]) / seconds
        self._velocities[both] += gain * (steps - self._velocities[both])
        if both.any():
            self._velocities[~both] = np.median(self._velocities[both], axis=0)
        missing = np.isnan(points[:, 0])
        self._points = np.where(missing[:, None], self.predict(time), points)
        self.time = time
