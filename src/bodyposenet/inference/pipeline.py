"""Pipeline that predicts on a sequence of items (images or video frames) with overlapping steps.

The network runs in the caller's thread. Other threads read and resize the next items, and decode
and finish the previous ones:

    read -> prepare    |    network    |    find_poses -> finish

Results are returned in the order of the items. NumPy, OpenCV and the decoder's kernels release the
GIL while they compute.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from threading import Lock
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from bodyposenet.cpu import usable_cores
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.inference.predictor import NetworkInput, Predictor
from bodyposenet.types import Maps, Poses

Item = TypeVar("Item")
Result = TypeVar("Result")
Value = TypeVar("Value")

_MAX_THREADS = 16
"""Maximum number of threads in addition to that of the network; one reads about 150 photos/s."""


@dataclass(frozen=True, eq=False)
class _Ready(Generic[Item]):
    """An item that is ready for the network."""

    item: Item
    pixels: NDArray[np.uint8]
    inputs: list[NetworkInput]

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Shapes of the inputs."""
        return [network_input.pixels.shape for network_input in self.inputs]


@dataclass(frozen=True, eq=False)
class _Unreadable(Generic[Item]):
    """An item that could not be read or prepared."""

    item: Item
    error: BodyPoseNetError


@dataclass(frozen=True, eq=False)
class _Bypassed(Generic[Result]):
    """The result of an item that does not need the network."""

    result: Result


_Prepared = _Ready[Item] | _Unreadable[Item] | _Bypassed[Result]


