"""Downloads from a local server: redirects, limits of size and time, and errors."""

import socket
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.media import download as module
from bodyposenet.media.download import download, is_address

CONTENT = bytes(range(256)) * 1000
DRIPS = {
    "/drip/header": (b"HTTP/1.1 200 OK\r\nX-Slow: ", b"\r\n\r\nend"),
    "/drip/chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"\r\n"),
    "/drip/body": (b"HTTP/1.1 200 OK\r\n\r\n", b""),
    "/drip/length": (b"HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n", b""),
    "/drip/redirect": (b"HTTP/1.1 302 Found\r\nLocation: /file\r\nX-Slow: ", b"\r\n\r\n"),
}
"""Path -> content before and after 60 single bytes, which are sent within 3 seconds."""


class Handler(BaseHTTPRequestHandler):
    """Handler whose response depends on the path."""

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
        elif self.path in DRIPS:
            begin, end = DRIPS[self.path]
            self.wfile.write(begin)
            for _ in range(60):
                self.wfile.write(b"1")
                time.sleep(0.05)
            self.wfile.write(end)
        elif self.path.startswith("/far"):
            time.sleep(0.1)
            self.answer(302, Location=self.path + "a")
        elif self.path == "/endless":
            self.wfile.write(b"HTTP/1.1 302 Found\r\nLocation: /file\r\n\r\n")
            while True:
                self.wfile.write(CONTENT)
        elif self.path == "/who":
            self.answer(200)
            self.wfile.write(str(self.headers["Authorization"]).encode())
        elif self.path.startswith("/echo"):
            self.answer(200)
            self.wfile.write(self.path.encode())
        elif self.path == "/cut":
            self.answer(200, **{"Content-Length": str(len(CONTENT) + 1)})
            self.wfile.write(CONTENT)
        elif self.path == "/unknown_length":
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
        with suppress(ConnectionError):  # closed by the client
            super().handle()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    """Address of the server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")


@pytest.mark.parametrize("path", ["/file", "/moved", "/unknown_length"])
def test_files_are_downloaded(server, path):
    assert download(server + path) == CONTENT


@pytest.mark.parametrize(
    ("path", "reason"),
    [("/lost", "404"), ("/loop", ""), ("/local", ""), ("/ftp", "ftp"), ("/cut", "256000 of")],
)
def test_errors_name_the_address(server, path, reason):
    with pytest.raises(BodyPoseNetError) as caught:
        download(server + path)
    assert server + path in caught.value.what
    assert reason in caught.value.what
    assert caught.value.remedy


@pytest.mark.parametrize("path", ["/file", "/unknown_length"])
def test_size_limit(server, path, monkeypatch):
    monkeypatch.setattr(module, "MAX_BYTES", len(CONTENT) - 1)
    with pytest.raises(BodyPoseNetError, match="MB"):
        download(server + path)


def test_timeout_of_one_read(server, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", 0.1)
    with pytest.raises(BodyPoseNetError, match="silent"):
        download(server + "/silent")


@pytest.mark.parametrize("path", [*DRIPS, "/far"])
def test_deadline_of_a_download(server, path, monkeypatch):
    monkeypatch.setattr(module, "DEADLINE", 0.3)
    start = time.monotonic()
    with pytest.raises(BodyPoseNetError, match=r"0\.3 seconds"):
        download(server + path)
    assert time.monotonic() - start < 2


def test_deadline_of_the_tls_handshake(monkeypatch):
    monkeypatch.setattr(module, "DEADLINE", 0.3)
    start = time.monotonic()
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        pytest.raises(BodyPoseNetError, match=r"0\.3 seconds"),
    ):
        download(f"https://127.0.0.1:{listening.getsockname()[1]}/a.jpg")
    assert time.monotonic() - start < 2


def test_the_content_of_a_redirect_is_not_read(server):
    assert download(server + "/endless") == CONTENT


def test_downloads_leave_no_thread(server):
    download(server + "/file")
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):  # it was cancelled, and is about to end
            thread.join(5)
            assert not thread.is_alive()


@pytest.mark.parametrize(
    ("path", "requested"),
    [
        ("/echo/ä b.jpg", "/echo/%C3%A4%20b.jpg"),
        ("/echo/%C3%A4%20b.jpg?a=1&b=[2]", "/echo/%C3%A4%20b.jpg?a=1&b=[2]"),
        ("/echo?name=日本#part", "/echo?name=%E6%97%A5%E6%9C%AC"),
        ("/echo/100%.jpg", "/echo/100%.jpg"),
    ],
)
def test_special_characters_are_escaped(server, path, requested):
    assert download(server + path).decode() == requested


def test_hosts_beyond_ascii(monkeypatch):
    connections = []

    def create_connection(address, *_):
        connections.append(address)
        raise OSError("not found")

    monkeypatch.setattr("socket.create_connection", create_connection)
    with pytest.raises(BodyPoseNetError, match="not found"):
        download("http://exämple.invalid:8080/ä")
    assert connections == [("xn--exmple-cua.invalid", 8080)]


def test_password_is_sent_as_authorization(server):
    login = server.replace("//", "//bob:s%40cret@")
    assert download(login + "/who") == b"Basic Ym9iOnNAY3JldA=="
    assert download(server + "/who") == b"None"


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:1/a.jpg",
        "http://",
        "http:///a.jpg",
        "http://a b/c",
        "http://[::1/",
        "http://127.0.0.1:port/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:-1/",
        "http://@/",
        "http://\0/",
        "http://a\nb/",
        "http://a..b/",
        "http://.ä/",
        f"http://{'ä' * 99}/",
        "http://\udcff/",
        "http://127.0.0.1:1/\udcff",
    ],
)
def test_invalid_addresses_are_errors(address):
    with pytest.raises(BodyPoseNetError) as caught:
        download(address)
    assert address in caught.value.what


def test_passwords_are_masked():
    with pytest.raises(BodyPoseNetError) as caught:
        download("http://someone:secret@127.0.0.1:1/a.jpg")
    assert "secret" not in str(caught.value)


def test_is_address():
    assert is_address("http://a/b.jpg") and is_address("HTTPS://a")
    assert not is_address("http.jpg") and not is_address("ftp://a") and not is_address("file:///a")
