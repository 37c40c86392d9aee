"""Videos: frames with their times in, whole MP4 files out, and what an input is."""

import logging
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.inference.recording import PreviewWindow
from bodyposenet.media import video as video_module
from bodyposenet.media.draw import draw_track_ids
from bodyposenet.media.image_header import MAX_PIXELS_VARIABLE
from bodyposenet.media.inputs import tell_kind
from bodyposenet.media.video import Video, open_camera, open_video
from bodyposenet.media.video_writer import Mp4Writer

from .walkers import as_poses, walker


def shade(value: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A red frame; the codec keeps its value within a few steps."""
    frame = np.zeros((height, width, 3), np.uint8)
    frame[..., 0] = value
    return frame


def write_video(path: Path, frames: int = 20, fps: float = 25.0) -> Path:
    with Mp4Writer(path, fps) as movie:
        for index in range(frames):
            movie.write(shade(10 * index), index / fps)
    return path


def reds(path: Path) -> list[int]:
    """Each frame's red, as written by `shade`."""
    return [int(frame.pixels[..., 0].mean().round()) for frame in open_video(path).frames()]


class FakeCapture:
    """Stands for OpenCV's capture: frames with the time stamps of one's choice."""

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


@pytest.mark.parametrize("fps", [25, 29.97, 24000 / 1001, 59.94, 100.123, 7.5, 0.5])
def test_what_is_written_is_read_back(tmp_path, fps):
    video = open_video(write_video(tmp_path / "a.mp4", 20, fps))
    assert video.fps == pytest.approx(fps, rel=3e-4)
    assert video.total == 20
    frames = list(video.frames())
    assert [frame.index for frame in frames] == list(range(20))
    np.testing.assert_allclose([f.time for f in frames], np.arange(20) / fps, atol=2e-3 / fps)
    for index, frame in enumerate(frames):
        np.testing.assert_allclose(frame.pixels, shade(10 * index), atol=12)


def patch(path: Path, kind: bytes, at: int, content: bytes) -> None:
    """Change what a box holds."""
    whole = bytearray(path.read_bytes())
    start = whole.rindex(kind) + 4 + at
    whole[start : start + len(content)] = content
    path.write_bytes(whole)


def insert_pixel_aspect(path: Path, width: int, height: int) -> None:
    """Add a box of the pixels' shape to the description of the first track's frames."""
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
def test_pixels_that_are_not_square_are_stretched_as_players_do(tmp_path, aspect, size):
    path = write_video(tmp_path / "a.mp4", 3)
    insert_pixel_aspect(path, *aspect)
    frames = list(open_video(path).frames())
    assert {frame.pixels.shape for frame in frames} == {(*size, 3)}
    np.testing.assert_allclose(frames[2].pixels, shade(20, *size), atol=12)


def test_a_turned_video_is_stretched_along_its_frames_height():
    capture = FakeCapture([0, 0.04])
    capture.properties[cv2.CAP_PROP_ORIENTATION_META] = 90
    frame, _ = Video(capture, "a.mp4", 25.0, pixel_aspect=2.0).frames()
    assert frame.pixels.shape == (96, 64, 3)


@pytest.mark.parametrize(
    ("edit", "frames"),
    [((1000, 0), 25), ((800, 0), 20), ((600, 5120), 15)],
)
def test_frames_that_an_edit_list_leaves_out_are_not_missed(tmp_path, caplog, edit, frames):
    """A second of 25 frames, in 1000 units of the movie and 12800 of its media."""
    path = write_video(tmp_path / "a.mp4", 25)
    patch(path, b"elst", 8, struct.pack(">Ii", *edit))
    video = open_video(path)
    with caplog.at_level(logging.WARNING, logger="bodyposenet"):
        assert len(list(video.frames())) == frames
    assert video.total == frames
    assert not caplog.records


def test_an_edit_up_to_the_end_leaves_nothing_out(tmp_path):
    path = write_video(tmp_path / "a.mp4", 25)
    patch(path, b"elst", 8, struct.pack(">Ii", 0, 0))
    assert open_video(path).total == 25


def test_an_edit_list_that_makes_no_sense_is_ignored(tmp_path):
    path = write_video(tmp_path / "a.mp4", 25)
    for at, content in ((4, b"\xff" * 4), (0, b"\1"), (8, b"\xff" * 8)):
        patch(path, b"elst", at, content)
        assert open_video(path).total is not None


def test_a_varying_frame_rate_keeps_its_times(tmp_path):
    times = [0.0, 0.1, 0.2, 0.7, 0.71, 0.9]
    with Mp4Writer(tmp_path / "a.mp4", 10) as movie:
        for index, moment in enumerate(times):
            movie.write(shade(40 * index), moment)
    found = np.round(np.array(reds(tmp_path / "a.mp4")) / 40).astype(int)
    assert found.tolist() == [0, 1, 2, 2, 2, 2, 2, 3, 4, 5]


def test_frames_that_come_too_fast_are_left_out(tmp_path):
    with Mp4Writer(tmp_path / "a.mp4", 10) as movie:
        for index in range(100):
            movie.write(shade(index), index / 100)
    assert len(reds(tmp_path / "a.mp4")) == 11


def test_other_sizes_are_stretched_and_odd_ones_cut(tmp_path):
    with Mp4Writer(tmp_path / "a.mp4", 10) as movie:
        movie.write(shade(200, 49, 65), 0.0)
        movie.write(shade(100, 30, 90), 0.1)
    first, second = open_video(tmp_path / "a.mp4").frames()
    assert first.pixels.shape == second.pixels.shape == (48, 64, 3)
    np.testing.assert_allclose(second.pixels, shade(100), atol=12)


def test_an_error_leaves_no_file(tmp_path):
    with pytest.raises(RuntimeError), Mp4Writer(tmp_path / "a.mp4", 10) as movie:
        movie.write(shade(0), 0.0)
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_a_video_that_cannot_be_written_is_an_error(tmp_path):
    with (
        pytest.raises(BodyPoseNetError, match=r"a\.mp4: cannot be written"),
        Mp4Writer(tmp_path / "none" / "a.mp4", 10) as movie,
    ):
        movie.write(shade(0), 0.0)
    with (
        pytest.raises(BodyPoseNetError, match=r"0 of 1 frames are in it"),
        Mp4Writer(tmp_path / "a.mp4", 10) as movie,
    ):
        movie.write(shade(0), 0.0)
        movie._writer.release()  # as on a full disk: the file's end is missing
        (temporary,) = tmp_path.iterdir()
        temporary.write_bytes(b"")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("height", "width"), [(4, 8200), (1, 1)])
