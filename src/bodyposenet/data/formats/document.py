"""Annotations of any format in COCO's structure: images, annotations and categories.

`AnnotationFile` is what a format reads from, `CocoDocument` what it returns. Formats other than
COCO's build the document with `DocumentBuilder`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from bodyposenet.data.annotations import shorten
from bodyposenet.data.formats.image_folder import ImageFolder
from bodyposenet.data.invalid_entries import PLACE, InvalidEntries
from bodyposenet.data.large_json import LargeJson
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.skeleton import COCO_JOINTS, Skeleton
from bodyposenet.specs.dataset import Mode
from bodyposenet.specs.pose import MAX_KEYPOINTS

OCCLUDED, VISIBLE = 1, 2
"""COCO's visibility flags of labeled keypoints."""

PERSON = "person"
"""Category of people whose label does not name another one."""

_HEAD_BYTES = 1024


@dataclass(frozen=True, eq=False)
class CocoDocument:
    """Content of an annotation file in COCO's structure.

    Args:
        images: Entries of `images`; like the other lists, they can be iterated repeatedly.
        annotations: Entries of `annotations`.
        categories: Entries of `categories`.
        skipped: Counts of skipped entries of the file by reason.
        names_are_complete: Whether the categories list all keypoints; False if they list only those
            that occur in the file.
    """

    images: Iterable[Any]
    annotations: Iterable[Any]
    categories: Iterable[Any]
    skipped: Counter[str] = field(default_factory=Counter)
    names_are_complete: bool = True


class AnnotationFile:
    """An annotation file or folder, of which the format may be unknown.

    Args:
        path: The file, or a folder of label files.
        images_folder: Folder of the images, or None if it is unknown.
        mode: Part of the dataset that is read, or None for all of it; for formats whose files list
            the images of each part.
    """

    def __init__(
        self, path: Path, images_folder: Path | None = None, mode: Mode | None = None
    ) -> None:
        self.path = path
        self.images = ImageFolder(path, images_folder)
        self.mode = mode

    @cached_property
    def json(self) -> LargeJson:
        """The content of a JSON file.

        Raises:
            BodyPoseNetError: As `files.read_json`.
        """
        return LargeJson(
            self.path,
            "Check annotation_root_dir_path of the dataset spec; copy the file again if it is "
            "truncated.",
        )

    @cached_property
    def head(self) -> bytes:
        """The first bytes of the file; empty for a folder or a file that cannot be read."""
        try:
            with open(self.path, "rb") as file:
                return file.read(_HEAD_BYTES)
        except (OSError, ValueError):  # ValueError: a null character in the name
            return b""

    @property
    def is_xml(self) -> bool:
        """Whether the file starts like XML."""
        return self.head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<")

    @property
    def is_yaml(self) -> bool:
        """Whether the file has the extension of YAML."""
        return self.path.suffix.lower() in (".yaml", ".yml")

    @property
    def first_element(self) -> Any:
        """First element of a JSON list; None if the file is no JSON list or the list is empty."""
        if not self.head or self.is_xml or self.is_yaml:
            return None
        return next(iter(self.json.elements()), None)


@dataclass(frozen=True)
class AnnotationFormat:
    """An annotation format.

    Args:
        name: Its name in dataset specs (`annotation_format`).
        title: Name of the tool or dataset, for messages.
        detect: Function that returns whether a file has the format, by its content.
        read: Function that reads a file of the format, or raises a `BodyPoseNetError`.
        has_parts: Whether a file can list the images of the train and the test data.
    """

    name: str
    title: str
    detect: Callable[[AnnotationFile], bool]
    read: Callable[[AnnotationFile], CocoDocument]
    has_parts: bool = False


class Keypoint(NamedTuple):
    """A labeled keypoint.

    Args:
        x: Coordinate in pixels.
        y: Coordinate in pixels.
        flag: COCO's visibility flag, `OCCLUDED` or `VISIBLE`.
    """

    x: float
    y: float
    flag: int = VISIBLE


