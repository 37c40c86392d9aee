"""Take the filters with the smallest norms out of a trained model: `bpnet prune -m IN -o OUT`.

The pruned model is smaller and less accurate; train it again, with its path as
pretrained_weights and load_graph: true.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from bodyposenet.console import StatusFile, logger, say
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import refuse_existing
from bodyposenet.pruning.rule import EQUALIZATIONS, NORMALIZERS, Rule
from bodyposenet.sealing import model_file
from bodyposenet.tasks.flags import add_key_argument

if TYPE_CHECKING:
    from bodyposenet.model.network import BodyPoseNetwork
    from bodyposenet.pruning.ranking import Ranking

_EXTENSIONS = (".tlt", ".hdf5")
"""Of the pruned model: ours, and the one that TAO's specs for retraining name."""

_THRESHOLD = 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `prune` (reference 1.6), and a wanted share of the compute."""
    parser.add_argument(
        "-m", "--model", metavar="FILE", required=True,
        help="model to prune (.tlt, or .hdf5 of TAO 5)",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output_file", metavar="FILE", required=True,
        help="the pruned model (.tlt; also under a name in .hdf5, as in TAO's specs)",
    )  # fmt: skip
    add_key_argument(parser)
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the output file if it exists"
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="tell the norms of every layer's filters"
    )
    _add_rule_arguments(parser.add_argument_group("what is taken out"))


def _add_rule_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-n", "--normalizer", choices=NORMALIZERS, default="max",
        help="what a filter's norm is divided by: the largest of its layer, or all of them "
        "together",
    )  # fmt: skip
    group.add_argument(
        "-eq", "--equalization_criterion", choices=EQUALIZATIONS, default="union",
        help="how layers that must keep the same filters agree on them",
    )  # fmt: skip
    group.add_argument(
        "-pg", "--pruning_granularity", type=int, default=8, metavar="N",
        help="layers keep multiples of N filters",
    )  # fmt: skip
    group.add_argument(
        "-pth", "--pruning_threshold", type=float, metavar="X",
        help=f"filters with a larger norm stay; {_THRESHOLD} by default",
    )  # fmt: skip
    group.add_argument(
        "-nf", "--min_num_filters", type=int, default=16, metavar="N",
        help="layers keep N filters at least",
    )  # fmt: skip
    group.add_argument(
        "-el", "--excluded_layers", nargs="*", default=[], metavar="LAYER",
        help="layers that keep all filters; the outputs always do",
    )  # fmt: skip
    group.add_argument(
        "--target_macs", type=float, metavar="SHARE",
        help="in place of a threshold: the share of the multiply-accumulates that may be left",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> None:
    """Prune.

    Raises:
        BodyPoseNetError: A flag or the model is wrong, or the output file exists.
    """
    from bodyposenet.model.checkpoint import describe, read_model, tensors_of, write_tensors
    from bodyposenet.pruning.graph import keep_filters
    from bodyposenet.pruning.ranking import rank_filters
    from bodyposenet.pruning.table import table

    _check_numbers(arguments)
    output = _output_file(arguments.output_file, overwrite=arguments.overwrite)
    with StatusFile(arguments.results_dir or output.parent) as status:
        header, network = read_model(model_file(Path(arguments.model)), arguments.key)
        rule = Rule(
            arguments.normalizer, arguments.equalization_criterion,
            arguments.pruning_granularity, arguments.min_num_filters,
        )  # fmt: skip
        ranking = rank_filters(network, rule, arguments.excluded_layers)
        threshold = _choose_threshold(arguments, network, ranking)
        pruned = keep_filters(network, ranking.kept(threshold))
        say("\n".join(table(network, pruned, ranking, norms=arguments.verbose)))
        if pruned.widths() == network.widths():
            raise BodyPoseNetError(
                f"no filter would be pruned at the threshold {threshold:g}, so nothing is written: "
                f"the least norm is {ranking.norms()[0]:.3g}, and layers keep multiples of "
                f"{rule.granularity}",
                "Give a larger --pruning_threshold (-v tells the norms), or --target_macs, the "
                "share of the compute that may be left.",
            )
        narrowed = describe(pruned, epoch=header["epoch"], spec=header["spec"])
        narrowed["pruned"] = asdict(rule) | {"threshold": threshold}
        write_tensors(output, narrowed, tensors_of(pruned), key=arguments.key)
        say(f"written: {output}, pruned at the threshold {threshold!r}")
        if output.suffix.lower() == ".hdf5":
            logger.info("%s has the format of .tlt files: Keras and TAO cannot read it", output)
        status.write("RUNNING", f"pruned {output}")


def _check_numbers(arguments: argparse.Namespace) -> None:
    """Refuse numbers that make no sense for any model."""
    for flag in ("pruning_granularity", "min_num_filters"):
        if getattr(arguments, flag) < 1:
            raise BodyPoseNetError(f"--{flag} {getattr(arguments, flag)}: at least 1")
    threshold, share = arguments.pruning_threshold, arguments.target_macs
    if threshold is not None and share is not None:
        raise BodyPoseNetError(
            "--pruning_threshold and --target_macs: one of them sets the other", "Give only one."
        )
    if threshold is not None and not 0 <= threshold < math.inf:
        raise BodyPoseNetError(
            f"--pruning_threshold {threshold:g}: a number of at least 0", f"TAO's is {_THRESHOLD}."
        )
    if share is not None and not 0 < share < 1:
        raise BodyPoseNetError(
            f"--target_macs {share:g}: a share between 0 and 1",
            "0.3 leaves 30 % of the multiply-accumulates.",
        )


def _output_file(named: str, *, overwrite: bool) -> Path:
    output = Path(named)
    if not output.suffix:
        output = output.with_suffix(_EXTENSIONS[0])
    if output.suffix.lower() not in _EXTENSIONS:
        raise BodyPoseNetError(
            f"{output}: only {' and '.join(_EXTENSIONS)} files are written",
            f"Give -o a name that ends in {_EXTENSIONS[0]}.",
        )
    refuse_existing(output, overwrite=overwrite)
    return output


def _choose_threshold(
    arguments: argparse.Namespace, network: BodyPoseNetwork, ranking: Ranking
) -> float:
    from bodyposenet.pruning.ranking import check_threshold
    from bodyposenet.pruning.search import find_threshold

    if arguments.target_macs is not None:
        return find_threshold(network, ranking, arguments.target_macs)
    threshold = arguments.pruning_threshold
    threshold = _THRESHOLD if threshold is None else threshold
    check_threshold(ranking, threshold)
    return threshold
