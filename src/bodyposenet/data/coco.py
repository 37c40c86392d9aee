"""Read annotation files in COCO's keypoint format into validated images with people.

All annotation files are read here. Differences between annotation tools are normalized and counted
(`data.annotations`, `data.categories`); annotations that do not concern people or images of the
file are skipped and counted; anything invalid is collected into one error.
"""

from __future__ import annotations

import gc
import itertools
import posixpath
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

from bodyposenet.console import logger
from bodyposenet.data.annotations import KeypointFormat, PersonReader, parse_integer, shorten
from bodyposenet.data.categories import Category, CategoryQuery, keypoint_order, select_category
from bodyposenet.data.large_json import LargeJson
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import is_file
from bodyposenet.media.image_header import check_size
from bodyposenet.specs.dataset import COCO_FLAGS, DatasetSpec, Mode, VisibilityFlags
from bodyposenet.types import Person

_MAX_LISTED_ERRORS = 10
_MAX_ERRORS = 10_000
"""After this many errors, reading stops: the file is not an annotation file."""


@dataclass(frozen=True, eq=False)
class CocoImage:
    """An annotated image.

    Args:
        image_id: COCO's image id.
        file_name: Path relative to the image folder.
        height: Height in pixels.
        width: Width in pixels.
        persons: All people of the image, including crowds, in the order of the file.
    """

    image_id: int
    file_name: str
    height: int
    width: int
    persons: tuple[Person, ...]

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
    )


def load_coco(path: Path, joints: tuple[str, ...]) -> list[CocoImage]:
    """Read an annotation file without a dataset spec; skipped and repaired annotations are logged.

    Args:
        path: The annotation file.
        joints: Names of the keypoints, in the order of the result.

    Returns:
        The images.

    Raises:
        BodyPoseNetError: As `read_coco`.
    """
    dataset = read_coco(path, joints)
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
) -> CocoDataset:
    """Read an annotation file.

    `select_category` selects the annotations of people. `iscrowd` (0), `segmentation`, `keypoints`
    and `num_keypoints` (always counted) are optional. A missing or empty box is replaced by that of
    the segmentation or of the labeled keypoints, a missing or zero area by that of the segmentation
    or of the box, because no pose can match a person with an area of 0 (OKS).

    Args:
        path: The annotation file.
        joints: Names of the keypoints, in the order of the result; the order in the file can
            differ.
        category: Name of the category of people (case is ignored), or None to select by id alone.
        category_id: Id of the category of people, or None to select by name alone.
        flags: Meaning of the visibility flags; COCO's by default, where any other flag means "not
            labeled".
        images_folder: Folder in which file names with a backslash must exist, or None to read them
            as Windows paths without a check.

    Returns:
        Images with people, and counts of skipped and repaired annotations.

    Raises:
        BodyPoseNetError: The file is missing or invalid; the category of people is ambiguous, or
            its keypoints differ; ids are repeated; or values are invalid and cannot be repaired.
    """
    with _without_garbage_collection():
        file = _open(path)
        repairs: Counter[str] = Counter()
        errors = _Errors(path)
        entries = _read_images(file, images_folder, repairs, errors)
        chosen = select_category(path, file, CategoryQuery(category, category_id, joints))
        keypoint_format = KeypointFormat(
            len(joints),
            labeled=(flags or COCO_FLAGS).labeled(),
            known=None if flags is None else frozenset(flags.classes()),
            order=keypoint_order(path, chosen.keypoints, joints),
        )
        reader = PersonReader(keypoint_format, repairs)
        people = _read_people(file, entries, chosen, reader, repairs, errors)
        errors.raise_if_any()
    images = [
        CocoImage(image_id, *entry, tuple(people.by_image[image_id]))
        for image_id, entry in entries.items()
    ]
    if not chosen.keypoints and any(p.num_keypoints for image in images for p in image.persons):
        logger.warning(
            "%s: the file does not name its keypoints; assuming the order of the dataset spec: %s",
            path, ", ".join(joints),
        )  # fmt: skip
    return CocoDataset(images, people.skipped, repairs)


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


def _open(path: Path) -> LargeJson:
    """Open an annotation file and check that it has lists of images and annotations."""
    file = LargeJson(
        path,
        "Check annotation_root_dir_path of the dataset spec; copy the file again if it is "
        "truncated.",
    )
    for key in ("images", "annotations"):
        if not file.has_list(key):
            raise BodyPoseNetError(
                f"{path}: missing list `{key}`", "Use an annotation file in COCO's format."
            )
    return file


class _Errors:
    """Collects invalid entries of a file: the first ones and their number.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._count = 0
        self._first: list[str] = []

    def add(self, kind: str, entry: Any, error: Exception | str) -> None:
        """Add an invalid entry.

        Args:
            kind: "image" or "annotation".
            entry: The entry, of which the id is listed.
            error: What is wrong with it.

        Raises:
            BodyPoseNetError: There are too many invalid entries to continue.
        """
        self._count += 1
        if len(self._first) < _MAX_LISTED_ERRORS:
            value = entry.get("id") if isinstance(entry, dict) else entry
            self._first.append(f"{kind} {shorten(value)}: {error}")
        if self._count == _MAX_ERRORS:
            self.raise_if_any("; the rest of the file was not read")

    def raise_if_any(self, note: str = "") -> None:
        """Raise one error for all invalid entries, if there are any.

        Raises:
            BodyPoseNetError: There are invalid entries.
        """
        if not self._count:
            return
        listed = "\n".join(f"  {error}" for error in self._first)
        others = self._count - len(self._first)
        more = f"\n  and {others} more{note}" if others else ""
        raise BodyPoseNetError(
            f"{self._path}: {self._count} invalid entries:\n{listed}{more}",
            "Correct the entries in the file, or remove them.",
        )


_ImageEntry = tuple[str, int, int]
"""File name, height and width of an image."""


def _read_images(
    file: LargeJson, folder: Path | None, repairs: Counter[str], errors: _Errors
) -> dict[int, _ImageEntry]:
    """Read the entries of `images` by image id."""
    images: dict[int, _ImageEntry] = {}
    for entry in file.elements("images"):
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
            images[image_id] = name, height, width
        except BodyPoseNetError as error:  # too many pixels
            errors.add("image", entry, f"{error.what}. {error.remedy}")
        except ValueError as error:
            errors.add("image", entry, error)
    return images


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
    file: LargeJson,
    images: Mapping[int, _ImageEntry],
    category: Category,
    reader: PersonReader,
    repairs: Counter[str],
    errors: _Errors,
) -> _People:
    """Read the people in `annotations`; those without an id get negative ones."""
    people = _People({image_id: [] for image_id in images}, Counter())
    ids: set[int] = set()
    without_id: list[tuple[int, int]] = []
    for entry in file.elements("annotations"):
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
            _, height, width = images[image_id]
            person = reader.read(entry, annotation_id, height, width)
            if entry.get("id") is None:
                without_id.append((image_id, len(people.by_image[image_id])))
            people.by_image[image_id].append(person)
        except ValueError as error:
            errors.add("annotation", entry, error)
    free_ids = (number for number in itertools.count(-1, -1) if number not in ids)
    for image_id, position in without_id:
        persons = people.by_image[image_id]
        persons[position] = replace(persons[position], annotation_id=next(free_ids))
        repairs["annotations without an id, numbered -1, -2, ..."] += 1
    return people
