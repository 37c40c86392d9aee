"""Downloads: what comes back, and what is refused; from a server on this machine."""

import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.media import download as module
from bodyposenet.media.download import download, is_address

CONTENT = bytes(range(256)) * 1000


class Handler(BaseHTTPRequestHandler):
    """Answers by the path that is asked for."""

    def do_GET(self):
        where = {
            "/moved": "/file", "/loop": "/loop", "/local": "file:///etc/hostname",
            "/ftp": "ftp://127.0.0.1/file",
        }.get(self.path)  # fmt: skip
        if where:
            self.answer(302, Location=where)
        elif self.path == "/lost":
            self.answer(404)
        elif self.path == "/silent":
            time.sleep(1)
        elif self.path == "/dripping":
            self.answer(200)
            for _ in range(100):
                self.wfile.write(b"x")
                time.sleep(0.05)
        elif self.path == "/cut":
            self.answer(200, **{"Content-Length": str(len(CONTENT) + 1)})
            self.wfile.write(CONTENT)
        elif self.path == "/untold":
            self.answer(200)
            self.wfile.write(CONTENT)
        else:
            self.answer(200, **{"Content-Length": str(len(CONTENT))})
            self.wfile.write(CONTENT)

    def answer(self, code, **headers):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def handle(self):
        with suppress(ConnectionError):  # the client has seen enough
            super().handle()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    """Its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _directly(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")


@pytest.mark.parametrize("path", ["/file", "/moved", "/untold"])
def test_a_file_is_fetched(server, path):
    assert download(server + path) == CONTENT


@pytest.mark.parametrize(
    ("path", "reason"),
    [("/lost", "404"), ("/loop", ""), ("/local", ""), ("/ftp", "ftp"), ("/cut", "256000 of")],
)
def test_what_cannot_be_fetched_names_the_address(server, path, reason):
    with pytest.raises(BodyPoseNetError) as caught:
        download(server + path)
    assert server + path in caught.value.what
    assert reason in caught.value.what
    assert caught.value.remedy


@pytest.mark.parametrize("path", ["/file", "/untold"])
def test_the_size_is_limited(server, path, monkeypatch):
    monkeypatch.setattr(module, "MAX_BYTES", len(CONTENT) - 1)
    with pytest.raises(BodyPoseNetError, match="more than"):
        download(server + path)


def test_the_time_is_limited(server, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", 0.1)
    with pytest.raises(BodyPoseNetError, match="silent"):
        download(server + "/silent")
    monkeypatch.setattr(module, "TIMEOUT", 5.0)
    monkeypatch.setattr(module, "DEADLINE", 0.2)
    start = time.monotonic()
    with pytest.raises(BodyPoseNetError, match=r"0\.2 seconds"):
        download(server + "/dripping")
    assert time.monotonic() - start < 2


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:1/a.jpg", "http://", "http://a b/c", "http://127.0.0.1:port/"]
)
def test_no_server(address):
    with pytest.raises(BodyPoseNetError):
        download(address)


def test_passwords_are_masked():
    with pytest.raises(BodyPoseNetError) as caught:
        download("http://someone:secret@127.0.0.1:1/a.jpg")
    assert "secret" not in str(caught.value)


def test_which_texts_are_addresses():
    assert is_address("http://a/b.jpg") and is_address("HTTPS://a")
    assert not is_address("http.jpg") and not is_address("ftp://a") and not is_address("file:///a")
