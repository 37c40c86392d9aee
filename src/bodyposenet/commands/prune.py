"""Remove the filters with the smallest norms from a trained model.

Example: bpnet prune -m model.tlt -o pruned.tlt --target_macs 0.5

The pruned model is smaller and less accurate. Retrain it: set pretrained_weights in the train spec
to its path, and load_graph to true.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from bodyposenet.commands.model_options import KeyOptions
from bodyposenet.commands.options import Option, StrPath, command, options_class
from bodyposenet.console import logger
from bodyposenet.encryption import model_file
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import refuse_existing
from bodyposenet.pruning.threshold_rule import Equalization, Normalizer, PruningOptions
from bodyposenet.results_folder import StatusFile

if TYPE_CHECKING:
    from bodyposenet.model.network import BodyPoseNetwork
    from bodyposenet.pruning.threshold_rule import Ranking

_EXTENSIONS = (".tlt", ".hdf5")
"""Extensions of the pruned model; TAO's specs for retraining use the second one."""

_THRESHOLD = 0.1
_PRUNING = "pruning"


@options_class
class PruneOptions(KeyOptions):
    """Options of `prune`: those of TAO (TAO reference, section 1.6), and a compute budget."""

    model: Annotated[
        StrPath, Option("-m", help="Model to prune (.tlt, or .hdf5 of TAO 5).", metavar="FILE")
    ]
    output_file: Annotated[
        StrPath,
        Option(
            "-o",
            help="Pruned model (.tlt). For TAO's specs, the extension .hdf5 is accepted too.",
            metavar="FILE",
        ),
    ]
    results_dir: Annotated[
        StrPath | None,
        Option("-r", help="Folder of status.json. Default: that of the output.", metavar="DIR"),
    ] = None
    overwrite: Annotated[bool, Option(help="Replace the output file if it exists.")] = False
    verbose: Annotated[bool, Option("-v", help="Print the filter norms of every layer.")] = False
    normalizer: Annotated[
        Normalizer,
        Option(
            "-n",
            help="Normalization of the filter norms of a layer: divided by the largest one (max) "
            "or by their L2 norm (L2).",
            group=_PRUNING,
        ),
    ] = "max"
    equalization_criterion: Annotated[
        Equalization,
        Option(
            "-eq",
            help="How to combine the norms of layers that must keep the same filters, such as "
            "those whose outputs are added.",
            group=_PRUNING,
        ),
    ] = "union"
    pruning_granularity: Annotated[
        int,
        Field(ge=1),
        Option("-pg", help="Keep a multiple of N filters per layer.", metavar="N", group=_PRUNING),
    ] = 8
    pruning_threshold: Annotated[
        float | None,
        Field(ge=0),
        Option(
            "-pth",
            help=f"Keep filters whose norm is above X. Default: {_THRESHOLD}, as in TAO.",
            metavar="X",
            group=_PRUNING,
        ),
    ] = None
    min_num_filters: Annotated[
        int,
        Field(ge=1),
        Option("-nf", help="Keep at least N filters per layer.", metavar="N", group=_PRUNING),
    ] = 16
    excluded_layers: Annotated[
        tuple[str, ...],
        Option(
            "-el",
            help="Layers that are not pruned, in addition to the output layers.",
            metavar="LAYER",
            nargs="*",
            group=_PRUNING,
        ),
    ] = ()
    target_macs: Annotated[
        float | None,
        Field(gt=0, lt=1),
        Option(
            help="Share of the multiply-accumulate operations to keep, instead of a threshold: "
            "0.3 keeps 30%.",
            metavar="SHARE",
            group=_PRUNING,
        ),
    ] = None


