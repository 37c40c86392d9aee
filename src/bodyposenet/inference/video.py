"""Prediction on videos, cameras and network streams, with tracking and smoothing over time.

Frames take the same pipeline as images (`inference.pipeline`): reading, resizing, the network and
the decoder overlap. Tracking and smoothing need the frames in their order, and run where the
results come out of it.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Lock
from types import TracebackType
from typing import NamedTuple, NoReturn, Self, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from bodyposenet.errors import BodyPoseNetError, check_count, check_switch
from bodyposenet.files import exists
from bodyposenet.inference.pipeline import Pipeline
from bodyposenet.inference.predictor import Predictor
from bodyposenet.media.images import Color
from bodyposenet.media.smoothing import OneEuroFilter
from bodyposenet.media.tracking import Tracker
from bodyposenet.media.video import Frame, Video, open_camera, open_video
from bodyposenet.poses import Poses

_AHEAD = 4
"""Frames of a file beside a batch that wait before the network, and as many behind it."""


@dataclass(frozen=True, eq=False)
class FrameResult:
    """The people in one frame.

    Args:
        frame: The frame.
        poses: In its pixels; with tracking, they have `track_ids`.
        detected_in: Index of the frame that the people were detected in: an earlier one for
            frames that were not searched (`stride`).
    """

    frame: Frame
    poses: Poses
    detected_in: int


class _Found(NamedTuple):
    """A frame after the pipeline; no poses where the network did not get it."""

    frame: Frame
    poses: Poses | None


class VideoPredictor:
    """Detects the people in the frames of a video, and follows them from frame to frame.

    An iterator of (frame, poses), usable once, and a context manager. At most 14 frames of a file
    are held at a time (12 + 2 `batch`: before, within and behind the pipeline); none is skipped. A
    live source (camera, network stream) is never late: the next frame is the latest one there is;
    older ones are dropped and counted.

    An error in the middle (of the source, the network or a frame) is raised after the results of
    all frames before it.

    The source is released at the end of the video, by `close`, or when nothing refers to the
    iterator any more, as after `for frame, poses in model.video(source)` was left early. Threads
    may share the iterator, each gets other frames; any thread may close it.

    Args:
        predictor: Detects the people in one image.
        video: Its frames, see `open_source`.
        stride: Only every N-th frame is searched. Frames between keep the poses of the last one
            that was; with `track`, each person moves on with their velocity. `frame.is_searched`
            tells them apart.
        track: Give people ids over time. A person who was not seen for a second gets a new one.
        smooth: Filter the joints over time (One-Euro filter); implies `track`.
        batch: Frames of a file that the network gets at once.
        color: Order of the channels of `frame.pixels`.

    Attributes:
        video: The source: its `name`, frames per second (`fps`), number of frames (`total`, None if
            it is not known), and whether it `is_live`.

    Raises:
        BodyPoseNetError: `stride` is not a whole number of at least 1, or `track` or `smooth` is
            not a bool.
    """

    def __init__(
        self,
        predictor: Predictor,
        video: Video,
        *,
        stride: int = 1,
        track: bool = False,
        smooth: bool = False,
        batch: int = 1,
        color: Color = "rgb",
    ) -> None:
        try:
            check_count("stride", stride, 1)
            check_switch("track", track)
            check_switch("smooth", smooth)
        except BodyPoseNetError:
            video.close()
            raise
        self.video = video
        self._color: Color = color
        pipeline: Pipeline[Frame, _Found] = Pipeline(
            predictor,
            read=lambda frame: frame.pixels,
            finish=lambda frame, pixels, poses: _Found(frame, poses),
            skip=_fail,
            batch=1 if video.is_live else batch,
            bypass=lambda frame: None if frame.is_searched else _Found(frame, None),
            in_flight=1 if video.is_live else 2 * (batch + _AHEAD),
        )
        tracker = None
        if track or smooth:
            tracker = Tracker(
                predictor.engine.skeleton, new_track_score=predictor.spec.display_score_threshold
            )
        # Neither refers to this object: without a cycle, the source is released with it.
        follower = _Follower(tracker, OneEuroFilter() if smooth else None)
        self._results = _predict(video, pipeline, follower, stride)
        self._is_closed = Event()
        self._running = Lock()

    @property
    def dropped(self) -> int:
        """Frames of a live source that were dropped so far."""
        return self.video.dropped

    def __iter__(self) -> Iterator[tuple[Frame, Poses]]:
        return self

    def __next__(self) -> tuple[Frame, Poses]:
        result = self._next()
        if result is None:
            raise StopIteration
        frame = result.frame
        if self._color == "bgr":
            pixels = cv2.cvtColor(frame.pixels, cv2.COLOR_RGB2BGR)
            frame = replace(frame, pixels=cast("NDArray[np.uint8]", pixels))
        return frame, result.poses

    def results(self) -> Iterator[FrameResult]:
        """The same frames and poses, and in which frame the people were detected."""
        while (result := self._next()) is not None:
            yield result

    def close(self) -> None:
        """Stop, and release the source; a loop that runs to its end need not call it.

        While another thread waits for the next frame, this returns at once: that thread's loop ends
        with this frame or without it, and the source is released then.
        """
        self._is_closed.set()
        self.video.close()
        if self._running.acquire(blocking=False):
            try:
                self._results.close()
            finally:
                self._running.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _next(self) -> FrameResult | None:
        """The next result, or None at the end."""
        try:
            with self._running:
                return None if self._is_closed.is_set() else next(self._results, None)
        finally:
            if self._is_closed.is_set():  # meanwhile, so `close` had to leave the rest
                self.close()


class _Follower:
    """Tracks and smooths people; moves those of the last searched frame on.

    Args:
        tracker: Gives ids; None: nobody is tracked.
        smoother: Filters the joints; None: they stay as detected.
    """

    def __init__(self, tracker: Tracker | None, smoother: OneEuroFilter | None) -> None:
        self._tracker = tracker
        self._smoother = smoother
        self._latest: FrameResult | None = None

    def follow(self, frame: Frame, poses: Poses | None) -> FrameResult:
        """The result of the next frame.

        Args:
            frame: The frame.
            poses: Detected in it; None if it was not searched, which the first one must be.
        """
        if poses is None:
            latest = self._latest
            assert latest is not None
            poses = latest.poses
            if self._tracker is not None:
                poses = self._tracker.move(poses, latest.frame.time, frame.time)
            return FrameResult(frame, poses, latest.detected_in)
        if self._tracker is not None:
            poses = self._tracker.update(poses, frame.time)
        if self._smoother is not None:
            poses = self._smoother.smooth(poses, frame.time)
        self._latest = FrameResult(frame, poses, frame.index)
        return self._latest


def _predict(
    video: Video, pipeline: Pipeline[Frame, _Found], follower: _Follower, stride: int
) -> Generator[FrameResult, None, None]:
    with (
        closing(video.frames()) as frames,
        closing(pipeline.run(_mark(frames, stride))) as found,
    ):
        for frame, poses in found:
            yield follower.follow(frame, poses)


def _mark(frames: Iterator[Frame], stride: int) -> Iterator[Frame]:
    """Mark the frames between as not searched."""
    for count, frame in enumerate(frames):
        yield replace(frame, is_searched=False) if count % stride else frame


def open_source(source: str | os.PathLike[str] | int) -> Video:
    """Open a video file, a camera or a network stream.

    Args:
        source: A path; the number of a camera, from 0; or the address of a stream (`rtsp://...`).

    Raises:
        BodyPoseNetError: There is no such source, or it is not a video.
    """
    if isinstance(source, int) and not isinstance(source, bool):
        return open_camera(str(source))
    if not isinstance(source, str | os.PathLike):
        raise BodyPoseNetError(
            f"Unsupported video source: {type(source).__name__}",
            "Give a path, the number of a camera, or the address of a stream.",
        )
    name = os.fspath(source)
    is_camera = name.isdecimal() or "://" in name
    if is_camera and not exists(Path(name)):
        return open_camera(name)
    return open_video(name)


def _fail(frame: Frame, error: BodyPoseNetError) -> NoReturn:
    """Raise what is wrong with a frame."""
    raise BodyPoseNetError(f"frame {frame.index}: {error.what}", error.remedy) from error
