"""Input types, and the images of an input."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.media.inputs import detect_input_type, list_images
from bodyposenet.media.video import open_camera

from .videos import shade, write_video


def test_input_types(tmp_path):
    video = write_video(tmp_path / "a.mp4", 2)
    image = tmp_path / "b.png"
    cv2.imwrite(str(image), shade(0))
    (tmp_path / "c.json").write_text("[]")
    (tmp_path / "list").write_text('\n {"images": []}')
    (tmp_path / "d.mjpeg").write_bytes(cv2.imencode(".jpg", shade(0))[1].tobytes() * 2)
    for path in (video, image):
        (tmp_path / path.stem).write_bytes(path.read_bytes())
    names = ("", "a.mp4", "a", "b.png", "b", "c.json", "list", "d.mjpeg")
    found = [detect_input_type(str(tmp_path / name)) for name in names]
    assert found == ["dir", "video", "video", "image", "image", "json", "json", "video"]
    assert detect_input_type("b.png", tmp_path) == "image"
    for name in ("a.mp4", "c.json"):
        with pytest.raises(BodyPoseNetError, match="not found") as caught:
            detect_input_type(name, tmp_path)
        assert "--image_root_path" in caught.value.remedy
    assert detect_input_type("0") == detect_input_type("rtsp://host/stream") == "webcam"


JPEG = cv2.imencode(".jpg", np.full((48, 64, 3), 90, np.uint8))[1].tobytes()


CONTENTS = {
    "/photo": JPEG, "/photo.jpg": JPEG, "/a.php": JPEG, "/a.mjpg": JPEG,
    "/clip.jpg": b"--frame\r\n", "/page": b"<html>", "/empty": b"",
}  # fmt: skip


@pytest.fixture(scope="module")
def server():
    """Address of a web server; other paths than `CONTENTS` get no response."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            path = self.path.split("?")[0]
            if path in CONTENTS:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(CONTENTS[path])

        def log_message(self, *_):
            """Do not log requests."""

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
    assert detect_input_type(server + path) == kind


@pytest.mark.parametrize("address", ["http://[::1/a.jpg", "http://"])
def test_invalid_address_is_reported_when_it_is_read(address):
    assert detect_input_type(address) in ("image", "webcam")


def test_unknown_input_types_are_errors(tmp_path, capfd):
    for name in ("a.dat", "a\udcff"):
        (tmp_path / name).write_bytes(b"neither")
        with pytest.raises(BodyPoseNetError, match="--input_type"):
            detect_input_type(str(tmp_path / name))
    for name in ("none.mp4", 5000 * "x"):
        with pytest.raises(BodyPoseNetError, match="not found"):
            detect_input_type(str(tmp_path / name))


def test_missing_video_on_a_server_is_an_error(server):
    with pytest.raises(BodyPoseNetError) as caught:
        open_camera(f"{server}/lost.mp4")
    assert f"{server}/lost.mp4" in caught.value.what and "camera" not in str(caught.value)
    assert "download" in caught.value.remedy


def test_a_folder_lists_its_images_sorted(tmp_path):
    for name in ("b.JPG", "a.png", "c.webp", "d.Bmp", "e.jpeg", "notes.txt", "sub/f.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [entry.path.name for entry in list_images("dir", tmp_path).entries]
    assert names == ["a.png", "b.JPG", "c.webp", "d.Bmp", "e.jpeg"]


def test_a_folder_without_images_is_an_error(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(BodyPoseNetError, match="jpg"):
        list_images("dir", tmp_path)
    with pytest.raises(BodyPoseNetError, match="not a folder"):
        list_images("dir", tmp_path / "missing")


def test_relative_paths_start_at_the_root(tmp_path):
    (entry,) = list_images("image", "sub/a.jpg", "/photos").entries
    assert entry.path == Path("/photos/sub/a.jpg")
    (entry,) = list_images("image", tmp_path / "a.jpg", "/photos").entries
    assert entry.path == tmp_path / "a.jpg"


def test_json_is_a_list_of_paths(tmp_path):
    (tmp_path / "list.json").write_text('["a.jpg", "sub/b.jpg"]')
    images = list_images("json", tmp_path / "list.json", "/photos")
    assert [entry.path for entry in images.entries] == [
        Path("/photos/a.jpg"),
        Path("/photos/sub/b.jpg"),
    ]


def test_json_may_begin_with_a_byte_order_mark(tmp_path):
    (tmp_path / "list.json").write_text('["ä.jpg"]', encoding="utf-8-sig")
    (entry,) = list_images("json", tmp_path / "list.json").entries
    assert entry.path == Path("ä.jpg")


def test_json_objects_keep_their_fields(tmp_path):
    content = {"source": "trip", "images": [{"full_image_path": "a.jpg", "id": 7}]}
    (tmp_path / "list.json").write_text(json.dumps(content))
    images = list_images("json", tmp_path / "list.json")
    assert images.fields == {"source": "trip"}
    assert images.entries[0].path == Path("a.jpg")
    assert images.entries[0].fields["id"] == 7


@pytest.mark.parametrize(
    "text", ["[", "3", "{}", "[]", "[3]", '{"images": [{"file": "a.jpg"}]}', '{"images": null}']
)
def test_invalid_json_is_an_error(tmp_path, text):
    (tmp_path / "list.json").write_text(text)
    with pytest.raises(BodyPoseNetError, match=r"list\.json"):
        list_images("json", tmp_path / "list.json")