@dataclass(frozen=True)
class PruneResult:
    """A pruned model.

    Args:
        model: The pruned model.
        threshold: Filters with a norm above it were kept.
        out_channels: Number of filters of each convolution after pruning, by layer name.
        table: Lines of a table of the layers, before and after pruning.
    """

    model: Path
    threshold: float
    out_channels: dict[str, int]
    table: tuple[str, ...]

    @property
    def widths(self) -> dict[str, int]:
        """Deprecated name of `out_channels`."""
        warnings.warn(
            "PruneResult.widths is deprecated; use PruneResult.out_channels",
            DeprecationWarning,
            stacklevel=2,
        )
        return self.out_channels

    def summary(self) -> str:
        """Return the table, the model file and the threshold."""
        written = f"written: {self.model}, pruned at the threshold {self.threshold!r}"
        return "\n".join([*self.table, written])


@command(PruneOptions)
def prune(options: PruneOptions) -> PruneResult:
    """Remove the filters with the smallest norms from a trained model.

    Example:
        >>> bodyposenet.prune(model="model.tlt", output_file="pruned.tlt", target_macs=0.3)

    Raises:
        BodyPoseNetError: An option or the model is invalid, the output file exists, or no filter
            would be removed.
    """
    from bodyposenet.model.checkpoint import model_header, named_tensors, read_model, write_tensors
    from bodyposenet.pruning.cost import comparison_table
    from bodyposenet.pruning.dependency_graph import prune_channels
    from bodyposenet.pruning.threshold_rule import rank_filters

    if options.pruning_threshold is not None and options.target_macs is not None:
        raise BodyPoseNetError(
            "--pruning_threshold and --target_macs: only one of them is allowed",
            "Omit one of them.",
        )
    key, output = options.read_key(), _output_file(options)
    with StatusFile(options.results_dir or output.parent) as status:
        header, network = read_model(model_file(Path(options.model)), key)
        pruning_options = PruningOptions(
            options.normalizer, options.equalization_criterion,
            options.pruning_granularity, options.min_num_filters,
        )  # fmt: skip
        ranking = rank_filters(network, pruning_options, options.excluded_layers)
        threshold = _choose_threshold(options, network, ranking)
        pruned = prune_channels(network, ranking.kept(threshold))
        lines = comparison_table(network, pruned, ranking, norms=options.verbose)
        if pruned.out_channels() == network.out_channels():
            logger.info("%s", "\n".join(lines))
            raise BodyPoseNetError(
                f"no filter would be pruned at the threshold {threshold:g}, so nothing is written: "
                f"the smallest norm is {ranking.norms()[0]:.3g}, and layers keep multiples of "
                f"{pruning_options.granularity}",
                "Give a larger --pruning_threshold (-v prints the norms), or --target_macs, the "
                "share of the compute to keep.",
            )
        pruned_header = model_header(pruned, epoch=header["epoch"], spec=header["spec"])
        pruned_header["pruned"] = asdict(pruning_options) | {"threshold": threshold}
        write_tensors(output, pruned_header, named_tensors(pruned), key=key)
        if output.suffix.lower() == ".hdf5":
            logger.info("%s has the format of .tlt files, which Keras and TAO cannot read", output)
        status.write("RUNNING", f"pruned {output}")
    return PruneResult(output, threshold, pruned.out_channels(), tuple(lines))


def _output_file(options: PruneOptions) -> Path:
    """Return the path of the output file, with the default extension if it has none."""
    output = Path(options.output_file)
    if not output.suffix:
        output = output.with_suffix(_EXTENSIONS[0])
    if output.suffix.lower() not in _EXTENSIONS:
        raise BodyPoseNetError(
            f"{output}: the extension must be {' or '.join(_EXTENSIONS)}",
            f"Give -o a name that ends in {_EXTENSIONS[0]}.",
        )
    refuse_existing(output, overwrite=options.overwrite)
    return output


def _choose_threshold(options: PruneOptions, network: BodyPoseNetwork, ranking: Ranking) -> float:
    from bodyposenet.pruning.target_macs import find_threshold
    from bodyposenet.pruning.threshold_rule import check_threshold

    if options.target_macs is not None:
        return find_threshold(network, ranking, options.target_macs)
    threshold = options.pruning_threshold
    threshold = _THRESHOLD if threshold is None else threshold
    check_threshold(ranking, threshold)
    return threshold
