"""Work on many images: what is done with each (`Work`), and who does it (`Executor`).

`LocalExecutor` is this process; `scale.processes` starts several, `scale.cluster` uses Ray and
keeps the results, which takes more than doing the work (`ResumableJob`).
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
"""Opens the model where it is called, for so many threads at most; can be pickled."""


class Work(Protocol[Item, Result]):
    """What is done with every item; other processes and machines get pickled copies of it."""

    def pipeline(self, predictor: Predictor) -> Pipeline[Item, Result]:
        """The way of the items through a network."""
        ...


class ResumableJob(Work[Item, Result], Protocol[Item, Result]):
    """Work whose results a later run takes over, where they are still what it would find."""

    def describe(self) -> Mapping[str, Any]:
        """What all results depend on beside the model, as JSON can hold it."""
        ...

    def key(self, item: Item) -> str:
        """What one result depends on beside all that; a later run knows by it what is done."""
        ...

    def store(self, result: Result) -> dict[str, Any]:
        """A result as JSON can hold it."""
        ...

    def restore(self, stored: dict[str, Any]) -> Result:
        """The result that `store` was given."""
        ...

    def is_done(self, stored: dict[str, Any]) -> bool:
        """Whether a result need not be found again: it is none of a failure, and still whole.

        Raises:
            BodyPoseNetError: It is not what `store` gives: its file is damaged.
        """
        ...


class Executor(Protocol):
    """Has work done by a model.

    Args:
        skeleton: Of the model.
        spec: How the poses are found.
        stopwatch: The time of the parts, where they are done in this process.
    """

    skeleton: Skeleton
    spec: InferenceSpec
    stopwatch: Stopwatch

    def run(
        self, work: ResumableJob[Item, Result], items: Sequence[Item]
    ) -> Generator[Result, None, None]:
        """Yield the results in the order of the items."""
        ...


class LocalExecutor:
    """This process does the work.

    Args:
        predictor: The model.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.skeleton = predictor.engine.skeleton
        self.spec = predictor.spec
        self.stopwatch = Stopwatch()
        self._predictor = predictor

    def run(self, work: Work[Item, Result], items: Sequence[Item]) -> Generator[Result, None, None]:
        """Yield the results in the order of the items."""
        pipeline = work.pipeline(self._predictor)
        self.stopwatch = pipeline.stopwatch
        yield from pipeline.run(items)


def in_order(numbered: Iterable[tuple[int, Result]]) -> Iterator[Result]:
    """Yield results by their numbers, 0 first, each as soon as those before it are there."""
    waiting: dict[int, Result] = {}
    number = 0
    for place, result in numbered:
        waiting[place] = result
        while number in waiting:
            yield waiting.pop(number)
            number += 1
