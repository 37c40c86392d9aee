"""Executor on a Ray cluster.

Results are stored as they arrive, so that an interrupted run can be resumed. All machines of the
cluster must have the model and the images under the same paths.
"""

# Ray is not installed where types are checked.
# pyright: reportMissingImports=false

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
"""Address of a temporary cluster on this machine only."""

_MAX_ITEMS = 64
"""Maximum number of items that are sent to a process at once."""
_MIN_PIECES = 4
"""Minimum number of pieces per process, so that all processes end at about the same time."""
_OBJECT_STORE = 256 * 2**20
"""Bytes of shared memory of a local cluster; items and results are small."""

NO_ITEM = -1
"""Value of `number` in a row that contains the error of a process instead of a result."""


@dataclass(frozen=True)
class ClusterOptions:
    """Options of a cluster.

    Args:
        address: `LOCAL`, `auto` for the cluster that this machine belongs to, or host:port.
        processes: Total number of predictor processes, or None for the number of GPUs or, without
            GPUs, the number that fits the cores.
        threads: Cores of each process.
    """

    address: str
    processes: int | None = None
    threads: int = 1


class Resources(NamedTuple):
    """Resources of the predictor processes of a cluster.

    Args:
        processes: Number of processes.
        num_cpus: Cores per process.
        num_gpus: GPUs per process, less than 1 if processes share a GPU, or None for no GPU.
    """

    processes: int
    num_cpus: int
    num_gpus: float | None


