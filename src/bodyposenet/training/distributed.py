"""The processes that train together: which of them this one is, and what they tell one another.

One by itself where nothing else is said; under torchrun as many as it started, on any number of
machines. Each has its own share of the data, all have the same weights.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.distributed_c10d import Store
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from torch.distributed.rendezvous import rendezvous

from bodyposenet.console import logger, mute
from bodyposenet.cpu import quota_cores, usable_cores
from bodyposenet.errors import STOPPED, BodyPoseNetError, Stopped
from bodyposenet.inference.engines.pytorch import choose_device
from bodyposenet.training.signals import leave_with_parent

Value = TypeVar("Value")

STOPPED_FILE = "BODYPOSENET_STOPPED_FILE"
"""Environment variable: the file that the first rank makes when a signal stopped it."""

_TOLD = {"WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
"""Environment variables that torchrun sets, beside RANK."""

_PATIENCE = timedelta(minutes=10)
"""How long the processes wait for one another to begin."""

_SECONDS_TO_LET_GO = 0.2
"""Gloo's threads hold the last tensors a moment longer than the ranks need them, and abort a
process whose Python ends meanwhile (github.com/pytorch/pytorch/issues/190489)."""

_LOST = ("gloo", "nccl", "connection", "socket", "store")
"""What the errors of torch's backends speak of when another process has gone."""


@dataclass(frozen=True)
class DistributedContext:
    """This process among those that train together.

    Args:
        device: What this one computes on.
        rank: Its number, from 0.
        count: How many there are.
        on_machine: How many of them run on this machine.
    """

    device: torch.device
    rank: int = 0
    count: int = 1
    on_machine: int = 1

    @property
    def is_first(self) -> bool:
        """The first writes the files and says what is going on."""
        return self.rank == 0

    def share(self, values: Sequence[Value]) -> Sequence[Value]:
        """Every count-th of the values, beginning with the rank's."""
        return values[self.rank :: self.count]

    def gather(self, value: Value) -> list[Value]:
        """The values of all ranks, in their order, for each of them; all of them must call it."""
        if self.count == 1:
            return [value]
        values: list[Value | None] = [None] * self.count
        dist.all_gather_object(values, value)
        return values  # type: ignore[return-value]

    def any(self, flag: bool) -> bool:
        """Whether it is true for any rank; the processors agree, no GPU waits for it."""
        if self.count == 1:
            return flag
        agreed = torch.tensor(int(flag))
        dist.all_reduce(agreed, dist.ReduceOp.MAX)
        return bool(agreed)

    def take_statistics(self, network: nn.Module) -> None:
        """Give every rank the first's batch statistics: each has gathered its own."""
        if self.count > 1:
            for buffer in network.buffers():
                dist.broadcast(buffer, 0)


def is_launched() -> bool:
    """Whether a launcher, such as torchrun, has started this process as one of several.

    Raises:
        BodyPoseNetError: It has told only a part of what is needed.
    """
    if "RANK" not in os.environ:
        return False
    missing = _TOLD - os.environ.keys()
    if missing:
        raise BodyPoseNetError(
            f"RANK is set as by a launcher, but not {', '.join(sorted(missing))}",
            "Start the command with torchrun, or unset RANK.",
        )
    return True


@contextmanager
def join_ranks() -> Iterator[DistributedContext]:
    """Join the processes that a launcher has started; alone where there was none.

    Raises:
        BodyPoseNetError: The others cannot be reached, one of them has gone, or there are fewer
            GPUs than processes. Of several ranks that fail, one says so; the others end silently
            with exit code 2.
    """
    if not is_launched():
        if (cores := quota_cores()) is not None:
            torch.set_num_threads(min(torch.get_num_threads(), cores))
        yield DistributedContext(choose_device())
        return
    store, ranks = _join()
    try:
        yield ranks
        dist.destroy_process_group()
        time.sleep(_SECONDS_TO_LET_GO)
    except (BodyPoseNetError, RuntimeError) as error:
        failure = error if isinstance(error, BodyPoseNetError) else _explain(error, ranks)
        if failure is None:
            raise
        if _have_others_failed(store):
            raise SystemExit(2) from None
        raise failure from error
    except Stopped:
        if not ranks.is_first:
            raise SystemExit(STOPPED) from None
        if STOPPED_FILE in os.environ:
            Path(os.environ[STOPPED_FILE]).touch()
        raise


