"""Executor with several processes on this machine.

Each process opens the model and is bound to its share of the cores, if the system supports that.
The next item goes to the process with the most free capacity. The processes end when this process
closes their pipes or dies.
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
from bodyposenet.inference.parallel.executor import Job, OpenPredictor, in_order
from bodyposenet.inference.pipeline import Stopwatch
from bodyposenet.inference.predictor import Predictor
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.inference import InferenceSpec

Item = TypeVar("Item")
Result = TypeVar("Result")

_MAX_WAITING = 1000
"""Maximum number of results that wait for an earlier one."""
_JOIN_TIMEOUT = 10.0
"""Maximum seconds to wait for the end of a process before it is killed."""

INTERRUPTS = signal.SIGINT, signal.SIGTERM
"""Signals that end a run. They may be sent to all of its processes."""


class Ready(NamedTuple):
    """Message of a process whose model is open.

    Args:
        capacity: Number of items to send to the process in advance.
    """

    capacity: int


class ItemResult(NamedTuple):
    """Message with the result of the oldest item of a process."""

    result: Any


class ProcessExecutor:
    """Runs jobs in several processes.

    Args:
        open_predictor: Function that opens the model in each process.
        skeleton: Skeleton of the model.
        spec: Inference spec.
        processes: Number of processes.
        threads: Threads of the network in each process, or None for its number of cores.
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

    def run(self, job: Job[Item, Result], items: Sequence[Item]) -> Generator[Result, None, None]:
        """Yield the results in the order of the items. The processes end with this generator.

        Raises:
            BodyPoseNetError: A process cannot open the model, or has died.
        """
        from bodyposenet.decoding import warm_up

        workers: list[_Worker[Item, Result]] = []
        try:
            # Otherwise each process would compile the decoder at its first use.
            warm_up(self.spec.mode)
            share = -(-usable_cores() // self._processes)  # rounded up
            with _ignore_interrupts():
                for cores in assign_cores(self._processes):
                    default_threads = min(len(cores) or share, share)
                    opener = partial(self._open_predictor, self._threads or default_threads)
                    workers.append(_Worker(opener, job, cores))
            yield from in_order(_distribute(items, workers))
        finally:
            for worker in workers:
                worker.connection.close()
            for worker in workers:
                worker.end()


def assign_cores(processes: int) -> list[list[int]]:
    """Assign the cores to processes as equally as possible.

    If there are more processes than cores, several processes get the same core.

    Returns:
        Core numbers of each process; empty lists if the system cannot bind processes to cores.
    """
    if not hasattr(os, "sched_getaffinity"):  # not on Linux
        return [[] for _ in range(processes)]
    cores = sorted(os.sched_getaffinity(0))
    if processes > len(cores):
        return [[cores[process % len(cores)]] for process in range(processes)]
    ends = [len(cores) * process // processes for process in range(processes + 1)]
    return [cores[start:end] for start, end in pairwise(ends)]


class _Worker(Generic[Item, Result]):
    """Handle of a worker process.

    Args:
        open_predictor: Function that opens the model.
        job: The job.
        cores: Cores that the process is bound to, or empty for no binding.

    Attributes:
        connection: Connection to the process. Closing it ends the process.
        numbers: Numbers of the items of the process, the oldest first.
        capacity: Maximum number of its items; 0 until it is ready.
    """

    def __init__(
        self,
        open_predictor: Callable[[], Predictor],
        job: Job[Item, Result],
        cores: Sequence[int],
    ) -> None:
        self.numbers: deque[int] = deque()
        self.capacity = 0
        context = get_context("spawn")
        self.connection, child_connection = context.Pipe()
        self._process = context.Process(
            target=serve,
            args=(child_connection, open_predictor, job, cores, logger.level),
            daemon=True,
        )
        self._process.start()
        child_connection.close()  # so that the end of the process closes the connection

    def send(self, number: int, item: Item) -> None:
        """Send an item."""
        try:
            self.connection.send(item)
        except ConnectionError as error:
            raise self._exit_error() from error
        self.numbers.append(number)

    def receive(self) -> tuple[int, Result] | None:
        """Process one message.

        Returns:
            Number and result of an item, or None for other messages.

        Raises:
            BodyPoseNetError: The process cannot open the model, or has died.
        """
        try:
            message = self.connection.recv()
        except (EOFError, ConnectionError) as error:
            raise self._exit_error() from error
        if isinstance(message, ItemResult):
            return self.numbers.popleft(), message.result
        if isinstance(message, Ready):
            self.capacity = message.capacity
        elif isinstance(message, logging.LogRecord):
            logger.handle(message)
        else:
            raise message
        return None

    def end(self) -> None:
        """Wait until the process has ended; its connection must be closed."""
        self._process.join(_JOIN_TIMEOUT)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _exit_error(self) -> BodyPoseNetError:
        """Create the error for a process that ended by itself."""
        self._process.join(_JOIN_TIMEOUT)
        return BodyPoseNetError(
            f"a predictor process died (exit code {self._process.exitcode})",
            "If the code is -9, the system probably ran out of memory: use fewer --processes.",
        )


def _distribute(
    items: Sequence[Item], workers: Sequence[_Worker[Item, Result]]
) -> Iterator[tuple[int, Result]]:
    """Distribute the items; yield numbers and results in the order of completion."""
    by_connection = {worker.connection: worker for worker in workers}
    sent = returned = 0
    while returned < len(items):
        while sent < len(items) and (worker := _next_free(workers, sent)) is not None:
            worker.send(sent, items[sent])
            sent += 1
        for connection in wait(list(by_connection)):
            numbered = by_connection[connection].receive()  # type: ignore[index]
            if numbered is not None:
                returned += 1
                yield numbered


def _next_free(
    workers: Sequence[_Worker[Item, Result]], number: int
) -> _Worker[Item, Result] | None:
    """Choose the worker for an item, or None if all are busy or too many results are waiting."""
    oldest = min((worker.numbers[0] for worker in workers if worker.numbers), default=number)
    if number - oldest >= _MAX_WAITING:
        return None
    worker = max(workers, key=lambda worker: worker.capacity - len(worker.numbers))
    return worker if len(worker.numbers) < worker.capacity else None


@contextmanager
def _ignore_interrupts() -> Iterator[None]:
    """Ignore Ctrl-C and SIGTERM in processes that are started within; this process ends them."""
    if threading.current_thread() is not threading.main_thread():  # cannot set handlers
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in INTERRUPTS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def serve(
    connection: Connection, open_predictor: Callable[[], Predictor], job: Job[Any, Any],
    cores: Sequence[int], log_level: int,
) -> None:  # fmt: skip
    """Run a worker process: process items until the connection is closed.

    Args:
        connection: Connection for items and messages.
        open_predictor: Function that opens the model.
        job: The job.
        cores: Cores to bind the process to, or empty for no binding.
        log_level: Minimum level of the log records that are sent.
    """
    for number in INTERRUPTS:  # handled by the process that sends the items
        signal.signal(number, signal.SIG_IGN)
    outbox = _Outbox(connection)
    with suppress(ConnectionError):  # the receiver of the results has ended
        try:
            if cores:
                _bind_to_cores(cores)
            logger.setLevel(logging.ERROR)  # the main process has logged it already
            pipeline = job.pipeline(open_predictor())
            _forward_log(outbox, log_level)
            inbox = _Inbox(connection)
            outbox.send(Ready(pipeline.in_flight))
            for result in pipeline.run(inbox.items()):
                inbox.in_progress -= 1
                outbox.send(ItemResult(result))
        except ConnectionError:
            raise
        except BodyPoseNetError as error:
            outbox.send(error)
        except Exception:  # a bug: send its traceback
            outbox.send(RuntimeError(f"in a predictor process:\n{traceback.format_exc()}"))


def _forward_log(outbox: _Outbox, level: int) -> None:
    """Send log records of at least this level to the main process instead of printing them."""
    logger.setLevel(level)
    logger.addHandler(_LogForwarder(outbox))
    logger.propagate = False


def _bind_to_cores(cores: Sequence[int]) -> None:
    """Bind this process to cores."""
    import cv2

    os.sched_setaffinity(0, cores)
    cv2.setNumThreads(usable_cores())  # OpenCV reads the number of cores at import


class _Outbox:
    """Sends messages; thread-safe."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, message: object) -> None:
        """Send a message.

        Raises:
            ConnectionError: The receiver has ended.
        """
        with self._lock:
            self._connection.send(message)


class _LogForwarder(QueueHandler):
    """Sends log records to the main process."""

    def __init__(self, outbox: _Outbox) -> None:
        super().__init__(outbox)  # type: ignore[arg-type]
        self._outbox = outbox

    def enqueue(self, record: logging.LogRecord) -> None:
        """Send a log record."""
        self._outbox.send(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """Ignore errors: the main process has ended."""


class _Inbox(Generic[Item]):
    """Receives items in a thread, so that the sender never waits.

    Attributes:
        in_progress: Number of items without a result; decremented by the owner.
    """

    _END = object()

    def __init__(self, connection: Connection) -> None:
        self.in_progress = 0
        self._items: SimpleQueue[Any] = SimpleQueue()
        threading.Thread(target=self._receive, args=(connection,), daemon=True).start()

    def items(self) -> Iterator[Item | None]:
        """Yield the items until the sender ends, and None while none is available."""
        while True:
            try:
                item = self._items.get(block=not self.in_progress)
            except Empty:
                yield None
                continue
            if item is self._END:
                return
            self.in_progress += 1
            yield item

    def _receive(self, connection: Connection) -> None:
        """Receive items until the sender ends."""
        try:
            while True:
                self._items.put(connection.recv())
        except (EOFError, OSError):
            self._items.put(self._END)
