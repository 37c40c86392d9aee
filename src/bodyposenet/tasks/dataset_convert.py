"""Convert a dataset in COCO's keypoint format to TFRecords, and draw masks of unlabelled people.

bpnet dataset_convert -d SPEC -o PREFIX -m train --generate_masks
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bodyposenet.console import StatusFile, logger, say
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import make_directory

if TYPE_CHECKING:
    from bodyposenet.specs.dataset import DatasetSpec


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


def run(arguments: argparse.Namespace) -> None:
    """Run the sub-task.

    Raises:
        BodyPoseNetError: The spec or the annotations are wrong, nothing is left to convert, or the
            results cannot be written.
    """
    from bodyposenet.specs.dataset import DatasetSpec

    output = _check_flags(arguments)
    with StatusFile(arguments.results_dir or output.parent) as status:
        spec = DatasetSpec.load(arguments.dataset_spec)
        done, left_out = _convert(arguments, spec, output)
        status.write("RUNNING", "converted", done=done, left_out=left_out)
    say(_describe(done, left_out))


def _convert(
    arguments: argparse.Namespace, spec: DatasetSpec, output: Path
) -> tuple[Counter[str], Counter[str]]:
    """Write masks and records; what was made, and what was left out, -> how much of it."""
    from bodyposenet.data import conversion
    from bodyposenet.data.coco import read_coco
    from bodyposenet.data.image_files import keep_intact

    root, split = spec.root(), spec.split(arguments.mode)
    annotations = spec.annotations(arguments.mode)
    if arguments.generate_masks:
        conversion.check_mask_folder(root, split)

    logger.info("reading %s", annotations)
    dataset = read_coco(annotations, spec.person.keypoints)
    images = dataset.annotated_images()
    left_out = Counter({"images without annotations": len(dataset.images) - len(images)})
    left_out.update(dataset.left_out)
    conversion.check_mask_names(images)
    if arguments.check_files:
        images, flawed = keep_intact(images, root, split, masks=not arguments.generate_masks)
        left_out.update(flawed)
    focuses, filtered = conversion.find_focuses(images, spec)
    left_out.update(filtered)
    done = Counter(images=len(dataset.images), records=len(focuses))
    if not focuses:
        raise BodyPoseNetError(
            f"{annotations}: there is no record to write\n{_describe(done, left_out)}",
            "Check the file, or lower data_filtering_params of the dataset spec.",
        )
    if arguments.generate_masks:
        from bodyposenet.data.masks import write_masks

        done.update(write_masks(root / split.mask_root_dir_path, images, _processes(arguments)))
    folds, shards = arguments.num_partitions, arguments.num_shards
    done.update(conversion.write_shards(output, focuses, spec, split, folds, shards))
    return done, left_out


def _check_flags(arguments: argparse.Namespace) -> Path:
    """The prefix of the output, whose folder is made."""
    for flag in ("num_partitions", "num_shards"):
        if getattr(arguments, flag) < 0:
            raise BodyPoseNetError(f"--{flag} {getattr(arguments, flag)}: at least 0")
    if arguments.num_processes < 1 and arguments.num_processes != -1:
        raise BodyPoseNetError(
            f"--num_processes {arguments.num_processes}: at least 1", "-1 uses all cores."
        )
    output = Path(arguments.output_filename)
    if not output.name or arguments.output_filename.endswith(("/", os.sep)):
        raise BodyPoseNetError(
            f"-o {arguments.output_filename}: is a folder",
            "Say how the file names begin as well, for example folder/train.",
        )
    make_directory(output.parent)
    return output


def _processes(arguments: argparse.Namespace) -> int:
    return (os.cpu_count() or 1) if arguments.num_processes == -1 else arguments.num_processes


def _describe(done: Mapping[str, int], left_out: Mapping[str, int]) -> str:
    """The closing summary: what was made, and how much of what was left out."""
    lines, omitted = (
        [f"{count:>9,} {kind}" for kind, count in counts.items() if count]
        for counts in (done, left_out)
    )
    return "\n".join([*lines, "left out:", *(omitted or ["  nothing"])])
