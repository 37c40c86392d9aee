"""Photos for calibration and verification of exported models.

They are sampled from a folder, or selected from a dataset so that they represent it; then they are
read, and fitted to the network's input as in inference. A tenth of them is held back: a quantized
model is compared with its network on photos that it was not calibrated on.
"""

from __future__ import annotations

import hashlib
import shutil
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import ceil
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

MIN_COMPARED = 4
"""Minimum number of photos for a meaningful comparison."""

_MAX_COMPARED = 32
"""Maximum number of photos for a comparison; more photos hardly change its result."""

_HELD_BACK = 10
"""One of this many photos is held back."""

_MIN_DIVIDED = 8
"""Minimum number of photos of which some are held back; fewer are all needed for calibration."""

_PEOPLE_BOUNDS = (2, 3, 5, 9)
"""Strata of images by the number of people: 1, 2, 3-4, 5-8, more."""

_LABELED_BOUNDS = (1 / 3, 2 / 3)
"""Strata of images by the average share of labeled keypoints: few, some, most."""

Stratum = tuple[int, int]

Item = TypeVar("Item")


@dataclass(frozen=True)
class Photo:
    """A photo that was read.

    Args:
        path: The image file.
        pixels: (H, W, 3) uint8 RGB, rotated according to the EXIF orientation.
    """

    path: Path
    pixels: NDArray[np.uint8]


@dataclass(frozen=True)
class PhotoSplit:
    """Photos of a folder or dataset, divided at random.

    Args:
        calibration: Photos for calibration, in the order of their use.
        comparison: Photos that are held back, in the order of their use.
    """

    calibration: list[Path]
    comparison: list[Path]


def split_photos(
    folder: Path, count: int | None, seed: int = 0, *, hold_back: bool = False
) -> PhotoSplit:
    """Divide the photos of a folder into photos for calibration and photos for the comparison.

    With `hold_back`, at least a tenth of the photos, and at least four, are for the comparison,
    even if that leaves less than `count`; but none of fewer than eight photos. Of the photos that
    are in excess of `count`, up to half are held back as well; the others replace unreadable ones.

    Args:
        folder: Folder of the photos; its subfolders are not searched.
        count: Number of photos that the calibration needs, or None for all.
        seed: The same seed divides the same photos in the same way.
        hold_back: Whether to hold back photos for the comparison.

    Raises:
        BodyPoseNetError: The folder does not exist or has fewer photos than `count`.
    """
    paths = shuffled_photos(folder, seed)
    needed = len(paths) if count is None else count
    if len(paths) < needed:
        raise BodyPoseNetError(
            f"{folder}: found {len(paths)} images, but {needed} are needed for calibration", _REMEDY
        )
    kept = len(paths) - (_held_back(len(paths), needed) if hold_back else 0)
    return PhotoSplit(paths[:kept], paths[kept:][::-1])


def shuffled_photos(folder: Path, seed: int = 0) -> list[Path]:
    """Return the photos of a folder in the random order of `split_photos`.

    Raises:
        BodyPoseNetError: The folder does not exist.
    """
    if not is_folder(folder):
        raise BodyPoseNetError(
            f"Folder not found: {folder}",
            "Give --cal_image_dir a folder of photos that are representative of the model's use.",
        )
    paths = [entry.path for entry in list_images("dir", folder).entries]
    return [paths[index] for index in np.random.default_rng(seed).permutation(len(paths))]


def sample_photos(folder: Path, split: PhotoSplit, count: int) -> Iterator[Photo]:
    """Read photos for calibration; unreadable ones are replaced by others.

    Args:
        folder: Folder of the photos, for messages.
        split: The photos of the folder. If fewer than `count` are for calibration, because others
            are held back, all of them are read.
        count: Number of photos.

    Raises:
        BodyPoseNetError: Too few photos can be read; raised after the last one was tried.
    """
    unreadable: list[Path] = []
    needed, count_read = min(count, len(split.calibration)), 0
    for photo in islice(_readable(split.calibration, unreadable), needed):
        count_read += 1
        yield photo
    if unreadable:
        logger.warning("%s: %d images cannot be read", folder, len(unreadable))
    if count_read < needed:
        raise BodyPoseNetError(
            f"{folder}: {len(unreadable)} of {len(split.calibration)} images cannot be read, which "
            f"leaves {count_read} of the {needed} needed for calibration",
            _REMEDY,
        )


