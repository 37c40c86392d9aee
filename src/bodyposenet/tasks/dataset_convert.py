"""Convert a dataset in COCO's keypoint format to TFRecords, and draw masks of unlabelled people.

bpnet dataset_convert -d SPEC -o PREFIX -m train --generate_masks

People that a model found but nobody annotated can become labels, or masked where it is not sure:
--pseudo_labels detections.json
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bodyposenet.console import logger, say
from bodyposenet.cores import usable_cores
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import make_directory
from bodyposenet.tasks.results import results_folder

if TYPE_CHECKING:
    from bodyposenet.data.coco import CocoDataset, CocoImage
    from bodyposenet.data.pseudo_labels import Added
    from bodyposenet.specs.dataset import DatasetSpec

# Scores of the decoder are 1 - 1 / (sum of a person's joints and limbs), 0.375 at least: 0.9 is a
# sum of 10, half a body or more. Of what an earlier default model found in COCO's photos, 93 in 100
# people of at least 0.9 were right (OKS 0.5 with an annotated one), from there down to 0.5 44.
_PSEUDO_SCORE_HIGH, _PSEUDO_SCORE_LOW = 0.9, 0.5
_MAX_FILES = 10_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `dataset_convert` (reference 1.2)."""
    parser.add_argument(
        "-d", "--dataset_spec", required=True, metavar="FILE", help="dataset spec (JSON or YAML)"
    )
    parser.add_argument(
        "-o", "--output_filename", required=True, metavar="PREFIX",
        help="how the names of the TFRecord files begin; -fold-000-of-001 is added",
    )  # fmt: skip
    parser.add_argument(
        "-m", "--mode", choices=("train", "test"), default="train",
        help="convert the train or the test data of the spec",
    )  # fmt: skip
    parser.add_argument(
        "-p", "--num_partitions", type=int, default=1, metavar="N", help="folds; 1 by default"
    )
    parser.add_argument(
        "-s", "--num_shards", type=int, default=0, metavar="N",
        help="files per fold; 0, the default, is one file without a shard's number",
    )  # fmt: skip
    parser.add_argument(
        "--generate_masks", action="store_true", help="draw masks of crowds and unlabelled people"
    )
    parser.add_argument(
        "--check_files", action="store_true",
        help="leave out images whose file is missing, unreadable or of another size, "
        "or whose mask is missing",
    )  # fmt: skip
    _add_pseudo_arguments(parser)


