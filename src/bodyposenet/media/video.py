"""Reading of video files, cameras and network streams, in a background thread."""

from __future__ import annotations

import math
import os
import struct
import time
import warnings
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from queue import Empty, Full, Queue
from threading import Event, RLock, Thread

import cv2
import numpy as np
from numpy.typing import DTypeLike, NDArray

from bodyposenet.console import logger
from bodyposenet.errors import BodyPoseNetError, mask_passwords
from bodyposenet.files import is_file, is_folder
from bodyposenet.media.image_header import check_size, find_boxes

VIDEO_EXTENSIONS = (
    ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".gif",
    ".mjpeg", ".mjpg",
)  # fmt: skip
"""Extensions of video files, in either case; other files are identified by their content."""

_FRAMES_AHEAD = 4
"""Number of frames of a file that are read ahead."""

_FPS_RANGE = (0.1, 500.0)
"""Plausible frames per second; some recorders write 1000 or 90000 if the rate is unknown."""

_DEFAULT_FPS = 25.0
"""Frames per second if the rate is unknown."""

_MAX_PIXEL_ASPECT = 8.0
"""Maximum plausible pixel aspect ratio (the minimum is its inverse); usual ones are below 3."""

_FRAMES_TO_MEASURE = 30

_MAX_PAUSE = 60.0
"""Maximum seconds between two frames; longer pauses are invalid time stamps."""

_JOIN_TIMEOUT = 1.0
"""Seconds to wait for the end of a camera's thread; a blocked thread is not waited for."""

_REMEDY = "Give a video that OpenCV reads: MP4, AVI, MKV, MOV, WebM and others."
_ADDRESS_REMEDY = "Check the address; or download the video and give its path."
_CAMERA_REMEDY = "Give the number of a camera, from 0, or the address of a stream."


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a video.

    Args:
        index: Index from 0, which includes dropped frames of a live source.
        time: Seconds from the first frame.
        pixels: (H, W, 3) uint8, as displayed by players: with the video's orientation applied, and
            resized to square pixels. RGB, or the `color` of the model if it is from `model.video`.
        is_processed: Whether the model was run on the frame. False for frames skipped by
            `model.video(source, stride=N)`, which have the poses of an earlier frame, extrapolated
            if people are tracked.
    """

    index: int
    time: float
    pixels: NDArray[np.uint8]
    is_processed: bool = True

    @property
    def is_searched(self) -> bool:
        """Deprecated: `is_processed`."""
        message = "Frame.is_searched is deprecated; use Frame.is_processed"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        return self.is_processed

    def __array__(
        self, dtype: DTypeLike | None = None, copy: bool | None = None
    ) -> NDArray[np.uint8]:
        """Return the pixels, so that frames can be used as images: `model(frame)`."""
        if copy:
            return np.array(self.pixels, dtype)
        return np.asarray(self.pixels, dtype)


class Video:
    """An open video file or camera, created by `open_video` or `open_camera`.

    Args:
        capture: OpenCV's capture.
        name: Name for messages.
        fps: Frames per second.
        total: Expected number of frames, or None if it is unknown.
        is_live: Whether it is a camera or stream, whose frames are dropped if they are not read in
            time.
        pixel_aspect: Width of a pixel divided by its height.

    Attributes:
        dropped: Number of dropped frames of a live source so far.
    """

    def __init__(
        self,
        capture: cv2.VideoCapture,
        name: str,
        fps: float,
        total: int | None = None,
        *,
        is_live: bool = False,
        pixel_aspect: float = 1.0,
    ) -> None:
        self.name = name
        self.fps = fps
        self.total = total
        self.is_live = is_live
        self.dropped = 0
        self._capture = capture
        self._is_read = False
        self._opening = RLock()
        self._stop = Event()
        self._pixel_aspect = pixel_aspect

    def frames(self) -> Generator[Frame, None, None]:
        """Yield the frames, which a thread reads ahead; can be called once.

        The frames end early if the generator is closed or `close` is called, by any thread.

        Raises:
            BodyPoseNetError: No frame can be read.
        """
        queue: Queue[Frame | _End] = Queue(1 if self.is_live else _FRAMES_AHEAD)
        with self._opening:
            self._is_read = True
        # A camera can block forever; the process does not wait for a daemon thread at exit.
        thread = Thread(target=self._read_ahead, args=(queue,), name="video", daemon=True)
        thread.start()
        read = 0
        try:
            while not isinstance(item := self._take(queue), _End):
                read += 1
                yield item
            if item.error is not None:
                raise item.error
        finally:
            is_stopped = self._stop.is_set()
            self._stop.set()
            thread.join(_JOIN_TIMEOUT if self.is_live else None)
        if is_stopped:
            return
        if not read:
            remedy = _ADDRESS_REMEDY if "://" in self.name else _REMEDY
            raise BodyPoseNetError(f"{self.name}: no frame can be read", remedy)
        if self.total is not None and read < min(self.total - 1, 0.98 * self.total):
            logger.warning(
                "%s: only %d of %d frames could be read; it may be damaged or truncated",
                self.name, read, self.total,
            )  # fmt: skip

    def close(self) -> None:
        """End the frames, and release the source now or when `frames` has ended."""
        self._stop.set()
        with self._opening:
            if not self._is_read:
                self._capture.release()

    def _read_ahead(self, queue: Queue[Frame | _End]) -> None:
        """Fill the queue, then release the capture."""
        end = _End()
        try:
            for frame in self._read():
                self._put(queue, frame)
                if self._stop.is_set():
                    break
        except Exception as error:
            end = _End(error)
        self._capture.release()
        self._put(queue, end)

    def _put(self, queue: Queue[Frame | _End], item: Frame | _End) -> None:
        """Put an item in the queue; if it is full, a live frame replaces an older one."""
        replaces_older = self.is_live and isinstance(item, Frame)
        while not self._stop.is_set():
            with suppress(Full):
                queue.put(item, timeout=0 if replaces_older else 0.1)
                return
            if replaces_older:
                with suppress(Empty):
                    queue.get_nowait()
                    self.dropped += 1

    def _take(self, queue: Queue[Frame | _End]) -> Frame | _End:
        """Wait for the next item in short steps: on Windows, a wait delays Ctrl-C."""
        while not self._stop.is_set():
            with suppress(Empty):
                return queue.get(timeout=0.1)
        return _End()

    def _read(self) -> Iterator[Frame]:
        clock = _Clock(1 / self.fps)
        for index in count():
            found, pixels = self._capture.read()
            if not found:
                return
            stamp = time.monotonic()
            if not self.is_live:
                stamp = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            pixels = cv2.cvtColor(self._stretch(pixels), cv2.COLOR_BGR2RGB)  # type: ignore[arg-type]
            yield Frame(index, clock.read(stamp), pixels)  # type: ignore[arg-type]

    def _stretch(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize a frame to square pixels, as players do."""
        if self._pixel_aspect == 1:
            return pixels
        height, width = pixels.shape[:2]
        if self._capture.get(cv2.CAP_PROP_ORIENTATION_META) % 180:  # OpenCV has rotated the frame
            height = round(height * self._pixel_aspect)
        else:
            width = round(width * self._pixel_aspect)
        return cv2.resize(pixels, (max(width, 1), max(height, 1)))  # type: ignore[return-value]


