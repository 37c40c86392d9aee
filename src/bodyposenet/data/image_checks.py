"""Compare the image files of a dataset with its annotations: size, orientation, damage.

`correct_image_sizes` reads file headers only; it runs whenever a dataset is converted or evaluated.
`filter_usable_images` reads whole files (`dataset_convert --check_files`), but decodes only a few.
`find_copies` finds images that a dataset contains twice.
In which orientation a file is decoded is decided by `media.images.read_image`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bodyposenet.console import logger, progress
from bodyposenet.data.coco import CocoDataset, CocoImage
from bodyposenet.data.findings import Finding, listed, sort_findings
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import is_file
from bodyposenet.media.image_header import check_size, has_end_marker, image_size, read_sizes
from bodyposenet.media.images import read_image, restore_end_marker
from bodyposenet.specs.dataset import Split

_MAX_LOGGED = 10

_SIZE_MISMATCH = "whose size differs from the annotations"

_TOLERANCE = 1.0
"""By how many pixels boxes, which are rounded, can exceed the image."""


def correct_image_sizes(dataset: CocoDataset, folder: Path) -> CocoDataset:
    """Correct annotated image sizes in which height and width are swapped.

    If the file has exactly the swapped size, the annotated size is corrected, provided that the
    people's boxes fit into the file. If they fit only into the annotated size, the image was
    rotated after it had been annotated, and nothing changes. Other size differences are logged with
    their number, as are images with an EXIF orientation that the size cannot confirm.

    Args:
        dataset: The annotated images.
        folder: Folder of the images. Missing files and unknown formats are ignored.

    Returns:
        The dataset with corrected sizes, which `repairs` counts.
    """
    compared = compare_image_sizes(dataset, folder)
    if compared.mismatched:
        logger.warning(
            "%d images %s, first: %s; train skips them, evaluate scales the poses, "
            "dataset_convert --check_files skips them",
            len(compared.mismatched), _SIZE_MISMATCH, compared.mismatched[0],
        )  # fmt: skip
    if compared.ambiguous:
        logger.warning(
            "%d images have an EXIF orientation, but their size does not show whether they were "
            "annotated with it, first: %s; assuming that they were, as viewers show images with "
            "their orientation applied",
            len(compared.ambiguous), compared.ambiguous[0],
        )  # fmt: skip
    return compared.dataset


@dataclass(frozen=True, eq=False)
class SizeComparison:
    """Annotated image sizes compared with the image files.

    Args:
        dataset: The dataset; where height and width were swapped, the annotated size is corrected.
        mismatched: Files of another size.
        ambiguous: Files with an EXIF orientation that their size cannot confirm.
        unreadable: Files that are missing or have no known image format.
    """

    dataset: CocoDataset
    mismatched: list[Path]
    ambiguous: list[Path]
    unreadable: list[Path]


def compare_image_sizes(dataset: CocoDataset, folder: Path) -> SizeComparison:
    """Compare annotated image sizes with the headers of the files; see `correct_image_sizes`.

    Args:
        dataset: The annotated images.
        folder: Folder of the images.
    """
    images, repairs = [], Counter(dataset.repairs)
    mismatched: list[Path] = []
    ambiguous: list[Path] = []
    unreadable: list[Path] = []
    for image in progress(dataset.images, "comparing sizes"):
        path = folder / image.file_name
        annotated, sizes = (image.height, image.width), read_sizes(path)
        if sizes is None:
            unreadable.append(path)
        elif annotated not in sizes.possible:
            if annotated[::-1] in sizes.possible and _is_swapped(image):
                image = replace(image, height=image.width, width=image.height)
                repairs["image sizes with swapped height and width"] += 1
            else:
                mismatched.append(path)
        if sizes is not None and sizes.orientation.is_turned and len(sizes.possible) == 1:
            ambiguous.append(path)
        images.append(image)
    corrected = CocoDataset(images, dataset.skipped, repairs)
    return SizeComparison(corrected, mismatched, ambiguous, unreadable)


def _is_swapped(image: CocoImage) -> bool:
    """Return whether at least as many boxes fit into the image with height and width swapped.

    An RLE segmentation of the annotated size proves that the annotated size is right.
    """
    annotated = [image.height, image.width]
    if any(_rle_size(person.segmentation) == annotated for person in image.persons):
        return False
    boxes = np.array([person.box for person in image.persons], np.float64).reshape(-1, 4)
    corners = boxes[:, :2] + boxes[:, 2:] - _TOLERANCE
    as_annotated, swapped = (
        np.count_nonzero((corners <= size).all(axis=1)) for size in (annotated[::-1], annotated)
    )
    return bool(swapped >= as_annotated)


def _rle_size(segmentation: object) -> object:
    """Return the size of an RLE segmentation, or None."""
    return segmentation.get("size") if isinstance(segmentation, dict) else None


def filter_usable_images(
    images: Sequence[CocoImage], root: Path, split: Split, *, masks: bool
) -> tuple[list[CocoImage], Counter[str]]:
    """Return the images whose file can be read and has the annotated size.

    Args:
        images: Images to check.
        root: Root folder of the dataset.
        split: Folders of images and masks.
        masks: Whether the mask must exist too.

    Returns:
        The usable images, and the number of skipped images by reason.
    """
    kept: list[CocoImage] = []
    skipped: Counter[str] = Counter()
    for image in progress(images, "checking files"):
        path = root / split.images_root_dir_path / image.file_name
        mask = root / split.mask_root_dir_path / image.mask_name
        problem = image_problem(path, image.height, image.width)
        if not problem and masks and not is_file(mask):
            problem = "without a mask"
        if not problem:
            kept.append(image)
            continue
        skipped[f"images {problem}"] += 1
        if skipped.total() <= _MAX_LOGGED:
            logger.warning("skipped an image %s: %s", problem, path)
    return kept, skipped


def image_problem(path: Path, height: int, width: int) -> str:
    """Check an image file.

    Args:
        path: The file. With an EXIF orientation that swaps the sides, either size is accepted.
        height: Annotated height.
        width: Annotated width.

    Returns:
        A relative clause with the problem, such as "whose file is missing", or an empty string.
    """
    try:
        content = path.read_bytes()
        size = image_size(content)
        check_size(path, size)
        if restore_end_marker(content) is None:
            return "whose file is truncated"
        if size != (height, width) or not has_end_marker(content):
            size = read_image(path, (height, width)).shape[:2]
    except FileNotFoundError:
        return "whose file is missing"
    except (OSError, BodyPoseNetError):
        return "that cannot be read"
    return "" if size == (height, width) else _SIZE_MISMATCH


def find_copies(
    images: Sequence[CocoImage],
    folder: Path,
    others: Sequence[CocoImage] = (),
    others_folder: Path | None = None,
) -> list[Finding]:
    """Find image files with identical content: within some data, and in some and other data.

    Images that were encoded again are not recognized.

    Args:
        images: Images of the train (or test) data.
        folder: Their folder.
        others: Images of the test (or train) data.
        others_folder: Their folder.

    Returns:
        A finding per image that is in the other data, or only one if all are; and a finding per
        group of identical files in `images`, about the first one.
    """
    names = {folder / image.file_name: image.file_name for image in images}
    other_names = {}
    if others_folder is not None:
        other_names = {others_folder / image.file_name: image.file_name for image in others}
    shared = {
        path: Finding("shared_images", "the same file is in the other data", names[path])
        for path in names
        if path in other_names
    }
    repeated = []
    for group in _identical_files([*names, *other_names]):
        own = [path for path in group if path in names]
        other = [other_names[path] for path in group if path in other_names]
        for path in own if other else ():
            message = f"same file as {listed(other)} of the other data"
            shared.setdefault(path, Finding("shared_images", message, names[path]))
        if len(own) > 1:
            copies = [names[path] for path in own]
            message = f"same file as {listed(copies[1:])}"
            repeated.append(Finding("repeated_images", message, copies[0], score=len(copies)))
    if 1 < len(names) == len(shared):
        return [
            Finding("shared_images", f"All {len(names):,} images are in the other data."),
            *sort_findings(repeated),
        ]
    return sort_findings([*shared.values(), *repeated])


def _identical_files(paths: Iterable[Path]) -> list[list[Path]]:
    """Find files with identical content; only files of the same size are read.

    Args:
        paths: The files. Those that cannot be read are ignored.

    Returns:
        Groups of two or more files, in the order of the paths.
    """
    by_size: dict[int, list[Path]] = {}
    for path in dict.fromkeys(paths):
        with suppress(OSError, ValueError):
            by_size.setdefault(path.stat().st_size, []).append(path)
    groups: dict[bytes, list[Path]] = {}
    for same_size in by_size.values():
        for path in same_size if len(same_size) > 1 else ():
            with suppress(OSError), open(path, "rb") as file:
                groups.setdefault(hashlib.file_digest(file, "sha256").digest(), []).append(path)
    return [group for group in groups.values() if len(group) > 1]