def _join() -> tuple[Store, DistributedContext]:
    address = ":".join(os.environ.get(name, "?") for name in ("MASTER_ADDR", "MASTER_PORT"))
    device, on_machine = _choose_device()
    if os.environ["RANK"] == "0":
        logger.info("waiting for %s ranks at %s", os.environ["WORLD_SIZE"], address)
    try:
        store, rank, count = next(rendezvous("env://", timeout=_PATIENCE))
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=count)
    except (RuntimeError, ValueError) as error:
        in_use = "EADDRINUSE" in str(error) or "address already in use" in str(error)
        problem = "the port is in use" if in_use else str(error).partition("\n")[0]
        raise BodyPoseNetError(
            f"rank {os.environ['RANK']} cannot join the others at {address}: {problem}",
            "Choose another port (--master_port of torchrun)."
            if in_use
            else "Start the command on all machines, with one address; its port must be open.",
        ) from error
    ranks = DistributedContext(device, rank, count, on_machine)
    leave_with_parent()  # a killed launcher cannot end its ranks any more
    if not ranks.is_first:
        mute()
    logger.info("%d processes train together, %d of them on this machine", count, on_machine)
    return store, ranks


def _choose_device() -> tuple[torch.device, int]:
    """The device of this process, and how many processes run on this machine."""
    on_machine = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if not torch.cuda.is_available():
        return torch.device("cpu"), on_machine
    check_gpus(on_machine)
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device, on_machine


def check_gpus(wanted: int) -> None:
    """Make sure that there are as many GPUs as processes.

    Raises:
        BodyPoseNetError: There are fewer.
    """
    found = torch.cuda.device_count()
    if found < wanted:
        raise BodyPoseNetError(
            f"--gpus {wanted}: only {found} GPUs can be used here",
            f"Use --gpus {max(found, 1)}"
            + ("." if found else ": without a GPU it trains on the CPU."),
        )


def _explain(error: RuntimeError, ranks: DistributedContext) -> BodyPoseNetError | None:
    """What an error of torch's means, if it means that another rank has gone."""
    if not any(word in str(error).lower() for word in _LOST):
        return None
    return BodyPoseNetError(
        f"rank {ranks.rank} of {ranks.count} has lost another one",
        "The same command goes on from what was saved last.",
    )


def _have_others_failed(store: Store) -> bool:
    try:
        return store.add("failures", 1) > 1
    except RuntimeError:  # the store lives in one of them
        return True


COMMAND = ("-m", "bodyposenet.cli")
"""What Python runs in every rank."""

_REPORTED = 2
"""Exit code of a rank that has said what is wrong."""


def start_ranks(count: int, argv: Sequence[str]) -> None:
    """Run `bpnet train` in several processes on this machine, until all have ended.

    Args:
        count: How many.
        argv: The arguments behind `train`; those of the log are added.

    Raises:
        BodyPoseNetError: There are fewer GPUs, or one of the processes has failed or died;
            the others were ended.
        Stopped: A signal stopped them, and their state is saved.
        KeyboardInterrupt: Ctrl-C.
    """
    check_gpus(count)
    # The launcher's log tells of every process that ends; what matters of it is said below.
    for name in logging.root.manager.loggerDict:
        if name.startswith("torch.distributed.elastic"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    # Time to end a step and to save, before they are killed.
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "300")
    os.environ.setdefault("OMP_NUM_THREADS", str(max(usable_cores() // count, 1)))
    is_main = threading.current_thread() is threading.main_thread()  # others set no handlers
    if (
        hasattr(signal, "SIGUSR1") and is_main
    ):  # the launcher hands SIGTERM on, and dies of this one
        signal.signal(signal.SIGUSR1, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=count, run_id=uuid.uuid4().hex,
        rdzv_backend="c10d", rdzv_endpoint="localhost:0", max_restarts=0,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        stopped = Path(folder, "stopped")
        os.environ[STOPPED_FILE] = str(stopped)
        try:
            elastic_launch(config, sys.executable)(*COMMAND, "train", *argv, *_log_arguments())
        except SignalException as signalled:
            if stopped.exists():
                name = signal.Signals(signalled.sigval).name
                raise Stopped(name, is_reported=True) from None
            if signalled.sigval == signal.SIGINT:
                raise KeyboardInterrupt from None
            raise BodyPoseNetError(
                f"{signal.Signals(signalled.sigval).name} ended the training before it was saved",
                "The same command goes on from what was saved last.",
            ) from None
        except ChildFailedError as error:
            raise _explain_failure(error.get_first_failure()[1]) from None


def _log_arguments() -> list[str]:
    """Flags that give the processes the log of this one."""
    level = logging.getLevelName(logger.getEffectiveLevel())
    files = [
        handler.baseFilename
        for handler in logger.handlers
        if isinstance(handler, logging.FileHandler)
    ]
    return ["--log_level", level, *(["--log_file", files[0]] if files else [])]


def _explain_failure(failure: ProcessFailure) -> BaseException:
    rank, code = failure.local_rank, failure.exitcode
    if code == STOPPED:
        return Stopped("a signal", is_reported=True)
    if code == _REPORTED:
        return BodyPoseNetError(f"rank {rank} has ended, it has said why; so the others were ended")
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended, exit code {code}"
    return BodyPoseNetError(
        f"rank {rank} (process {failure.pid}): {how}; the others were ended",
        "If memory ran out, set a smaller dataloader.batch_size or fewer workers. The same command "
        "goes on from what was saved last.",
    )
