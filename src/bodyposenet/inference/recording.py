"""Recording of the results of a video as JSON lines and as an annotated video.

Each line has the keys `frame` (index), `time` (seconds), `keypoint_names`, `keypoints`, `scores`,
`keypoint_scores` and, with tracking, `track_ids`, as in detections.json. If the poses were detected
in an earlier frame, `poses_of_frame` is the index of that frame.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bodyposenet.console import logger, progress
from bodyposenet.files import atomic_write
from bodyposenet.inference.video import FrameResult, VideoPredictor
from bodyposenet.media.draw import draw, draw_track_ids
from bodyposenet.media.video import Video
from bodyposenet.media.video_writer import Mp4Writer

_SECONDS_BETWEEN_LINES = 10.0
"""Interval of the log lines on the progress."""

_DRAWING_THREADS = 2
"""Number of threads that draw; a frame is drawn while the previous one is drawn or encoded."""


def record(
    stream: VideoPredictor,
    on_result: Callable[[FrameResult], bool],
    *,
    lines: Path | None,
    movie: Path | None,
    shows: bool = False,
    score_threshold: float,
) -> Exception | KeyboardInterrupt | None:
    """Process a video and write complete files, even if it ends early.

    Args:
        stream: The frames and their poses. It is closed at the end.
        on_result: Function that is called with each result and returns whether to continue.
        lines: Path of the JSON lines, or None to write none.
        movie: Path of the annotated video, or None to write none.
        shows: Show the annotated frames in a window. Closing the window ends the recording.
        score_threshold: Minimum score of people that are drawn.

    Returns:
        The error or interrupt that ended the recording early, or None. The files are complete up to
        there.

    Raises:
        Exception: An error occurred before the first frame. Existing files are not changed.
    """
    processed = 0
    with ExitStack() as stack:
        stack.enter_context(stream)
        # The lines are completed before the video, which may not fit on the disk.
        writer = stack.enter_context(Mp4Writer(movie, stream.video.fps)) if movie else None
        file = stack.enter_context(atomic_write(lines, durable=True)) if lines else None
        window = stack.enter_context(PreviewWindow()) if shows else None
        recorder = stack.enter_context(
            Recorder(file, writer, draws=bool(movie or shows), score_threshold=score_threshold)
        )
        try:
            for result in progress(stream.results(), "video", stream.video.total, lines=False):
                processed += 1
                # Called before waiting, so that a frame that is written was also counted if Ctrl-C
                # ends the wait.
                continues = on_result(result)
                picture = recorder.add(result)
                if window is not None and picture is not None:
                    continues = window.show(picture) and continues
                if not continues:
                    break
            recorder.finish()
        except (Exception, KeyboardInterrupt) as error:
            if not processed:
                raise
            with suppress(Exception):  # the first error is reported
                recorder.finish()
            return error
    return None


class FrameCounts:
    """Counts frames and people, and logs the progress every ten seconds.

    Args:
        total: Number of frames of the video, or None if unknown.

    Attributes:
        frames: Number of frames so far.
        people: Number of people in all frames.
        video_seconds: Time of the last frame in seconds.
    """

    def __init__(self, total: int | None) -> None:
        self._total = f"/{total}" if total else ""
        self._start = self._logged = time.monotonic()
        self._seconds = 0.0
        self._ids: set[int] | None = None
        self.frames = self.people = 0
        self.video_seconds = 0.0

    def add(self, result: FrameResult) -> None:
        """Count a frame."""
        self.frames += 1
        self.people += len(result.poses)
        self.video_seconds = result.frame.time
        if result.poses.track_ids is not None:
            self._ids = self._ids or set()
            self._ids.update(result.poses.track_ids.tolist())
        now = time.monotonic()
        self._seconds = now - self._start
        if now - self._logged >= _SECONDS_BETWEEN_LINES:
            self._logged = now
            logger.info(
                "video: %d%s frames, %.1f frames/s", self.frames, self._total, self._frames_per_s()
            )

    def figures(self, video: Video) -> dict[str, float]:
        """Return the counts by name."""
        figures: dict[str, float] = {
            "frames": self.frames,
            "people per frame": round(self.people / max(self.frames, 1), 2),
        }
        if self._ids is not None:
            figures["tracks"] = sum(identity >= 0 for identity in self._ids)
        if video.is_live:
            figures["dropped frames"] = video.dropped
        return figures | {"frames/s": round(self._frames_per_s(), 2)}

    def _frames_per_s(self) -> float:
        """Return the mean number of frames per second until the last frame."""
        return self.frames / max(self._seconds, 1e-9)


class Recorder:
    """Draws and writes frames in threads. A context manager that ends the threads.

    Args:
        lines: File for the JSON lines, or None to write none.
        movie: Writer of the annotated frames, or None to write none.
        draws: Whether to draw, for `movie` or for a window that shows what `add` returns.
        score_threshold: Minimum score of people that are drawn. With tracking, all people with an
            id are drawn instead.
    """

    def __init__(
        self, lines: IO[bytes] | None, movie: Mp4Writer | None, *, draws: bool,
        score_threshold: float,
    ) -> None:  # fmt: skip
        self._lines = lines
        self._movie = movie
        self._draws = draws
        self._score_threshold = score_threshold
        self._drawers = ThreadPoolExecutor(_DRAWING_THREADS, thread_name_prefix="drawer")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="recorder")
        self._waiting: deque[Future[NDArray[np.uint8] | None]] = deque()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.shutdown(cancel_futures=True)
        self._drawers.shutdown(cancel_futures=True)

    def add(self, result: FrameResult) -> NDArray[np.uint8] | None:
        """Add the next frame. Waits if several frames are not written yet.

        Returns:
            The annotated pixels of an earlier frame, (H, W, 3) uint8 RGB, or None.

        Raises:
            BodyPoseNetError: An earlier frame cannot be written.
        """
        picture = self._drawers.submit(self._draw, result) if self._draws else None
        self._waiting.append(self._writer.submit(self._write, result, picture))
        return self._waiting.popleft().result() if len(self._waiting) > _DRAWING_THREADS else None

    def finish(self) -> None:
        """Wait until all frames are written.

        Raises:
            BodyPoseNetError: A frame cannot be written. Later frames were tried nevertheless.
        """
        failures = [error for future in self._waiting if (error := future.exception())]
        self._waiting.clear()
        if failures:
            raise failures[0]

    def _write(
        self, result: FrameResult, picture: Future[NDArray[np.uint8]] | None
    ) -> NDArray[np.uint8] | None:
        """Write a frame once it is drawn, and return its annotated pixels."""
        if self._lines is not None:
            self._lines.write(json.dumps(describe_frame(result)).encode() + b"\n")
        if picture is None:
            return None
        pixels = picture.result()
        if self._movie is not None:
            self._movie.write(pixels, result.frame.time)
        return pixels

    def _draw(self, result: FrameResult) -> NDArray[np.uint8]:
        """Draw the poses and track ids of a frame."""
        pixels, poses = result.frame.pixels, result.poses
        if poses.track_ids is None:
            return draw(pixels, poses, score_threshold=self._score_threshold)
        shown = poses[poses.track_ids >= 0]
        return draw_track_ids(draw(pixels, shown, score_threshold=0), shown)


def describe_frame(result: FrameResult) -> Mapping[str, Any]:
    """Return the content of the JSON line of a frame."""
    frame, poses = result.frame, result.poses
    line = {
        "frame": frame.index,
        "time": round(frame.time, 6),
        "keypoint_names": list(poses.skeleton.joints),
        **poses.to_dict(),
    }
    if result.detected_in != frame.index:
        line["poses_of_frame"] = result.detected_in
    return line


_TITLE = "bodyposenet (q: quit)"
_QUIT_KEYS = (ord("q"), 27)
"""q and Escape."""


class PreviewWindow:
    """Preview window, as a context manager. If it cannot be opened, logs the reason once."""

    def __init__(self) -> None:
        self._problem = _missing_display()
        if not self._problem:
            try:
                cv2.namedWindow(_TITLE, cv2.WINDOW_NORMAL)
            except cv2.error:
                self._problem = "this OpenCV is built without windows (opencv-python has them)"
        if self._problem:
            logger.warning("cannot show a window: %s", self._problem)

    def __enter__(self) -> PreviewWindow:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._problem:
            cv2.destroyWindow(_TITLE)

    def show(self, pixels: NDArray[np.uint8]) -> bool:
        """Show a frame. Must be called in the main thread.

        Args:
            pixels: (H, W, 3) uint8 RGB.

        Returns:
            Whether to continue, that is, neither q nor Escape was pressed.
        """
        if self._problem:
            return True
        cv2.imshow(_TITLE, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
        return cv2.waitKey(1) & 0xFF not in _QUIT_KEYS


def _missing_display() -> str:
    """Return why there is no display, or an empty text; without one, OpenCV ends the process."""
    unix = not sys.platform.startswith(("win", "darwin"))
    if unix and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "there is no display"
    return ""
