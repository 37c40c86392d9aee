"""Prediction on videos, cameras and network streams, with tracking and smoothing over time.

Frames go through the same pipeline as images (`inference.pipeline`), where reading, resizing, the
network and decoding overlap. Tracking and smoothing run on its results, in the order of the frames.
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

from bodyposenet.errors import BodyPoseNetError, check_bool, check_count
from bodyposenet.files import exists
from bodyposenet.inference.pipeline import Pipeline
from bodyposenet.inference.predictor import Predictor
from bodyposenet.media.images import Color
from bodyposenet.media.smoothing import OneEuroFilter
from bodyposenet.media.tracking import Tracker
from bodyposenet.media.video import Frame, Video, open_camera, open_video
from bodyposenet.poses import Poses

_READ_AHEAD = 4
"""Number of frames of a file before the network and behind it, in addition to a batch."""


@dataclass(frozen=True, eq=False)
class FrameResult:
    """Result of one frame.

    Args:
        frame: The frame.
        poses: Poses in pixels of the frame; with tracking, they have `track_ids`.
        detected_in: Index of the frame in which the people were detected, an earlier one if this
            frame was not searched (`stride`).
    """

    frame: Frame
    poses: Poses
    detected_in: int


class _Detected(NamedTuple):
    """A frame after the pipeline; `poses` is None if it was not searched."""

    frame: Frame
    poses: Poses | None


class VideoPredictor:
    """Iterator over the frames of a video and the poses in them; returned by `model.video(source)`.

    It yields (frame, poses) once, and it is a context manager. At most 12 + 2 `batch` frames of a
    file are in memory at a time, and none is skipped. For a live source (camera or network stream),
    the next frame is always the latest one; older frames are dropped and counted.

    An error (of the source, the network or a frame) is raised after the results of all frames
    before it.

    The source is released at the end of the video, by `close`, or when the iterator is garbage
    collected, for example after leaving `for frame, poses in model.video(source)` early. Several
    threads may share the iterator; each frame goes to one of them. Any thread may close it.

    Args:
        predictor: Predictor for single images.
        video: The source, see `open_source`.
        stride: Detect people only in every N-th frame. Frames in between have the poses of the last
            one of these; with `track`, the poses are extrapolated with the velocity of each person.
            Their `frame.is_processed` is False.
        track: Assign `track_ids` to people. A person who was not detected for a second gets a new
            id.
        smooth: Smooth the keypoints over time (One-Euro filter); implies `track`.
        batch: Batch size for files.
        color: Order of the channels of `frame.pixels`.

    Attributes:
        video: The source, with `name`, frames per second (`fps`), number of frames (`total`, None
            if unknown) and `is_live`.

    Raises:
        BodyPoseNetError: `stride` is not an integer of at least 1, or `track` or `smooth` is not a
            bool.

    Examples:
        ```python
        import bodyposenet

        model = bodyposenet.load()
        with model.video("dance.mp4", track=True) as stream:
            for frame, poses in stream:
                print(frame.index, frame.time, poses.track_ids)
        ```
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
            check_bool("track", track)
            check_bool("smooth", smooth)
        except BodyPoseNetError:
            video.close()
            raise
        self.video = video
        self._color: Color = color
        pipeline: Pipeline[Frame, _Detected] = Pipeline(
            predictor,
            read=lambda frame: frame.pixels,
            finish=lambda frame, pixels, poses: _Detected(frame, poses),
            skip=_fail,
            batch=1 if video.is_live else batch,
            bypass=lambda frame: None if frame.is_processed else _Detected(frame, None),
            in_flight=1 if video.is_live else 2 * (batch + _READ_AHEAD),
        )
        tracker = None
        if track or smooth:
            tracker = Tracker(
                predictor.engine.skeleton, new_track_score=predictor.spec.display_score_threshold
            )
        # Neither may refer to this object: a cycle would delay the release of the source.
        frame_tracker = _FrameTracker(tracker, OneEuroFilter() if smooth else None)
        self._results = _predict(video, pipeline, frame_tracker, stride)
        self._is_closed = Event()
        self._running = Lock()

    @property
    def dropped(self) -> int:
        """Number of dropped frames of a live source so far."""
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
        """Iterate over the same frames, as `FrameResult` instead of (frame, poses)."""
        while (result := self._next()) is not None:
            yield result

    def close(self) -> None:
        """Stop and release the source. Not necessary after a loop to the end.

        If another thread is waiting for the next frame, this returns immediately; that thread's
        loop ends after at most this frame, and the source is released then.
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
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _next(self) -> FrameResult | None:
        """Return the next result, or None at the end."""
        try:
            with self._running:
                return None if self._is_closed.is_set() else next(self._results, None)
        finally:
            if self._is_closed.is_set():  # closed meanwhile by another thread
                self.close()


def open_source(source: str | os.PathLike[str] | int) -> Video:
    """Open a video file, a camera or a network stream.

    Args:
        source: Path of a file, index of a camera, or URL of a stream (`rtsp://...`).

    Raises:
        BodyPoseNetError: The source does not exist or is not a video.
    """
    if isinstance(source, int) and not isinstance(source, bool):
        return open_camera(str(source))
    if not isinstance(source, str | os.PathLike):
        raise BodyPoseNetError(
            f"Unsupported video source: {type(source).__name__}",
            "Give the path of a file, the index of a camera, or the URL of a stream.",
        )
    name = os.fspath(source)
    is_camera = name.isdecimal() or "://" in name
    if is_camera and not exists(Path(name)):
        return open_camera(name)
    return open_video(name)


class _FrameTracker:
    """Tracks and smooths people, and extrapolates their poses to frames that were not searched.

    Args:
        tracker: Tracker that assigns ids, or None for no tracking.
        smoother: Filter of the keypoints, or None for no smoothing.
    """

    def __init__(self, tracker: Tracker | None, smoother: OneEuroFilter | None) -> None:
        self._tracker = tracker
        self._smoother = smoother
        self._latest: FrameResult | None = None

    def update(self, frame: Frame, poses: Poses | None) -> FrameResult:
        """Process the next frame.

        Args:
            frame: The frame.
            poses: Poses detected in it, or None if it was not searched. The first frame must be.
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
    video: Video, pipeline: Pipeline[Frame, _Detected], tracker: _FrameTracker, stride: int
) -> Generator[FrameResult, None, None]:
    """Yield the results of all frames. The source is closed with this generator."""
    with (
        closing(video.frames()) as frames,
        closing(pipeline.run(_mark_skipped(frames, stride))) as detected,
    ):
        for frame, poses in detected:
            yield tracker.update(frame, poses)


def _mark_skipped(frames: Iterator[Frame], stride: int) -> Iterator[Frame]:
    """Mark all frames but every N-th as not searched."""
    for count, frame in enumerate(frames):
        yield replace(frame, is_processed=False) if count % stride else frame


def _fail(frame: Frame, error: BodyPoseNetError) -> NoReturn:
    """Raise the error of a frame."""
    raise BodyPoseNetError(f"frame {frame.index}: {error.what}", error.remedy) from error
