"""Parts of the work in, the time that each took out, summed over all threads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock


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
