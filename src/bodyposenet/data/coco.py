"""Read annotation files into validated images with people.

All annotation files are read here; `data.formats` converts those of other formats to COCO's
structure first. Differences between annotation tools are normalized and counted
(`data.annotations`, `data.categories`); annotations that do not concern people or images of the
file are skipped and counted; anything invalid is collected into one error.
"""

from __future__ import annotations

import gc
import itertools
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

from bodyposenet.console import logger
from bodyposenet.data.annotations import KeypointFormat, PersonReader, parse_integer, shorten
from bodyposenet.data.categories import Category, CategoryQuery, keypoint_order, select_category
from bodyposenet.data.formats import read_document
from bodyposenet.data.invalid_entries import InvalidEntries, place_of
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import is_file
from bodyposenet.media.image_header import check_size
from bodyposenet.specs.dataset import (
    COCO_FLAGS,
    DatasetSpec,
    FormatName,
    Mode,
    VisibilityFlags,
)
from bodyposenet.types import Person


@dataclass(frozen=True, eq=False)
class CocoImage:
    """An annotated image.

    Args:
        image_id: COCO's image id.
        file_name: Path relative to the image folder.
        height: Height in pixels.
        width: Width in pixels.
        persons: All people of the image, including crowds, in the order of the file.
        crowd_index: How crowded the image is, from 0 to 1 (`crowdIndex` of CrowdPose), or None.
    """

    image_id: int
    file_name: str
    height: int
    width: int
    persons: tuple[Person, ...]
    crowd_index: float | None = None

    @property
    def mask_name(self) -> str:
        """Path of the mask relative to the mask folder; PNG, because JPEG would blur its edges."""
        return posixpath.splitext(self.file_name)[0] + ".png"


@dataclass(frozen=True, eq=False)
class CocoDataset:
    """Content of an annotation file.

    Args:
        images: Images in the order of the file.
        skipped: Counts of skipped annotations by reason.
        repairs: Counts of repaired values by description.
    """

    images: list[CocoImage]
    skipped: Counter[str]
    repairs: Counter[str]

    def annotated_images(self) -> list[CocoImage]:
        """Return the images with annotations."""
        return [image for image in self.images if image.persons]

    def log(self, path: Path) -> None:
        """Log how many annotations were skipped and values repaired.

        Args:
            path: The annotation file.
        """
        for kind, count in self.skipped.items():
            logger.warning("%s: skipped: %d %s", path, count, kind)
        for kind, count in self.repairs.items():
            logger.warning("%s: repaired: %d %s", path, count, kind)


def read_dataset(spec: DatasetSpec, mode: Mode) -> CocoDataset:
    """Read the train or test annotations of a dataset spec.

    Args:
        spec: Dataset spec.
        mode: "train" or "test".

    Returns:
        Images with people, and counts of skipped and repaired annotations.

    Raises:
        BodyPoseNetError: As `read_coco`, or a path of the spec does not exist.
    """
    person = spec.person
    given = person.model_fields_set
    return read_coco(
        spec.annotations(mode),
        person.keypoints,
        category=None if "id" in given and "name" not in given else person.name,
        category_id=person.id if "id" in given else None,
        flags=spec.visibility_flags,
        images_folder=spec.images_folder(mode),
        annotation_format=spec.split(mode).annotation_format,
        mode=mode,
    )


def load_coco(
    path: Path, joints: tuple[str, ...], images_folder: Path | None = None
) -> list[CocoImage]:
    """Read an annotation file without a dataset spec; skipped and repaired annotations are logged.

    Args:
        path: The annotation file.
        joints: Names of the keypoints, in the order of the result.
        images_folder: See `read_coco`.

    Returns:
        The images.

    Raises:
        BodyPoseNetError: As `read_coco`.
    """
    dataset = read_coco(path, joints, images_folder=images_folder)
    dataset.log(path)
    return dataset.images


def read_coco(
    path: Path,
    joints: tuple[str, ...],
    *,
    category: str | None = "person",
    category_id: int | None = None,
    flags: VisibilityFlags | None = None,
    images_folder: Path | None = None,
    annotation_format: FormatName = "auto",
    mode: Mode | None = None,
) -> CocoDataset:
    """Read an annotation file of any format.

    `select_category` selects the annotations of people. `iscrowd` (0), `segmentation`, `keypoints`
    and `num_keypoints` (always counted) are optional. A missing or empty box is replaced by that of
    the segmentation or of the labeled keypoints, a missing or zero area by that of the segmentation
    or of the box, because no pose can match a person with an area of 0 (OKS).

    Args:
        path: The annotation file or folder.
        joints: Names of the keypoints, in the order of the result; the order in the file can
            differ, and the file can have others as well.
        category: Name of the category of people (case is ignored), or None to select by id alone.
        category_id: Id of the category of people, or None to select by name alone.
        flags: Meaning of the visibility flags; COCO's by default, where any other flag means "not
            labeled".
        images_folder: Folder of the images, in which file names with a backslash must exist; or
            None if it is unknown: file names with a backslash are read as Windows paths without a
            check, and formats that need the image files cannot be read.
        annotation_format: Name of the format, or "auto" to detect it by the content.
        mode: Part of the dataset that is read, or None for all of it; for formats whose files list
            the images of each part.

    Returns:
        Images with people, and counts of skipped and repaired annotations.

    Raises:
        BodyPoseNetError: The file is missing or invalid; the category of people is ambiguous, or
            its keypoints differ; ids are repeated; or values are invalid and cannot be repaired.
    """
    with _without_garbage_collection():
        found, document = read_document(path, annotation_format, images_folder, mode)
        repairs: Counter[str] = Counter()
        errors = InvalidEntries(path)
        entries = _read_images(document.images, images_folder, repairs, errors)
        chosen = select_category(path, document, CategoryQuery(category, category_id, joints))
        names = chosen.keypoints
        keypoint_format = KeypointFormat(
            len(names or joints),
            labeled=(flags or COCO_FLAGS).labeled(),
            known=None if flags is None else frozenset(flags.classes()),
            order=keypoint_order(path, names, joints, is_complete=document.names_are_complete),
        )
        reader = PersonReader(keypoint_format, repairs)
        people = _read_people(document.annotations, entries, chosen, reader, repairs, errors)
        errors.raise_if_any()
    images = [
        CocoImage(
            image_id, entry.file_name, entry.height, entry.width,
            tuple(people.by_image[image_id]), entry.crowd_index,
        )
        for image_id, entry in entries.items()
    ]  # fmt: skip
    logger.info(
        "%s: format %s, %d images, %d people, %d joints",
        path, found.title, len(images), sum(len(image.persons) for image in images), len(joints),
    )  # fmt: skip
    if not names and any(p.num_keypoints for image in images for p in image.persons):
        logger.warning(
            "%s: the file does not name its keypoints; assuming the order of the dataset spec: %s",
            path, ", ".join(joints),
        )  # fmt: skip
    return CocoDataset(images, document.skipped + people.skipped, repairs)


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Disable the garbage collector, which would traverse millions of new objects repeatedly."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class _ImageEntry(NamedTuple):
    """An entry of `images`; see `CocoImage`."""

    file_name: str
    height: int
    width: int
    crowd_index: float | None