def test_a_size_that_the_codec_cannot_take_is_told(tmp_path, capfd, height, width):
    with (
        pytest.raises(BodyPoseNetError, match=r"2 to 8191 pixels each way.*--no_video"),
        Mp4Writer(tmp_path / "a.mp4", 10) as movie,
    ):
        movie.write(shade(0, height, width), 0.0)


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
def test_times_always_go_on(stamps, times):
    frames = Video(FakeCapture(stamps), "a.mp4", 25.0).frames()
    np.testing.assert_allclose([frame.time for frame in frames], times, atol=1e-9)


@pytest.mark.parametrize(
    ("told", "stamps", "fps"),
    [
        (0.0, np.arange(50) / 12, 12.0),
        (1000.0, np.arange(50) / 30, 30.0),
        (float("nan"), [0.0] * 50, 25.0),
        (90000.0, [0.0], 25.0),
        (24.0, [0.0] * 50, 24.0),
    ],
)
def test_a_missing_frame_rate_is_measured(monkeypatch, tmp_path, told, stamps, fps):
    (tmp_path / "a.webm").touch()
    monkeypatch.setattr(cv2, "VideoCapture", lambda *_: FakeCapture(list(stamps), told))
    video = open_video(tmp_path / "a.webm")
    assert video.fps == pytest.approx(fps)
    assert video.total is None


def test_a_cut_off_video_says_so(caplog):
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


def test_who_stops_early_ends_the_thread_and_the_capture():
    capture = FakeCapture(list(np.arange(1000) / 25))
    before = threading.active_count()
    frames = Video(capture, "a.mp4", 25.0).frames()
    next(frames)
    frames.close()
    assert capture.released
    assert capture.at < 20
    assert threading.active_count() == before


