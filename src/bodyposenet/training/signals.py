"""Graceful shutdown of a training on SIGINT (Ctrl-C), SIGTERM and SIGUSR1."""

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
)  # Windows has no SIGUSR1.
"""Ctrl-C, and the signals that cluster schedulers send before a machine is reclaimed."""

_DUPLICATE_SECONDS = 1.0
"""A second SIGINT within this time is the same Ctrl-C, forwarded by the launcher."""


class StopSignals:
    """Context manager that records stop signals and restores the previous handlers on exit.

    A training step is never interrupted: the loop checks `received` between two steps. Work that
    can be aborted at any moment, such as a validation, runs inside `with signals.interruptible()`.
    A second Ctrl-C raises KeyboardInterrupt.

    Attributes:
        received: Name of the first signal received, or None.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self._received_at = 0.0
        self._interruptible = False
        self._previous: dict[signal.Signals, object] = {}

    def __enter__(self) -> StopSignals:
        # Python allows signal handlers in the main thread only.
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Raise `Stopped` as soon as a signal arrives within this context.

        Raises:
            Stopped: A signal arrives, or has already been received.
        """
        self._interruptible = True
        try:
            if self.received:
                raise Stopped(self.received)
            yield
        finally:
            self._interruptible = False

    def _handle(self, number: int, _: FrameType | None) -> None:
        """Record a signal, and raise `Stopped` if the current work is interruptible."""
        is_repeated = time.monotonic() - self._received_at > _DUPLICATE_SECONDS
        if number == signal.SIGINT and self.received and is_repeated:
            raise KeyboardInterrupt
        if not self.received:
            self.received, self._received_at = signal.Signals(number).name, time.monotonic()
        if self._interruptible:
            raise Stopped(self.received)


def exit_with_parent() -> None:
    """Start a thread that ends this process when its parent process has ended, even by SIGKILL."""
    threading.Thread(target=_wait_for_parent, args=(os.getppid(),), daemon=True).start()


def _wait_for_parent(parent: int) -> None:
    """Exit as soon as the parent process has ended."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
