"""Photos for calibration and comparison: sampled from a folder, read, and fitted to the network."""

from __future__ import annotations

import hashlib
import shutil
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from bodyposenet.console import logger
from bodyposenet.data.coco import CocoImage, load_coco
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import is_file, is_folder, make_directory
from bodyposenet.inference.engines.base import Engine
from bodyposenet.inference.predictor import Predictor
from bodyposenet.media.images import read_image
from bodyposenet.media.inputs import list_images
from bodyposenet.skeleton import COCO_JOINTS
from bodyposenet.specs.inference import InferenceSpec

_REMEDY = "Give --cal_image_dir more photos, or lower --batches or --batch_size."
_MAX_COMPARED = 12
"""More photos change the result of a comparison little."""
_MIN_HELD_OUT = 4
"""Fewer photos than this say little about a model."""

_PEOPLE = (2, 3, 5, 9)
"""Bounds between kinds of images: 1, 2, 3-4, 5-8 and more people."""
_SEEN = (1 / 3, 2 / 3)
"""Bounds between kinds of images: few, some and most keypoints labeled, on average."""

Kind = tuple[int, int]

Item = TypeVar("Item")


@dataclass(frozen=True)
class Selection:
    """A subset of a dataset's images with labeled people.

    Args:
        copies: Of the selected images.
        others: The images that are not selected, in random order.
    """

    copies: list[Path]
    others: list[Path]


def sample_images(folder: Path, count: int, seed: int = 0) -> Iterator[NDArray[np.uint8]]:
    """Sample photos of a folder without replacement; unreadable ones are replaced by others.

    Args:
        folder: Folder of the photos; its subfolders are not searched.
        count: Number of photos.
        seed: The same seed samples the same photos.

    Returns:
        (H, W, 3) uint8 RGB each, rotated as their EXIF data say.

    Raises:
        BodyPoseNetError: The folder does not exist or has fewer photos. Photos that cannot be read
            are only known after the last one has been tried.
    """
    paths = _shuffled(folder, seed)
    if len(paths) < count:
        raise BodyPoseNetError(
            f"{folder}: found {len(paths)} images, but {count} are needed for calibration", _REMEDY
        )
    return _sample(folder, paths, count)


def held_out_photos(folder: Path, sampled: int, seed: int = 0) -> list[Path]:
    """List the photos of a folder that `sample_images` does not sample.

    The last ones of its order come first, because unreadable photos are replaced by the next ones.

    Args:
        folder: Folder of the photos; its subfolders are not searched.
        sampled: Number of photos that `sample_images` samples; with 0, all photos are listed.
        seed: As for `sample_images`.

    Raises:
        BodyPoseNetError: The folder does not exist.
    """
    return _shuffled(folder, seed)[sampled:][::-1]


def sample_digest(folder: Path, count: int, seed: int = 0) -> str:
    """Return the SHA-256 of the names and sizes of the photos that `sample_images` samples.

    Raises:
        BodyPoseNetError: The folder does not exist.
    """
    digest = hashlib.sha256()
    for path in _shuffled(folder, seed)[:count]:
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def read_photos(paths: Sequence[Path], most: int = _MAX_COMPARED) -> list[NDArray[np.uint8]]:
    """Read the first photos that can be read; the others are skipped with a warning.

    Args:
        paths: The image files.
        most: Maximum number of photos.

    Returns:
        (H, W, 3) uint8 RGB each, rotated as their EXIF data say.
    """
    return list(islice(_readable(paths, []), most))


def read_folder(folder: str | Path, most: int = _MAX_COMPARED) -> list[NDArray[np.uint8]]:
    """Read the first photos of a folder; its subfolders are not searched.

    Args:
        folder: Folder of the photos.
        most: Maximum number of photos.

    Returns:
        (H, W, 3) uint8 RGB each, rotated as their EXIF data say.

    Raises:
        BodyPoseNetError: The folder has no images, or one of them cannot be read.
    """
    return [read_image(entry.path) for entry in list_images("dir", folder).entries[:most]]


def read_held_out(held_out: Sequence[Path] | None, folder: Path) -> list[NDArray[np.uint8]]:
    """Read photos that the model was not calibrated on, or any of the folder if they are too few.

    Args:
        held_out: Photos that were not used for calibration; None if that is unknown.
        folder: Folder of the calibration images.

    Returns:
        (H, W, 3) uint8 RGB each, rotated as their EXIF data say.

    Raises:
        BodyPoseNetError: The folder does not exist, or none of its images can be read.
    """
    photos = read_photos(held_out or ())
    if len(photos) >= _MIN_HELD_OUT:
        logger.info("Comparing on %d photos that were not used for calibration", len(photos))
        return photos
    reason = (
        "the photos used for the tensorfile or calibration cache are unknown"
        if held_out is None
        else f"only {len(photos)} other photos were found"
    )
    logger.warning(
        "%s: comparing on photos that may have been used for calibration, because %s; name others "
        "with --verify_images",
        folder, reason,
    )  # fmt: skip
    photos = read_photos(held_out_photos(folder, 0))
    if not photos:
        raise BodyPoseNetError(
            f"{folder}: none of its images can be read",
            "Give --verify_images, or another --cal_image_dir.",
        )
    return photos