def test_an_error_while_reading_is_one_here():
    class Broken(FakeCapture):
        def read(self):
            raise cv2.error("torn")

    capture = Broken([])
    with pytest.raises(cv2.error, match="torn"):
        next(Video(capture, "a.mp4", 25.0).frames())
    assert capture.released


def test_nobody_waits_for_a_camera_that_is_stuck(monkeypatch):
    monkeypatch.setattr(video_module, "_LEAVE", 0.01)
    go, released = threading.Event(), threading.Event()

    class StuckCamera(FakeCapture):
        def grab(self):
            return super().grab() and (self.at == 0 or go.wait(10))

        def release(self):
            released.set()

    frames = Video(StuckCamera([0.0] * 9), "webcam 0", 25.0, is_live=True).frames()
    next(frames)
    frames.close()
    assert not released.is_set()
    go.set()
    assert released.wait(10)


class RunningCamera(FakeCapture):
    """Shows one frame, and the others as soon as somebody has seen that one."""

    seen = threading.Event()

    def grab(self):
        if self.at == 0:
            self.seen.wait(10)
        return super().grab()


def test_a_camera_drops_what_nobody_has_time_for():
    capture = RunningCamera([0.0] * 200)
    frames = Video(capture, "webcam 0", 25.0, is_live=True).frames()
    assert next(frames).index == 0
    capture.seen.set()
    while capture.at < 200:
        time.sleep(0.001)
    assert [frame.index for frame in frames] == [199]
    assert capture.released


def test_cameras_are_numbers_or_addresses(monkeypatch):
    asked = []
    monkeypatch.setattr(cv2, "VideoCapture", lambda s: asked.append(s) or FakeCapture([0.0], 0.0))
    assert open_camera("0").fps == video_module._USUAL_RATE
    assert open_camera("rtsp://host/stream").is_live
    assert open_camera("rtsp://bob:hunter2@host/stream").name == "rtsp://***@host/stream"
    assert asked == [0, "rtsp://host/stream", "rtsp://bob:hunter2@host/stream"]


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


def test_a_file_is_no_camera(tmp_path):
    with pytest.raises(BodyPoseNetError, match=r"a\.mp4: is a file") as caught:
        open_camera(str(write_video(tmp_path / "a.mp4", 2)))
    assert "--input_type video" in caught.value.remedy


def test_frames_of_too_many_pixels_are_refused(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", 2)
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, str(48 * 64))
    assert len(list(open_video(path).frames())) == 2
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, str(48 * 64 - 1))
    with pytest.raises(BodyPoseNetError, match=r"a\.mp4: 64 x 48 pixels"):
        open_video(path)


def test_kinds_of_input(tmp_path):
    video = write_video(tmp_path / "a.mp4", 2)
    image = tmp_path / "b.png"
    cv2.imwrite(str(image), shade(0))
    (tmp_path / "c.json").write_text("[]")
    (tmp_path / "list").write_text('\n {"images": []}')
    (tmp_path / "d.mjpeg").write_bytes(cv2.imencode(".jpg", shade(0))[1].tobytes() * 2)
    for path in (video, image):
        (tmp_path / path.stem).write_bytes(path.read_bytes())
    names = ("", "a.mp4", "a", "b.png", "b", "c.json", "list", "d.mjpeg")
    found = [tell_kind(str(tmp_path / name)) for name in names]
    assert found == ["dir", "video", "video", "image", "image", "json", "json", "video"]
    assert tell_kind("b.png", tmp_path) == "image"
    for name in ("a.mp4", "c.json"):
        with pytest.raises(BodyPoseNetError, match="no such file") as caught:
            tell_kind(name, tmp_path)
        assert "only images" in caught.value.remedy
    assert tell_kind("0") == tell_kind("rtsp://host/stream") == "webcam"


JPEG = cv2.imencode(".jpg", np.full((48, 64, 3), 90, np.uint8))[1].tobytes()
CONTENTS = {
    "/photo": JPEG, "/photo.jpg": JPEG, "/a.php": JPEG, "/a.mjpg": JPEG,
    "/clip.jpg": b"--frame\r\n", "/page": b"<html>", "/empty": b"",
}  # fmt: skip


