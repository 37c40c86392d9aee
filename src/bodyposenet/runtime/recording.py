"""Recording the results of a video: lines of JSON and an annotated video.

Each line is an object: `frame` (its index), `time` (seconds), then `keypoints`, `scores`,
`keypoint_scores` and, where people are tracked, `track_ids`, as in detections.json; and
`poses_of_frame` where the poses were detected in an earlier frame.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from bodyposenet.media.draw import draw
from bodyposenet.media.labels import draw_track_ids
from bodyposenet.media.mp4 import Mp4Writer
from bodyposenet.runtime.video import FrameResult

_DRAWING_THREADS = 2
"""A frame is drawn while the one before is still encoded, or drawn."""


class Recorder:
    """Draws and writes frames in threads; a context manager that ends them.

    Args:
        lines: Receives the lines of JSON; None: none are written.
        movie: Receives the annotated frames; None: no video is written.
        draws: Whether to draw: for `movie`, or for a window that shows what `add` returns.
        score_threshold: Least score of the people who are drawn. Tracked people are drawn as long
            as they have an id.
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
        """Take the next frame; waits if several are not written yet.

        Returns:
            The annotated picture of an earlier frame, (H, W, 3) uint8 RGB, if there is one.

        Raises:
            BodyPoseNetError: An earlier frame cannot be written.
        """
        picture = self._drawers.submit(self._draw, result) if self._draws else None
        self._waiting.append(self._writer.submit(self._write, result, picture))
        return self._waiting.popleft().result() if len(self._waiting) > _DRAWING_THREADS else None

    def finish(self) -> None:
        """Wait until everything is written.

        Raises:
            BodyPoseNetError: A frame cannot be written; those after it were tried all the same.
        """
        failures = [error for future in self._waiting if (error := future.exception())]
        self._waiting.clear()
        if failures:
            raise failures[0]

    def _write(
        self, result: FrameResult, picture: Future[NDArray[np.uint8]] | None
    ) -> NDArray[np.uint8] | None:
        if self._lines is not None:
            self._lines.write(json.dumps(describe_frame(result)).encode() + b"\n")
        if picture is None:
            return None
        pixels = picture.result()
        if self._movie is not None:
            self._movie.write(pixels, result.frame.time)
        return pixels

    def _draw(self, result: FrameResult) -> NDArray[np.uint8]:
        pixels, poses = result.frame.pixels, result.poses
        if poses.track_ids is None:
            return draw(pixels, poses, score_threshold=self._score_threshold)
        shown = poses[poses.track_ids >= 0]
        return draw_track_ids(draw(pixels, shown, score_threshold=0), shown)


def describe_frame(result: FrameResult) -> Mapping[str, Any]:
    """The object of a frame's line of JSON."""
    frame = result.frame
    line = {"frame": frame.index, "time": round(frame.time, 6), **result.poses.to_dict()}
    if result.detected_in != frame.index:
        line["poses_of_frame"] = result.detected_in
    return line
