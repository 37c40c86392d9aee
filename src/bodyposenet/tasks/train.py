"""Train a network: `bpnet train -e SPEC -r RESULTS_DIR -k KEY`.

Run again with the same arguments, it goes on after the last checkpoint in the results folder.
"""

from __future__ import annotations

import argparse

from bodyposenet.tasks.flags import add_key_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `train` (reference 1.3)."""
    parser.add_argument(
        "-e", "--experiment_spec_file", metavar="FILE", required=True, help="train spec (YAML)"
    )
    add_key_argument(parser)


def run(arguments: argparse.Namespace) -> None:
    """Train.

    Raises:
        BodyPoseNetError: The spec, the data or the results folder is at fault.
    """
    from bodyposenet.console import StatusFile, logger
    from bodyposenet.files import make_directory, replacing
    from bodyposenet.specs.training import TrainSpec
    from bodyposenet.training.loop import train

    spec = TrainSpec.load(arguments.experiment_spec_file)
    chosen = arguments.results_dir or spec.checkpoint_dir
    if chosen is None:
        spec.fail(
            "checkpoint_dir", "is missing", "Give a results folder with -r, or write it here."
        )
    results_dir = make_directory(chosen)
    with StatusFile(results_dir) as status:
        with replacing(results_dir / "experiment_spec.yaml") as file:
            file.write(spec.text.encode())
        final = train(
            spec, results_dir, key=arguments.key, use_amp=arguments.use_amp, status=status
        )
    logger.info("the trained model is %s", final)
