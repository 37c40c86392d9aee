"""Prediction on videos, cameras and network streams, with tracking and smoothing over time.

Frames take the same pipeline as images (`runtime.pipeline`): reading, resizing, the network and the
decoder overlap. Tracking and smoothing need the frames in their order, and run where the results
come out of it.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, NoReturn, Self

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import exists
from bodyposenet.media.smoothing import OneEuroFilter
from bodyposenet.media.tracking import Tracker
from bodyposenet.media.video import Frame, Video, open_camera, open_video
from bodyposenet.poses import Poses
from bodyposenet.runtime.pipeline import Pipeline
from bodyposenet.runtime.predictor import Predictor

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


class _Item(NamedTuple):
    """A frame on its way through the pipeline, and whether the network gets it."""

    frame: Frame
    is_searched: bool


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

    Args:
        predictor: Detects the people in one image.
        video: Its frames, see `open_source`.
        stride: Only every N-th frame is searched. Frames between keep the poses of the last one
            that was; with `track`, each person moves on with their velocity.
        track: Give people ids over time. A person who was not seen for a second gets a new one.
        smooth: Filter the joints over time (One-Euro filter); implies `track`.
        batch: Frames of a file that the network gets at once.

    Attributes:
        video: The source: its `name`, frames per second (`fps`), number of frames (`total`, None if
            it is not known), and whether it `is_live`.

    Raises:
        BodyPoseNetError: `stride` is less than 1.
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
    ) -> None:
        if stride < 1:
            raise BodyPoseNetError(
                f"stride {stride}: at least 1", "2 searches every other frame, 3 every third."
            )
        self.video = video
        self._stride = stride
        self._tracker = None
        if track or smooth:
            self._tracker = Tracker(
                predictor.engine.skeleton, new_track_score=predictor.spec.display_score_threshold
            )
        self._smoother = OneEuroFilter() if smooth else None
        self._latest: FrameResult | None = None
        self._pipeline = Pipeline(
            predictor,
            read=lambda item: item.frame.pixels,
            finish=lambda item, pixels, poses: _Found(item.frame, poses),
            skip=_fail,
            batch=1 if video.is_live else batch,
            bypass=lambda item: None if item.is_searched else _Found(item.frame, None),
            in_flight=1 if video.is_live else 2 * (batch + _AHEAD),
        )
        self._results = self._predict()

    @property
    def dropped(self) -> int:
        """Frames of a live source that were dropped so far."""
        return self.video.dropped

    def __iter__(self) -> Iterator[tuple[Frame, Poses]]:
        return self

    def __next__(self) -> tuple[Frame, Poses]:
        result = next(self._results)
        return result.frame, result.poses

    def results(self) -> Iterator[FrameResult]:
        """The same frames and poses, and in which frame the people were detected."""
        return self._results

    def close(self) -> None:
        """Stop, and release the source; a loop that runs to its end need not call it."""
        self._results.close()
        self.video.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _predict(self) -> Generator[FrameResult, None, None]:
        with (
            closing(self.video.frames()) as frames,
            closing(self._pipeline.run(self._items(frames))) as found,
        ):
            for frame, poses in found:
                yield self._follow(frame, poses)

    def _items(self, frames: Iterator[Frame]) -> Iterator[_Item]:
        for count, frame in enumerate(frames):
            yield _Item(frame, count % self._stride == 0)

    def _follow(self, frame: Frame, poses: Poses | None) -> FrameResult:
        """Track and smooth detected poses; move those of the last searched frame on."""
        if poses is None:
            latest = self._latest
            assert latest is not None  # the first frame is searched
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


def _fail(item: _Item, error: BodyPoseNetError) -> NoReturn:
    """Raise what is wrong with a frame."""
    raise BodyPoseNetError(f"frame {item.frame.index}: {error.what}", error.remedy) from error
