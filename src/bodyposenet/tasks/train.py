"""Train a network: `bpnet train -e SPEC -r RESULTS_DIR -k KEY --gpus N`.

Run again with the same arguments, it goes on where it was saved last. Under torchrun, on one
machine or several, the same command joins the processes that it finds.
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.tasks.flags import add_key_argument
from bodyposenet.tasks.results import results_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `train` (reference 1.3)."""
    parser.add_argument(
        "-e", "--experiment_spec_file", metavar="FILE", required=True, help="train spec (YAML)"
    )
    add_key_argument(parser)
    parser.add_argument(
        "--multi-node", action="store_true",
        help="one of several machines: torchrun must have started this command on each",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> None:
    """Train.

    Raises:
        BodyPoseNetError: The spec, the data, the results folder or a GPU is at fault.
        Stopped: A signal asked for the end; the exact position is saved.
    """
    from bodyposenet.console import logger
    from bodyposenet.files import make_directory
    from bodyposenet.specs.training import TrainSpec

    spec = TrainSpec.load(arguments.experiment_spec_file)
    chosen = arguments.results_dir or spec.checkpoint_dir
    if chosen is None:
        spec.fail(
            "checkpoint_dir", "is missing", "Give a results folder with -r, or write it here."
        )
    results_dir = make_directory(chosen)
    from bodyposenet.training.interruption import StopSignals
    from bodyposenet.training.loop import train
    from bodyposenet.training.ranks import is_launched, join_ranks

    if not is_launched() and (arguments.gpus > 1 or arguments.multi_node):
        _start_ranks(arguments)
        return
    with join_ranks() as ranks:
        with (
            results_folder(results_dir) if ranks.is_first else nullcontext() as status,
            StopSignals() as stop,
        ):
            final = train(
                spec, results_dir, ranks, stop,
                key=arguments.key, use_amp=arguments.use_amp, status=status,
            )  # fmt: skip
        logger.info("the trained model is %s", final)


def _start_ranks(arguments: argparse.Namespace) -> None:
    from bodyposenet.training.launch import start_ranks

    if arguments.multi_node:
        raise BodyPoseNetError(
            "--multi-node: no launcher has started this command",
            "Start it on every machine with torchrun --nnodes N --nproc_per_node GPUS "
            "--rdzv_backend c10d --rdzv_endpoint HOST:29500 -m bodyposenet.cli train ...",
        )
    start_ranks(arguments.gpus, arguments.argv)
