"""Are the image files of a dataset there, and of the size that its annotations say?

Looks at the beginning of a file only, so that a large dataset is checked in seconds.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import simplejpeg

from bodyposenet.console import logger, track
from bodyposenet.data.coco import CocoImage
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.media.source import read_image
from bodyposenet.specs.dataset import Split

_HEAD = 65536
"""Bytes that hold the size of nearly every image; where they don't, the image is decoded."""

_TOLD_ONE_BY_ONE = 10


def keep_intact(
    images: Sequence[CocoImage], root: Path, split: Split, masks: bool, left_out: Counter[str]
) -> list[CocoImage]:
    """Leave out the images whose files do not fit.

    Args:
        images: What to check.
        root: Folder of the dataset.
        split: Names the folders of images and masks.
        masks: Whether to look for the masks too.
        left_out: Receives what is wrong -> with how many images.
    """
    kept, told = [], 0
    for image in track(images, "checking files"):
        path = root / split.images_root_dir_path / image.file_name
        mask = root / split.mask_root_dir_path / image.mask_name
        problem = find_problem(path, image.height, image.width)
        if not problem and masks and not mask.is_file():
            problem = "without their mask"
        if not problem:
            kept.append(image)
            continue
        told += 1
        left_out[f"images {problem}"] += 1
        if told <= _TOLD_ONE_BY_ONE:
            logger.warning("left out: %s, one of the images %s", path, problem)
    return kept


def find_problem(path: Path, height: int, width: int) -> str:
    """What is wrong with an image file, or an empty string.

    An image that lies turned, by its EXIF data, may have either size.

    Args:
        path: The file.
        height: That the annotations say.
        width: That the annotations say.
    """
    try:
        with open(path, "rb") as file:
            size = _size_in_header(file.read(_HEAD))
        if size != (height, width):
            size = read_image(path, (height, width)).shape[:2]
    except FileNotFoundError:
        return "whose file is missing"
    except (OSError, BodyPoseNetError):
        return "that cannot be read"
    return "" if size == (height, width) else "of another size than the annotations say"


def _size_in_header(head: bytes) -> tuple[int, int] | None:
    """Height and width of a JPEG or PNG file as stored; None where the beginning does not tell."""
    if head.startswith(b"\x89PNG\r\n\x1a\n") and len(head) >= 24:
        width, height = struct.unpack(">II", head[16:24])
        return height, width
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(head, strict=False)
    except (ValueError, KeyError):  # simplejpeg's, KeyError for a color space that it cannot tell
        return None
    return int(height), int(width)
