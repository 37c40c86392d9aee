"""Read annotation files in COCO's keypoint format: checked images with their people.

This is the only reader of such files. What people and tools write differently is normalized
(`data.annotations`) and counted; what cannot be used is told in one error; what may stand in such a
file but is not for us (other categories, annotations of no image) is skipped and counted.
"""

from __future__ import annotations

import gc
import itertools
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

from bodyposenet.console import logger
from bodyposenet.data.annotations import (
    KeypointFormat,
    PersonReader,
    as_whole_number,
    shorten,
    whole_number,
)
from bodyposenet.data.large_json import LargeJson
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import is_file
from bodyposenet.media.image_header import check_size
from bodyposenet.specs.dataset import COCO_FLAGS, DatasetSpec, Mode, VisibilityFlags
from bodyposenet.types import Person

_ERRORS_TOLD = 10
_MOST_ERRORS = 10_000
"""After so many errors the rest of a file is not read: it holds something else."""

_PERSON = "person"


@dataclass(frozen=True, eq=False)
class CocoImage:
    """An image and its people.

    Args:
        image_id: COCO's image id.
        file_name: Relative to the folder of the images.
        height: In pixels.
        width: In pixels.
        persons: All annotations of the image, crowds too, in the order of the file.
    """

    image_id: int
    file_name: str
    height: int
    width: int
    persons: tuple[Person, ...]

    @property
    def mask_name(self) -> str:
        """Path of the mask in the folder of the masks: PNG, since JPEG would blur its borders."""
        return posixpath.splitext(self.file_name)[0] + ".png"


@dataclass(frozen=True, eq=False)
class CocoDataset:
    """What an annotation file holds.

    Args:
        images: Its images, in the order of the file.
        skipped: What was not used -> how often.
        repairs: What was normalized or repaired -> how often.
    """

    images: list[CocoImage]
    skipped: Counter[str]
    repairs: Counter[str]

    def annotated_images(self) -> list[CocoImage]:
        """The images with annotations."""
        return [image for image in self.images if image.persons]

    def log(self, path: Path) -> None:
        """Log what was not used and what was repaired.

        Args:
            path: The annotation file.
        """
        for kind, count in self.skipped.items():
            logger.warning("%s: left out: %d %s", path, count, kind)
        for kind, count in self.repairs.items():
            logger.warning("%s: repaired: %d %s", path, count, kind)


def read_dataset(spec: DatasetSpec, mode: Mode) -> CocoDataset:
    """Read the annotation file of a dataset's train or test part.

    Raises:
        BodyPoseNetError: As `read_coco`, or a path of the spec does not exist.
    """
    person = spec.person
    written = person.model_fields_set
    return read_coco(
        spec.annotations(mode),
        person.keypoints,
        category=None if "id" in written and "name" not in written else person.name,
        category_id=person.id if "id" in written else None,
        flags=spec.visibility_flags,
        images_folder=spec.images_folder(mode),
    )


