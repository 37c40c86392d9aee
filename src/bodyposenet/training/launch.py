"""Start of `train --gpus N` as N processes of the same command, by torch's own launcher."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import threading
import uuid
from collections.abc import Sequence
from pathlib import Path

from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from bodyposenet.console import logger
from bodyposenet.cpu import usable_cores
from bodyposenet.errors import STOPPED, BodyPoseNetError, Stopped
from bodyposenet.training.ranks import STOPPED_FILE, check_gpus

COMMAND = ("-m", "bodyposenet.cli")
"""What Python runs in every rank."""

_TOLD = 2
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
            raise _explain(error.get_first_failure()[1]) from None


def _log_arguments() -> list[str]:
    """Flags that give the processes the log of this one."""
    level = logging.getLevelName(logger.getEffectiveLevel())
    files = [
        handler.baseFilename
        for handler in logger.handlers
        if isinstance(handler, logging.FileHandler)
    ]
    return ["--log_level", level, *(["--log_file", files[0]] if files else [])]


def _explain(failure: ProcessFailure) -> BaseException:
    rank, code = failure.local_rank, failure.exitcode
    if code == STOPPED:
        return Stopped("a signal", is_reported=True)
    if code == _TOLD:
        return BodyPoseNetError(f"rank {rank} has ended, it has said why; so the others were ended")
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended, exit code {code}"
    return BodyPoseNetError(
        f"rank {rank} (process {failure.pid}): {how}; the others were ended",
        "If memory ran out, set a smaller dataloader.batch_size or fewer workers. The same command "
        "goes on from what was saved last.",
    )
