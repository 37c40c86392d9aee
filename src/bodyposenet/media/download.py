"""Download of images from web servers (http, https), with limits of size and time."""

from __future__ import annotations

import base64
import re
import socket
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPMessage, HTTPResponse, HTTPSConnection
from threading import Lock, Timer
from types import TracebackType
from typing import IO, Any, Self
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from bodyposenet.errors import BodyPoseNetError

MAX_BYTES = 100_000_000
"""Maximum size of a file in bytes."""
TIMEOUT = 10.0
"""Timeout of one read of the connection in seconds."""
DEADLINE = 60.0
"""Default time limit of a whole download with its redirects, in seconds."""

_ADDRESS = re.compile(r"(?i)https?://")
_CHUNK = 1 << 16
_REMEDY = "Check the address; or download the file and give its path."
_RESERVED = "!#$%&'()*+,/:;=?@[]~"
"""Characters that are not escaped; `%` may be part of an escape."""


def is_address(text: str) -> bool:
    """Return whether a text is an address that `download` supports."""
    return _ADDRESS.match(text) is not None


def download(address: str, *, seconds: float | None = None) -> bytes:
    """Download a file; redirects are followed to http and https only.

    Args:
        address: `http://...` or `https://...`, optionally with `user:password@`. Spaces and
            non-ASCII letters may be escaped or not. Proxies are taken from the environment.
        seconds: Time limit of the whole download with its redirects, or None for `DEADLINE`.

    Returns:
        The content.

    Raises:
        BodyPoseNetError: The address is invalid, the server cannot be reached, returns an error or
            does not respond for `TIMEOUT` seconds, or the file is larger than `MAX_BYTES` or takes
            longer than `seconds`.
    """
    return _fetch_in_time(address, _read, DEADLINE if seconds is None else seconds)


def download_beginning(address: str, count: int) -> bytes:
    """Download the first bytes of a file or an endless stream; see `download`.

    Args:
        address: See `download`.
        count: Number of bytes; shorter files are returned as a whole.

    Raises:
        BodyPoseNetError: See `download`.
    """

    def _read_beginning(address: str, response: HTTPResponse) -> bytes:
        return response.read(count)

    return _fetch_in_time(address, _read_beginning, DEADLINE)


def _fetch_in_time(
    address: str, read: Callable[[str, HTTPResponse], bytes], seconds: float
) -> bytes:
    with _Deadline(seconds) as deadline:
        try:
            content = _fetch(address, deadline, read)
        except BodyPoseNetError as error:
            raise _too_slow(address, seconds) if deadline.is_over else error from error.__cause__
        if deadline.is_over:  # a closed connection can look like the end of the file
            raise _too_slow(address, seconds)
    return content


def _fetch(address: str, deadline: _Deadline, read: Callable[[str, HTTPResponse], bytes]) -> bytes:
    try:
        with _opener(deadline).open(_request(address), timeout=TIMEOUT) as response:
            return read(address, response)
    except HTTPError as error:
        error.close()
        reason = f"the server responded {error.code} {error.reason}"
        raise BodyPoseNetError(f"{address}: {reason}", _REMEDY) from error
    except URLError as error:
        raise BodyPoseNetError(f"{address}: cannot be reached: {error.reason}", _REMEDY) from error
    except (OSError, HTTPException, ValueError, OverflowError) as error:
        # ValueError for hosts such as "a b"; OverflowError for ports
        raise BodyPoseNetError(f"{address}: cannot be read: {error}", _REMEDY) from error


