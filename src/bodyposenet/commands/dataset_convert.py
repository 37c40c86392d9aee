"""Convert annotated images to TFRecords, and draw masks of unlabeled people.

Example: bpnet dataset_convert -d SPEC -o PREFIX -m train --generate_masks

The annotations can have the format of COCO, Label Studio, CVAT, YOLO-pose and others.

Detections of people who are not annotated can be added as pseudo-labels or, if their score is low,
as masked regions: --pseudo_labels detections.json
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from bodyposenet.commands.options import CommandOptions, Option, StrPath, command, options_class
from bodyposenet.console import logger
from bodyposenet.cpu import usable_cores
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import make_directory
from bodyposenet.results_folder import results_folder

if TYPE_CHECKING:
    from bodyposenet.data.coco import CocoDataset, CocoImage
    from bodyposenet.data.pseudo_labels import PseudoLabels
    from bodyposenet.specs.dataset import DatasetSpec

# A person's score is 1 - 1 / (sum of the scores of the joints and limbs), at least 0.375; 0.9 is a
# sum of 10, that is half of the joints and limbs or more. Precision of an earlier default model on
# COCO's photos (OKS 0.5 with an annotated person): 93% of the detections with a score of 0.9 or
# more, 44% of those from 0.5 to 0.9.
_PSEUDO_SCORE_HIGH, _PSEUDO_SCORE_LOW = 0.9, 0.5
_MAX_FILES = 10_000
_PSEUDO_LABELS = "pseudo-labels"


@options_class
class ConvertOptions(CommandOptions):
    """Options of `dataset_convert`: those of TAO (TAO reference, 1.2), and pseudo-labels."""

    dataset_spec: Annotated[
        StrPath, Option("-d", help="Dataset spec (JSON or YAML).", metavar="FILE")
    ]
    output_filename: Annotated[
        StrPath,
        Option(
            "-o",
            help="Prefix of the TFRecord files, to which -fold-000-of-001 and so on is added.",
            metavar="PREFIX",
        ),
    ]
    results_dir: Annotated[
        StrPath | None,
        Option("-r", help="Folder of status.json. Default: that of the TFRecords.", metavar="DIR"),
    ] = None
    mode: Annotated[
        Literal["train", "test"],
        Option("-m", help="Which data of the spec to convert. Default: train."),
    ] = "train"
    num_partitions: Annotated[
        int, Field(ge=0, le=_MAX_FILES), Option("-p", help="Number of folds.", metavar="N")
    ] = 1
    num_shards: Annotated[
        int,
        Field(ge=0, le=_MAX_FILES),
        Option(
            "-s",
            help="Number of files per fold. Default: 0, one file without a shard number.",
            metavar="N",
        ),
    ] = 0
    generate_masks: Annotated[bool, Option(help="Draw masks of crowds and unlabeled people.")] = (
        False
    )
    check_files: Annotated[
        bool,
        Option(
            help="Skip images whose file is missing, unreadable or not of the annotated size, or "
            "whose mask is missing."
        ),
    ] = False
    num_processes: Annotated[
        int,
        Option(
            "-np",
            help="Number of processes that draw masks. Default: -1, one per core.",
            metavar="N",
        ),
    ] = -1
    pseudo_labels: Annotated[
        StrPath | None,
        Option(
            help="Detections of a model: detections.json of inference or evaluate, or COCO "
            "results. Detections that overlap no annotation become pseudo-labels or masked "
            "regions.",
            metavar="FILE",
            group=_PSEUDO_LABELS,
        ),
    ] = None
    pseudo_score_high: Annotated[
        float | None,
        Option(
            help=f"Minimum score of pseudo-labels. Default: {_PSEUDO_SCORE_HIGH}.",
            metavar="A",
            group=_PSEUDO_LABELS,
        ),
    ] = None
    pseudo_score_low: Annotated[
        float | None,
        Option(
            help="Minimum score of masked detections. If both scores are equal, nothing is "
            f"masked. Default: {_PSEUDO_SCORE_LOW}.",
            metavar="B",
            group=_PSEUDO_LABELS,
        ),
    ] = None

    @property
    def pseudo_scores(self) -> tuple[float, float]:
        """The high and the low score, or their defaults."""
        high, low = self.pseudo_score_high, self.pseudo_score_low
        return (
            _PSEUDO_SCORE_HIGH if high is None else high,
            _PSEUDO_SCORE_LOW if low is None else low,
        )

    @property
    def processes(self) -> int:
        """Number of processes."""
        return usable_cores() if self.num_processes == -1 else self.num_processes


@dataclass(frozen=True)
class ConvertResult:
    """Counts of a conversion.

    Args:
        records: Prefix of the TFRecord files.
        done: Number of images, records, masks and files, by these names.
        skipped: Number of skipped images or people, by reason.
        repaired: Number of repaired annotations, by kind of error.
    """

    records: Path
    done: Counter[str]
    skipped: Counter[str]
    repaired: Counter[str]

    def summary(self) -> str:
        """Return the counts of what was written, skipped and repaired."""
        done, skipped, repaired = (
            [f"{count:>9,} {kind}" for kind, count in counts.items() if count]
            for counts in (self.done, self.skipped, self.repaired)
        )
        lines = [*done, "skipped:", *(skipped or ["  nothing"])]
        return "\n".join([*lines, "repaired:", *repaired] if repaired else lines)


@command(ConvertOptions)
def convert_dataset(options: ConvertOptions) -> ConvertResult:
    """Convert annotated images to TFRecords, and draw masks.

    Example:
        >>> bodyposenet.convert_dataset(
        ...     dataset_spec="coco_spec.json", output_filename="data/train", generate_masks=True
        ... )

    Raises:
        BodyPoseNetError: The spec or the annotations are invalid, no image has usable annotations,
            or the results cannot be written.
    """
    from bodyposenet.specs.dataset import DatasetSpec

    output = _check_options(options)
    with results_folder(output.parent, output.name, options.results_dir) as status:
        spec = DatasetSpec.load(options.dataset_spec)
        result = _convert(options, spec, output)
        status.write(
            "RUNNING", "converted",
            done=result.done, left_out=result.skipped, repaired=result.repaired,
        )  # fmt: skip
    return result


def _convert(options: ConvertOptions, spec: DatasetSpec, output: Path) -> ConvertResult:
    """Write masks and records."""
    from bodyposenet.data import conversion
    from bodyposenet.data.image_checks import filter_usable_images

    root, split = spec.root(), spec.split(options.mode)
    if options.generate_masks:
        conversion.check_mask_folder(root, split)
    images, result = _read_images(options, spec, output)
    done, skipped = result.done, result.skipped
    conversion.check_images_exist(images, spec.images_folder(options.mode))
    conversion.check_mask_names(images)
    if options.check_files:
        masks = not options.generate_masks
        images, unfit = filter_usable_images(images, root, split, masks=masks)
        skipped.update(unfit)
    anchors, filtered = conversion.find_anchors(images, spec)
    skipped.update(filtered)
    done["records"] = len(anchors)
    if not anchors:
        raise BodyPoseNetError(
            f"{spec.annotations(options.mode)}: no records to write\n{result.summary()}",
            "Check the file, or lower data_filtering_params of the dataset spec.",
        )
    if options.generate_masks:
        from bodyposenet.data.masks import write_masks

        done.update(write_masks(root / split.mask_root_dir_path, images, options.processes))
    folds, shards = options.num_partitions, options.num_shards
    done.update(conversion.write_shards(output, anchors, spec, split, folds, shards))
    return result


def _read_images(
    options: ConvertOptions, spec: DatasetSpec, output: Path
) -> tuple[list[CocoImage], ConvertResult]:
    """Read the images with annotated people or pseudo-labels, and count them."""
    from bodyposenet.data.coco import CocoDataset, read_dataset
    from bodyposenet.data.image_checks import correct_image_sizes

    logger.info("reading %s", spec.annotations(options.mode))
    dataset = read_dataset(spec, options.mode)
    dataset = correct_image_sizes(dataset, spec.images_folder(options.mode))
    done, skipped = Counter(images=len(dataset.images)), Counter(dataset.skipped)
    if options.pseudo_labels is not None:
        added = _add_pseudo_labels(options, Path(options.pseudo_labels), spec, dataset)
        done.update(added.added)
        skipped.update(added.skipped)
        dataset = CocoDataset(added.images, skipped, dataset.repairs)
    images = dataset.annotated_images()
    skipped["images without annotations"] = len(dataset.images) - len(images)
    return images, ConvertResult(output, done, skipped, dataset.repairs)


def _add_pseudo_labels(
    options: ConvertOptions, file: Path, spec: DatasetSpec, dataset: CocoDataset
) -> PseudoLabels:
    from bodyposenet.data.detections import read_detections
    from bodyposenet.data.pseudo_labels import PseudoLabelOptions, add_pseudo_labels

    pseudo_options = PseudoLabelOptions.from_spec(spec, *options.pseudo_scores)
    logger.info("reading %s", file)
    detections = read_detections(file, dataset.images, spec.person.keypoints)
    added = add_pseudo_labels(dataset.images, detections.by_image, pseudo_options)
    added.skipped.update(detections.skipped)
    return added


def _check_options(options: ConvertOptions) -> Path:
    """Check the options, create the output folder, and return the prefix of the output."""
    if options.num_processes < 1 and options.num_processes != -1:
        raise BodyPoseNetError(
            f"--num_processes {options.num_processes}: must be at least 1, or -1 for all cores",
        )
    _check_pseudo_options(options)
    named = str(options.output_filename)
    output = Path(named)
    if not output.name or named.endswith(("/", os.sep)):
        raise BodyPoseNetError(
            f"-o {named}: is a folder",
            "Add a prefix for the file names, such as folder/train.",
        )
    make_directory(output.parent)
    return output


def _check_pseudo_options(options: ConvertOptions) -> None:
    if options.pseudo_labels is None:
        for flag in ("pseudo_score_high", "pseudo_score_low"):
            if getattr(options, flag) is not None:
                raise BodyPoseNetError(
                    f"--{flag} {getattr(options, flag):g}: only works with --pseudo_labels",
                    "Give --pseudo_labels a file of detections, or omit the score.",
                )
        return
    high, low = options.pseudo_scores
    if not 0 <= low <= high:
        raise BodyPoseNetError(
            f"--pseudo_score_low {low:g} --pseudo_score_high {high:g}: expected 0 <= low <= high",
            f"The defaults are {_PSEUDO_SCORE_LOW} and {_PSEUDO_SCORE_HIGH}.",
        )
    if low < high and not options.generate_masks:
        raise BodyPoseNetError(
            f"--pseudo_labels: people with scores from {low:g} to {high:g} must be masked, but "
            "no masks are drawn",
            f"Add --generate_masks or, for labels only, --pseudo_score_low {high:g}.",
        )
