"""Prediction on a sequence of items (images, frames of a video) with overlapping steps.

The network runs in the caller's thread. Other threads read and resize the next items, and decode
and finish the previous ones:

    read -> prepare    |    network    |    find_poses -> finish

Results come in the order of the items. NumPy, OpenCV and the decoder's kernels release Python's
lock while they compute.
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

_MOST_THREADS = 16
"""Beside the network; a thread reads some 150 photos a second."""


@dataclass(frozen=True, eq=False)
class _Ready(Generic[Item]):
    """An item that was read and resized: the network may have it."""

    item: Item
    pixels: NDArray[np.uint8]
    inputs: list[NetworkInput]

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return [network_input.pixels.shape for network_input in self.inputs]


@dataclass(frozen=True, eq=False)
class _Unreadable(Generic[Item]):
    """An item that cannot be given to the network."""

    item: Item
    error: BodyPoseNetError


@dataclass(frozen=True, eq=False)
class _Bypassed(Generic[Result]):
    """The result of an item that needs no network."""

    result: Result


_Prepared = _Ready[Item] | _Unreadable[Item] | _Bypassed[Result]


class Pipeline(Generic[Item, Result]):
    """Finds the people in one item after the other.

    Args:
        predictor: The network and how it is used.
        read: Item -> (H, W, 3) uint8 RGB. Called in threads, several at a time, like the next two.
        finish: Item, its pixels and the poses in them -> result; draws them, for example.
        skip: Item that cannot be read or prepared, and why -> result. The others go on.
        batch: Items that the network is given at once, where they follow one another and become
            inputs of the same shape.
        bypass: Item -> its result if it needs no network, else None. Called in threads.
        in_flight: Items that are under way at most, taken from the source and without a result
            that was handed out; at least `batch`. None: two batches, and two items per thread.

    Attributes:
        in_flight: See above.
        stopwatch: Seconds of `read`, `resize`, `network`, `decode`, `finish`, and of `waiting`,
            when the network had nothing to do.
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
        self._threads = min(max(usable_cores(), 2), _MOST_THREADS)
        self._bypass = bypass
        self.in_flight = in_flight or 2 * (self._batch + self._threads)

    def run(self, items: Iterable[Item | None]) -> Generator[Result, None, None]:
        """Yield the results in the order of the items.

        Whatever ends the run early (an error of the items' own iterator, of the network or of a
        step, or Ctrl-C) is raised after the results of all earlier items that the network has seen;
        an error of the items' iterator, after those of all items before it.

        Args:
            items: Are taken in the caller's thread, `in_flight` ahead of the results at most. None
                means that more will come, but that items under way need not wait for them.
        """
        coming = iter(items)
        ahead: deque[Future[_Prepared[Item, Result]]] = deque()
        behind: deque[Future[Result]] = deque()
        failure: BaseException | None = None
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="pipeline")
        try:
            while True:
                try:
                    try:
                        self._take(coming, ahead, len(behind), pool)
                    except Exception as error:  # whatever the caller's iterator may fail with
                        coming, failure = iter(()), error
                    if self._has_batch(len(ahead), len(behind)):
                        behind.extend(self._submit(self._next_batch(ahead), pool))
                    elif not behind:
                        break
                except (Exception, KeyboardInterrupt) as error:
                    coming, failure = iter(()), error
                    ahead.clear()
                waits = not self._has_batch(len(ahead), len(behind))
                while behind and (waits or behind[0].done()):
                    try:
                        result = self._wait_for(behind[0])
                    except KeyboardInterrupt as error:
                        if failure is not None or behind[0].done():
                            raise
                        coming, failure = iter(()), error
                        ahead.clear()
                        continue
                    behind.popleft()
                    waits = False  # there is room for another item
                    yield result
            if failure is not None:
                raise failure
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _take(
        self, coming: Iterator[Item | None], ahead: deque[Future[_Prepared[Item, Result]]],
        behind: int, pool: ThreadPoolExecutor,
    ) -> None:  # fmt: skip
        """Have the next items prepared, as far as there is room."""
        for item in islice(coming, self.in_flight - len(ahead) - behind):
            if item is None:
                break
            ahead.append(pool.submit(self._prepare, item))

    def _has_batch(self, ahead: int, behind: int) -> bool:
        """Whether the network should run now.

        An incomplete batch runs if nothing more comes at present. It waits where only `in_flight`
        keeps others from coming: there is room for them as soon as a result is handed out.

        Args:
            ahead: Items that are ready for the network, or about to be.
            behind: Items that the network has seen.
        """
        held_back = behind > 0 and ahead + behind >= self.in_flight
        return ahead >= (self._batch if held_back else 1)

    def _prepare(self, item: Item) -> _Prepared[Item, Result]:
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
        """The next items whose inputs have one shape, and other items between them."""
        batch, room, shapes = [], self._batch, None
        while ahead and room:
            with self.stopwatch.time("waiting"):
                error = ahead[0].exception()
            if error is not None and batch:
                break  # it is raised after the results of this batch
            one = ahead[0].result()
            if isinstance(one, _Ready):
                if shapes not in (None, one.shapes):
                    break
                shapes = one.shapes
                room -= 1
            batch.append(one)
            ahead.popleft()
        return batch

    def _submit(
        self, batch: Sequence[_Prepared[Item, Result]], pool: ThreadPoolExecutor
    ) -> Iterator[Future[Result]]:
        """Run the network, and leave what follows to the threads."""
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
        if not batch:
            return iter(())
        with self.stopwatch.time("network"):
            return iter(self._predictor.infer([one.inputs for one in batch]))

    def _complete(self, ready: _Ready[Item], maps: list[Maps]) -> Result:
        with self.stopwatch.time("decode"):
            poses = self._predictor.find_poses(ready.inputs, maps)
        with self.stopwatch.time("finish"):
            return self._finish(ready.item, ready.pixels, poses)

    def _wait_for(self, future: Future[Value]) -> Value:
        with self.stopwatch.time("waiting"):
            return future.result()


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
