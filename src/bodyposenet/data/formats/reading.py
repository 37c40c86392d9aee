"""Detect the format of an annotation file, and read it in COCO's structure."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bodyposenet.data.annotations import to_integer
from bodyposenet.data.formats import (
    coco,
    coco_wholebody,
    cvat,
    label_studio,
    mpii,
    sloth,
    yolo_pose,
)
from bodyposenet.data.formats.document import AnnotationFile, AnnotationFormat, CocoDocument
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import is_file, is_folder
from bodyposenet.specs.dataset import FormatName, Mode

FORMATS: dict[str, AnnotationFormat] = {
    module.FORMAT.name: module.FORMAT
    for module in (coco_wholebody, coco, label_studio, cvat, yolo_pose, sloth, mpii)
}
"""All formats by name; the first one that matches a file is detected."""

_EXTENSIONS = (".json", ".xml", ".yaml", ".yml")
_MAX_LISTED = 10

_CHOOSE = (
    "Set annotation_root_dir_path of the dataset spec to an annotation file, or choose its "
    "annotation_format: " + ", ".join(FORMATS) + "."
)


def read_document(
    path: Path,
    annotation_format: FormatName = "auto",
    images_folder: Path | None = None,
    mode: Mode | None = None,
) -> tuple[AnnotationFormat, CocoDocument]:
    """Read an annotation file of any format.

    Args:
        path: The file, or a folder.
        annotation_format: Name of its format, or "auto" to detect the format by the content.
        images_folder: Folder of the images, or None if it is unknown; some formats need it.
        mode: Part of the dataset that is read, or None for all of it.

    Returns:
        The format, and the content in COCO's structure.

    Raises:
        BodyPoseNetError: The file is missing or invalid, or has an unknown format.
    """
    file = AnnotationFile(_file_in(path), images_folder, mode)
    found = _detect(file) if annotation_format == "auto" else FORMATS[annotation_format]
    return found, found.read(file)


def _file_in(path: Path) -> Path:
    """Return the annotation file of a folder: the only one in it or its subfolder `annotations`.

    Raises:
        BodyPoseNetError: There is none, or several; or the path is an archive.
    """
    if not is_folder(path):
        if is_file(path) and zipfile.is_zipfile(path):
            raise BodyPoseNetError(f"{path}: is an archive", "Unzip it.")
        return path
    found = [
        file
        for folder in (path, path / "annotations")
        if is_folder(folder)
        for file in sorted(folder.iterdir())
        if file.suffix.lower() in _EXTENSIONS and is_file(file)
    ]
    if len(found) != 1:
        listed = ", ".join(file.name for file in found[:_MAX_LISTED])
        raise BodyPoseNetError(
            f"{path}: expected one annotation file ({', '.join(_EXTENSIONS)}) in the folder, found "
            f"{len(found)}" + (f": {listed}" if found else ""),
            "Give the annotation file itself: as annotation_root_dir_path of the dataset spec, or "
            "with -a of init.",
        )
    return found[0]


def _detect(file: AnnotationFile) -> AnnotationFormat:
    """Return the format of a file.

    Raises:
        BodyPoseNetError: The file cannot be read, or no format matches.
    """
    for candidate in FORMATS.values():
        if candidate.detect(file):
            return candidate
    raise BodyPoseNetError(f"{file.path}: unknown annotation format", _CHOOSE)


@dataclass(frozen=True)
class CategorySummary:
    """A category of an annotation file.

    Args:
        id: Its id.
        name: Its name.
        keypoints: Names of its keypoints; empty if the file does not name them.
        num_keypoints: Number of its keypoints.
        limbs: Limbs as pairs of indices of keypoints, from 0; empty if the file has none.
        flip_indices: Index of the mirrored keypoint of each keypoint; empty if unknown.
        people: Number of its annotations.
    """

    id: int
    name: str
    keypoints: tuple[str, ...]
    num_keypoints: int
    limbs: tuple[tuple[int, int], ...]
    flip_indices: tuple[int, ...]
    people: int


@dataclass(frozen=True)
class AnnotationSummary:
    """Format and categories of an annotation file.

    Args:
        format: Name of its format.
        title: Name of the tool or dataset, for messages.
        categories: All categories, those with keypoints first.
    """

    format: str
    title: str
    categories: tuple[CategorySummary, ...]


def describe_annotations(path: Path, images_folder: Path | None = None) -> AnnotationSummary:
    """Summarize an annotation file of any format; invalid entries are ignored.

    Args:
        path: The file, or a folder.
        images_folder: Folder of the images, or None if it is unknown; some formats need it.

    Returns:
        Format and categories.

    Raises:
        BodyPoseNetError: As `read_document`.
    """
    found, document = read_document(path, images_folder=images_folder)
    people: dict[int, int] = {}
    num_keypoints: dict[int, int] = {}
    for entry in document.annotations:
        category_id = to_integer(entry.get("category_id")) if isinstance(entry, Mapping) else None
        if category_id is not None:
            people[category_id] = people.get(category_id, 0) + 1
            if category_id not in num_keypoints and isinstance(entry.get("keypoints"), list):
                num_keypoints[category_id] = len(entry["keypoints"]) // 3
    categories = [
        _summarize_category(entry, people, num_keypoints)
        for entry in document.categories
        if isinstance(entry, Mapping) and to_integer(entry.get("id")) is not None
    ]
    categories.sort(key=lambda category: not category.num_keypoints)
    return AnnotationSummary(found.name, found.title, tuple(categories))


def _summarize_category(
    entry: Mapping[str, Any], people: Mapping[int, int], num_keypoints: Mapping[int, int]
) -> CategorySummary:
    """Summarize a category, given the numbers of annotations and keypoints by category id."""
    category_id = to_integer(entry["id"])
    assert category_id is not None
    names = _list(entry, "keypoints")
    count = len(names) or num_keypoints.get(category_id, 0)
    pairs = [_indices(pair, range(1, count + 1)) for pair in _list(entry, "skeleton")]
    if not all(len(pair) == 2 for pair in pairs):
        pairs = []  # of other keypoints, as in CrowdPose, which contains the limbs of COCO
    flip_indices = _indices(entry.get("flip_idx"), range(count))
    return CategorySummary(
        id=category_id,
        name=str(entry.get("name", "")),
        keypoints=tuple(map(str, names)),
        num_keypoints=count,
        limbs=tuple((start - 1, end - 1) for start, end in pairs),
        flip_indices=flip_indices if len(flip_indices) == count else (),
        people=people.get(category_id, 0),
    )


def _list(entry: Mapping[str, Any], key: str) -> list[Any]:
    value = entry.get(key)
    return value if isinstance(value, list) else []


def _indices(values: Any, allowed: range) -> tuple[int, ...]:
    """Return a list of indices; empty if it is not one."""
    if isinstance(values, list) and all(
        type(value) is int and value in allowed for value in values
    ):
        return tuple(values)
    return ()
