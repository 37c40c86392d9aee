"""Draw masks of people without labels, and write them as PNG.

255 where training counts, 0 where people without keypoints or crowds are (TAO reference, section
3.4).
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
from bodyposenet.data.regions import Region, rasterize_regions
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import atomic_write, make_directory
from bodyposenet.media.image_header import image_size
from bodyposenet.media.images import imdecode, restore_end_marker
from bodyposenet.types import MASK_VALID

_MASKS_PER_TASK = 64


@dataclass(frozen=True)
class MaskRegions:
    """What a mask is made of.

    Args:
        file_name: Path of the mask, relative to the folder of the masks.
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        unlabelled: People without labelled keypoints: ignored.
        crowds: Regions of people that are not told apart, or that a model was not sure of: ignored,
            where nobody is labelled.
        labelled: People with annotated keypoints; empty where there are no crowds to take them out
            of. Those that a model found are not among them: their boxes hold other things too.
    """

    file_name: str
    height: int
    width: int
    unlabelled: tuple[Region, ...]
    crowds: tuple[Region, ...]
    labelled: tuple[Region, ...]

    @classmethod
    def from_image(cls, image: CocoImage) -> MaskRegions:
        """The plan of an image's mask."""
        crowds = [person for person in image.persons if person.is_crowd]
        others = [person for person in image.persons if not person.is_crowd]
        labelled = [p for p in others if p.is_labelled and not p.is_pseudo]
        return cls(
            image.mask_name,
            image.height,
            image.width,
            unlabelled=tuple(Region.from_person(p) for p in others if not p.is_labelled),
            crowds=tuple(map(Region.from_person, crowds)),
            labelled=tuple(map(Region.from_person, labelled)) if crowds else (),
        )

    @property
    def boxes(self) -> int:
        """How many ignored people have no segmentation, so that their box is ignored."""
        return sum(region.is_box for region in (*self.unlabelled, *self.crowds))


def draw_mask(plan: MaskRegions) -> NDArray[np.uint8]:
    """Draw a mask: not ((crowds and not labelled) or unlabelled).

    Returns:
        (height, width) uint8, 255 where valid, 0 where ignored.

    Raises:
        BodyPoseNetError: A segmentation is broken, or a box lies far outside.
    """
    size = plan.height, plan.width
    ignored = rasterize_regions(plan.unlabelled, *size)
    if plan.crowds:
        ignored |= rasterize_regions(plan.crowds, *size) & ~rasterize_regions(plan.labelled, *size)
    return np.where(ignored, np.uint8(0), np.uint8(MASK_VALID))


def write_masks(folder: Path, images: Sequence[CocoImage], processes: int) -> dict[str, int]:
    """Draw the masks of images and write them as PNG.

    Args:
        folder: Folder of the masks.
        images: The images, with their people.
        processes: How many processes share the work.

    Returns:
        How many masks there are, and how many people are masked by their box, for want of a
        segmentation.

    Raises:
        BodyPoseNetError: As `draw_mask`, or the folder cannot be written.
    """
    plans = [MaskRegions.from_image(image) for image in images]
    for place in {(folder / plan.file_name).parent for plan in plans}:
        make_directory(place, "Name another mask_root_dir_path in the dataset spec.")
    write = partial(_write_mask, folder)
    processes = min(processes, math.ceil(len(plans) / _MASKS_PER_TASK))
    if processes <= 1:
        deque(progress(map(write, plans), "masks", len(plans)), maxlen=0)
    else:
        _write_in_parallel(write, plans, processes)
    logger.info("%s: %d masks", folder, len(plans))
    boxes = sum(plan.boxes for plan in plans)
    return {"masks": len(plans), "people masked by their box, for want of a segmentation": boxes}


def _write_in_parallel(
    write: Callable[[MaskRegions], None], plans: Sequence[MaskRegions], processes: int
) -> None:
    # Processes that start afresh, not forks: they do not inherit the annotations or any threads.
    with ProcessPoolExecutor(processes, get_context("spawn"), _follow_parent) as pool:
        written = pool.map(write, plans, chunksize=_MASKS_PER_TASK)
        try:
            deque(progress(written, "masks", len(plans)), maxlen=0)
        except BrokenProcessPool as error:
            raise BodyPoseNetError(
                "a process that draws masks has died", "Try again with a smaller --num_processes."
            ) from error


def _follow_parent() -> None:
    """End when the parent ends this process or is gone, and not before.

    Ctrl-C and SIGTERM may come to all processes, and the parent handles them.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)  # the pool would wait for further masks


def _write_mask(folder: Path, plan: MaskRegions) -> None:
    if plan.unlabelled or plan.crowds:
        try:
            png = encode_png(draw_mask(plan))
        except BodyPoseNetError as error:
            raise BodyPoseNetError(f"{plan.file_name}: {error.what}", error.remedy) from error
    else:
        png = encode_valid_mask(plan.height, plan.width)
    # The folder is there: where it is removed meanwhile, the masks of before are gone.
    with atomic_write(folder / plan.file_name, make_folder=False) as file:
        file.write(png)


def encode_png(gray: NDArray[np.uint8]) -> bytes:
    """Encode a gray image, (H, W) uint8, as PNG, compressed lightly and without row filters.

    For masks that is small enough, and training reads them several times as fast.
    """
    light = (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE)
    plain = (cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_DEFAULT)
    return cv2.imencode(".png", gray, (*light, *plain))[1].tobytes()


@lru_cache(maxsize=4096)
def encode_valid_mask(height: int, width: int) -> bytes:
    """The PNG of a mask without ignored regions; datasets repeat a few thousand sizes."""
    return encode_png(np.full((height, width), MASK_VALID, np.uint8))


def read_mask(path: Path, height: int, width: int) -> NDArray[np.uint8] | None:
    """Read a mask.

    Args:
        path: Any format that OpenCV reads.
        height: Of the image, in pixels.
        width: Of the image, in pixels.

    Returns:
        (height, width) uint8 of pure 0 and 255, though TAO's JPEG masks hold other values; None
        where all of it is known to be valid.

    Raises:
        FileNotFoundError: There is no such file.
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
            f"{path}: no mask of {width} x {height} pixels",
            "Make the masks again: dataset_convert --generate_masks.",
        )
    return cv2.threshold(mask, 127, MASK_VALID, cv2.THRESH_BINARY)[1]  # type: ignore[return-value]
