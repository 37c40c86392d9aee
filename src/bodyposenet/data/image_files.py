"""Are the image files of a dataset there, whole, and of the size that its annotations say?

Files are read, but few are decoded, so that a large dataset is checked as fast as its disk reads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bodyposenet.console import logger, track
from bodyposenet.data.coco import CocoImage
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.media.encoded import (
    check_size,
    has_end_marker,
    image_size,
    keeps_size_when_turned,
    with_end,
)
from bodyposenet.media.source import read_image
from bodyposenet.specs.dataset import Split

_TOLD_ONE_BY_ONE = 10

_OTHER_SIZE = "of another size than the annotations say"

_BEFORE_SCAN = 2**17
"""Bytes that hold a JPEG's EXIF data, which stand at its beginning in at most 64 KB."""


def keep_intact(
    images: Sequence[CocoImage], root: Path, split: Split, *, masks: bool
) -> tuple[list[CocoImage], Counter[str], Counter[str]]:
    """Leave out the images whose files do not fit.

    Height and width that the annotations have exchanged are put right.

    Args:
        images: What to check.
        root: Folder of the dataset.
        split: Names the folders of images and masks.
        masks: Whether to look for the masks too.

    Returns:
        The other images; what is wrong -> with how many images; what is put right -> in how many.
    """
    kept: list[CocoImage] = []
    left_out: Counter[str] = Counter()
    repairs: Counter[str] = Counter()
    either_way = 0
    for image in track(images, "checking files"):
        path = root / split.images_root_dir_path / image.file_name
        mask = root / split.mask_root_dir_path / image.mask_name
        problem = find_problem(path, image.height, image.width)
        if problem == _OTHER_SIZE and _is_exchanged(image, path):
            image = replace(image, height=image.width, width=image.height)
            repairs["sizes of images whose height and width were exchanged"] += 1
            problem = ""
        if not problem and masks and not mask.is_file():
            problem = "without their mask"
        if not problem:
            kept.append(image)
            either_way += _keeps_size_when_turned(path)
            continue
        left_out[f"images {problem}"] += 1
        if left_out.total() <= _TOLD_ONE_BY_ONE:
            logger.warning("left out: %s, one of the images %s", path, problem)
    if either_way:
        logger.warning(
            "%d images are mirrored or turned by 180 degrees by their EXIF data: their annotations "
            "are taken to be of the turned images, as viewers show them", either_way,
        )  # fmt: skip
    return kept, left_out, repairs


def _is_exchanged(image: CocoImage, path: Path) -> bool:
    """Whether a file has the annotated height and width the other way round, and people fit in.

    People who fit into the annotated size only were annotated in an image that was turned since.
    """
    if find_problem(path, image.width, image.height):
        return False
    points = np.concatenate(
        [person.keypoints[:, :2] for person in image.persons if person.is_labelled]
        or [np.empty((0, 2))]
    )
    stated = np.array([image.width, image.height])
    in_stated, in_actual = ((points < size).all(axis=1).sum() for size in (stated, stated[::-1]))
    return bool(in_actual >= in_stated)


def _keeps_size_when_turned(path: Path) -> bool:
    with open(path, "rb") as file:
        return keeps_size_when_turned(file.read(_BEFORE_SCAN))


def find_problem(path: Path, height: int, width: int) -> str:
    """What is wrong with an image file, or an empty string.

    An image that lies turned, by its EXIF data, may have either size.

    Args:
        path: The file.
        height: That the annotations say.
        width: That the annotations say.
    """
    try:
        content = path.read_bytes()
        size = image_size(content)
        check_size(path, size)
        if with_end(content) is None:
            return "whose file is cut off"
        if size != (height, width) or not has_end_marker(content):
            size = read_image(path, (height, width)).shape[:2]
    except FileNotFoundError:
        return "whose file is missing"
    except (OSError, BodyPoseNetError):
        return "that cannot be read"
    return "" if size == (height, width) else _OTHER_SIZE
