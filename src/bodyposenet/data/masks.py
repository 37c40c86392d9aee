"""Draw, write and read masks: 255 where the loss is computed, 0 at unlabeled people and crowds.

See the TAO reference, section 3.4.
"""

from __future__ import annotations

import math
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache, partial
from multiprocessing import get_context, parent_process
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from bodyposenet.console import logger, progress
from bodyposenet.data.coco import CocoImage
from bodyposenet.data.segmentation import Region, rasterize_regions
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import atomic_write, make_directory
from bodyposenet.media.image_header import image_size
from bodyposenet.media.images import imdecode, restore_end_marker
from bodyposenet.types import MASK_VALID

_MASKS_PER_TASK = 64


@dataclass(frozen=True)
class MaskRegions:
    """The regions that determine the mask of one image.

    Args:
        file_name: Path of the mask, relative to the mask folder.
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        unlabeled: People without labeled keypoints: masked.
        crowds: Crowds and uncertain detections: masked, except for the labeled people in them.
        labeled: People with annotated keypoints; empty if there are no crowds. Pseudo-labels are
            not included, because their boxes also contain background.
    """

    file_name: str
    height: int
    width: int
    unlabeled: tuple[Region, ...]
    crowds: tuple[Region, ...]
    labeled: tuple[Region, ...]

    @classmethod
    def from_image(cls, image: CocoImage) -> MaskRegions:
        """Collect the mask regions of an annotated image."""
        crowds = [person for person in image.persons if person.is_crowd]
        others = [person for person in image.persons if not person.is_crowd]
        labeled = [p for p in others if p.is_labeled and not p.is_pseudo]
        return cls(
            image.mask_name,
            image.height,
            image.width,
            unlabeled=tuple(Region.from_person(p) for p in others if not p.is_labeled),
            crowds=tuple(map(Region.from_person, crowds)),
            labeled=tuple(map(Region.from_person, labeled)) if crowds else (),
        )

    @property
    def num_boxes(self) -> int:
        """Number of people who are masked by their box, because they have no segmentation."""
        return sum(region.is_box for region in (*self.unlabeled, *self.crowds))


def draw_mask(regions: MaskRegions) -> NDArray[np.uint8]:
    """Draw a mask.

    People without labeled keypoints are excluded from the loss, and so are crowds, except for the
    labeled people in them.

    Args:
        regions: Regions of the image.

    Returns:
        (height, width) uint8, 255 where the loss is computed, else 0.

    Raises:
        BodyPoseNetError: A segmentation is invalid, or a box is far outside of the image.
    """
    size = regions.height, regions.width
    ignored = rasterize_regions(regions.unlabeled, *size)
    if regions.crowds:
        labeled = rasterize_regions(regions.labeled, *size)
        ignored |= rasterize_regions(regions.crowds, *size) & ~labeled
    return np.where(ignored, np.uint8(0), np.uint8(MASK_VALID))


def write_masks(folder: Path, images: Sequence[CocoImage], processes: int) -> dict[str, int]:
    """Draw the masks of images and write them as PNG.

    Args:
        folder: Mask folder.
        images: Annotated images.
        processes: Number of worker processes.

    Returns:
        Number of masks, and number of people who are masked by their box because they have no
        segmentation, by description.

    Raises:
        BodyPoseNetError: As `draw_mask`, or the folder cannot be written.
    """
    masks = [MaskRegions.from_image(image) for image in images]
    for subfolder in {(folder / mask.file_name).parent for mask in masks}:
        make_directory(subfolder, "Choose another mask_root_dir_path in the dataset spec.")
    write = partial(_write_mask, folder)
    processes = min(processes, math.ceil(len(masks) / _MASKS_PER_TASK))
    if processes <= 1:
        deque(progress(map(write, masks), "masks", len(masks)), maxlen=0)
    else:
        _write_in_parallel(write, masks, processes)
    logger.info("%s: %d masks", folder, len(masks))
    boxes = sum(mask.num_boxes for mask in masks)
    return {"masks": len(masks), "people masked by their box (no segmentation)": boxes}


