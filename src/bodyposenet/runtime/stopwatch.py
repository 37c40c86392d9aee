"""Measurement of the time that each part of the pipeline takes, summed over all threads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

_PARTS = {
    "network": "network",
    "waiting": "waiting for other parts",
    "read": "beside it: read",
    "resize": "beside it: resize",
    "decode": "beside it: decode",
    "finish": "beside it: draw and write",
}
"""Part of the pipeline -> its name in the table."""


class Stopwatch:
    """Adds up the seconds that parts of the work take; threads may share it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._start = time.perf_counter()
        self._lock = Lock()

    @contextmanager
    def time(self, part: str) -> Iterator[None]:
        """Add the time until the context ends, also by an error, to a part."""
        start = time.perf_counter()
        try:
            yield
        finally:
            taken = time.perf_counter() - start
            with self._lock:
                self.seconds[part] = self.seconds.get(part, 0.0) + taken

    @property
    def elapsed(self) -> float:
        """Seconds since the stopwatch was made."""
        return time.perf_counter() - self._start

    def table(self, images: int) -> list[str]:
        """Lines of a table: images per second, and the time of each part per image and in percent.

        Parts in other processes are not measured.

        Args:
            images: How many there were.
        """
        whole = self.elapsed
        rows = [
            (meaning, 1000 * seconds / images, 100 * seconds / whole)
            for part, meaning in _PARTS.items()
            if (seconds := self.seconds.get(part, 0.0))
        ]
        return [
            f"{images / whole:.2f} images/s"
            + ("; parts beside the network overlap with it:" if rows else ""),
            *(f"  {meaning:<28}{ms:>9.2f} ms/image{share:>8.1f} %" for meaning, ms, share in rows),
        ]
