"""Items in, their results out in the same order: the processes of a Ray cluster share the work.

What comes back is written to parts as it comes, so that a run that was cut off can be gone on with.
All machines of the cluster must see the model and the images under the same paths.
"""

from __future__ import annotations

import json
import logging
import math
import os
import pickle
import signal
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from bodyposenet.console import logger
from bodyposenet.cpu import usable_cores
from bodyposenet.directory_lock import directory_lock
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import make_directory
from bodyposenet.inference.parallel.executor import OpenPredictor, ResumableJob, in_order
from bodyposenet.inference.parallel.result_store import ResultStore
from bodyposenet.inference.pipeline import Stopwatch
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.inference import InferenceSpec

Item = TypeVar("Item")
Result = TypeVar("Result")

LOCAL = "local"
"""In place of an address: a cluster of this machine alone, for as long as the work takes."""

_MOST_ITEMS = 64
"""That a process is sent at once."""
_TURNS = 4
"""Every process gets its share in at least so many pieces, so that all end at the same time."""
_OBJECT_STORE = 256 * 2**20
"""Bytes of a local cluster's shared memory; items and results are small."""


@dataclass(frozen=True)
class ClusterOptions:
    """Which cluster, and how it is used.

    Args:
        address: `LOCAL`; `auto` for the cluster that this machine belongs to; or host:port.
        processes: Predictor processes, in all; None: as many as there are GPUs or, without any, as
            cores allow.
        threads: Cores of each process.
    """

    address: str
    processes: int | None = None
    threads: int = 1


class ClusterExecutor:
    """The processes of a Ray cluster do the work.

    Args:
        open_predictor: Opens the model, in each of them.
        skeleton: Of the model.
        spec: How the poses are found.
        options: Which cluster.
        folder: Receives the results so far; what earlier runs have left there is taken over.
        manifest: What they depend on beside the work, as JSON can hold it.
        overwrite: Begin again, whatever is there.
    """

    def __init__(
        self,
        open_predictor: OpenPredictor,
        skeleton: Skeleton,
        spec: InferenceSpec,
        options: ClusterOptions,
        folder: Path,
        manifest: Mapping[str, Any],
        *,
        overwrite: bool = False,
    ) -> None:
        self.skeleton = skeleton
        self.spec = spec
        self.stopwatch = Stopwatch()
        self._open_predictor = open_predictor
        self._options = options
        self._folder = folder
        self._manifest = manifest
        self._overwrite = overwrite

    def run(
        self, work: ResumableJob[Item, Result], items: Sequence[Item]
    ) -> Generator[Result, None, None]:
        """Yield the results in the order of the items; what earlier runs have found is taken over.

        Items that failed are tried again.

        Raises:
            BodyPoseNetError: There is no such cluster, a process cannot open the model, or the
                parts are of another run.
        """
        import ray.data  # noqa: F401 (say at once that it is missing)

        with directory_lock(make_directory(self._folder)):
            manifest = {**self._manifest, "work": work.describe()}
            parts = ResultStore(self._folder, manifest, overwrite=self._overwrite)
            try:
                yield from in_order(self._run_numbered(work, items, parts))
            finally:
                parts.flush()

    def _run_numbered(
        self, work: ResumableJob[Item, Result], items: Sequence[Item], parts: ResultStore
    ) -> Iterator[tuple[int, Result]]:
        missing: list[tuple[int, Item]] = []
        keys = [work.key(item) for item in items]
        for number, item in enumerate(items):
            stored = parts.found.get(keys[number])
            if stored is None or not self._is_done(work, stored):
                missing.append((number, item))
            else:
                yield number, work.restore(stored)
        if len(missing) < len(items):
            logger.info(
                "%s: %d of %d are done already", self._folder, len(items) - len(missing), len(items)
            )
        if not missing:
            return
        with _connection(self._options):
            for number, text in _map(self._open_predictor, work, missing, self._options):
                parts.add(keys[number], text)
                yield number, work.restore(json.loads(text))

    def _is_done(self, work: ResumableJob[Item, Result], stored: dict[str, Any]) -> bool:
        try:
            return work.is_done(stored)
        except BodyPoseNetError as error:
            raise BodyPoseNetError(f"{self._folder}: {error.what}", error.remedy) from error