def _write_in_parallel(
    write: Callable[[MaskRegions], None], masks: Sequence[MaskRegions], processes: int
) -> None:
    """Write masks in several processes.

    The processes are spawned, not forked, so that they inherit neither annotations nor threads.
    """
    with ProcessPoolExecutor(processes, get_context("spawn"), _follow_parent) as pool:
        written = pool.map(write, masks, chunksize=_MASKS_PER_TASK)
        try:
            deque(progress(written, "masks", len(masks)), maxlen=0)
        except BrokenProcessPool as error:
            raise BodyPoseNetError(
                "A worker process that draws masks died.",
                "Try again with a smaller --num_processes.",
            ) from error


def _follow_parent() -> None:
    """Make a worker process exit with its parent process, and not before.

    Ctrl-C and SIGTERM can reach all processes of the group; the parent handles them.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Wait for the end of the parent process, then exit."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)  # without this, the pool waits for more masks


def _write_mask(folder: Path, regions: MaskRegions) -> None:
    """Draw a mask and write it as PNG."""
    if regions.unlabeled or regions.crowds:
        try:
            png = encode_png(draw_mask(regions))
        except BodyPoseNetError as error:
            raise BodyPoseNetError(f"{regions.file_name}: {error.what}", error.remedy) from error
    else:
        png = encode_valid_mask(regions.height, regions.width)
    # Fails if the folder was removed in the meantime, as the masks written before are lost then.
    with atomic_write(folder / regions.file_name, make_folder=False) as file:
        file.write(png)


def encode_png(gray: NDArray[np.uint8]) -> bytes:
    """Encode a mask as PNG with low compression and without row filters.

    Files are still small, and training reads them several times as fast.

    Args:
        gray: (H, W) uint8.

    Returns:
        Content of the PNG file.
    """
    light = (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE)
    plain = (cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_DEFAULT)
    return cv2.imencode(".png", gray, (*light, *plain))[1].tobytes()


@lru_cache(maxsize=4096)
def encode_valid_mask(height: int, width: int) -> bytes:
    """Encode a mask that excludes nothing from the loss; cached, as image sizes repeat.

    Args:
        height: Height of the image in pixels.
        width: Width of the image in pixels.

    Returns:
        Content of the PNG file.
    """
    return encode_png(np.full((height, width), MASK_VALID, np.uint8))


def read_mask(path: Path, height: int, width: int) -> NDArray[np.uint8] | None:
    """Read a mask.

    Args:
        path: File in any format that OpenCV reads.
        height: Height of the image in pixels.
        width: Width of the image in pixels.

    Returns:
        (height, width) uint8 with values 0 and 255 (other values, as in TAO's JPEG masks, are
        thresholded). None, to save decoding, if the file is equal to that of `encode_valid_mask`,
        which excludes nothing.

    Raises:
        FileNotFoundError: The file does not exist.
        BodyPoseNetError: The file cannot be read, is not an image, or has another size.
    """
    try:
        content = path.read_bytes()
    except (NotADirectoryError, IsADirectoryError, ValueError) as error:  # "a\0b.png", for example
        raise FileNotFoundError(path) from error
    except FileNotFoundError:
        raise
    except OSError as error:
        raise BodyPoseNetError(
            f"{path}: cannot be read: {error.strerror or error}", "Change its permissions."
        ) from error
    if content == encode_valid_mask(height, width):
        return None
    mask = None
    whole = restore_end_marker(content) if image_size(content) in (None, (height, width)) else None
    if whole is not None:
        mask = imdecode(whole, cv2.IMREAD_GRAYSCALE)
    if mask is None or mask.shape != (height, width):
        raise BodyPoseNetError(
            f"{path}: not a mask of {width} x {height} pixels",
            "Generate the masks again: dataset_convert --generate_masks.",
        )
    return cv2.threshold(mask, 127, MASK_VALID, cv2.THRESH_BINARY)[1]  # type: ignore[return-value]