@pytest.fixture(scope="module")
def server():
    """Address of a web server; what it has no content for is a broken connection."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            path = self.path.split("?")[0]
            if path in CONTENTS:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(CONTENTS[path])

        def log_message(self, *_):
            """Be quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/photo", "image"), ("/photo.jpg", "image"), ("/a.php?b=c.mp4", "image"),
        ("/a.mjpg", "webcam"), ("/clip.jpg", "webcam"), ("/page", "webcam"), ("/empty", "webcam"),
        ("/lost.jpg", "image"), ("/lost", "webcam"), ("/lost.mp4?b=c.jpg", "webcam"),
    ],
)  # fmt: skip
def test_an_address_is_an_image_if_its_content_is_one(server, monkeypatch, path, kind):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")
    assert tell_kind(server + path) == kind


@pytest.mark.parametrize("address", ["http://[::1/a.jpg", "http://"])
def test_an_address_that_is_wrong_is_told_when_it_is_read(address):
    assert tell_kind(address) in ("image", "webcam")


def test_a_video_that_a_server_does_not_have_is_no_camera(server):
    with pytest.raises(BodyPoseNetError) as caught:
        open_camera(f"{server}/lost.mp4")
    assert f"{server}/lost.mp4" in caught.value.what and "camera" not in str(caught.value)
    assert "download" in caught.value.remedy


def test_unknown_kinds_of_input_are_errors(tmp_path, capfd):
    for name in ("a.dat", "a\udcff"):
        (tmp_path / name).write_bytes(b"neither")
        with pytest.raises(BodyPoseNetError, match="neither an image"):
            tell_kind(str(tmp_path / name))
    for name in ("none.mp4", 5000 * "x"):
        with pytest.raises(BodyPoseNetError, match="no such file"):
            tell_kind(str(tmp_path / name))


@pytest.mark.parametrize("name", ["a.mp4", "a\udcff.mp4"])
def test_what_is_no_video_is_our_error_alone(tmp_path, capfd, name):
    (tmp_path / name).write_bytes(b"\0\0\0\x18ftypmp42")
    with pytest.raises(BodyPoseNetError, match="not a video, or a damaged one"):
        open_video(tmp_path / name)
    assert "VIDEOIO" not in capfd.readouterr().err  # OpenCV's own line


def test_numbers_stand_above_heads():
    image = shade(90, 480, 640)
    people = [walker(150, 100, 240, 0), walker(450, 100, 240, 0), walker(630, -20, 240, 0)]
    poses = as_poses([*people, np.full((17, 2), np.nan)], track_ids=np.array([-1, 12, 3, 4]))
    changed = (draw_track_ids(image, poses) != image).any(axis=2)
    assert changed[80:115, 420:480].any()
    assert not changed[:, 100:200].any()
    assert changed[:40, 600:].any()
    assert (draw_track_ids(image, as_poses(people)) == image).all()


def test_no_window_without_a_display(monkeypatch, caplog):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with PreviewWindow() as window:
        assert window.show(shade(0))
        assert window.show(shade(0))
    assert caplog.text.count("no window is shown: there is no display") == 1


def test_no_window_where_opencv_has_none(monkeypatch, caplog):
    def refuse(*_):
        raise cv2.error("not implemented")

    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "namedWindow", refuse)
    with PreviewWindow() as window:
        assert window.show(shade(0))
    assert "built without windows" in caplog.text


def test_a_window_shows_frames_until_q_is_pressed(monkeypatch):
    shown, keys = [], iter([-1, ord("q")])
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "namedWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "imshow", lambda _, pixels: shown.append(pixels))
    monkeypatch.setattr(cv2, "waitKey", lambda _: next(keys))
    monkeypatch.setattr(cv2, "destroyWindow", lambda _: shown.append("closed"))
    with PreviewWindow() as window:
        assert window.show(shade(200))
        assert not window.show(shade(200))
    assert shown[0][0, 0].tolist() == [0, 0, 200]
    assert shown[-1] == "closed"
