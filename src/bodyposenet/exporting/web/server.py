"""A web server for the page on this machine, with the headers that browsers need for threads."""

from __future__ import annotations

import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from bodyposenet.console import logger
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.exporting.web.site import HEADERS

_HOST = "127.0.0.1"


class _Server(ThreadingHTTPServer):
    """Server that prints no traceback if a browser closes a connection."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print an error of a request, except that of a closed connection."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(SimpleHTTPRequestHandler):
    """Handler of requests for the files of a folder."""

    # The types that the operating system registers for these may be wrong.
    extensions_map = {  # noqa: RUF012
        **SimpleHTTPRequestHandler.extensions_map,
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
        ".onnx": "application/octet-stream",
    }

    def end_headers(self) -> None:
        """Add the headers of the page."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Log a request at the level DEBUG."""
        logger.debug(format, *args)


def open_server(folder: Path, port: int) -> ThreadingHTTPServer:
    """Open a web server for the files of a folder, which only this machine can reach.

    Args:
        folder: The folder, which may be created later.
        port: The port, or 0 for any free one.

    Returns:
        The server; `serve_forever` runs it.

    Raises:
        BodyPoseNetError: The port cannot be used.
    """
    try:
        return _Server((_HOST, port), partial(_Handler, directory=str(folder)))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BodyPoseNetError(
            f"--serve {port}: the port cannot be used: {reason}", "Choose another port."
        ) from error


def address_of(server: ThreadingHTTPServer) -> str:
    """Return the address of the page."""
    return f"http://{_HOST}:{server.server_address[1]}/"
