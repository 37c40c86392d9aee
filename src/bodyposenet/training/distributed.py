"""Distributed training: the process group, and launching one process per GPU.

`init_distributed` joins the processes that a launcher such as torchrun has started, on one machine
or several, and gives each its `DistributedContext`. Without a launcher, the context is that of a
single process. `launch_processes` is the launcher behind `bpnet train --gpus N`. Every process
trains on its own shard of the data; the weights are the same in all of them.
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
from bodyposenet.training.signals import exit_with_parent

Value = TypeVar("Value")

COMMAND = ("-m", "bodyposenet.cli")
"""Python arguments of every process that `launch_processes` starts."""

STOPPED_FILE = "BODYPOSENET_STOPPED_FILE"
"""Environment variable with the path of a file that rank 0 creates when a signal has stopped it."""

_ERROR_EXIT_CODE = 2
"""Exit code of a process that has already printed its error."""

_REQUIRED_VARIABLES = {"WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
"""Environment variables that torchrun sets, in addition to RANK."""

_RENDEZVOUS_TIMEOUT = timedelta(minutes=10)

_GLOO_RELEASE_SECONDS = 0.2
"""Gloo's threads hold the last tensors for a moment after the process group is destroyed, and abort
a process whose interpreter exits meanwhile (github.com/pytorch/pytorch/issues/190489)."""

_CONNECTION_ERROR_WORDS = ("gloo", "nccl", "connection", "socket", "store")
"""Words in the messages of torch's errors when another process has ended."""


@dataclass(frozen=True)
class DistributedContext:
    """This process and its place in the process group.

    Args:
        device: Device of this process.
        rank: Rank of this process, from 0.
        world_size: Number of processes on all machines.
        local_world_size: Number of processes on this machine.
    """

    device: torch.device
    rank: int = 0
    world_size: int = 1
    local_world_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which writes the files and the log."""
        return self.rank == 0

    def shard(self, values: Sequence[Value]) -> Sequence[Value]:
        """Return this rank's part of the values: every world_size-th, starting at `rank`."""
        return values[self.rank :: self.world_size]

    def gather(self, value: Value) -> list[Value]:
        """Return the values of all ranks, in order of rank. Every rank must call this."""
        if self.world_size == 1:
            return [value]
        values: list[Value | None] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values  # type: ignore[return-value]

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set on any rank. Every rank must call this.

        The reduction runs on the CPU, so that the GPUs are not synchronized.
        """
        if self.world_size == 1:
            return flag
        reduced = torch.tensor(int(flag))
        dist.all_reduce(reduced, dist.ReduceOp.MAX)
        return bool(reduced)

    def broadcast_buffers(self, network: nn.Module) -> None:
        """Copy rank 0's buffers (batch normalization statistics) to the networks of all ranks."""
        if self.world_size > 1:
            for buffer in network.buffers():
                dist.broadcast(buffer, 0)


def is_launched() -> bool:
    """Return whether a launcher such as torchrun has started this process.

    Raises:
        BodyPoseNetError: RANK is set, but other variables of a launcher are missing.
    """
    if "RANK" not in os.environ:
        return False
    missing = _REQUIRED_VARIABLES - os.environ.keys()
    if missing:
        raise BodyPoseNetError(
            f"RANK is set as by a launcher, but not {', '.join(sorted(missing))}",
            "Start the command with torchrun, or unset RANK.",
        )
    return True


@contextmanager
def init_distributed() -> Iterator[DistributedContext]:
    """Join the process group of the launcher, or set up a single process without a launcher.

    Yields:
        The context of this process.

    Raises:
        BodyPoseNetError: The other processes cannot be reached, one of them has ended, or there are
            fewer GPUs than processes. If several ranks fail, only one reports its error; the others
            exit with code 2.
    """
    if not is_launched():
        if (cores := quota_cores()) is not None:
            torch.set_num_threads(min(torch.get_num_threads(), cores))
        yield DistributedContext(choose_device())
        return
    store, distributed = _join_process_group()
    try:
        yield distributed
        dist.destroy_process_group()
        time.sleep(_GLOO_RELEASE_SECONDS)
    except (BodyPoseNetError, RuntimeError) as error:
        failure = (
            error
            if isinstance(error, BodyPoseNetError)
            else _explain_lost_connection(error, distributed)
        )
        if failure is None:
            raise
        if not _register_failure(store):
            raise SystemExit(_ERROR_EXIT_CODE) from None
        raise failure from error
    except Stopped:
        if not distributed.is_main:
            raise SystemExit(STOPPED) from None
        if STOPPED_FILE in os.environ:
            Path(os.environ[STOPPED_FILE]).touch()
        raise


