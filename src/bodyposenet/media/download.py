"""Download of images from web servers (http, https), bounded in bytes and seconds."""

from __future__ import annotations

import re
import time
import urllib.request
from http.client import HTTPException, HTTPResponse
from urllib.error import HTTPError, URLError

from bodyposenet.errors import BodyPoseNetError

MAX_BYTES = 100_000_000
"""Larger files are refused."""
TIMEOUT = 10.0
"""Seconds that the server may stay silent."""
DEADLINE = 60.0
"""Seconds for a whole download, however steadily its bytes drip in."""

_ADDRESS = re.compile(r"(?i)https?://")
_CHUNK = 1 << 16
_REMEDY = "Check the address; or download the file and give its path."


def is_address(text: str) -> bool:
    """Whether a text is an address that `download` takes."""
    return _ADDRESS.match(text) is not None


def download(address: str) -> bytes:
    """Fetch a file; redirects are followed to http and https only.

    Args:
        address: `http://...` or `https://...`. Proxies are taken from the environment.

    Raises:
        BodyPoseNetError: The server cannot be reached, answers with an error, is silent for
            `TIMEOUT` seconds, or the file is larger than `MAX_BYTES` or takes longer than
            `DEADLINE`.
    """
    request = urllib.request.Request(address, headers={"User-Agent": "bodyposenet"})
    until = time.monotonic() + DEADLINE
    try:
        with _opener().open(request, timeout=TIMEOUT) as response:
            return _read(address, response, until)
    except HTTPError as error:
        error.close()
        reason = f"the server answers {error.code} {error.reason}"
        raise BodyPoseNetError(f"{address}: {reason}", _REMEDY) from error
    except URLError as error:
        raise BodyPoseNetError(f"{address}: cannot be reached: {error.reason}", _REMEDY) from error
    except (OSError, HTTPException, ValueError) as error:  # ValueError: hosts such as "a b"
        raise BodyPoseNetError(f"{address}: cannot be read: {error}", _REMEDY) from error


def _opener() -> urllib.request.OpenerDirector:
    """Opens http and https; `urllib.request.build_opener` would open files and FTP too."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener


def _read(address: str, response: HTTPResponse, until: float) -> bytes:
    expected = response.length  # None: the server does not tell
    content = bytearray()
    if expected is not None and expected > MAX_BYTES:
        raise _too_large(address)
    while chunk := response.read1(_CHUNK):
        content += chunk
        if len(content) > MAX_BYTES:
            raise _too_large(address)
        if time.monotonic() > until:
            raise BodyPoseNetError(
                f"{address}: not complete after {DEADLINE:g} seconds, {len(content)} bytes", _REMEDY
            )
    if expected is not None and len(content) < expected:
        raise BodyPoseNetError(
            f"{address}: the connection ended after {len(content)} of {expected} bytes",
            "Try again.",
        )
    return bytes(content)


def _too_large(address: str) -> BodyPoseNetError:
    return BodyPoseNetError(
        f"{address}: the file has more than {MAX_BYTES / 1e6:g} MB",
        "Download it and give its path.",
    )