def load_coco(path: Path, joints: tuple[str, ...]) -> list[CocoImage]:
    """Read the images of an annotation file, without a dataset spec; log skips and repairs.

    Args:
        path: The annotation file.
        joints: Names of the keypoints, in the order that they are wanted in.

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
    category: str | None = _PERSON,
    category_id: int | None = None,
    flags: VisibilityFlags | None = None,
    images_folder: Path | None = None,
) -> CocoDataset:
    """Read an annotation file.

    People are the annotations of the category of the wanted name, else of that of the wanted id if
    its keypoints have the wanted names, else of the only one that has keypoints.
    `iscrowd` may be missing (0), as may `segmentation`, `keypoints` and `num_keypoints`; the
    latter is counted anyway. A box that is missing or empty is taken from the segmentation or the
    labelled keypoints, an area that is missing or 0 from the segmentation or the box: nobody could
    match a person without area (OKS).

    Args:
        path: The annotation file.
        joints: Names of the keypoints, in the order that they are wanted in; the file may have them
            in another one.
        category: Name of the wanted category, in any case; None: its id alone decides.
        category_id: Id of the wanted category; None: its name alone decides.
        flags: What the visibility flags mean; COCO's by default, where any others are not labelled.
        images_folder: What file names with a backslash are looked for in; None takes them as paths
            of Windows.

    Raises:
        BodyPoseNetError: The file is missing or broken; or the category cannot be told, or has
            other keypoints; or ids occur twice, or values cannot be used or repaired.
    """
    with _without_garbage_collection():
        file = _open(path)
        repairs: Counter[str] = Counter()
        errors = _Errors(path)
        entries = _read_images(file, images_folder, repairs, errors)
        chosen = _choose_category(path, file, _Wanted(category, category_id, joints))
        labelling = KeypointFormat(
            len(joints),
            labelled=(flags or COCO_FLAGS).labelled(),
            known=None if flags is None else frozenset(flags.classes()),
            order=_keypoint_order(path, chosen.keypoints, joints),
        )
        reader = PersonReader(labelling, repairs)
        people = _read_people(file, entries, chosen, reader, repairs, errors)
        errors.raise_if_any()
    images = [
        CocoImage(image_id, *entry, tuple(people.by_image[image_id]))
        for image_id, entry in entries.items()
    ]
    if not chosen.keypoints and any(p.num_keypoints for image in images for p in image.persons):
        logger.warning(
            "%s: does not name its keypoints; they are taken in the order of the dataset spec: %s",
            path, ", ".join(joints),
        )  # fmt: skip
    return CocoDataset(images, people.skipped, repairs)


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Disable the collector, which would walk millions of new objects again and again."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def _open(path: Path) -> LargeJson:
    """The file, which has lists of images and annotations."""
    file = LargeJson(
        path,
        "Check annotation_root_dir_path of the dataset spec; copy the file again if it is cut off.",
    )
    for key in ("images", "annotations"):
        if not file.has_list(key):
            raise BodyPoseNetError(
                f"{path}: has no list `{key}`", "Give an annotation file in COCO's format."
            )
    return file


class _Errors:
    """What cannot be used in a file: the first entries, and how many there are.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._count = 0
        self._first: list[str] = []

    def add(self, kind: str, entry: Any, error: Exception | str) -> None:
        """Note an entry that cannot be used.

        Raises:
            BodyPoseNetError: There are too many of them to go on.
        """
        self._count += 1
        if len(self._first) < _ERRORS_TOLD:
            value = entry.get("id") if isinstance(entry, dict) else entry
            self._first.append(f"{kind} {shorten(value)}: {error}")
        if self._count == _MOST_ERRORS:
            self.raise_if_any("; the rest of the file was not read")

    def raise_if_any(self, note: str = "") -> None:
        """Raise an error of all entries that cannot be used, if there are any.

        Raises:
            BodyPoseNetError: There are.
        """
        if not self._count:
            return
        told = "\n".join(f"  {error}" for error in self._first)
        others = self._count - len(self._first)
        more = f"\n  and {others} more{note}" if others else ""
        raise BodyPoseNetError(
            f"{self._path}: {self._count} entries cannot be used:\n{told}{more}",
            "Correct them in the file, or take them out.",
        )


class _Category(NamedTuple):
    """The category whose annotations are people.

    Args:
        ids: Its ids; empty where all annotations are people.
        keypoints: Their names; None where the file does not name them.
        is_only: There is no other, so that annotations need not name it.
    """

    ids: frozenset[Any]
    keypoints: list[Any] | None = None
    is_only: bool = True


class _Wanted(NamedTuple):
    """The category that a dataset spec names.

    Args:
        name: Its name; None: the id alone decides.
        id: Its id; None: the name alone decides.
        joints: Names of the keypoints.
    """

    name: str | None
    id: int | None
    joints: tuple[str, ...]

    def __str__(self) -> str:
        return f"of id {self.id}" if self.name is None else f"named {self.name}"


def _choose_category(path: Path, file: LargeJson, wanted: _Wanted) -> _Category:
    """The category of people; see `read_coco`.

    Raises:
        BodyPoseNetError: It cannot be told.
    """
    categories = [entry for entry in file.elements("categories") if isinstance(entry, dict)]
    if not categories:
        return _category_by_annotations(path, file, wanted)
    chosen = [entry for entry in categories if _is_wanted(entry, wanted)]
    if not chosen:
        chosen = [_other_category(path, categories, wanted)]
    names = [entry["keypoints"] for entry in chosen if _names_keypoints(entry)]
    if any(other != names[0] for other in names):
        raise BodyPoseNetError(
            f"{path}: there are two categories {wanted}, with different keypoints",
            "Take one of them out of the file.",
        )
    ids = frozenset(as_whole_number(entry.get("id")) for entry in chosen)
    return _Category(ids, names[0] if names else None, len(chosen) == len(categories))