def allocate_resources(available: Mapping[str, float], options: ClusterOptions) -> Resources:
    """Choose the number of processes and the resources of each.

    Args:
        available: Numbers of `CPU` and `GPU` in the cluster, as reported by Ray.
        options: Options of the cluster.
    """
    cores, gpus = int(available.get("CPU", 0)), int(available.get("GPU", 0))
    processes = options.processes or gpus or max(cores // options.threads, 1)
    if processes * options.threads > cores:
        logger.warning(
            "the cluster has %d cores, but %d processes with %d each need more: waiting until the "
            "cluster has grown; use fewer --processes or --threads to avoid this",
            cores, processes, options.threads,
        )  # fmt: skip
    return Resources(processes, options.threads, 1 / math.ceil(processes / gpus) if gpus else None)


class ClusterExecutor:
    """Runs jobs in the processes of a Ray cluster, resuming from stored results.

    Args:
        open_predictor: Function that opens the model in each process.
        skeleton: Skeleton of the model.
        spec: Inference spec.
        options: Options of the cluster.
        folder: Folder of the result store, from which results of earlier runs are reused.
        manifest: What the results depend on in addition to the job, as JSON values.
        overwrite: Discard the results of earlier runs.
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
        self, job: ResumableJob[Item, Result], items: Sequence[Item]
    ) -> Generator[Result, None, None]:
        """Yield the results in the order of the items, reusing results of earlier runs.

        Failed items are retried.

        Raises:
            BodyPoseNetError: The cluster cannot be joined or fails, a process cannot open the
                model, or the folder has results of another run.
        """
        import ray.data  # noqa: F401 (fails early if it is not installed)

        with directory_lock(make_directory(self._folder)):
            manifest = {**self._manifest, "work": job.describe()}
            store = ResultStore(self._folder, manifest, overwrite=self._overwrite)
            try:
                yield from in_order(self._run_numbered(job, items, store))
            finally:
                store.flush()

    def _run_numbered(
        self, job: ResumableJob[Item, Result], items: Sequence[Item], store: ResultStore
    ) -> Iterator[tuple[int, Result]]:
        """Yield numbers and results, first the stored ones, then the others as they complete."""
        missing: list[tuple[int, Item]] = []
        keys = [job.key(item) for item in items]
        for number, item in enumerate(items):
            stored = store.results.get(keys[number])
            if stored is None or not self._is_done(job, stored):
                missing.append((number, item))
            else:
                yield number, job.restore(stored)
        if len(missing) < len(items):
            logger.info(
                "%s: reusing %d of %d results", self._folder, len(items) - len(missing), len(items)
            )
        if not missing:
            return
        with _connection(self._options):
            for number, text in _map(self._open_predictor, job, missing, self._options):
                store.add(keys[number], text)
                yield number, job.restore(json.loads(text))

    def _is_done(self, job: ResumableJob[Item, Result], stored: dict[str, Any]) -> bool:
        """Return whether a stored result can be reused; errors name the folder."""
        try:
            return job.is_done(stored)
        except BodyPoseNetError as error:
            raise BodyPoseNetError(f"{self._folder}: {error.what}", error.remedy) from error


@contextmanager
def _connection(options: ClusterOptions) -> Iterator[None]:
    """Join the cluster within a context; a local cluster ends with it.

    Raises:
        BodyPoseNetError: The cluster cannot be joined or fails.
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
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no telemetry
    _silence_ray()
    try:
        with _preserve_sigterm():
            ray.init(**settings, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise BodyPoseNetError(
            f"--ray {options.address}: cannot join the cluster: {error}",
            "Use host:port of the cluster's head node, auto on one of its machines, or local. See "
            "Ray's messages above for the reason.",
        ) from error
    try:
        yield
    except RayError as error:
        raise BodyPoseNetError(
            f"--ray {options.address}: the cluster failed: {_reason(error)}",
            "Run the same command again to resume; see Ray's logs for details.",
        ) from error
    finally:
        ray.shutdown()


@contextmanager
def _preserve_sigterm() -> Iterator[None]:
    """Restore the handler of SIGTERM on exit, which Ray replaces."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():  # others cannot set handlers
            signal.signal(signal.SIGTERM, before)


def _silence_ray() -> None:
    """Disable log lines and progress bars of Ray."""
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False


def _reason(error: Exception) -> str:
    """Return the last line of an error message of Ray, which follows tracebacks."""
    return str(error).strip().rpartition("\n")[2]


def _map(
    open_predictor: OpenPredictor,
    job: ResumableJob[Item, Result],
    numbered: Sequence[tuple[int, Item]],
    options: ClusterOptions,
) -> Iterator[tuple[int, str]]:
    """Yield numbers and results (JSON) of the items in the order of completion."""
    import ray
    import ray.data

    resources = allocate_resources(ray.cluster_resources(), options)
    logger.info(
        "Ray: %d predictor processes, %d cores each", resources.processes, resources.num_cpus
    )
    pieces = math.ceil(len(numbered) / _MAX_ITEMS)
    pieces = min(max(pieces, resources.processes * _MIN_PIECES), len(numbered))
    rows = [{"number": number, "item": pickle.dumps(item)} for number, item in numbered]
    results = ray.data.from_items(rows, override_num_blocks=pieces).map_batches(
        ClusterWorker,  # type: ignore[arg-type]
        batch_size=None,
        fn_constructor_args=(open_predictor, job, Path.cwd(), options.threads),
        compute=ray.data.ActorPoolStrategy(size=min(resources.processes, pieces)),
        num_cpus=resources.num_cpus,
        num_gpus=resources.num_gpus,
    )
    for row in results.iter_rows():
        if row["number"] == NO_ITEM:
            raise BodyPoseNetError(*json.loads(row["result"]))
        yield int(row["number"]), row["result"]


class ClusterWorker(Generic[Item, Result]):
    """Worker in a process of the cluster.

    Args:
        open_predictor: Function that opens the model.
        job: The job.
        folder: Working directory, for relative paths.
        threads: Maximum number of threads of the network and of OpenCV.
    """

    def __init__(
        self,
        open_predictor: OpenPredictor,
        job: ResumableJob[Item, Result],
        folder: Path,
        threads: int,
    ) -> None:
        import cv2

        logger.setLevel(logging.ERROR)  # errors are part of the results
        cv2.setNumThreads(threads)
        self._job = job
        self._problem: tuple[str, str] | None = None
        try:
            os.chdir(folder)
            self._pipeline = job.pipeline(open_predictor(threads))
        except OSError as error:
            self._problem = (
                f"{folder}: a machine of the cluster does not have this folder: {error}",
                "",
            )
        except BodyPoseNetError as error:
            self._problem = error.what, error.remedy

    def __call__(self, rows: Mapping[str, NDArray[np.generic]]) -> dict[str, list[Any]]:
        """Process a batch of items; items and results are columns of Ray Data."""
        if self._problem:
            return {"number": [NO_ITEM], "result": [json.dumps(self._problem)]}
        items = [pickle.loads(item) for item in rows["item"]]
        results = [json.dumps(self._job.store(one)) for one in self._pipeline.run(items)]
        return {"number": rows["number"].tolist(), "result": results}