@dataclass(frozen=True, eq=False)
class _End:
    """End of the frames, and the error that caused it, or None."""

    error: Exception | None = None


def name_for_opencv(path: str | Path) -> str:
    """Return a path as text for OpenCV, which crashes on invalid characters; they are replaced.

    A path with such characters is then reported as one that cannot be opened.
    """
    return str(path).encode(errors="replace").decode()


def open_capture(*source: str | int) -> cv2.VideoCapture:
    """Open a video with OpenCV, with the messages of OpenCV and FFmpeg turned off.

    Args:
        *source: The arguments of `cv2.VideoCapture`.

    Returns:
        The capture; `isOpened` is False if OpenCV cannot read the video.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET; it is read only once
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        return cv2.VideoCapture(*source)
    finally:
        cv2.utils.logging.setLogLevel(level)


def open_video(path: str | Path) -> Video:
    """Open a video file.

    Raises:
        BodyPoseNetError: It is missing or not a video, or its frames have too many pixels
            (`check_size`).
    """
    if is_folder(path):
        raise BodyPoseNetError(f"{path}: is a folder", "Give the path of a video in it.")
    if not is_file(path):
        raise BodyPoseNetError(f"{path}: no such video file", "Check the path.")
    # Without a backend, OpenCV reads "a_001.jpg" as a video of all images with such numbers.
    capture = open_capture(name_for_opencv(path), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        raise BodyPoseNetError(f"{path}: not a video, or a damaged one", _REMEDY)
    check_size(path, _frame_size(capture))
    total = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    fps = capture.get(cv2.CAP_PROP_FPS)
    if not _FPS_RANGE[0] <= fps <= _FPS_RANGE[1]:
        fps = _measure_fps(path)
        logger.warning("%s: has no valid frame rate; %.4g per second is assumed", path, fps)
    total = round(min(total, _played_seconds(path) * fps))
    aspect = _pixel_aspect(capture)
    if aspect != 1:
        logger.info(
            "%s: has non-square pixels; frames are resized by %.4g, as players do",
            path, aspect,
        )  # fmt: skip
    return Video(capture, str(path), fps, total if total > 0 else None, pixel_aspect=aspect)


def open_camera(source: str) -> Video:
    """Open a camera, a network stream, or a video file on a web server.

    Video files on a web server (http or https, of known length) are not live: no frame is dropped.

    Args:
        source: Number of a camera, from 0, or address of a stream (rtsp://...).

    Raises:
        BodyPoseNetError: It cannot be opened, or `source` is a local file.
    """
    is_number = source.isdecimal()
    name = f"camera {source}" if is_number else mask_passwords(source)
    if not is_number and is_file(source):
        raise BodyPoseNetError(
            f"{name}: is a file",
            "Open it as a video file (--input_type video, or auto).",
        )
    capture = None
    with suppress(cv2.error, ValueError):  # a number with more digits than a camera can have
        capture = open_capture(int(source) if is_number else source)
    if capture is None or not capture.isOpened():
        raise BodyPoseNetError(
            f"{name}: cannot be opened as a video",
            _ADDRESS_REMEDY if "://" in source else _CAMERA_REMEDY,
        )
    check_size(name, _frame_size(capture))
    fps = capture.get(cv2.CAP_PROP_FPS)
    is_plausible = _FPS_RANGE[0] <= fps <= _FPS_RANGE[1]
    total = 0
    if source.lower().startswith(("http://", "https://")):
        total = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))  # negative for live streams
    return Video(
        capture, name, fps if is_plausible else _DEFAULT_FPS, total if total > 0 else None,
        is_live=total <= 0, pixel_aspect=_pixel_aspect(capture),
    )  # fmt: skip


def _frame_size(capture: cv2.VideoCapture) -> tuple[int, int]:
    height, width = (capture.get(p) for p in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH))
    return int(height), int(width)


def _pixel_aspect(capture: cv2.VideoCapture) -> float:
    """Return the width of a pixel divided by its height; 1 if the video has no plausible value."""
    width, height = (capture.get(p) for p in (cv2.CAP_PROP_SAR_NUM, cv2.CAP_PROP_SAR_DEN))
    if width <= 0 or height <= 0:
        return 1.0
    aspect = width / height
    return aspect if 1 / _MAX_PIXEL_ASPECT <= aspect <= _MAX_PIXEL_ASPECT else 1.0


def _played_seconds(path: str | Path) -> float:
    """Return the length of a video by the edit list of an MP4 or MOV; infinity if there is none.

    OpenCV counts all frames, but reads only those of the edit list.
    """
    try:
        content = memoryview(np.memmap(path, np.uint8, "r"))  # type: ignore[arg-type]
        per_second = _timescale(next(find_boxes(content, b"moov", b"mvhd")))
        track = next(track for track in find_boxes(content, b"moov", b"trak") if _is_video(track))
        edits = _edits(next(find_boxes(track, b"edts", b"elst")))
        # A start of -1 is an empty edit. In a fragmented file, a total of 0 means up to the end.
        played = sum(duration for duration, start in edits if start >= 0)
        return played / per_second or math.inf
    except (IndexError, OSError, StopIteration, ValueError, ZeroDivisionError, struct.error):
        return math.inf


def _is_video(track: memoryview) -> bool:
    return any(handler[8:12] == b"vide" for handler in find_boxes(track, b"mdia", b"hdlr"))


def _timescale(header: memoryview) -> int:
    """Return the time units per second of a movie."""
    return struct.unpack_from(">I", header, 20 if header[0] else 12)[0]


def _edits(edit_list: memoryview) -> Iterator[tuple[int, int]]:
    """Yield duration (in the movie's time units) and start (in the track's) of each edit."""
    layout = struct.Struct(">Qq4x" if edit_list[0] else ">Ii4x")
    (count,) = struct.unpack_from(">I", edit_list, 4)
    return layout.iter_unpack(edit_list[8 : 8 + count * layout.size])


def _measure_fps(path: str | Path) -> float:
    """Estimate the frames per second from the time stamps of the first frames."""
    capture, stamps = open_capture(name_for_opencv(path), cv2.CAP_FFMPEG), []
    while len(stamps) < _FRAMES_TO_MEASURE and capture.grab():
        stamps.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
    capture.release()
    steps = np.diff(stamps)
    step = float(np.median(steps)) if len(steps) else 0.0
    return 1 / step if 1 / _FPS_RANGE[1] <= step <= 1 / _FPS_RANGE[0] else _DEFAULT_FPS


class _Clock:
    """Converts time stamps to times from the first frame, each later than the one before.

    After invalid time stamps (missing, decreasing, or a large gap), the usual step is used.

    Args:
        step: Usual seconds between two frames.
    """

    def __init__(self, step: float) -> None:
        self._step = step
        self._last = -step
        self._start = float("nan")

    def read(self, stamp: float) -> float:
        """Return the time of a frame with this time stamp, both in seconds."""
        now = stamp - self._start
        if not 0 < now - self._last <= _MAX_PAUSE:
            now = self._last + self._step
            self._start = stamp - now
        self._last = now
        return now
