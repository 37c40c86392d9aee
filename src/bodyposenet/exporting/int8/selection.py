"""Selection of calibration images that represent a COCO dataset.

Images are of the same kind if they show similar numbers of people and of labelled keypoints per
person. Each kind has the same share of the selection as of the dataset, as TAO's guide recommends.
"""

from __future__ import annotations

import shutil
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from bodyposenet.console import logger
from bodyposenet.data.coco import CocoImage, load_coco
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import is_file, make_directory
from bodyposenet.skeleton import COCO_JOINTS

_PEOPLE = (2, 3, 5, 9)
"""Bounds between kinds of images: 1, 2, 3-4, 5-8 and more people."""
_SEEN = (1 / 3, 2 / 3)
"""Bounds between kinds of images: few, some and most keypoints labelled, on average."""

Kind = tuple[int, int]


@dataclass(frozen=True)
class Selection:
    """A subset of a dataset's images with labelled people.

    Args:
        copies: Of the selected images.
        others: The images that are not selected, in random order.
    """

    copies: list[Path]
    others: list[Path]


def select_images(
    annotations: str | Path,
    image_dir: str | Path,
    output_dir: str | Path,
    count: int,
    seed: int = 0,
    joints: tuple[str, ...] = COCO_JOINTS,
) -> Selection:
    """Copy a representative subset of a dataset's images with labelled people.

    Args:
        annotations: In COCO's keypoint format.
        image_dir: What the file names of the annotations are relative to.
        output_dir: Receives the copies; it is made, and must be empty.
        count: How many images.
        seed: The same seed selects the same images.
        joints: That the dataset labels.

    Raises:
        BodyPoseNetError: There are fewer images with labelled people, the folder is not empty, or a
            file cannot be read or written.
    """
    folder, target = Path(image_dir), make_directory(output_dir)
    if any(target.iterdir()):
        raise BodyPoseNetError(
            f"{target}: the folder for the selected images is not empty",
            "Name a new folder (--cal_image_dir): all of its images are used for calibration.",
        )
    images = [image for image in load_coco(Path(annotations), joints) if _labelled(image)]
    there = [image for image in images if is_file(folder / image.file_name)]
    if len(there) < len(images):
        logger.warning("%s: %d images are missing", folder, len(images) - len(there))
    if len(there) < count:
        raise BodyPoseNetError(
            f"{annotations}: found {len(there)} images with labelled people in {folder}, but "
            f"{count} are to be selected",
            "Lower --batches or --batch_size, or take a larger dataset.",
        )
    kinds = _by_kind(there, len(joints))
    chosen = _choose(list(kinds.values()), count, seed)
    selected = {image.file_name for image in chosen}
    others = [folder / image.file_name for image in there if image.file_name not in selected]
    np.random.default_rng(seed).shuffle(others)
    copies = [_copy(folder, image, target) for image in chosen]
    logger.info("Selected %d of %d images of %d kinds: %s", count, len(there), len(kinds), target)
    return Selection(copies, others)


def _labelled(image: CocoImage) -> list[int]:
    """Count the labelled keypoints of each person; crowds and people without any are skipped."""
    return [person.num_keypoints for person in image.persons if person.is_labelled]


def _by_kind(images: Sequence[CocoImage], joints: int) -> dict[Kind, list[CocoImage]]:
    kinds: dict[Kind, list[CocoImage]] = {}
    for image in images:
        labelled = _labelled(image)
        seen = sum(labelled) / (len(labelled) * joints)
        kind = bisect_right(_PEOPLE, len(labelled)), bisect_right(_SEEN, seen)
        kinds.setdefault(kind, []).append(image)
    return kinds


def _choose(kinds: Sequence[list[CocoImage]], count: int, seed: int) -> list[CocoImage]:
    """Draw from every kind its share, the largest remainders rounded up."""
    random = np.random.default_rng(seed)
    sizes = np.array([len(kind) for kind in kinds])
    shares = sizes * count / sizes.sum()
    taken = shares.astype(int)
    taken[np.argsort(taken - shares, kind="stable")[: count - taken.sum()]] += 1
    return [
        kind[index]
        for kind, number in zip(kinds, taken, strict=True)
        for index in sorted(random.permutation(len(kind))[:number])
    ]


def _copy(folder: Path, image: CocoImage, target: Path) -> Path:
    """Copy an image; folders become part of its name, as calibration does not look into them."""
    copy = target / "_".join(PurePosixPath(image.file_name).parts)
    try:
        shutil.copyfile(folder / image.file_name, copy)
    except OSError as error:
        raise BodyPoseNetError(
            f"{copy}: cannot be copied from {folder}: {error.strerror or error}",
            "Free some space, or check who may read and write there.",
        ) from error
    return copy