def _other_category(
    path: Path, categories: Sequence[Mapping[str, Any]], wanted: _Wanted
) -> Mapping[str, Any]:
    """The category of the wanted id and keypoints, or else the only one that names keypoints.

    Raises:
        BodyPoseNetError: There is none, or more than one.
    """
    with_keypoints = [entry for entry in categories if _names_keypoints(entry)]
    found = [
        entry
        for entry in with_keypoints
        if wanted.id is not None
        and as_whole_number(entry.get("id")) == wanted.id
        and _plain_names(entry["keypoints"]) == _plain_names(wanted.joints)
    ]
    if len(found or with_keypoints) != 1:
        raise BodyPoseNetError(
            f"{path}: there is no category {wanted}, and {len(with_keypoints)} have keypoints: "
            f"{_list_categories(categories)}",
            "Write the name of one of them in `categories` of the dataset spec (or its id, without "
            "a name).",
        )
    (chosen,) = found or with_keypoints
    logger.warning(
        "%s: there is no category %s; people are those of %s, %s",
        path, wanted, _list_categories([chosen]),
        "whose id the dataset spec gives" if found else "the only one with keypoints",
    )  # fmt: skip
    return chosen


def _names_keypoints(category: Mapping[str, Any]) -> bool:
    return isinstance(category.get("keypoints"), list) and bool(category["keypoints"])


def _is_wanted(entry: Mapping[str, Any], wanted: _Wanted) -> bool:
    if wanted.name is None:
        return as_whole_number(entry.get("id")) == wanted.id
    name = entry.get("name")
    return isinstance(name, str) and name.strip().casefold() == wanted.name.strip().casefold()


def _list_categories(categories: Sequence[Mapping[str, Any]]) -> str:
    named = [
        f"{shorten(entry.get('name'))} (id {shorten(entry.get('id'))})"
        for entry in categories[:_ERRORS_TOLD]
    ]
    more = [f"{len(categories) - len(named)} more"] if len(categories) > len(named) else []
    return ", ".join([*named, *more])


def _category_by_annotations(path: Path, file: LargeJson, wanted: _Wanted) -> _Category:
    """The category of a file that lists none: that of all annotations, or of the wanted id."""
    ids = {
        number
        for entry in file.elements("annotations")
        if isinstance(entry, dict)
        and (number := as_whole_number(entry.get("category_id"))) is not None
    }
    if len(ids) <= 1:
        return _Category(frozenset())
    if wanted.id in ids:
        return _Category(frozenset({wanted.id}), is_only=False)
    listed = ", ".join(map(str, sorted(ids)[:_ERRORS_TOLD]))
    raise BodyPoseNetError(
        f"{path}: has annotations of {len(ids)} categories ({listed}), but no list `categories` "
        "that names the category of people",
        "Add the list to the file; or give the id of people in `categories` of the dataset spec.",
    )


def _keypoint_order(
    path: Path, named: Sequence[Any] | None, joints: tuple[str, ...]
) -> tuple[int, ...] | None:
    """Where each joint stands in the annotations; None where they have the wanted order.

    Raises:
        BodyPoseNetError: The file names other keypoints.
    """
    if not named or list(named) == list(joints):
        return None
    names, wanted = [_plain(name) for name in named], [_plain(joint) for joint in joints]
    if _plain_names(named) == _plain_names(joints) and len(set(names)) == len(names):
        order = tuple(names.index(name) for name in wanted)
        if order == tuple(range(len(joints))):
            return None
        logger.info("%s: keypoints are brought into the order of the dataset spec", path)
        return order
    lacking = [joint for joint in joints if _plain(joint) not in names]
    besides = [shorten(name) for name in named if _plain(name) not in wanted]
    differences = "; ".join(
        f"{what} {', '.join(map(str, some))}"
        for what, some in (("it lacks", lacking), ("it has besides", besides))
        if some
    )
    raise BodyPoseNetError(
        f"{path}: names {len(named)} keypoints, not the dataset spec's {len(joints)}: "
        f"{differences or 'a name occurs twice'}",
        "Write the names of the file's category in `keypoints` of the dataset spec, or correct "
        "them in the file.",
    )


def _plain(name: Any) -> str:
    """A name without what tools write differently: case, blanks, hyphens and underscores."""
    return re.sub(r"[\W_]+", "", str(name).casefold())