def select_images(
    annotations: str | Path,
    image_dir: str | Path,
    output_dir: str | Path,
    count: int,
    seed: int = 0,
    joints: tuple[str, ...] = COCO_JOINTS,
) -> Selection:
    """Copy a representative subset of a dataset's images with labeled people.

    Args:
        annotations: In COCO's keypoint format.
        image_dir: What the file names of the annotations are relative to.
        output_dir: Receives the copies; it is made, and must be empty.
        count: How many images.
        seed: The same seed selects the same images.
        joints: That the dataset labels.

    Raises:
        BodyPoseNetError: There are fewer images with labeled people, the folder is not empty, or a
            file cannot be read or written.
    """
    folder, target = Path(image_dir), make_directory(output_dir)
    if any(target.iterdir()):
        raise BodyPoseNetError(
            f"{target}: the folder for the selected images is not empty",
            "Name a new folder (--cal_image_dir): all of its images are used for calibration.",
        )
    images = [image for image in load_coco(Path(annotations), joints) if _labeled(image)]
    there = [image for image in images if is_file(folder / image.file_name)]
    if len(there) < len(images):
        logger.warning("%s: %d images are missing", folder, len(images) - len(there))
    if len(there) < count:
        raise BodyPoseNetError(
            f"{annotations}: found {len(there)} images with labeled people in {folder}, but "
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


def fit_photos(
    photos: Iterable[NDArray[np.uint8]], engine: Engine, shape: tuple[int, int]
) -> Iterator[NDArray[np.uint8]]:
    """Fit photos to the network's input as inference does: aspect ratio kept, padded with gray.

    Args:
        photos: (H, W, 3) uint8 RGB each, of any size.
        engine: Engine that the photos are prepared for.
        shape: Height and width in pixels.

    Returns:
        (height, width, 3) uint8 RGB each.
    """
    spec = InferenceSpec(input_shape=shape, keep_aspect_ratio_mode="pad_image_input")
    predictor = Predictor(engine, spec)
    for photo in photos:
        yield predictor.prepare(photo)[0].pixels


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield lists of `size` items; the last one may be shorter."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def _shuffled(folder: Path, seed: int) -> list[Path]:
    """Return the photos of a folder in the order in which they are sampled."""
    if not is_folder(folder):
        raise BodyPoseNetError(
            f"Folder not found: {folder}",
            "Give --cal_image_dir a folder of photos that represent the model's use.",
        )
    paths = [entry.path for entry in list_images("dir", folder).entries]
    return [paths[index] for index in np.random.default_rng(seed).permutation(len(paths))]


def _sample(folder: Path, paths: Sequence[Path], count: int) -> Iterator[NDArray[np.uint8]]:
    found, unreadable = 0, list[Path]()
    for image in islice(_readable(paths, unreadable), count):
        found += 1
        yield image
    if unreadable:
        logger.warning("%s: replaced %d images that cannot be read", folder, len(unreadable))
    if found < count:
        raise BodyPoseNetError(
            f"{folder}: {len(unreadable)} of {len(paths)} images cannot be read, which leaves "
            f"{found} of the {count} needed for calibration",
            _REMEDY,
        )


def _readable(paths: Sequence[Path], unreadable: list[Path]) -> Iterator[NDArray[np.uint8]]:
    """Yield the photos that can be read, and append the others to `unreadable`."""
    for path in paths:
        try:
            image = read_image(path)
        except BodyPoseNetError as error:
            logger.warning("Skipped: %s", error.what)
            unreadable.append(path)
        else:
            yield image


def _labeled(image: CocoImage) -> list[int]:
    """Count the labeled keypoints of each person; crowds and people without any are skipped."""
    return [person.num_keypoints for person in image.persons if person.is_labeled]


def _by_kind(images: Sequence[CocoImage], joints: int) -> dict[Kind, list[CocoImage]]:
    kinds: dict[Kind, list[CocoImage]] = {}
    for image in images:
        labeled = _labeled(image)
        seen = sum(labeled) / (len(labeled) * joints)
        kind = bisect_right(_PEOPLE, len(labeled)), bisect_right(_SEEN, seen)
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