def _add_pseudo_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("people that a model found")
    group.add_argument(
        "--pseudo_labels", metavar="FILE",
        help="detections.json of inference or evaluate, or results in COCO's format: people in it "
        "that no annotation overlaps become labels or masked regions",
    )  # fmt: skip
    group.add_argument(
        "--pseudo_score_high", type=float, metavar="A",
        help=f"least score of a person that becomes labels; {_PSEUDO_SCORE_HIGH} by default",
    )  # fmt: skip
    group.add_argument(
        "--pseudo_score_low", type=float, metavar="B",
        help="least score of a person that becomes a masked region; "
        f"{_PSEUDO_SCORE_LOW} by default, the other score for none",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> None:
    """Run the sub-task.

    Raises:
        BodyPoseNetError: The spec or the annotations are wrong, nothing is left to convert, or the
            results cannot be written.
    """
    from bodyposenet.specs.dataset import DatasetSpec

    output = _check_flags(arguments)
    with results_folder(output.parent, output.name, arguments.results_dir) as status:
        spec = DatasetSpec.load(arguments.dataset_spec)
        outcome = _convert(arguments, spec, output)
        status.write("RUNNING", "converted", **outcome._asdict())
    say(_describe(outcome))


class _Outcome(NamedTuple):
    """Counts of a conversion: what was made, left out, and repaired in the annotations."""

    done: Counter[str]
    left_out: Counter[str]
    repaired: Counter[str]


def _convert(arguments: argparse.Namespace, spec: DatasetSpec, output: Path) -> _Outcome:
    """Write masks and records."""
    from bodyposenet.data import conversion
    from bodyposenet.data.image_files import keep_intact

    root, split = spec.root(), spec.split(arguments.mode)
    if arguments.generate_masks:
        conversion.check_mask_folder(root, split)
    images, outcome = _read_images(arguments, spec)
    done, left_out, _ = outcome
    conversion.check_images_exist(images, spec.images_folder(arguments.mode))
    conversion.check_mask_names(images)
    if arguments.check_files:
        masks = not arguments.generate_masks
        images, unfit = keep_intact(images, root, split, masks=masks)
        left_out.update(unfit)
    focuses, filtered = conversion.find_focuses(images, spec)
    left_out.update(filtered)
    done["records"] = len(focuses)
    if not focuses:
        raise BodyPoseNetError(
            f"{spec.annotations(arguments.mode)}: there is no record to write\n"
            f"{_describe(outcome)}",
            "Check the file, or lower data_filtering_params of the dataset spec.",
        )
    if arguments.generate_masks:
        from bodyposenet.data.masks import write_masks

        done.update(write_masks(root / split.mask_root_dir_path, images, _processes(arguments)))
    folds, shards = arguments.num_partitions, arguments.num_shards
    done.update(conversion.write_shards(output, focuses, spec, split, folds, shards))
    return outcome


def _read_images(
    arguments: argparse.Namespace, spec: DatasetSpec
) -> tuple[list[CocoImage], _Outcome]:
    """The images with people, annotated or found, and the counts until then."""
    from bodyposenet.data.coco import CocoDataset, read_dataset
    from bodyposenet.data.image_files import match_sizes

    logger.info("reading %s", spec.annotations(arguments.mode))
    dataset = read_dataset(spec, arguments.mode)
    dataset = match_sizes(dataset, spec.images_folder(arguments.mode))
    done, left_out = Counter(images=len(dataset.images)), Counter(dataset.left_out)
    if arguments.pseudo_labels is not None:
        added = _add_found_people(arguments, spec, dataset)
        done.update(added.done)
        left_out.update(added.left_out)
        dataset = CocoDataset(added.images, left_out, dataset.repairs)
    images = dataset.annotated_images()
    left_out["images without annotations"] = len(dataset.images) - len(images)
    return images, _Outcome(done, left_out, dataset.repairs)


def _add_found_people(
    arguments: argparse.Namespace, spec: DatasetSpec, dataset: CocoDataset
) -> Added:
    from bodyposenet.data.found_people import read_detections
    from bodyposenet.data.pseudo_labels import PseudoLabelling, add_found_people

    labelling = PseudoLabelling.from_spec(spec, *_pseudo_scores(arguments))
    logger.info("reading %s", arguments.pseudo_labels)
    detections = read_detections(
        Path(arguments.pseudo_labels), dataset.images, spec.person.keypoints
    )
    added = add_found_people(dataset.images, detections.of_image, labelling)
    added.left_out.update(detections.left_out)
    return added


def _check_flags(arguments: argparse.Namespace) -> Path:
    """The prefix of the output, whose folder is made."""
    for flag in ("num_partitions", "num_shards"):
        if not 0 <= getattr(arguments, flag) <= _MAX_FILES:
            raise BodyPoseNetError(
                f"--{flag} {getattr(arguments, flag)}: must be from 0 to {_MAX_FILES}"
            )
    if arguments.num_processes < 1 and arguments.num_processes != -1:
        raise BodyPoseNetError(
            f"--num_processes {arguments.num_processes}: at least 1", "-1 uses all cores."
        )
    _check_pseudo_flags(arguments)
    output = Path(arguments.output_filename)
    if not output.name or arguments.output_filename.endswith(("/", os.sep)):
        raise BodyPoseNetError(
            f"-o {arguments.output_filename}: is a folder",
            "Say how the file names begin as well, for example folder/train.",
        )
    make_directory(output.parent)
    return output


def _check_pseudo_flags(arguments: argparse.Namespace) -> None:
    if arguments.pseudo_labels is None:
        for flag in ("pseudo_score_high", "pseudo_score_low"):
            if getattr(arguments, flag) is not None:
                raise BodyPoseNetError(
                    f"--{flag} {getattr(arguments, flag):g}: there is no --pseudo_labels",
                    "Name the file of the people that a model found, or leave it out.",
                )
        return
    high, low = _pseudo_scores(arguments)
    if not 0 <= low <= high:
        raise BodyPoseNetError(
            f"--pseudo_score_low {low:g} --pseudo_score_high {high:g}: not 0 <= low <= high",
            f"They are {_PSEUDO_SCORE_LOW} and {_PSEUDO_SCORE_HIGH} where they are not given.",
        )
    if low < high and not arguments.generate_masks:
        raise BodyPoseNetError(
            f"--pseudo_labels: people of a score from {low:g} to {high:g} are to be masked, but "
            "no masks are drawn",
            f"Add --generate_masks; or, for labels only, --pseudo_score_low {high:g}.",
        )


def _pseudo_scores(arguments: argparse.Namespace) -> tuple[float, float]:
    """The high and the low one, or their defaults."""
    high, low = arguments.pseudo_score_high, arguments.pseudo_score_low
    return (
        _PSEUDO_SCORE_HIGH if high is None else high,
        _PSEUDO_SCORE_LOW if low is None else low,
    )


def _processes(arguments: argparse.Namespace) -> int:
    return usable_cores() if arguments.num_processes == -1 else arguments.num_processes


def _describe(outcome: _Outcome) -> str:
    """The closing summary: what was made, how much of what was left out, and what was repaired."""
    done, left_out, repaired = (
        [f"{count:>9,} {kind}" for kind, count in counts.items() if count] for counts in outcome
    )
    lines = [*done, "left out:", *(left_out or ["  nothing"])]
    return "\n".join([*lines, "repaired:", *repaired] if repaired else lines)