def sample_digest(folder: Path, count: int, seed: int = 0) -> str:
    """Return the SHA-256 of the names and sizes of the first photos in the order of `split_photos`.

    Args:
        folder: Folder of the photos; its subfolders are not searched.
        count: Number of photos.
        seed: As for `split_photos`.

    Raises:
        BodyPoseNetError: The folder does not exist.
    """
    digest = hashlib.sha256()
    for path in shuffled_photos(folder, seed)[:count]:
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_photos(
    paths: Iterable[Path], calibrated: Collection[str] = (), max_count: int = _MAX_COMPARED
) -> list[NDArray[np.uint8]]:
    """Read the first photos that can be read and were not used for calibration.

    Args:
        paths: The image files. Unreadable ones are skipped with a warning.
        calibrated: `file_digest` of the photos that were used for calibration.
        max_count: Maximum number of photos.

    Returns:
        (H, W, 3) uint8 RGB each, rotated according to their EXIF orientation.
    """
    others = (path for path in paths if not calibrated or file_digest(path) not in calibrated)
    return [photo.pixels for photo in islice(_readable(others, []), max_count)]


def read_folder(
    folder: str | Path, calibrated: Collection[str] = (), max_count: int = _MAX_COMPARED
) -> list[NDArray[np.uint8]]:
    """Read the first photos of a folder; its subfolders are not searched.

    Args:
        folder: Folder of the photos.
        calibrated: `file_digest` of the photos that were used for calibration. They are skipped
            with a warning.
        max_count: Maximum number of photos.

    Returns:
        (H, W, 3) uint8 RGB each, rotated according to their EXIF orientation.

    Raises:
        BodyPoseNetError: The folder has no images, all of them were used for calibration, or one
            of them cannot be read.
    """
    others: list[Path] = []
    skipped = 0
    for entry in list_images("dir", folder).entries:
        if calibrated and file_digest(entry.path) in calibrated:
            skipped += 1
        elif len(others) < max_count:
            others.append(entry.path)
    if not others:
        raise BodyPoseNetError(
            f"--verify_images {folder}: all of its photos were used for calibration",
            "Give other photos, so that the comparison is independent.",
        )
    if skipped:
        logger.warning("%s: skipped %d photos that were used for calibration", folder, skipped)
    return [read_image(path) for path in others]


def select_images(
    annotations: str | Path,
    image_dir: str | Path,
    output_dir: str | Path,
    count: int,
    seed: int = 0,
    joints: tuple[str, ...] = COCO_JOINTS,
    *,
    hold_back: bool = False,
) -> PhotoSplit:
    """Copy a representative subset of a dataset's images with labeled people.

    The images are sampled by stratum: the number of people, and the share of labeled keypoints.

    Args:
        annotations: Annotations in any format of `data.formats`.
        image_dir: Folder that the file names of the annotations are relative to.
        output_dir: Folder for the copies, created if missing. It must be empty.
        count: Number of images.
        seed: The same seed selects the same images.
        joints: Joints of the annotations.
        hold_back: Whether to hold back a tenth of the images for the comparison, even if that
            leaves less than `count`; see `split_photos`.

    Returns:
        The copies, and the images that were not selected.

    Raises:
        BodyPoseNetError: There are fewer images with labeled people, the folder is not empty, or a
            file cannot be read or written.
    """
    folder, target = Path(image_dir), make_directory(output_dir)
    if any(target.iterdir()):
        raise BodyPoseNetError(
            f"{target}: the folder for the selected images is not empty",
            "Give a new folder (--cal_image_dir): all of its images are used for calibration.",
        )
    annotated = load_coco(Path(annotations), joints, folder)
    images = [image for image in annotated if _labeled_keypoints(image)]
    available = [image for image in images if is_file(folder / image.file_name)]
    if len(available) < len(images):
        logger.warning("%s: %d images are missing", folder, len(images) - len(available))
    if len(available) < count:
        raise BodyPoseNetError(
            f"{annotations}: found {len(available)} images with labeled people in {folder}, but "
            f"{count} are to be selected",
            "Lower --batches or --batch_size, or use a larger dataset.",
        )
    if hold_back:
        count = min(count, len(available) - _least_held_back(len(available)))
    strata = _stratify(available, len(joints))
    chosen = _sample_strata(list(strata.values()), count, seed)
    selected = {image.file_name for image in chosen}
    others = [folder / image.file_name for image in available if image.file_name not in selected]
    np.random.default_rng(seed).shuffle(others)
    copies = [_copy(folder, image, target) for image in chosen]
    logger.info(
        "Selected %d of %d images from %d strata: %s", count, len(available), len(strata), target
    )
    return PhotoSplit(copies, others)


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


