"""Photos to calibrate with: a random sample of a folder, and those that it leaves out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from bodyposenet.console import logger
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import is_folder
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
    paths = _in_order(folder, seed)
    if len(paths) < count:
        raise BodyPoseNetError(
            f"{folder}: holds {len(paths)} images, {count} are to calibrate with", _REMEDY
        )
    return _sample(folder, paths, count)


def held_out_photos(folder: Path, drawn: int, seed: int = 0) -> list[Path]:
    """List the photos that `sample_images` leaves out.

    The last ones in its order come first, as the next ones take the place of unreadable ones.

    Args:
        folder: Holds the photos; folders in it are not searched.
        drawn: How many photos `sample_images` draws; 0: all are listed.
        seed: As for `sample_images`.

    Raises:
        BodyPoseNetError: There is no such folder.
    """
    return _in_order(folder, seed)[drawn:][::-1]


def read_photos(paths: Sequence[Path], most: int) -> list[NDArray[np.uint8]]:
    """Read the first photos that can be read.

    Args:
        paths: The files; those that cannot be read are skipped, with a warning.
        most: How many at most.

    Returns:
        (H, W, 3) uint8 RGB each, turned as in inference.
    """
    return list(islice(_readable(paths, []), most))


def sample_digest(folder: Path, count: int, seed: int = 0) -> str:
    """SHA-256 of the names and sizes of the photos that `sample_images` draws.

    Raises:
        BodyPoseNetError: There is no such folder.
    """
    digest = hashlib.sha256()
    for path in _in_order(folder, seed)[:count]:
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _in_order(folder: Path, seed: int) -> list[Path]:
    """The photos of a folder, in the order in which they are drawn."""
    if not is_folder(folder):
        raise BodyPoseNetError(
            f"{folder}: no such folder",
            "Give --cal_image_dir a folder of photos that stand for the model's use.",
        )
    paths = [entry.path for entry in list_images("dir", folder).entries]
    return [paths[index] for index in np.random.default_rng(seed).permutation(len(paths))]


def _sample(folder: Path, paths: Sequence[Path], count: int) -> Iterator[NDArray[np.uint8]]:
    found, unreadable = 0, list[Path]()
    for image in islice(_readable(paths, unreadable), count):
        found += 1
        yield image
    if unreadable:
        told = folder, len(unreadable)
        logger.warning("%s: %d images cannot be read, others take their place", *told)
    if found < count:
        raise BodyPoseNetError(
            f"{folder}: {len(unreadable)} of {len(paths)} images cannot be read, so that there are "
            f"{found} of the {count} to calibrate with",
            _REMEDY,
        )


def _readable(paths: Sequence[Path], unreadable: list[Path]) -> Iterator[NDArray[np.uint8]]:
    """Every photo that can be read; the others join `unreadable`."""
    for path in paths:
        try:
            image = read_image(path)
        except BodyPoseNetError as error:
            logger.warning("skipped: %s", error.what)
            unreadable.append(path)
        else:
            yield image


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of so many items; the last one may be shorter."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
