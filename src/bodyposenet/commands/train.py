"""Train a network.

Example: bpnet train -e train.yaml -r results --gpus 2

The same command resumes an interrupted training from the last saved state. It can also be started
with torchrun, on one machine or several.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from pydantic import Field

from bodyposenet.commands.model_options import KEY_VARIABLE, KeyOptions
from bodyposenet.commands.options import Option, StrPath, command, options_class, to_argv
from bodyposenet.console import logger
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import make_directory
from bodyposenet.results_folder import StatusFile, results_folder


@options_class
class TrainOptions(KeyOptions):
    """Options of `train` (TAO reference, section 1.3)."""

    experiment_spec_file: Annotated[
        StrPath, Option("-e", help="Train spec (YAML).", metavar="FILE")
    ]
    results_dir: Annotated[
        StrPath | None,
        Option(
            "-r",
            help="Folder of checkpoints and results. Default: checkpoint_dir of the spec.",
            metavar="DIR",
        ),
    ] = None
    gpus: Annotated[
        int,
        Field(ge=1),
        Option(help="Number of GPUs. Without a GPU, 1 trains on the CPU.", metavar="N"),
    ] = 1
    use_amp: Annotated[bool, Option(help="Train with automatic mixed precision.")] = False
    multi_node: Annotated[
        bool,
        Option(
            "--multi-node",
            help="Train on several machines; the command must be started with torchrun on each.",
        ),
    ] = False


@dataclass(frozen=True)
class TrainResult:
    """A trained model.

    Args:
        model: The final model's file.
        results_dir: Folder with the checkpoints, TensorBoard events and the report.
        metrics: Metrics of the last validation by name; empty if there was none.
    """

    model: Path
    results_dir: Path
    metrics: dict[str, float]

    def summary(self) -> str:
        """Return an empty text: the log contains the results."""
        return ""


@command(TrainOptions)
def train(options: TrainOptions) -> TrainResult:
    """Train a network, or resume an interrupted training with the same arguments.

    Example:
        >>> bodyposenet.train(experiment_spec_file="train.yaml", results_dir="results")

    Raises:
        BodyPoseNetError: The spec, the data, the results folder or a GPU cannot be used.
        Stopped: A signal stopped the training; its exact state is saved.
    """
    from bodyposenet.specs.training import TrainSpec

    key, spec = options.read_key(), TrainSpec.load(options.experiment_spec_file)
    chosen = options.results_dir or spec.checkpoint_dir
    if chosen is None:
        spec.fail(
            "checkpoint_dir", "is missing", "Give a results folder with -r, or set it in the spec."
        )
    results_dir = make_directory(chosen)
    from bodyposenet.training import loop
    from bodyposenet.training.distributed import init_distributed, is_launched
    from bodyposenet.training.signals import StopSignals

    if not is_launched() and (options.gpus > 1 or options.multi_node):
        _launch(options)
        return _result(loop.final_model(spec, results_dir), results_dir)
    with init_distributed() as distributed:
        with (
            results_folder(results_dir) if distributed.is_main else nullcontext() as status,
            StopSignals() as signals,
        ):
            final = loop.train(
                spec,
                results_dir,
                distributed,
                signals,
                key=key,
                use_amp=options.use_amp,
                status=status,
            )
        logger.info("Trained model saved to %s", final)
    return _result(final, results_dir)


def _launch(options: TrainOptions) -> None:
    from bodyposenet.training.distributed import launch_processes

    if options.multi_node:
        raise BodyPoseNetError(
            "--multi-node: the command was not started with torchrun",
            "Start it on every machine with torchrun --nnodes N --nproc_per_node GPUS "
            "--rdzv_backend c10d --rdzv_endpoint HOST:29500 -m bodyposenet.cli train ...",
        )
    if not options.key:
        launch_processes(options.gpus, to_argv(options))
        return
    # Pass the key in the environment: other users can read arguments in the process list.
    before = os.environ.get(KEY_VARIABLE)
    os.environ[KEY_VARIABLE] = options.key
    try:
        launch_processes(options.gpus, to_argv(replace(options, key=None)))
    finally:
        os.environ.pop(KEY_VARIABLE)
        if before is not None:
            os.environ[KEY_VARIABLE] = before


def _result(model: Path, results_dir: Path) -> TrainResult:
    validations = [line["kpi"] for line in StatusFile(results_dir).lines() if "kpi" in line]
    return TrainResult(model, results_dir, validations[-1] if validations else {})
