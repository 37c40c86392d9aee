"""Are the image files of a dataset there, whole, and of the size that its annotations say?

Files are read, but few are decoded, so that a large dataset is checked as fast as its disk reads.
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
from bodyposenet.media.encoded import is_cut_off
from bodyposenet.media.source import read_image
from bodyposenet.specs.dataset import Split

_TOLD_ONE_BY_ONE = 10


def keep_intact(
    images: Sequence[CocoImage], root: Path, split: Split, *, masks: bool
) -> tuple[list[CocoImage], Counter[str]]:
    """Leave out the images whose files do not fit.

    Args:
        images: What to check.
        root: Folder of the dataset.
        split: Names the folders of images and masks.
        masks: Whether to look for the masks too.

    Returns:
        The other images, and what is wrong -> with how many images.
    """
    kept: list[CocoImage] = []
    left_out: Counter[str] = Counter()
    for image in track(images, "checking files"):
        path = root / split.images_root_dir_path / image.file_name
        mask = root / split.mask_root_dir_path / image.mask_name
        problem = find_problem(path, image.height, image.width)
        if not problem and masks and not mask.is_file():
            problem = "without their mask"
        if not problem:
            kept.append(image)
            continue
        left_out[f"images {problem}"] += 1
        if left_out.total() <= _TOLD_ONE_BY_ONE:
            logger.warning("left out: %s, one of the images %s", path, problem)
    return kept, left_out


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
        if is_cut_off(content):
            return "whose file is cut off"
        size = _size_in_header(content)
        if size != (height, width):
            size = read_image(path, (height, width)).shape[:2]
    except FileNotFoundError:
        return "whose file is missing"
    except (OSError, BodyPoseNetError):
        return "that cannot be read"
    return "" if size == (height, width) else "of another size than the annotations say"


def _size_in_header(content: bytes) -> tuple[int, int] | None:
    """Height and width of a JPEG or PNG file as stored; None where it must be decoded to tell."""
    if content.startswith(b"\x89PNG\r\n\x1a\n") and len(content) >= 24:
        width, height = struct.unpack(">II", content[16:24])
        return height, width
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(content, strict=False)
    except (ValueError, KeyError):  # simplejpeg's, KeyError for a color space that it cannot tell
        return None
    return int(height), int(width)