@contextmanager
def _connection(options: ClusterOptions) -> Iterator[None]:
    """Belong to the cluster meanwhile; a local one lasts as long.

    Raises:
        BodyPoseNetError: There is none, or it failed.
    """
    import ray
    from ray.exceptions import RayError

    settings: dict[str, Any] = {"address": options.address}
    if options.address == LOCAL:
        cores = (options.processes or 1) * options.threads
        settings |= {
            "num_cpus": max(usable_cores(), cores),
            "include_dashboard": False,
            "object_store_memory": _OBJECT_STORE,
        }
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told of a run here
    _silence_ray()
    try:
        with _keeping_sigterm():
            ray.init(**settings, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise BodyPoseNetError(
            f"--ray {options.address}: cannot join that cluster: {error}",
            "Give host:port of a cluster's head, auto on one of its machines, or local; where it "
            "runs but refuses, Ray's lines above tell why.",
        ) from error
    try:
        yield
    except RayError as error:
        raise BodyPoseNetError(
            f"--ray {options.address}: the cluster failed: {_reason(error)}",
            "The same command goes on from what is done; Ray's logs tell more.",
        ) from error
    finally:
        ray.shutdown()


@contextmanager
def _keeping_sigterm() -> Iterator[None]:
    """Leave what SIGTERM does as it was: Ray would have it end the process."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():  # others may not set handlers
            signal.signal(signal.SIGTERM, before)


def _silence_ray() -> None:
    """What it would say and show beside our own lines."""
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False


def _reason(error: Exception) -> str:
    """What Ray says last: the traces of several machines stand before it."""
    return str(error).strip().rpartition("\n")[2]


def _map(
    open_predictor: OpenPredictor,
    work: ResumableJob[Item, Result],
    numbered: Sequence[tuple[int, Item]],
    options: ClusterOptions,
) -> Iterator[tuple[int, str]]:
    """Yield the numbers of the items and their results as JSON, in the order they come in."""
    import ray
    import ray.data

    share = share_resources(ray.cluster_resources(), options)
    logger.info("Ray: %d predictor processes, %d cores each", share.processes, share.num_cpus)
    pieces = math.ceil(len(numbered) / _MOST_ITEMS)
    pieces = min(max(pieces, share.processes * _TURNS), len(numbered))
    rows = [{"number": number, "item": pickle.dumps(item)} for number, item in numbered]
    found = ray.data.from_items(rows, override_num_blocks=pieces).map_batches(
        ClusterWorker,  # type: ignore[arg-type]
        batch_size=None,
        fn_constructor_args=(open_predictor, work, Path.cwd(), options.threads),
        compute=ray.data.ActorPoolStrategy(size=min(share.processes, pieces)),
        num_cpus=share.num_cpus,
        num_gpus=share.num_gpus,
    )
    for row in found.iter_rows():
        if row["number"] == NO_ITEM:
            raise BodyPoseNetError(*json.loads(row["result"]))
        yield int(row["number"]), row["result"]


class Share(NamedTuple):
    """What the processes of a cluster are given.

    Args:
        processes: How many there are.
        num_cpus: Cores of each.
        num_gpus: GPUs of each; several may share one; None: none.
    """

    processes: int
    num_cpus: int
    num_gpus: float | None


def share_resources(there: Mapping[str, float], options: ClusterOptions) -> Share:
    """Share a cluster.

    Args:
        there: Its `CPU` and `GPU`, as Ray counts them.
        options: What the user wants.
    """
    cores, gpus = int(there.get("CPU", 0)), int(there.get("GPU", 0))
    processes = options.processes or gpus or max(cores // options.threads, 1)
    if processes * options.threads > cores:
        logger.warning(
            "the cluster has %d cores, %d processes of %d would use more: it waits until it has "
            "grown; fewer --processes or --threads need not wait",
            cores, processes, options.threads,
        )  # fmt: skip
    return Share(processes, options.threads, 1 / math.ceil(processes / gpus) if gpus else None)


NO_ITEM = -1
"""Number that a process gives with an error instead of a result."""


class ClusterWorker(Generic[Item, Result]):
    """What a process of the cluster does.

    Args:
        open_predictor: Opens the model.
        work: What is done with every item.
        folder: That relative paths start from.
        threads: At most so many, of the network and of all else.
    """

    def __init__(
        self,
        open_predictor: OpenPredictor,
        work: ResumableJob[Item, Result],
        folder: Path,
        threads: int,
    ) -> None:
        import cv2

        logger.setLevel(logging.ERROR)  # what failed stands in the results
        cv2.setNumThreads(threads)
        self._work = work
        self._problem: tuple[str, str] | None = None
        try:
            os.chdir(folder)
            self._pipeline = work.pipeline(open_predictor(threads))
        except OSError as error:
            self._problem = f"{folder}: a machine of the cluster has no such folder: {error}", ""
        except BodyPoseNetError as error:
            self._problem = error.what, error.remedy

    def __call__(self, rows: Mapping[str, NDArray[np.generic]]) -> dict[str, list[Any]]:
        """Results for items, both as columns."""
        if self._problem:
            return {"number": [NO_ITEM], "result": [json.dumps(self._problem)]}
        items = [pickle.loads(item) for item in rows["item"]]
        results = [json.dumps(self._work.store(one)) for one in self._pipeline.run(items)]
        return {"number": rows["number"].tolist(), "result": results}