def _request(address: str) -> urllib.request.Request:
    """Create the request for an address, with its special characters escaped.

    Raises:
        ValueError: It is not a valid address.
    """
    parts = urlsplit(address)
    login, _, host = parts.netloc.rpartition("@")
    if not host.isascii():
        host = host.encode("idna").decode()
    path, query = (quote(part, safe=_RESERVED) for part in (parts.path, parts.query))
    request = urllib.request.Request(
        urlunsplit((parts.scheme, host, path, query, "")), headers={"User-Agent": "bodyposenet"}
    )
    if login:
        token = base64.b64encode(unquote(login).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")
    return request


class _Deadline:
    """Time limit of a download, for all of its connections (context manager).

    A timer shuts the connections down. The timeout of a socket is not enough, as it limits a single
    read, and a header or a redirect can take any number of reads.

    Args:
        seconds: Time limit from entering the context.
    """

    def __init__(self, seconds: float) -> None:
        self.is_over = False
        self._until = time.monotonic() + seconds
        self._timer = Timer(seconds, self._end)
        self._timer.daemon = True
        self._sockets: list[socket.socket] = []
        self._lock = Lock()

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        with self._lock:
            for connection in self._sockets:
                connection.close()
            self._sockets.clear()

    def connect(self, address: tuple[str, int], timeout: float, *arguments: Any) -> socket.socket:
        """Create a connection like `socket.create_connection`, within the remaining time.

        Raises:
            OSError: The connection failed, or the time is over.
        """
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        connected = socket.create_connection(address, min(timeout, left), *arguments)
        connected.settimeout(timeout)
        with self._lock:
            # A duplicate, because TLS takes over the socket that it wraps.
            self._sockets.append(connected.dup())
            is_over = self.is_over
        if is_over:
            self._shut_down()
        return connected

    def _end(self) -> None:
        with self._lock:
            self.is_over = True
        self._shut_down()

    def _shut_down(self) -> None:
        with self._lock:
            for connection in self._sockets:
                with suppress(OSError):  # closed by the server
                    connection.shutdown(socket.SHUT_RDWR)


class _Http(HTTPConnection):
    def __init__(self, *arguments: Any, deadline: _Deadline, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._create_connection = deadline.connect


class _Https(HTTPSConnection):
    def __init__(self, *arguments: Any, deadline: _Deadline, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._create_connection = deadline.connect


class _HttpHandler(urllib.request.HTTPHandler):
    def __init__(self, deadline: _Deadline) -> None:
        super().__init__()
        self._connect = partial(_Http, deadline=deadline)

    def http_open(self, req: urllib.request.Request) -> HTTPResponse:
        """Open an http address within the time limit."""
        return self.do_open(self._connect, req)


class _HttpsHandler(urllib.request.HTTPSHandler):
    def __init__(self, deadline: _Deadline) -> None:
        super().__init__()
        self._connect = partial(_Https, deadline=deadline)

    def https_open(self, req: urllib.request.Request) -> HTTPResponse:
        """Open an https address within the time limit."""
        return self.do_open(self._connect, req)


class _RedirectHandler(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Return the request of a redirect, without reading its body."""
        fp.close()  # urllib would read the body of the redirect, of any size
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(deadline: _Deadline) -> urllib.request.OpenerDirector:
    """Create an opener for http and https only, without files and FTP."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        _HttpHandler(deadline),
        _HttpsHandler(deadline),
        urllib.request.HTTPDefaultErrorHandler(),
        _RedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _read(address: str, response: HTTPResponse) -> bytes:
    expected = response.length  # None if the server does not send it
    content = bytearray()
    if expected is not None and expected > MAX_BYTES:
        raise _too_large(address)
    while chunk := response.read1(_CHUNK):
        content += chunk
        if len(content) > MAX_BYTES:
            raise _too_large(address)
    if expected is not None and len(content) < expected:
        raise BodyPoseNetError(
            f"{address}: the connection ended after {len(content)} of {expected} bytes",
            "Try again.",
        )
    return bytes(content)


def _too_large(address: str) -> BodyPoseNetError:
    return BodyPoseNetError(
        f"{address}: the file is larger than {MAX_BYTES / 1e6:g} MB",
        "Download it and give its path.",
    )


def _too_slow(address: str, seconds: float) -> BodyPoseNetError:
    return BodyPoseNetError(f"{address}: not complete after {seconds:g} seconds", _REMEDY)
