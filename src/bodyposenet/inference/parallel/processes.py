"""Items in, their results out in the same order: several processes of this machine share the work.

Each opens the model itself and is bound to its share of the cores, where the system can do that.
Whoever has room gets the next item. The processes end when this one closes their pipes, or dies.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import pairwise
from logging.handlers import QueueHandler
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from queue import Empty, SimpleQueue
from typing import Any, Generic, NamedTuple, TypeVar

from bodyposenet.console import logger
from bodyposenet.cpu import usable_cores
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.inference.parallel.executor import OpenPredictor, Work, in_order
from bodyposenet.inference.pipeline import Stopwatch
from bodyposenet.inference.predictor import Predictor
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.inference import InferenceSpec

Item = TypeVar("Item")
Result = TypeVar("Result")

_MOST_WAITING = 1000
"""Results that may wait for an earlier one, in all."""
_SECONDS_TO_LEAVE = 10.0
"""What a process is given to end what it has begun."""


class ProcessExecutor:
    """Several processes do the work.

    Args:
        open_predictor: Opens the model, in each of them.
        skeleton: Of the model.
        spec: How the poses are found.
        processes: How many.
        threads: Of each one's network; None: as many as it has cores.
    """

    def __init__(
        self,
        open_predictor: OpenPredictor,
        skeleton: Skeleton,
        spec: InferenceSpec,
        processes: int,
        threads: int | None = None,
    ) -> None:
        self.skeleton = skeleton
        self.spec = spec
        self.stopwatch = Stopwatch()
        self._open_predictor = open_predictor
        self._processes = processes
        self._threads = threads

    def run(self, work: Work[Item, Result], items: Sequence[Item]) -> Generator[Result, None, None]:
        """Yield the results in the order of the items; the processes live as long as this runs.

        Raises:
            BodyPoseNetError: A process cannot open the model, or has died.
        """
        from bodyposenet.decoding import warm_up

        workers: list[_Worker[Item, Result]] = []
        try:
            # Else each process would compile the decoder when it is first used.
            warm_up(self.spec.mode)
            share = -(-usable_cores() // self._processes)  # rounded up
            with _ignoring_interrupts():
                for cores in share_cores(self._processes):
                    own = min(len(cores) or share, share)
                    opener = partial(self._open_predictor, self._threads or own)
                    workers.append(_Worker(opener, work, cores))
            yield from in_order(_distribute(items, workers))
        finally:
            for worker in workers:
                worker.connection.close()
            for worker in workers:
                worker.end()


def share_cores(processes: int) -> list[list[int]]:
    """The cores of each process, at most one more than another has; too few are had in turn.

    Returns:
        Numbers of cores; empty lists where the system cannot bind a process to cores.
    """
    if not hasattr(os, "sched_getaffinity"):  # on Linux
        return [[] for _ in range(processes)]
    cores = sorted(os.sched_getaffinity(0))
    if processes > len(cores):
        return [[cores[process % len(cores)]] for process in range(processes)]
    ends = [len(cores) * process // processes for process in range(processes + 1)]
    return [cores[start:end] for start, end in pairwise(ends)]


class _Worker(Generic[Item, Result]):
    """This process's view of another one.

    Args:
        open_predictor: Opens the model.
        work: What it does.
        cores: Which it is bound to; empty: to none.

    Attributes:
        connection: To it; closed, it ends.
        numbers: Of the items that it has, the oldest first.
        room: For so many items; 0 until it is ready.
    """

    def __init__(
        self,
        open_predictor: Callable[[], Predictor],
        work: Work[Item, Result],
        cores: Sequence[int],
    ) -> None:
        self.numbers: deque[int] = deque()
        self.room = 0
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(
            target=serve, args=(theirs, open_predictor, work, cores, logger.level), daemon=True
        )
        self._process.start()
        theirs.close()  # so that its end is seen

    def give(self, number: int, item: Item) -> None:
        """Send an item."""
        try:
            self.connection.send(item)
        except ConnectionError as error:
            raise self._death() from error
        self.numbers.append(number)

    def receive(self) -> tuple[int, Result] | None:
        """Take in one message.

        Returns:
            A number and its result, if that is what came.

        Raises:
            BodyPoseNetError: The process cannot open the model, or has died.
        """
        try:
            message = self.connection.recv()
        except (EOFError, ConnectionError) as error:
            raise self._death() from error
        if isinstance(message, Found):
            return self.numbers.popleft(), message.result
        if isinstance(message, Opened):
            self.room = message.room
        elif isinstance(message, logging.LogRecord):
            logger.handle(message)
        else:
            raise message
        return None

    def end(self) -> None:
        """Wait until it is gone; its connection must be closed."""
        self._process.join(_SECONDS_TO_LEAVE)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _death(self) -> BodyPoseNetError:
        self._process.join(_SECONDS_TO_LEAVE)
        return BodyPoseNetError(
            f"a predictor process died (exit code {self._process.exitcode})",
            "-9 is what the system sends where memory is short: use fewer --processes.",
        )


def _distribute(
    items: Sequence[Item], workers: Sequence[_Worker[Item, Result]]
) -> Iterator[tuple[int, Result]]:
    """Hand out the items; yield their numbers and results as they come in."""
    by_connection = {worker.connection: worker for worker in workers}
    sent = returned = 0
    while returned < len(items):
        while sent < len(items) and (worker := _next_free(workers, sent)) is not None:
            worker.give(sent, items[sent])
            sent += 1
        for connection in wait(list(by_connection)):
            found = by_connection[connection].receive()  # type: ignore[index]
            if found is not None:
                returned += 1
                yield found


def _next_free(
    workers: Sequence[_Worker[Item, Result]], number: int
) -> _Worker[Item, Result] | None:
    """Who gets the item of this number; nobody, while an early one keeps too many waiting."""
    oldest = min((worker.numbers[0] for worker in workers if worker.numbers), default=number)
    if number - oldest >= _MOST_WAITING:
        return None
    worker = max(workers, key=lambda worker: worker.room - len(worker.numbers))
    return worker if len(worker.numbers) < worker.room else None


@contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    """Processes that start meanwhile hear of no Ctrl-C or SIGTERM: this one tells them to end."""
    if threading.current_thread() is not threading.main_thread():  # others may not set handlers
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in INTERRUPTS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
