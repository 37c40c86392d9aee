"""Interfaces of jobs on many images and of their executors.

A `Job` defines what is done with each item. An `Executor` runs it: `LocalExecutor` in this process,
`parallel.processes` in several processes, `parallel.ray_cluster` on a Ray cluster, where results
are stored so that a later run can resume (`ResumableJob`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from bodyposenet.inference.pipeline import Pipeline, Stopwatch
from bodyposenet.inference.predictor import Predictor
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.inference import InferenceSpec

Item = TypeVar("Item")
Result = TypeVar("Result")

OpenPredictor = Callable[[int | None], Predictor]
"""Function that opens the model, given the maximum number of threads; can be pickled."""


class Job(Protocol[Item, Result]):
    """Defines what is done with each item. Jobs are pickled for other processes and machines."""

    def pipeline(self, predictor: Predictor) -> Pipeline[Item, Result]:
        """Create the pipeline that processes the items."""
        ...


class ResumableJob(Job[Item, Result], Protocol[Item, Result]):
    """A job whose stored results a later run can reuse."""

    def describe(self) -> Mapping[str, Any]:
        """Return what all results depend on in addition to the model, as JSON values."""
        ...

    def key(self, item: Item) -> str:
        """Return the key of an item's result: what it depends on in addition to `describe`."""
        ...

    def store(self, result: Result) -> dict[str, Any]:
        """Convert a result to JSON values."""
        ...

    def restore(self, stored: dict[str, Any]) -> Result:
        """Convert the output of `store` back to the result."""
        ...

    def is_done(self, stored: dict[str, Any]) -> bool:
        """Return whether a stored result can be reused: it is not a failure and its files exist.

        Raises:
            BodyPoseNetError: The stored result is damaged.
        """
        ...


class Executor(Protocol):
    """Runs jobs with a model.

    Attributes:
        skeleton: Skeleton of the model.
        spec: Inference spec.
        stopwatch: Time of each step, if the steps run in this process.
    """

    skeleton: Skeleton
    spec: InferenceSpec
    stopwatch: Stopwatch

    def run(
        self, job: ResumableJob[Item, Result], items: Sequence[Item]
    ) -> Generator[Result, None, None]:
        """Yield the results in the order of the items."""
        ...


class LocalExecutor:
    """Runs jobs in this process.

    Args:
        predictor: Predictor of the model.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.skeleton = predictor.engine.skeleton
        self.spec = predictor.spec
        self.stopwatch = Stopwatch()
        self._predictor = predictor

    def run(self, job: Job[Item, Result], items: Sequence[Item]) -> Generator[Result, None, None]:
        """Yield the results in the order of the items."""
        pipeline = job.pipeline(self._predictor)
        self.stopwatch = pipeline.stopwatch
        yield from pipeline.run(items)


def in_order(numbered: Iterable[tuple[int, Result]]) -> Iterator[Result]:
    """Yield numbered results in the order of their numbers, each as soon as possible."""
    waiting: dict[int, Result] = {}
    next_number = 0
    for number, result in numbered:
        waiting[number] = result
        while next_number in waiting:
            yield waiting.pop(next_number)
            next_number += 1
