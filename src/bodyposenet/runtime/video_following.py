"""The frames of a video in, one after the other, the poses in each out: found, kept or moved."""

from __future__ import annotations

from dataclasses import dataclass

from bodyposenet.media.smoothing import OneEuroFilter
from bodyposenet.media.tracking import Tracker
from bodyposenet.media.video import Frame
from bodyposenet.runtime.predictor import Predictor
from bodyposenet.types import Poses


@dataclass(frozen=True, eq=False)
class FramePoses:
    """The people in one frame.

    Args:
        poses: In image pixels.
        found_in: Index of the frame that they were found in.
        found_at: Its time, in seconds.
    """

    poses: Poses
    found_in: int
    found_at: float


class Follower:
    """Finds people in every N-th frame, and follows them from frame to frame.

    Frames between keep the poses of the frame before; with tracking these move along, each person
    with the velocity of the body.

    Args:
        predictor: Finds the people in an image.
        every: N.
        tracks: Give people ids. One out of sight for a second is forgotten; where frames with
            poses are rare, after a few of them.
        smooths: Calm their joints; only with `tracks`.
    """

    def __init__(
        self, predictor: Predictor, *, every: int = 1, tracks: bool = False, smooths: bool = False
    ) -> None:
        self._predictor = predictor
        self._every = every
        self._tracker = None
        if tracks:
            self._tracker = Tracker(
                predictor.engine.skeleton, new_track_score=predictor.spec.display_score_threshold
            )
        self._smoother = OneEuroFilter() if smooths else None
        self._count = 0
        self._latest: FramePoses | None = None

    def find(self, frame: Frame) -> FramePoses:
        """The people in the next frame."""
        between = self._count % self._every > 0
        self._count += 1
        if between and self._latest is not None:
            return self._keep(self._latest, frame.time)
        poses = self._predictor(frame.pixels)
        if self._tracker is not None:
            poses = self._tracker.update(poses, frame.time)
        if self._smoother is not None:
            poses = self._smoother.smooth(poses, frame.time)
        self._latest = FramePoses(poses, frame.index, frame.time)
        return self._latest

    def _keep(self, latest: FramePoses, time: float) -> FramePoses:
        if self._tracker is None:
            return latest
        moved = self._tracker.move(latest.poses, latest.found_at, time)
        return FramePoses(moved, latest.found_in, latest.found_at)
