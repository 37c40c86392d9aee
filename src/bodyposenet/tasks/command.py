"""A sub-task's name and its arguments in, parsed and checked, the sub-task's work out."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from contextlib import nullcontext
from importlib import import_module

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.tasks.flags import choose_key
from bodyposenet.tasks.interruption import sigterm_as_interrupt
from bodyposenet.tasks.parser import Parser

_LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def parse_command(name: str, argv: Sequence[str]) -> argparse.Namespace:
    """Parse the arguments of a sub-task; only its own module is imported.

    Args:
        name: Of the sub-task; `tasks/<name>.py` holds its flags.
        argv: What follows the name.

    Raises:
        BodyPoseNetError: A flag is unknown or missing, or its value is wrong.
        SystemExit: --help was asked for.
    """
    task = import_module(f"bodyposenet.tasks.{name}")
    parser = Parser(
        prog=f"bpnet {name}", description=task.__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    task.add_arguments(parser)
    _add_launcher_arguments(parser)
    arguments = parser.parse(argv)
    if "key" in arguments:
        arguments.key = choose_key(arguments)
    return arguments


def run_command(name: str, arguments: argparse.Namespace) -> None:
    """Run a sub-task.

    Raises:
        BodyPoseNetError: Something that the user can mend; among it flags of the launcher that
            make no sense for this sub-task.
    """
    _check_launcher_arguments(name, arguments)
    # How long torch's threads spin for one another: by default so long that a busy machine does
    # little else; without any spinning an idle one loses a third of its speed.
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    if arguments.gpu_index is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, sorted(arguments.gpu_index)))
    task = import_module(f"bodyposenet.tasks.{name}")
    with nullcontext() if name == "train" else sigterm_as_interrupt():  # train saves its state
        task.run(arguments)


def _add_launcher_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that TAO's launcher takes for every sub-task (reference 1.1)."""
    group = parser.add_argument_group("flags of every sub-task")
    group.add_argument(
        "-r", "--results_dir", metavar="DIR",
        help="folder of status.json and the results; by default, in inference and evaluate the "
        "working directory, in train the spec's checkpoint_dir, else the folder of the output file",
    )  # fmt: skip
    group.add_argument(
        "-l", "-ll", "--log_level", choices=_LOG_LEVELS, default="INFO",
        help="least level of log lines",
    )  # fmt: skip
    group.add_argument(
        "--log_file", metavar="FILE", help="append log lines and results to this file"
    )
    group.add_argument("--gpus", type=int, default=1, metavar="N", help="GPUs to train on")
    group.add_argument("--gpu_index", type=int, nargs="+", metavar="I", help="which GPUs to use")
    group.add_argument(
        "-np", "--num_processes", type=int, default=-1, metavar="N", help="processes to start"
    )
    group.add_argument("--use_amp", action="store_true", help="train in mixed precision")


def _check_launcher_arguments(name: str, arguments: argparse.Namespace) -> None:
    if arguments.gpus < 1:
        raise BodyPoseNetError(
            f"--gpus {arguments.gpus}: at least 1", "Without a GPU, --gpus 1 runs on the CPU."
        )
    if arguments.gpus > 1 and name != "train":
        raise BodyPoseNetError(
            f"--gpus {arguments.gpus}: {name} runs on one device", "Use --gpus 1."
        )
    if arguments.gpu_index is not None:
        _check_gpu_index(arguments.gpu_index, arguments.gpus)
    if arguments.use_amp and name != "train":
        raise BodyPoseNetError(
            f"--use_amp: {name} has no mixed precision", "Leave it out; it is for train."
        )
    if arguments.num_processes > 1 and name != "dataset_convert":
        raise BodyPoseNetError(
            f"--num_processes {arguments.num_processes}: {name} runs as one process",
            "Leave it out.",
        )


def _check_gpu_index(indices: Sequence[int], gpus: int) -> None:
    written = f"--gpu_index {' '.join(map(str, indices))}"
    if min(indices) < 0:
        raise BodyPoseNetError(f"{written}: at least 0", "GPUs are counted from 0.")
    if len(set(indices)) < len(indices):
        raise BodyPoseNetError(f"{written}: a GPU is named twice", "Name each of them once.")
    if len(indices) != gpus:
        raise BodyPoseNetError(f"{written}: --gpus is {gpus}", "Name as many GPUs as --gpus says.")