class Pipeline(Generic[Item, Result]):
    """Predicts on a sequence of items with overlapping steps.

    All functions are called in threads, several at a time.

    Args:
        predictor: The predictor.
        read: Returns the pixels of an item, (H, W, 3) uint8 RGB.
        finish: Returns the result of an item, given the item, its pixels and its poses; it may
            draw the poses, for example.
        skip: Returns the result of an item that cannot be read or prepared, given the item and the
            error. The pipeline continues.
        batch: Maximum batch size. A batch consists of consecutive items with inputs of the same
            shape.
        bypass: Returns the result of an item that does not need the network, else None.
        in_flight: Maximum number of items that were taken and whose results were not yet returned,
            at least `batch`. None for two batches plus two items per thread.

    Attributes:
        in_flight: See above.
        stopwatch: Seconds of `read`, `resize`, `network`, `decode`, `finish`, and of `waiting`,
            while the network had no input.
    """

    def __init__(
        self,
        predictor: Predictor,
        read: Callable[[Item], NDArray[np.uint8]],
        finish: Callable[[Item, NDArray[np.uint8], Poses], Result],
        skip: Callable[[Item, BodyPoseNetError], Result],
        *,
        batch: int = 1,
        bypass: Callable[[Item], Result | None] | None = None,
        in_flight: int | None = None,
    ) -> None:
        self.stopwatch = Stopwatch()
        self._predictor = predictor
        self._read = read
        self._finish = finish
        self._skip = skip
        self._batch = batch
        self._threads = min(max(usable_cores(), 2), _MAX_THREADS)
        self._bypass = bypass
        self.in_flight = in_flight or 2 * (self._batch + self._threads)

    def run(self, items: Iterable[Item | None]) -> Generator[Result, None, None]:
        """Yield the results in the order of the items.

        An error of the network or of a step, or Ctrl-C, is raised after the results of all earlier
        items that the network has processed. An error of the iterator of items is raised after the
        results of all items before it.

        Args:
            items: Iterated over in the caller's thread, at most `in_flight` items ahead of the
                results. An item None means that no item is available at present, so an incomplete
                batch is run without waiting.
        """
        remaining = iter(items)
        ahead: deque[Future[_Prepared[Item, Result]]] = deque()
        behind: deque[Future[Result]] = deque()
        failure: BaseException | None = None
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="pipeline")
        try:
            while True:
                try:
                    try:
                        self._submit_items(remaining, ahead, len(behind), pool)
                    except Exception as error:  # any error of the caller's iterator
                        remaining, failure = iter(()), error
                    if self._has_batch(len(ahead), len(behind)):
                        behind.extend(self._submit(self._next_batch(ahead), pool))
                    elif not behind:
                        break
                except (Exception, KeyboardInterrupt) as error:
                    remaining, failure = iter(()), error
                    ahead.clear()
                must_wait = not self._has_batch(len(ahead), len(behind))
                while behind and (must_wait or behind[0].done()):
                    try:
                        result = self._wait_for(behind[0])
                    except KeyboardInterrupt as error:
                        if failure is not None or behind[0].done():
                            raise
                        remaining, failure = iter(()), error
                        ahead.clear()
                        continue
                    behind.popleft()
                    must_wait = False  # another item can be taken
                    yield result
            if failure is not None:
                raise failure
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _submit_items(
        self, remaining: Iterator[Item | None], ahead: deque[Future[_Prepared[Item, Result]]],
        behind: int, pool: ThreadPoolExecutor,
    ) -> None:  # fmt: skip
        """Submit the next items for preparation, up to `in_flight`."""
        for item in islice(remaining, self.in_flight - len(ahead) - behind):
            if item is None:
                break
            ahead.append(pool.submit(self._prepare, item))

    def _has_batch(self, ahead: int, behind: int) -> bool:
        """Return whether the network should run now.

        An incomplete batch is run if no more items are available. If more are available but
        `in_flight` is reached, it waits, because items can be taken after the next result.

        Args:
            ahead: Number of items that the network has not processed yet.
            behind: Number of items after the network whose results were not returned yet.
        """
        held_back = behind > 0 and ahead + behind >= self.in_flight
        return ahead >= (self._batch if held_back else 1)

    def _prepare(self, item: Item) -> _Prepared[Item, Result]:
        """Read and resize an item, unless it is bypassed. Called in a thread."""
        try:
            if self._bypass is not None and (result := self._bypass(item)) is not None:
                return _Bypassed(result)
            with self.stopwatch.time("read"):
                pixels = self._read(item)
            with self.stopwatch.time("resize"):
                return _Ready(item, pixels, self._predictor.prepare(pixels))
        except BodyPoseNetError as error:
            return _Unreadable(item, error)

    def _next_batch(
        self, ahead: deque[Future[_Prepared[Item, Result]]]
    ) -> list[_Prepared[Item, Result]]:
        """Take the next items with inputs of the same shape, and bypassed items between them."""
        batch, free, shapes = [], self._batch, None
        while ahead and free:
            with self.stopwatch.time("waiting"):
                error = ahead[0].exception()
            if error is not None and batch:
                break  # raised after the results of this batch
            one = ahead[0].result()
            if isinstance(one, _Ready):
                if shapes not in (None, one.shapes):
                    break
                shapes = one.shapes
                free -= 1
            batch.append(one)
            ahead.popleft()
        return batch

    def _submit(
        self, batch: Sequence[_Prepared[Item, Result]], pool: ThreadPoolExecutor
    ) -> Iterator[Future[Result]]:
        """Run the network, and submit decoding and finishing to the threads."""
        maps = self._infer([one for one in batch if isinstance(one, _Ready)])
        for one in batch:
            if isinstance(one, _Ready):
                yield pool.submit(self._complete, one, next(maps))
            elif isinstance(one, _Bypassed):
                done: Future[Result] = Future()
                done.set_result(one.result)
                yield done
            else:
                yield pool.submit(self._skip, one.item, one.error)

    def _infer(self, batch: Sequence[_Ready[Item]]) -> Iterator[list[Maps]]:
        """Run the network on a batch."""
        if not batch:
            return iter(())
        with self.stopwatch.time("network"):
            return iter(self._predictor.infer([one.inputs for one in batch]))

    def _complete(self, ready: _Ready[Item], maps: list[Maps]) -> Result:
        """Decode and finish an item. Called in a thread."""
        with self.stopwatch.time("decode"):
            poses = self._predictor.find_poses(ready.inputs, maps)
        with self.stopwatch.time("finish"):
            return self._finish(ready.item, ready.pixels, poses)

    def _wait_for(self, future: Future[Value]) -> Value:
        """Return the result of a future, and measure the time until it is available."""
        with self.stopwatch.time("waiting"):
            return future.result()


_STEPS = {
    "network": "network",
    "waiting": "waiting for other steps",
    "read": "in threads: read",
    "resize": "in threads: resize",
    "decode": "in threads: decode",
    "finish": "in threads: draw and write",
}
"""Titles of the steps in the table of times."""


class Stopwatch:
    """Sums the seconds of each step; thread-safe."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._start = time.perf_counter()
        self._lock = Lock()

    @contextmanager
    def time(self, step: str) -> Iterator[None]:
        """Add the time of a context to a step, also if the context raises an error."""
        start = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - start
            with self._lock:
                self.seconds[step] = self.seconds.get(step, 0.0) + seconds

    @property
    def elapsed(self) -> float:
        """Seconds since the stopwatch was created."""
        return time.perf_counter() - self._start

    def table(self, images: int) -> list[str]:
        """Format a table: images per second, and the time of each step per image and in percent.

        Steps in other processes are not measured.

        Args:
            images: Number of images.

        Returns:
            Lines of the table.
        """
        elapsed = self.elapsed
        rows = [
            (title, 1000 * seconds / images, 100 * seconds / elapsed)
            for step, title in _STEPS.items()
            if (seconds := self.seconds.get(step, 0.0))
        ]
        return [
            f"{images / elapsed:.2f} images/s"
            + ("; steps in threads overlap with the network:" if rows else ""),
            *(f"  {title:<28}{ms:>9.2f} ms/image{share:>8.1f} %" for title, ms, share in rows),
        ]