def _least_held_back(available: int) -> int:
    """Return the minimum number of photos to hold back."""
    return max(MIN_COMPARED, ceil(available / _HELD_BACK)) if available >= _MIN_DIVIDED else 0


def _held_back(available: int, needed: int) -> int:
    """Return the number of photos to hold back."""
    excess = available - needed
    wanted = min(excess, max(MIN_COMPARED, excess // 2), _MAX_COMPARED)
    return max(wanted, _least_held_back(available))


def _readable(paths: Iterable[Path], unreadable: list[Path]) -> Iterator[Photo]:
    """Yield the photos that can be read, and append the paths of the others to `unreadable`."""
    for path in paths:
        try:
            pixels = read_image(path)
        except BodyPoseNetError as error:
            logger.warning("Skipped: %s", error.what)
            unreadable.append(path)
        else:
            yield Photo(path, pixels)


def _labeled_keypoints(image: CocoImage) -> list[int]:
    """Count the labeled keypoints of each person; crowds and people without any are skipped."""
    return [person.num_keypoints for person in image.persons if person.is_labeled]


def _stratify(images: Sequence[CocoImage], joints: int) -> dict[Stratum, list[CocoImage]]:
    """Group images by their numbers of people and of labeled keypoints."""
    strata: dict[Stratum, list[CocoImage]] = {}
    for image in images:
        counts = _labeled_keypoints(image)
        share = sum(counts) / (len(counts) * joints)
        stratum = bisect_right(_PEOPLE_BOUNDS, len(counts)), bisect_right(_LABELED_BOUNDS, share)
        strata.setdefault(stratum, []).append(image)
    return strata


def _sample_strata(strata: Sequence[list[CocoImage]], count: int, seed: int) -> list[CocoImage]:
    """Sample from each stratum in proportion to its size, rounding by largest remainders."""
    random = np.random.default_rng(seed)
    sizes = np.array([len(stratum) for stratum in strata])
    shares = sizes * count / sizes.sum()
    numbers = shares.astype(int)
    numbers[np.argsort(numbers - shares, kind="stable")[: count - numbers.sum()]] += 1
    return [
        stratum[index]
        for stratum, number in zip(strata, numbers, strict=True)
        for index in sorted(random.permutation(len(stratum))[:number])
    ]


def _copy(folder: Path, image: CocoImage, target: Path) -> Path:
    """Copy an image; its folders become part of its name, as subfolders are not searched."""
    copy = target / "_".join(PurePosixPath(image.file_name).parts)
    try:
        shutil.copyfile(folder / image.file_name, copy)
    except OSError as error:
        raise BodyPoseNetError(
            f"{copy}: cannot be copied from {folder}: {error.strerror or error}",
            "Free some space, or check the permissions of both folders.",
        ) from error
    return copy
