"""Compare the image files of a dataset with its annotations: sizes, orientation, damaged files.

Sizes are compared by the headers of the files, whenever a dataset is converted or evaluated; whole
files are read where that is asked for, but few are decoded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bodyposenet.console import logger, progress
from bodyposenet.data.coco import CocoDataset, CocoImage
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import is_file
from bodyposenet.media.image_header import (
    check_size,
    has_end_marker,
    image_size,
    is_jpeg,
    orientation,
)
from bodyposenet.media.images import read_image, restore_end_marker
from bodyposenet.specs.dataset import Split

_TOLD_ONE_BY_ONE = 10

_OTHER_SIZE = "of another size than the annotations state"

_HEADERS = (2**12, 2**17)
"""Bytes that hold the EXIF data and the size of most JPEGs, and of those with a preview."""

_TOLERANCE = 1.0
"""Boxes are rounded: they may reach so many pixels beyond their image."""


def correct_image_sizes(dataset: CocoDataset, folder: Path) -> CocoDataset:
    """Compare the annotated sizes of images with those of their files.

    Where a file has height and width exactly the other way round, the annotated size is corrected
    if people fit into the file; people who fit into the annotated size only were annotated in an
    image that was turned since. Other sizes, and orientations that the size does not tell, are
    logged with their number.

    Args:
        dataset: The annotated images.
        folder: Of the images. Files that are missing or of an unknown format are passed over.

    Returns:
        The dataset with the corrected sizes, which are among its repairs.
    """
    images, repairs = [], Counter(dataset.repairs)
    of_other_size: list[Path] = []
    turned: list[Path] = []
    for image in progress(dataset.images, "comparing sizes"):
        path = folder / image.file_name
        stated, sizes = (image.height, image.width), _read_sizes(path)
        if sizes is not None and stated not in sizes.possible:
            if stated[::-1] in sizes.possible and _was_exchanged(image):
                image = replace(image, height=image.width, width=image.height)
                repairs["sizes of images whose height and width were exchanged"] += 1
            else:
                of_other_size.append(path)
        if sizes is not None and sizes.is_turned and len(sizes.possible) == 1:
            turned.append(path)
        images.append(image)
    if of_other_size:
        logger.warning(
            "%d images are %s, the first: %s; training skips them, evaluate scales the poses, and "
            "dataset_convert --check_files leaves them out",
            len(of_other_size), _OTHER_SIZE, of_other_size[0],
        )  # fmt: skip
    if turned:
        logger.warning(
            "%d images are mirrored or turned by their EXIF data, and their size does not tell "
            "whether they were annotated like that, the first: %s; annotations are taken to be of "
            "the turned images, as viewers show them",
            len(turned), turned[0],
        )  # fmt: skip
    return CocoDataset(images, dataset.skipped, repairs)


@dataclass(frozen=True)
class _Sizes:
    """What a header states.

    Args:
        possible: (height, width) as stored, and as shown.
        is_turned: The image is rotated or mirrored before it is shown.
    """

    possible: frozenset[tuple[int, ...]]
    is_turned: bool


def _read_sizes(path: Path) -> _Sizes | None:
    """The sizes that a file may be annotated in; None where they cannot be read."""
    try:
        with open(path, "rb") as file:
            content = b""
            for length in (*_HEADERS, -1):  # other formats may have EXIF data at their end
                content += file.read(length)
                if is_jpeg(content) and image_size(content) is not None:
                    break
    except (OSError, ValueError):  # ValueError for "a\0b.jpg", for example
        return None
    stored, turn = image_size(content), orientation(content)
    if stored is None:
        return None
    shown = stored[::-1] if turn.swaps_sides else stored
    return _Sizes(frozenset({stored, shown}), turn.is_turned)


def _was_exchanged(image: CocoImage) -> bool:
    """Whether at least as many people fit into an image after height and width are exchanged.

    A segmentation of run lengths in the annotated size shows that it is right.
    """
    stated = [image.height, image.width]
    if any(_run_length_size(person.segmentation) == stated for person in image.persons):
        return False
    boxes = np.array([person.box for person in image.persons], np.float64).reshape(-1, 4)
    corners = boxes[:, :2] + boxes[:, 2:] - _TOLERANCE
    as_stated, exchanged = (
        np.count_nonzero((corners <= size).all(axis=1)) for size in (stated[::-1], stated)
    )
    return bool(exchanged >= as_stated)


def _run_length_size(segmentation: object) -> object:
    return segmentation.get("size") if isinstance(segmentation, dict) else None


def keep_usable(
    images: Sequence[CocoImage], root: Path, split: Split, *, masks: bool
) -> tuple[list[CocoImage], Counter[str]]:
    """Leave out the images whose files do not fit.

    Args:
        images: What to check.
        root: Folder of the dataset.
        split: Names the folders of images and masks.
        masks: Whether to look for the masks too.

    Returns:
        The other images; what is wrong -> with how many images.
    """
    kept: list[CocoImage] = []
    skipped: Counter[str] = Counter()
    for image in progress(images, "checking files"):
        path = root / split.images_root_dir_path / image.file_name
        mask = root / split.mask_root_dir_path / image.mask_name
        problem = image_problem(path, image.height, image.width)
        if not problem and masks and not is_file(mask):
            problem = "without their mask"
        if not problem:
            kept.append(image)
            continue
        skipped[f"images {problem}"] += 1
        if skipped.total() <= _TOLD_ONE_BY_ONE:
            logger.warning("left out: %s, one of the images %s", path, problem)
    return kept, skipped


def image_problem(path: Path, height: int, width: int) -> str:
    """Check an image file.

    Args:
        path: The file. A file that its EXIF data turn may have either size.
        height: In the annotations.
        width: In the annotations.

    Returns:
        What is wrong with the file, or an empty string.
    """
    try:
        content = path.read_bytes()
        size = image_size(content)
        check_size(path, size)
        if restore_end_marker(content) is None:
            return "whose file is cut off"
        if size != (height, width) or not has_end_marker(content):
            size = read_image(path, (height, width)).shape[:2]
    except FileNotFoundError:
        return "whose file is missing"
    except (OSError, BodyPoseNetError):
        return "that cannot be read"
    return "" if size == (height, width) else _OTHER_SIZE
