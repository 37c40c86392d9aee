"""Video files, cameras and streams: frames, times and errors."""

import logging
import struct
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.media import video as video_module
from bodyposenet.media.image_header import MAX_PIXELS_VARIABLE
from bodyposenet.media.video import Frame, Video, open_camera, open_video

from .videos import shade, write_video


class FakeCapture:
    """A fake of OpenCV's capture, with given time stamps."""

    def __init__(self, stamps, fps=25.0, total=0):
        self.stamps, self.at, self.released = stamps, -1, False
        self.properties = {cv2.CAP_PROP_FPS: fps, cv2.CAP_PROP_FRAME_COUNT: total}

    def isOpened(self):  # noqa: N802
        return True

    def grab(self):
        self.at += 1
        return self.at < len(self.stamps)

    def read(self):
        return (True, shade(self.at % 256)) if self.grab() else (False, None)

    def get(self, which):
        if which == cv2.CAP_PROP_POS_MSEC:
            return 1000 * self.stamps[self.at]
        return self.properties.get(which, 0)

    def release(self):
        self.released = True


def patch(path: Path, kind: bytes, at: int, content: bytes) -> None:
    """Overwrite bytes of a box of an MP4 file."""
    whole = bytearray(path.read_bytes())
    start = whole.rindex(kind) + 4 + at
    whole[start : start + len(content)] = content
    path.write_bytes(whole)


def insert_pixel_aspect(path: Path, width: int, height: int) -> None:
    """Add a box with the pixel aspect ratio to the sample description of the first track."""
    whole = path.read_bytes()
    end = whole.rindex(b"mp4v") - 4
    end += int.from_bytes(whole[end : end + 4], "big")
    box = struct.pack(">I4sII", 16, b"pasp", width, height)
    whole = bytearray(whole[:end] + box + whole[end:])
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"mp4v"):
        place = whole.rindex(kind) - 4
        length = int.from_bytes(whole[place : place + 4], "big") + len(box)
        whole[place : place + 4] = length.to_bytes(4, "big")
    path.write_bytes(whole)


@pytest.mark.parametrize(
    ("aspect", "size"),
    [((2, 1), (48, 128)), ((1, 2), (48, 32)), ((16, 11), (48, 93)), ((0, 1), (48, 64)),
     ((9999, 1), (48, 64))],
)  # fmt: skip
def test_non_square_pixels_are_resized(tmp_path, aspect, size):
    path = write_video(tmp_path / "a.mp4", 3)
    insert_pixel_aspect(path, *aspect)
    frames = list(open_video(path).frames())
    assert {frame.pixels.shape for frame in frames} == {(*size, 3)}
    np.testing.assert_allclose(frames[2].pixels, shade(20, *size), atol=12)


def test_non_square_pixels_of_a_rotated_video():
    capture = FakeCapture([0, 0.04])
    capture.properties[cv2.CAP_PROP_ORIENTATION_META] = 90
    frame, _ = Video(capture, "a.mp4", 25.0, pixel_aspect=2.0).frames()
    assert frame.pixels.shape == (96, 64, 3)


@pytest.mark.parametrize(
    ("edit", "frames"),
    [((1000, 0), 25), ((800, 0), 20), ((600, 5120), 15)],
)
def test_frames_outside_of_the_edit_list_are_not_missing(tmp_path, caplog, edit, frames):
    """The video has 25 frames in one second: 1000 units of the movie, 12800 of the track."""
    path = write_video(tmp_path / "a.mp4", 25)
    patch(path, b"elst", 8, struct.pack(">Ii", *edit))
    video = open_video(path)
    with caplog.at_level(logging.WARNING, logger="bodyposenet"):
        assert len(list(video.frames())) == frames
    assert video.total == frames
    assert not caplog.records


def test_edit_with_a_duration_of_0_has_all_frames(tmp_path):
    path = write_video(tmp_path / "a.mp4", 25)
    patch(path, b"elst", 8, struct.pack(">Ii", 0, 0))
    assert open_video(path).total == 25


def test_invalid_edit_list_is_ignored(tmp_path):
    path = write_video(tmp_path / "a.mp4", 25)
    for at, content in ((4, b"\xff" * 4), (0, b"\1"), (8, b"\xff" * 8)):
        patch(path, b"elst", at, content)
        assert open_video(path).total is not None


@pytest.mark.parametrize(
    ("stamps", "times"),
    [
        ([0, 0.04, 0.08], [0, 0.04, 0.08]),
        ([9.5, 9.54, 9.9], [0, 0.04, 0.4]),
        ([0, 0, 0, 0], [0, 0.04, 0.08, 0.12]),
        ([5, 5.1, 2, 2.1], [0, 0.1, 0.14, 0.24]),
        ([0, 0.04, 90000, 90000.5], [0, 0.04, 0.08, 0.58]),
    ],
    ids=["usual", "late start", "none", "backwards", "leap"],
)
def test_times_always_increase(stamps, times):
    frames = Video(FakeCapture(stamps), "a.mp4", 25.0).frames()
    np.testing.assert_allclose([frame.time for frame in frames], times, atol=1e-9)


@pytest.mark.parametrize(
    ("reported_fps", "stamps", "fps"),
    [
        (0.0, np.arange(50) / 12, 12.0),
        (1000.0, np.arange(50) / 30, 30.0),
        (float("nan"), [0.0] * 50, 25.0),
        (90000.0, [0.0], 25.0),
        (24.0, [0.0] * 50, 24.0),
    ],
)
def test_a_missing_frame_rate_is_measured(monkeypatch, tmp_path, reported_fps, stamps, fps):
    (tmp_path / "a.webm").touch()
    monkeypatch.setattr(cv2, "VideoCapture", lambda *_: FakeCapture(list(stamps), reported_fps))
    video = open_video(tmp_path / "a.webm")
    assert video.fps == pytest.approx(fps)
    assert video.total is None


