"""Writing of frames with time stamps to an MP4 file of constant frame rate."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import cv2
import numpy as np
from numpy.typing import NDArray

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import temporary_name
from bodyposenet.geometry import Affine

_SPACE_REMEDY = "Free some space, or choose a writable folder (-r)."

_SIDES = (2, 8191)
"""Minimum and maximum width and height of the codec, in pixels."""

_SIDES_REMEDY = (
    f"The codec supports {_SIDES[0]} to {_SIDES[1]} pixels in width and height; omit the annotated "
    "video with --no_video."
)


class Mp4Writer:
    """Writer of MP4 files (codec mp4v: MPEG-4 Part 2), without sound.

    Frames are resampled to the constant rate: a frame is repeated until the time of the next one,
    and of several frames within one step, the first is used. So the duration is also right for
    cameras and for videos with a variable frame rate. Use it as a context manager; after an error,
    no file is written.

    Args:
        path: The file.
        fps: Frames per second.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self._path = path
        self._target = Path(os.path.realpath(path))  # replaces the target of a symbolic link
        self._temporary = temporary_name(self._target, ".tmp.mp4")
        # The time base of MPEG-4 has at most 65535 steps per second; OpenCV uses powers of ten.
        self._fps = round(fps, 3 if fps < 65 else 2)
        self._writer: cv2.VideoWriter | None = None
        self._latest = np.zeros((0, 0, 3), np.uint8)
        self.frames = 0

    def __enter__(self) -> Mp4Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._writer is not None:
            self._writer.release()
        try:
            if kind is None and self._writer is not None:
                self._check()
                self._temporary.replace(self._target)
        except OSError as error:
            self._fail(error.strerror or str(error))
        finally:
            self._temporary.unlink(missing_ok=True)

    def write(self, pixels: NDArray[np.uint8], time: float) -> None:
        """Add a frame.

        Args:
            pixels: (H, W, 3) uint8, RGB. The first frame defines the size of the video; odd sizes
                are cropped by a pixel, and frames of other sizes are resized.
            time: Time in seconds, after that of the previous frame.

        Raises:
            BodyPoseNetError: The file cannot be written.
        """
        if self._writer is None:
            self._writer = self._open(*pixels.shape[1::-1])
        elif pixels.shape != self._latest.shape:
            height, width = self._latest.shape[:2]
            stretch = Affine.resize(width / pixels.shape[1], height / pixels.shape[0])
            pixels = stretch.warp(pixels, height, width, outside=0)
        place = round(time * self._fps)
        while self.frames < place:
            self._write(self._latest if self._latest.size else pixels)
        self._latest = pixels
        if self.frames == place:
            self._write(pixels)

    def _open(self, width: int, height: int) -> cv2.VideoWriter:
        codec = cv2.VideoWriter.fourcc(*"mp4v")
        size = (width, height)
        try:
            # Created here, so that OpenCV does not follow a link that another user has created.
            self._temporary.touch(exist_ok=False)
        except OSError as error:
            self._fail(error.strerror or str(error))
        writer = cv2.VideoWriter(str(self._temporary), cv2.CAP_FFMPEG, codec, self._fps, size)
        if not writer.isOpened():
            fits = _SIDES[0] <= min(size) and max(size) <= _SIDES[1]
            self._fail(
                f"{width} x {height} pixels at {self._fps} frames per second",
                _SPACE_REMEDY if fits else _SIDES_REMEDY,
            )
        return writer

    def _write(self, pixels: NDArray[np.uint8]) -> None:
        assert self._writer is not None
        self._writer.write(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
        self.frames += 1

    def _check(self) -> None:
        """Read the file back, as OpenCV does not report a full disk."""
        capture = cv2.VideoCapture(str(self._temporary), cv2.CAP_FFMPEG)
        found = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
        capture.release()
        if found != self.frames:
            self._fail(f"it contains {found} of {self.frames} frames")

    def _fail(self, reason: str, remedy: str = _SPACE_REMEDY) -> NoReturn:
        raise BodyPoseNetError(f"{self._path}: cannot be written: {reason}", remedy)
