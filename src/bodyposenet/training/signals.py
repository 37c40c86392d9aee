"""Signals in, a polite end of the training out: SIGTERM, SIGUSR1 and Ctrl-C ask for it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from bodyposenet.errors import Stopped

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)
)  # Windows knows no SIGUSR1
"""Ctrl-C, and what clusters send before they take a machine away."""

_SECONDS_OF_ONE_REQUEST = 1.0
"""A launcher hands on a Ctrl-C that its ranks have had already."""


def leave_with_parent() -> None:
    """End this process when the one that started it has gone, be it killed."""
    threading.Thread(target=_wait_for_end, args=(os.getppid(),), daemon=True).start()


def _wait_for_end(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


class StopSignals:
    """Notes the signals; a context manager that puts the handlers of before back.

    A step is never interrupted: the loop asks `received` between two of them. What may be left at
    any moment, such as a validation, runs under `with signals.at_once():`. Who cannot wait presses
    Ctrl-C again.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self._received_at = 0.0
        self._at_once = False
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():  # others may not set handlers
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """While this lasts, a signal raises `Stopped`; one that came before does so now."""
        self._at_once = True
        try:
            if self.received:
                raise Stopped(self.received)
            yield
        finally:
            self._at_once = False

    def _note(self, number: int, _: FrameType | None) -> None:
        late = time.monotonic() - self._received_at > _SECONDS_OF_ONE_REQUEST
        if number == signal.SIGINT and self.received and late:
            raise KeyboardInterrupt
        if not self.received:
            self.received, self._received_at = signal.Signals(number).name, time.monotonic()
        if self._at_once:
            raise Stopped(self.received)
