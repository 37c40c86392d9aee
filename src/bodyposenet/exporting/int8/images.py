"""A folder of photos in, a random sample of them out, read one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from bodyposenet.console import logger
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.media.source import list_images, read_image

_REMEDY = "Give --cal_image_dir more photos, or lower --batches or --batch_size."

Item = TypeVar("Item")


def sample_images(folder: Path, count: int, seed: int = 0) -> Iterator[NDArray[np.uint8]]:
    """Draw photos without replacement; in place of those that cannot be read, others.

    Args:
        folder: Holds the photos; folders in it are not searched.
        count: How many.
        seed: The same seed draws the same photos.

    Returns:
        (H, W, 3) uint8 RGB each, turned as in inference.

    Raises:
        BodyPoseNetError: There is no such folder, or there are fewer photos; that some cannot be
            read is known only when the last one has been.
    """
    if not folder.is_dir():
        raise BodyPoseNetError(
            f"{folder}: no such folder",
            "Give --cal_image_dir a folder of photos that stand for the model's use.",
        )
    paths = [entry.path for entry in list_images("dir", folder).entries]
    if len(paths) < count:
        raise BodyPoseNetError(
            f"{folder}: holds {len(paths)} images, {count} are to calibrate with", _REMEDY
        )
    order = np.random.default_rng(seed).permutation(len(paths))
    return _read(folder, [paths[index] for index in order], count)


def _read(folder: Path, paths: list[Path], count: int) -> Iterator[NDArray[np.uint8]]:
    unreadable = found = 0
    for path in paths:
        if found == count:
            break
        try:
            image = read_image(path)
        except BodyPoseNetError as error:
            logger.warning("not used to calibrate with: %s", error.what)
            unreadable += 1
            continue
        found += 1
        yield image
    if unreadable:
        logger.warning("%s: %d images cannot be read, others take their place", folder, unreadable)
    if found < count:
        raise BodyPoseNetError(
            f"{folder}: {unreadable} of {len(paths)} images cannot be read, so that there are "
            f"{found} of the {count} to calibrate with",
            _REMEDY,
        )


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of so many items; the last one may be shorter."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
