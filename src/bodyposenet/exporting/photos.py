"""Photos for calibration and verification of exported models.

They are sampled from a folder, or selected from a dataset so that they represent it; then they are
read, and fitted to the network's input as in inference.
"""

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
"""Maximum number of photos for a comparison; more photos hardly change its result."""

_MIN_HELD_OUT = 4
"""Minimum number of photos for a meaningful comparison."""

_PEOPLE_BOUNDS = (2, 3, 5, 9)
"""Strata of images by the number of people: 1, 2, 3-4, 5-8, more."""

_LABELED_BOUNDS = (1 / 3, 2 / 3)
"""Strata of images by the average share of labeled keypoints: few, some, most."""

Stratum = tuple[int, int]

Item = TypeVar("Item")


@dataclass(frozen=True)
class Selection:
    """A subset of a dataset's images with labeled people.

    Args:
        copies: Copies of the selected images.
        others: Images that were not selected, in random order.
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
        (H, W, 3) uint8 RGB each, rotated according to their EXIF orientation.

    Raises:
        BodyPoseNetError: The folder does not exist or has fewer photos. If it has too few readable
            ones, the error is raised after the last photo was tried.
    """
    paths = _shuffled(folder, seed)
    if len(paths) < count:
        raise BodyPoseNetError(
            f"{folder}: found {len(paths)} images, but {count} are needed for calibration", _REMEDY
        )
    return _sample(folder, paths, count)


def held_out_photos(folder: Path, sampled: int, seed: int = 0) -> list[Path]:
    """List the photos of a folder that `sample_images` does not sample.

    They are in reverse order, because unreadable photos are replaced by those next in order.

    Args:
        folder: Folder of the photos; its subfolders are not searched.
        sampled: Number of photos that `sample_images` samples; 0 lists all photos.
        seed: As for `sample_images`.

    Raises:
        BodyPoseNetError: The folder does not exist.
    """
    return _shuffled(folder, seed)[sampled:][::-1]


def sample_digest(folder: Path, count: int, seed: int = 0) -> str:
    """Return the SHA-256 of the names and sizes of the photos that `sample_images` samples.

    Args:
        folder: Folder of the photos; its subfolders are not searched.
        count: Number of photos.
        seed: As for `sample_images`.

    Raises:
        BodyPoseNetError: The folder does not exist.
    """
    digest = hashlib.sha256()
    for path in _shuffled(folder, seed)[:count]:
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def read_photos(paths: Sequence[Path], max_count: int = _MAX_COMPARED) -> list[NDArray[np.uint8]]:
    """Read the first photos that can be read; the others are skipped with a warning.

    Args:
        paths: The image files.
        max_count: Maximum number of photos.

    Returns:
        (H, W, 3) uint8 RGB each, rotated according to their EXIF orientation.
    """
    return list(islice(_readable(paths, []), max_count))


def read_folder(folder: str | Path, max_count: int = _MAX_COMPARED) -> list[NDArray[np.uint8]]:
    """Read the first photos of a folder; its subfolders are not searched.

    Args:
        folder: Folder of the photos.
        max_count: Maximum number of photos.

    Returns:
        (H, W, 3) uint8 RGB each, rotated according to their EXIF orientation.

    Raises:
        BodyPoseNetError: The folder has no images, or one of them cannot be read.
    """
    return [read_image(entry.path) for entry in list_images("dir", folder).entries[:max_count]]


def read_held_out(held_out: Sequence[Path] | None, folder: Path) -> list[NDArray[np.uint8]]:
    """Read photos that were not used for calibration, or any of the folder if they are too few.

    Args:
        held_out: Photos that were not used for calibration, or None if they are unknown.
        folder: Folder of the calibration images.

    Returns:
        (H, W, 3) uint8 RGB each, rotated according to their EXIF orientation.

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
        "%s: comparing on photos that may have been used for calibration, because %s; give others "
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

    The images are sampled by stratum: the number of people, and the share of labeled keypoints.

    Args:
        annotations: Annotations in COCO's keypoint format.
        image_dir: Folder that the file names of the annotations are relative to.
        output_dir: Folder for the copies, created if missing. It must be empty.
        count: Number of images.
        seed: The same seed selects the same images.
        joints: Joints of the annotations.

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
    images = [image for image in load_coco(Path(annotations), joints) if _labeled_keypoints(image)]
    available = [image for image in images if is_file(folder / image.file_name)]
    if len(available) < len(images):
        logger.warning("%s: %d images are missing", folder, len(images) - len(available))
    if len(available) < count:
        raise BodyPoseNetError(
            f"{annotations}: found {len(available)} images with labeled people in {folder}, but "
            f"{count} are to be selected",
            "Lower --batches or --batch_size, or use a larger dataset.",
        )
    strata = _stratify(available, len(joints))
    chosen = _sample_strata(list(strata.values()), count, seed)
    selected = {image.file_name for image in chosen}
    others = [folder / image.file_name for image in available if image.file_name not in selected]
    np.random.default_rng(seed).shuffle(others)
    copies = [_copy(folder, image, target) for image in chosen]
    logger.info(
        "Selected %d of %d images from %d strata: %s", count, len(available), len(strata), target
    )
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
    """Return the photos of a folder in the random order of sampling."""
    if not is_folder(folder):
        raise BodyPoseNetError(
            f"Folder not found: {folder}",
            "Give --cal_image_dir a folder of photos that are representative of the model's use.",
        )
    paths = [entry.path for entry in list_images("dir", folder).entries]
    return [paths[index] for index in np.random.default_rng(seed).permutation(len(paths))]


def _sample(folder: Path, paths: Sequence[Path], count: int) -> Iterator[NDArray[np.uint8]]:
    """Yield the first `count` photos that can be read; raise an error if there are fewer."""
    count_read, unreadable = 0, list[Path]()
    for image in islice(_readable(paths, unreadable), count):
        count_read += 1
        yield image
    if unreadable:
        logger.warning("%s: replaced %d images that cannot be read", folder, len(unreadable))
    if count_read < count:
        raise BodyPoseNetError(
            f"{folder}: {len(unreadable)} of {len(paths)} images cannot be read, which leaves "
            f"{count_read} of the {count} needed for calibration",
            _REMEDY,
        )


def _readable(paths: Sequence[Path], unreadable: list[Path]) -> Iterator[NDArray[np.uint8]]:
    """Yield the photos that can be read, and append the paths of the others to `unreadable`."""
    for path in paths:
        try:
            image = read_image(path)
        except BodyPoseNetError as error:
            logger.warning("Skipped: %s", error.what)
            unreadable.append(path)
        else:
            yield image


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