def parse_number(value: Any, name: str) -> float:
    """Check that a value is a finite number.

    Args:
        value: The value.
        name: Its name, for error messages.

    Raises:
        ValueError: It is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} must be a number, got {shorten(value)}")
    try:
        number = float(value)
    except OverflowError as error:
        raise ValueError(f"{name} is too large") from error
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, got {number}")
    return number


def parse_numbers(entry: Mapping[str, Any], *keys: str) -> list[float]:
    """Return the numbers of an entry with the given keys.

    Raises:
        ValueError: A value is missing or not a finite number.
    """
    return [parse_number(entry.get(key), key) for key in keys]


Box = tuple[float, float, float, float]
"""Left, top, width and height, in pixels."""


class DocumentBuilder:
    """Builds a document from images and people.

    Args:
        file: The annotation file.
        names_are_complete: See `CocoDocument`; False: keypoints are added as they occur.
    """

    def __init__(self, file: AnnotationFile, *, names_are_complete: bool) -> None:
        self._path = file.path
        self.names_are_complete = names_are_complete
        self._images: list[dict[str, Any]] = []
        self._people: list[tuple[dict[str, Any], str, Mapping[str, Keypoint] | list[float]]] = []
        self._keypoints: dict[str, dict[str, None]] = {}  # by category, without repetitions
        self._details: dict[str, Mapping[str, Any]] = {}
        self.invalid = InvalidEntries(file.path)
        self.skipped: Counter[str] = Counter()

    def add_category(self, name: str, keypoints: Iterable[str] = (), **details: Any) -> None:
        """Add a category, or keypoints to it, unless they exist.

        Args:
            name: Name of the category.
            keypoints: Names of keypoints.
            details: Other values of the category in COCO's structure, such as `skeleton`.
        """
        self._keypoints.setdefault(name, {}).update(dict.fromkeys(keypoints))
        if details:
            self._details[name] = details

    def add_image(self, place: str, file_name: str, height: int, width: int) -> int:
        """Add an image.

        Args:
            place: Where the image is in the annotation file, for error messages.
            file_name: Path relative to the image folder.
            height: Height in pixels.
            width: Width in pixels.

        Returns:
            Id of the image.
        """
        image_id = len(self._images) + 1
        entry = {"id": image_id, "file_name": file_name, "height": height, "width": width}
        self._images.append(entry | {PLACE: place})
        return image_id

    def add_person(
        self,
        place: str,
        image_id: int,
        category: str,
        keypoints: Mapping[str, Keypoint] | list[float],
        box: Box | None = None,
    ) -> None:
        """Add a person.

        Args:
            place: Where the person is in the annotation file, for error messages.
            image_id: Id of the image.
            category: Name of the category.
            keypoints: The labeled keypoints by name; or x, y and flag of each keypoint of the
                category, if its keypoints have no names.
            box: Box of the person, or None to derive it from the keypoints.

        Raises:
            ValueError: The names of the category are complete, and do not include a keypoint.
        """
        names = keypoints.keys() if isinstance(keypoints, Mapping) else ()
        if self.names_are_complete:
            unknown = [name for name in names if name not in self._keypoints.get(category, ())]
            if unknown:
                raise ValueError(f"{category!r} has no keypoint {shorten(unknown[0])}")
        self.add_category(category, names)
        entry: dict[str, Any] = {"id": len(self._people) + 1, "image_id": image_id, PLACE: place}
        if box is not None:
            entry |= {"bbox": list(box), "area": box[2] * box[3]}
        self._people.append((entry, category, keypoints))

    def build(self) -> CocoDocument:
        """Return the document.

        Raises:
            BodyPoseNetError: There are invalid entries, no image, or too many keypoints.
        """
        self.invalid.raise_if_any()
        if not self._images:
            skipped = "; ".join(
                f"skipped: {count} {kind}" for kind, count in self.skipped.items() if count
            )
            raise BodyPoseNetError(
                f"{self._path}: no annotated images" + (f" ({skipped})" if skipped else ""),
                "Export the annotations again, or check annotation_root_dir_path of the dataset "
                "spec.",
            )
        for name, keypoints in self._keypoints.items():
            if len(keypoints) > MAX_KEYPOINTS:
                raise BodyPoseNetError(
                    f"{self._path}: {len(keypoints)} keypoints with different names in the "
                    f"category {shorten(name)}, the limit is {MAX_KEYPOINTS}",
                    "Use the same label for the same joint of all people.",
                )
        categories = [
            {
                "id": number,
                "name": name,
                "keypoints": self._ordered(keypoints),
                **self._details.get(name, {}),
            }
            for number, (name, keypoints) in enumerate(self._keypoints.items(), 1)
        ]
        by_name = {category["name"]: category for category in categories}
        annotations = []
        for entry, name, keypoints in self._people:
            category = by_name[name]
            if isinstance(keypoints, Mapping):
                points = [keypoints.get(joint, (0, 0, 0)) for joint in category["keypoints"]]
                keypoints = [value for point in points for value in point]
            annotations.append(entry | {"category_id": category["id"], "keypoints": keypoints})
        return CocoDocument(
            self._images, annotations, categories, self.skipped, self.names_are_complete
        )

    def _ordered(self, keypoints: Iterable[str]) -> list[str]:
        """Return keypoints in their order; if they were added as they occur: COCO's first."""
        names = tuple(keypoints)
        if self.names_are_complete:
            return list(names)
        coco = Skeleton("", COCO_JOINTS, ()).match(names)
        indices = {
            name: index for name, index in zip(names, coco, strict=True) if index is not None
        }
        return sorted(names, key=lambda name: indices.get(name, len(COCO_JOINTS)))
