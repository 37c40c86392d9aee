"""Frames and the poses in them in, lines of JSON and an annotated video out, drawn in a thread.

Each line is an object: `frame` (its index), `time` (seconds), then `keypoints`, `scores`,
`keypoint_scores` and, where people are tracked, `track_ids`, as in detections.json; and
`poses_of_frame` where the poses were found in an earlier frame.
"""

from __future__ import annotations

import json
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO

import numpy as np
from numpy.typing import NDArray

from bodyposenet.media.draw import draw
from bodyposenet.media.labels import label_tracks
from bodyposenet.media.mp4 import Mp4Writer
from bodyposenet.media.video import Frame
from bodyposenet.runtime.video_following import FramePoses
from bodyposenet.types import Poses

_BEHIND = 1
"""Frames that are drawn and written while the next one is worked on."""


class Recorder:
    """Draws and writes one frame after the other; a context manager that ends its thread.

    Args:
        lines: Receives the lines of JSON.
        movie: Receives the annotated frames, if there is to be a video.
        draws: Whether to draw: for `movie`, or for who shows the pictures that `add` returns.
        score_threshold: Least score of the people who are drawn; tracked ones are drawn as long as
            they have an id.
    """

    def __init__(
        self, lines: IO[bytes], movie: Mp4Writer | None, *, draws: bool, score_threshold: float
    ) -> None:
        self._lines = lines
        self._movie = movie
        self._draws = draws
        self._score_threshold = score_threshold
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="recorder")
        self._waiting: deque[Future[NDArray[np.uint8] | None]] = deque()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def add(self, frame: Frame, found: FramePoses) -> NDArray[np.uint8] | None:
        """Take the next frame.

        Returns:
            The annotated picture of an earlier frame, (H, W, 3) uint8 RGB, if there is one.

        Raises:
            BodyPoseNetError: An earlier frame cannot be written.
        """
        self._waiting.append(self._thread.submit(self._write, frame, found))
        return self._waiting.popleft().result() if len(self._waiting) > _BEHIND else None

    def finish(self) -> None:
        """Wait until everything is written.

        Raises:
            BodyPoseNetError: A frame cannot be written; those after it were tried all the same.
        """
        failures = [error for future in self._waiting if (error := future.exception())]
        self._waiting.clear()
        if failures:
            raise failures[0]

    def _write(self, frame: Frame, found: FramePoses) -> NDArray[np.uint8] | None:
        line = {"frame": frame.index, "time": round(frame.time, 6), **found.poses.to_dict()}
        if found.found_in != frame.index:
            line["poses_of_frame"] = found.found_in
        self._lines.write(json.dumps(line).encode() + b"\n")
        if not self._draws:
            return None
        picture = self._draw(frame.pixels, found.poses)
        if self._movie is not None:
            self._movie.write(picture, frame.time)
        return picture

    def _draw(self, pixels: NDArray[np.uint8], poses: Poses) -> NDArray[np.uint8]:
        if poses.track_ids is None:
            return draw(pixels, poses, score_threshold=self._score_threshold)
        shown = poses[poses.track_ids >= 0]
        return label_tracks(draw(pixels, shown, score_threshold=0), shown)