def _read_images(
    listed: Iterable[Any], folder: Path | None, repairs: Counter[str], errors: InvalidEntries
) -> dict[int, _ImageEntry]:
    """Read the entries of `images` by image id."""
    images: dict[int, _ImageEntry] = {}
    for entry in listed:
        try:
            _check_object(entry)
            image_id = parse_integer(entry, "id", repairs)
            if image_id in images:
                raise ValueError("repeated id")
            height = parse_integer(entry, "height", repairs)
            width = parse_integer(entry, "width", repairs)
            if height < 1 or width < 1:
                raise ValueError(f"invalid size: {width} x {height} pixels")
            name = _file_name(entry, folder, repairs)
            check_size(name, (height, width))
            images[image_id] = _ImageEntry(name, height, width, _crowd_index(entry))
        except BodyPoseNetError as error:  # too many pixels
            errors.add(place_of("image", entry), f"{error.what}. {error.remedy}")
        except ValueError as error:
            errors.add(place_of("image", entry), error)
    return images


def _crowd_index(entry: Mapping[str, Any]) -> float | None:
    """Read `crowdIndex` of CrowdPose, or None if the entry has none."""
    value = entry.get("crowdIndex")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"crowdIndex must be a number from 0 to 1, got {shorten(value)}")
    return float(value)


def _check_object(entry: Any) -> None:
    """Raise an error if an entry is not a JSON object."""
    if not isinstance(entry, dict):
        raise ValueError("expected an object")


def _file_name(entry: Mapping[str, Any], folder: Path | None, repairs: Counter[str]) -> str:
    """Return the path of an image, which must be inside of the image (and mask) folder."""
    name = entry.get("file_name")
    if not isinstance(name, str) or "\0" in name or re.split(r"[/\\]", name)[-1] in ("", "."):
        raise ValueError(f"file_name is not a valid file name: {shorten(name)}")
    parts = (*PurePosixPath(name).parts, *PureWindowsPath(name).parts)
    if ".." in parts or PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor:
        raise ValueError(f"file_name must be inside of the image folder: {shorten(name)}")
    if "\\" not in name:
        return name
    slashed = name.replace("\\", "/")
    if folder is not None and not is_file(folder / slashed):
        raise ValueError(f"file_name has backslashes, and {folder / slashed} does not exist")
    repairs["file names with backslashes, replaced by /"] += 1
    return slashed


class _People(NamedTuple):
    """The people of an annotation file.

    Args:
        by_image: People by image id.
        skipped: Counts of skipped annotations by reason.
    """

    by_image: dict[int, list[Person]]
    skipped: Counter[str]


def _read_people(
    annotations: Iterable[Any],
    images: Mapping[int, _ImageEntry],
    category: Category,
    reader: PersonReader,
    repairs: Counter[str],
    errors: InvalidEntries,
) -> _People:
    """Read the people in `annotations`; those without an id get negative ones."""
    people = _People({image_id: [] for image_id in images}, Counter())
    ids: set[int] = set()
    without_id: list[tuple[int, int]] = []
    for entry in annotations:
        try:
            _check_object(entry)
            if not category.includes(entry):
                people.skipped["annotations of other categories"] += 1
                continue
            image_id = parse_integer(entry, "image_id", repairs)
            if image_id not in images:
                people.skipped["annotations of images that are not in the file"] += 1
                continue
            annotation_id = 0
            if entry.get("id") is not None:
                annotation_id = parse_integer(entry, "id", repairs)
                if annotation_id in ids:
                    raise ValueError("repeated id")
                ids.add(annotation_id)
            image = images[image_id]
            person = reader.read(entry, annotation_id, image.height, image.width)
            if entry.get("id") is None:
                without_id.append((image_id, len(people.by_image[image_id])))
            people.by_image[image_id].append(person)
        except ValueError as error:
            errors.add(place_of("annotation", entry), error)
    free_ids = (number for number in itertools.count(-1, -1) if number not in ids)
    for image_id, position in without_id:
        persons = people.by_image[image_id]
        persons[position] = replace(persons[position], annotation_id=next(free_ids))
        repairs["annotations without an id, numbered -1, -2, ..."] += 1
    return people