def test_truncated_video_is_logged(caplog):
    frames = Video(FakeCapture([0.0, 0.1], total=9), "a.mp4", 10.0, total=9).frames()
    assert len(list(frames)) == 2
    assert "only 2 of 9 frames" in caplog.text


@pytest.mark.parametrize("content", [None, b"", b"no video" * 99])
def test_no_video_is_an_error(tmp_path, content, capfd):
    if content is not None:
        (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(BodyPoseNetError, match=r"a\.mp4: no"):
        open_video(tmp_path / "a.mp4")
    with pytest.raises(BodyPoseNetError, match="no frame"):
        next(Video(FakeCapture([]), "a.mp4", 25.0).frames())


def test_closing_the_generator_ends_thread_and_capture():
    capture = FakeCapture(list(np.arange(1000) / 25))
    before = threading.active_count()
    frames = Video(capture, "a.mp4", 25.0).frames()
    next(frames)
    frames.close()
    assert capture.released
    assert capture.at < 20
    assert threading.active_count() == before


def test_errors_of_the_thread_are_raised():
    class Broken(FakeCapture):
        def read(self):
            raise cv2.error("torn")

    capture = Broken([])
    with pytest.raises(cv2.error, match="torn"):
        next(Video(capture, "a.mp4", 25.0).frames())
    assert capture.released


def test_blocked_camera_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(video_module, "_JOIN_TIMEOUT", 0.01)
    resume, released = threading.Event(), threading.Event()

    class BlockedCamera(FakeCapture):
        def grab(self):
            return super().grab() and (self.at == 0 or resume.wait(10))

        def release(self):
            released.set()

    frames = Video(BlockedCamera([0.0] * 9), "webcam 0", 25.0, is_live=True).frames()
    next(frames)
    frames.close()
    assert not released.is_set()
    resume.set()
    assert released.wait(10)


class RunningCamera(FakeCapture):
    """Returns one frame, and the others after `seen` is set."""

    seen = threading.Event()

    def grab(self):
        if self.at == 0:
            self.seen.wait(10)
        return super().grab()


def test_camera_drops_unread_frames():
    capture = RunningCamera([0.0] * 200)
    frames = Video(capture, "webcam 0", 25.0, is_live=True).frames()
    assert next(frames).index == 0
    capture.seen.set()
    while capture.at < 200:
        time.sleep(0.001)
    assert [frame.index for frame in frames] == [199]
    assert capture.released


def test_old_name_of_is_processed_is_deprecated():
    frame = Frame(0, 0.0, shade(0), is_processed=False)
    with pytest.warns(DeprecationWarning, match="is_processed"):
        assert frame.is_searched is False


def test_cameras_are_numbers_or_addresses(monkeypatch):
    sources = []
    monkeypatch.setattr(cv2, "VideoCapture", lambda s: sources.append(s) or FakeCapture([0.0], 0.0))
    assert open_camera("0").fps == video_module._DEFAULT_FPS
    assert open_camera("rtsp://host/stream").is_live
    assert open_camera("rtsp://bob:hunter2@host/stream").name == "rtsp://***@host/stream"
    assert sources == [0, "rtsp://host/stream", "rtsp://bob:hunter2@host/stream"]


@pytest.mark.parametrize(
    ("address", "total", "is_live"),
    [
        ("https://host/a.mp4", 9, False),
        ("http://host/live.m3u8", 0, True),
        ("HTTP://host/live.m3u8", -2562047788015, True),
        ("rtsp://host/a", 9, True),
    ],
)
def test_a_file_on_a_web_server_is_not_live(monkeypatch, address, total, is_live):
    monkeypatch.setattr(cv2, "VideoCapture", lambda _: FakeCapture(np.arange(9) / 12, 12.0, total))
    video = open_camera(address)
    assert video.is_live == is_live
    assert video.total == (None if is_live else total)
    if not is_live:
        assert [frame.index for frame in video.frames()] == list(range(9))


@pytest.mark.parametrize("source", ["97", 11 * "9", 5000 * "9", 300 * "x"], ids=len)
def test_no_camera_is_an_error(capfd, source):
    with pytest.raises(BodyPoseNetError, match=f"{source}: cannot be opened") as caught:
        open_camera(source)
    assert ("camera" in caught.value.what) == source.isdecimal()
    assert caught.value.remedy


def test_file_in_place_of_a_camera_is_an_error(tmp_path):
    with pytest.raises(BodyPoseNetError, match=r"a\.mp4: is a file") as caught:
        open_camera(str(write_video(tmp_path / "a.mp4", 2)))
    assert "--input_type video" in caught.value.remedy


def test_frames_with_too_many_pixels_are_rejected(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", 2)
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, str(48 * 64))
    assert len(list(open_video(path).frames())) == 2
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, str(48 * 64 - 1))
    with pytest.raises(BodyPoseNetError, match=r"a\.mp4: 64 x 48 pixels"):
        open_video(path)


@pytest.mark.parametrize("name", ["a.mp4", "a\udcff.mp4"])
def test_opencv_prints_nothing_about_invalid_videos(tmp_path, capfd, name):
    (tmp_path / name).write_bytes(b"\0\0\0\x18ftypmp42")
    with pytest.raises(BodyPoseNetError, match="not a video, or a damaged one"):
        open_video(tmp_path / name)
    assert "VIDEOIO" not in capfd.readouterr().err  # a message of OpenCV
