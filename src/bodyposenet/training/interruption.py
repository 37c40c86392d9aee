"""Signals in, a polite end of the training out: SIGTERM and SIGUSR1 ask for it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from bodyposenet.errors import Stopped

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)
)  # Windows knows no SIGUSR1
"""What clusters send before they take a machine away."""


class StopSignals:
    """Notes the signals; a context manager that puts the handlers of before back.

    A step is never interrupted: the loop asks `received` between two of them. What may be left at
    any moment, such as a validation, runs under `with signals.at_once():`.
    """

    def __init__(self) -> None:
        self.received: str | None = None
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
        self.received = signal.Signals(number).name
        if self._at_once:
            raise Stopped(self.received)