def _plain_names(names: Iterable[Any]) -> list[str]:
    """Names in any order."""
    return sorted(map(_plain, names))


_ImageEntry = tuple[str, int, int]
"""File name, height and width of an image."""


def _read_images(
    file: LargeJson, folder: Path | None, repairs: Counter[str], errors: _Errors
) -> dict[int, _ImageEntry]:
    """Image id -> its entry."""
    images: dict[int, _ImageEntry] = {}
    for entry in file.elements("images"):
        try:
            _check_object(entry)
            image_id = whole_number(entry, "id", repairs)
            if image_id in images:
                raise ValueError("the id is given twice")
            height = whole_number(entry, "height", repairs)
            width = whole_number(entry, "width", repairs)
            if height < 1 or width < 1:
                raise ValueError(f"an image cannot be {width} x {height} pixels")
            name = _file_name(entry, folder, repairs)
            check_size(name, (height, width))
            images[image_id] = name, height, width
        except BodyPoseNetError as error:  # too many pixels
            errors.add("image", entry, f"{error.what}. {error.remedy}")
        except ValueError as error:
            errors.add("image", entry, error)
    return images


def _check_object(entry: Any) -> None:
    if not isinstance(entry, dict):
        raise ValueError("expected an object")


def _file_name(entry: Mapping[str, Any], folder: Path | None, repairs: Counter[str]) -> str:
    """The image's path, which must stay within the folder of the images (and of the masks)."""
    name = entry.get("file_name")
    if not isinstance(name, str) or "\0" in name or re.split(r"[/\\]", name)[-1] in ("", "."):
        raise ValueError(f"file_name is not a valid file name: {shorten(name)}")
    parts = (*PurePosixPath(name).parts, *PureWindowsPath(name).parts)
    if ".." in parts or PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor:
        raise ValueError(f"file_name must lie within the folder of the images: {shorten(name)}")
    if "\\" not in name:
        return name
    slashed = name.replace("\\", "/")
    if folder is not None and not is_file(folder / slashed):
        raise ValueError(f"file_name has backslashes, and there is no {folder / slashed}")
    repairs["file names with a backslash, taken as /"] += 1
    return slashed


class _People(NamedTuple):
    """The people of an annotation file.

    Args:
        by_image: Image id -> its people.
        skipped: Annotations that were not used -> how many.
    """

    by_image: dict[int, list[Person]]
    skipped: Counter[str]


def _read_people(
    file: LargeJson,
    images: Mapping[int, _ImageEntry],
    category: _Category,
    reader: PersonReader,
    repairs: Counter[str],
    errors: _Errors,
) -> _People:
    people = _People({image_id: [] for image_id in images}, Counter())
    ids: set[int] = set()
    without_id: list[tuple[int, int]] = []
    for entry in file.elements("annotations"):
        try:
            _check_object(entry)
            if not _is_person(entry, category):
                people.skipped["annotations of other categories"] += 1
                continue
            image_id = whole_number(entry, "image_id", repairs)
            if image_id not in images:
                people.skipped["annotations of an image that the file does not list"] += 1
                continue
            annotation_id = 0
            if entry.get("id") is not None:
                annotation_id = whole_number(entry, "id", repairs)
                if annotation_id in ids:
                    raise ValueError("the id is given twice")
                ids.add(annotation_id)
            _, height, width = images[image_id]
            person = reader.read(entry, annotation_id, height, width)
            if entry.get("id") is None:
                without_id.append((image_id, len(people.by_image[image_id])))
            people.by_image[image_id].append(person)
        except ValueError as error:
            errors.add("annotation", entry, error)
    free_ids = (number for number in itertools.count(-1, -1) if number not in ids)
    for image_id, place in without_id:
        persons = people.by_image[image_id]
        persons[place] = replace(persons[place], annotation_id=next(free_ids))
        repairs["annotations without an id, numbered -1, -2, ..."] += 1
    return people


def _is_person(entry: Mapping[str, Any], category: _Category) -> bool:
    """Whether an annotation is of the category of people.

    Raises:
        ValueError: It does not say.
    """
    if not category.ids:
        return True
    category_id = entry.get("category_id")
    if category_id is None and category.is_only:
        return True
    number = as_whole_number(category_id)
    if number is None:
        raise ValueError(f"category_id must be a whole number, not {shorten(category_id)}")
    return number in category.ids