def launch_processes(count: int, argv: Sequence[str]) -> None:
    """Run `bpnet train` in several processes on this machine, and wait until all have ended.

    Args:
        count: Number of processes.
        argv: Arguments after `train`; the log flags of this process are added.

    Raises:
        BodyPoseNetError: There are fewer GPUs than processes, or a process has failed, in which
            case the others are terminated.
        Stopped: A signal stopped the training; its state is saved.
        KeyboardInterrupt: Ctrl-C.
    """
    check_gpus(count)
    # The launcher logs every process that ends; the relevant ones are reported below.
    for name in logging.root.manager.loggerDict:
        if name.startswith("torch.distributed.elastic"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    # Time for the processes to finish their step and to save before they are killed.
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "300")
    os.environ.setdefault("OMP_NUM_THREADS", str(max(usable_cores() // count, 1)))
    # Python allows signal handlers in the main thread only.
    is_main_thread = threading.current_thread() is threading.main_thread()
    if hasattr(signal, "SIGUSR1") and is_main_thread:
        # The launcher forwards SIGTERM to its processes, but SIGUSR1 would end it.
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
                f"{signal.Signals(signalled.sigval).name} ended the training before its state was "
                "saved",
                "Run the same command again to resume from the last checkpoint.",
            ) from None
        except ChildFailedError as error:
            raise _explain_failure(error.get_first_failure()[1]) from None


def check_gpus(count: int) -> None:
    """Check that this machine has enough GPUs for a number of processes.

    Raises:
        BodyPoseNetError: There are fewer GPUs.
    """
    available = torch.cuda.device_count()
    if available < count:
        raise BodyPoseNetError(
            f"--gpus {count}: only {available} GPUs are available on this machine",
            f"Use --gpus {max(available, 1)}"
            + ("." if available else ", which trains on the CPU if there is no GPU."),
        )


def _join_process_group() -> tuple[Store, DistributedContext]:
    """Join the process group that the launcher describes in the environment."""
    address = ":".join(os.environ.get(name, "?") for name in ("MASTER_ADDR", "MASTER_PORT"))
    device, local_world_size = _choose_device()
    if os.environ["RANK"] == "0":
        logger.info("Waiting for %s processes at %s", os.environ["WORLD_SIZE"], address)
    try:
        store, rank, world_size = next(rendezvous("env://", timeout=_RENDEZVOUS_TIMEOUT))
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=world_size)
    except (RuntimeError, ValueError) as error:
        in_use = "EADDRINUSE" in str(error) or "address already in use" in str(error)
        problem = "the port is in use" if in_use else str(error).partition("\n")[0]
        raise BodyPoseNetError(
            f"rank {os.environ['RANK']} cannot join the process group at {address}: {problem}",
            "Choose another port (--master_port of torchrun)."
            if in_use
            else "Start the command on all machines with the same address, whose port must be "
            "open.",
        ) from error
    exit_with_parent()  # A launcher that is killed cannot terminate its processes.
    if rank > 0:
        mute()
    logger.info(
        "Distributed training: world size %d, %d processes on this machine",
        world_size, local_world_size,
    )  # fmt: skip
    return store, DistributedContext(device, rank, world_size, local_world_size)


def _choose_device() -> tuple[torch.device, int]:
    """Return the device of this process, and the number of processes on this machine."""
    local_world_size = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if not torch.cuda.is_available():
        return torch.device("cpu"), local_world_size
    check_gpus(local_world_size)
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device, local_world_size


def _explain_lost_connection(
    error: RuntimeError, distributed: DistributedContext
) -> BodyPoseNetError | None:
    """Return the error to report if torch's error means that another rank has ended, else None."""
    if not any(word in str(error).lower() for word in _CONNECTION_ERROR_WORDS):
        return None
    return BodyPoseNetError(
        f"rank {distributed.rank} of {distributed.world_size} has lost the connection to another "
        "rank",
        "Run the same command again to resume from the last checkpoint.",
    )


def _register_failure(store: Store) -> bool:
    """Register the failure of this rank; return whether it is the first one, which is reported."""
    try:
        return store.add("failures", 1) == 1
    except RuntimeError:  # The process that hosts the store has ended.
        return False


def _log_arguments() -> list[str]:
    """Return the flags that give the processes the log settings of this one."""
    level = logging.getLevelName(logger.getEffectiveLevel())
    files = [
        handler.baseFilename
        for handler in logger.handlers
        if isinstance(handler, logging.FileHandler)
    ]
    return ["--log_level", level, *(["--log_file", files[0]] if files else [])]


def _explain_failure(failure: ProcessFailure) -> BaseException:
    """Return the exception to raise for the first process that failed."""
    rank, code = failure.local_rank, failure.exitcode
    if code == STOPPED:
        return Stopped("a signal", is_reported=True)
    if code == _ERROR_EXIT_CODE:
        return BodyPoseNetError(
            f"rank {rank} failed with the error above; the other ranks were terminated"
        )
    reason = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return BodyPoseNetError(
        f"rank {rank} (process {failure.pid}): {reason}; the other ranks were terminated",
        "If the machine ran out of memory, reduce dataloader.batch_size or dataloader.workers. Run "
        "the same command again to resume from the last checkpoint.",
    )
