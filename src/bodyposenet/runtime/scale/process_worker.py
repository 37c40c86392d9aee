"""What a predictor process does: items come through a pipe, their results go back through it.

The messages that go back: `Opened` once, then `Found` for every item in turn, log records between
them, and at last an error if there is one. The process ends when its pipe is closed.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection
from queue import Empty, SimpleQueue
from typing import Any, Generic, NamedTuple, TypeVar

from bodyposenet.console import logger
from bodyposenet.cpu import usable_cores
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.runtime.predictor import Predictor
from bodyposenet.runtime.scale.executor import Work

Item = TypeVar("Item")

INTERRUPTS = signal.SIGINT, signal.SIGTERM
"""Ask for the end of a run; they may come to all of its processes."""


class Opened(NamedTuple):
    """A process tells that its model is open.

    Args:
        room: Items that it wants to have at hand.
    """

    room: int


class Found(NamedTuple):
    """A process hands back its oldest item's result."""

    result: Any


def serve(
    connection: Connection, open_predictor: Callable[[], Predictor], work: Work[Any, Any],
    cores: Sequence[int], log_level: int,
) -> None:  # fmt: skip
    """Give results for items until the connection is closed.

    Args:
        connection: Brings the items; takes the messages.
        open_predictor: Opens the model.
        work: What is done with every item.
        cores: Which the process is bound to; empty: to none.
        log_level: Least level of the log records that are sent.
    """
    for number in INTERRUPTS:  # who sends the items hears them
        signal.signal(number, signal.SIG_IGN)
    outbox = _Outbox(connection)
    with suppress(ConnectionError):  # nobody waits for results any more
        try:
            if cores:
                _bind(cores)
            logger.setLevel(logging.ERROR)  # the first process has said what there is to say
            pipeline = work.pipeline(open_predictor())
            _forward_log(outbox, log_level)
            inbox = _Inbox(connection)
            outbox.send(Opened(pipeline.in_flight))
            for result in pipeline.run(inbox.items()):
                inbox.under_way -= 1
                outbox.send(Found(result))
        except ConnectionError:
            raise
        except BodyPoseNetError as error:
            outbox.send(error)
        except Exception:  # a defect: what the process says of it would be lost with it
            outbox.send(RuntimeError(f"in a predictor process:\n{traceback.format_exc()}"))


def _forward_log(outbox: _Outbox, level: int) -> None:
    logger.setLevel(level)
    logger.addHandler(_Forwarding(outbox))
    logger.propagate = False


def _bind(cores: Sequence[int]) -> None:
    import cv2

    os.sched_setaffinity(0, cores)
    cv2.setNumThreads(usable_cores())  # it looked at the cores when it was loaded


class _Outbox:
    """Sends messages; threads may share it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, message: object) -> None:
        """Send one.

        Raises:
            ConnectionError: The other side is gone.
        """
        with self._lock:
            self._connection.send(message)


class _Forwarding(QueueHandler):
    """Sends log records to the process that writes the log."""

    def __init__(self, outbox: _Outbox) -> None:
        super().__init__(outbox)  # type: ignore[arg-type]
        self._outbox = outbox

    def enqueue(self, record: logging.LogRecord) -> None:
        self._outbox.send(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """Say nothing: nobody reads the log any more."""


class _Inbox(Generic[Item]):
    """Takes in items in a thread, so that who sends them never waits.

    Attributes:
        under_way: Items that were taken out and have no result yet; the owner counts down.
    """

    _END = object()

    def __init__(self, connection: Connection) -> None:
        self.under_way = 0
        self._items: SimpleQueue[Any] = SimpleQueue()
        threading.Thread(target=self._receive, args=(connection,), daemon=True).start()

    def items(self) -> Iterator[Item | None]:
        """What comes in, until the other side ends; None where a pipeline should not wait."""
        while True:
            try:
                item = self._items.get(block=not self.under_way)
            except Empty:
                yield None
                continue
            if item is self._END:
                return
            self.under_way += 1
            yield item

    def _receive(self, connection: Connection) -> None:
        try:
            while True:
                self._items.put(connection.recv())
        except (EOFError, OSError):
            self._items.put(self._END)
