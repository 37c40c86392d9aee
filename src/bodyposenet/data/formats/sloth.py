"""Sloth: read its label files in JSON.

A file is a list of images with labels, which are sets of keys and values, see
https://sloth.readthedocs.io. A label with a width and height is a box, one with only x and y a
keypoint; shapes of a person can have the same `id`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from bodyposenet.data.annotations import shorten
from bodyposenet.data.formats.document import (
    PERSON,
    AnnotationFile,
    AnnotationFormat,
    CocoDocument,
    DocumentBuilder,
    Keypoint,
    parse_numbers,
)
from bodyposenet.data.formats.grouping import (
    LabeledBox,
    LabeledPoint,
    add_grouped_people,
)

_SHAPES = ("point", "rect")
"""Classes that describe a shape, not what it labels; then `type` does."""


def _is_sloth(file: AnnotationFile) -> bool:
    """Return whether a file is a list of images or videos with labels."""
    entry = file.first_element
    return isinstance(entry, Mapping) and "filename" in entry and "image" not in entry


def _read(file: AnnotationFile) -> CocoDocument:
    """Read all images that are labeled."""
    document = DocumentBuilder(file, names_are_complete=False)
    for number, entry in enumerate(file.json.elements(), 1):
        place = f"entry {number}"
        try:
            if not isinstance(entry, Mapping) or not isinstance(entry.get("filename"), str):
                raise ValueError(f"expected an object with a filename, got {shorten(entry)}")
            place = f"image {entry['filename']!r}"
            if "frames" in entry:
                raise ValueError("is a video; label its frames as images")
            if entry.get("unlabeled"):
                document.skipped["images that are marked as unlabeled"] += 1
                continue
            _add_image(document, file, place, entry)
        except ValueError as error:
            document.invalid.add(place, error)
    return document.build()


def _add_image(
    document: DocumentBuilder, file: AnnotationFile, place: str, entry: Mapping[str, Any]
) -> None:
    """Add an image and its people.

    Raises:
        ValueError: The entry is invalid.
    """
    labels = entry.get("annotations")
    if not isinstance(labels, list) or not all(isinstance(label, Mapping) for label in labels):
        raise ValueError(f"annotations must be a list of objects, got {shorten(labels)}")
    name = file.images.find(entry["filename"])
    height, width = file.images.size(name, as_stored=True)  # Sloth ignores the orientation
    shared = _shared_ids(labels)
    points: list[LabeledPoint] = []
    boxes: list[LabeledBox] = []
    for label in labels:
        group = label.get("id")
        group = group if isinstance(group, str | int) and group in shared else None
        if "width" in label and "height" in label:
            x, y, box_width, box_height = parse_numbers(label, "x", "y", "width", "height")
            box = (x, y, box_width, box_height)
            boxes.append(LabeledBox(_label_name(label) or PERSON, box, group))
        elif "x" in label and "y" in label:
            point_name = _label_name(label)
            if point_name is None:
                document.skipped["points without a name"] += 1
            else:
                x, y = parse_numbers(label, "x", "y")
                points.append(LabeledPoint(point_name, Keypoint(x, y), group))
        else:
            document.skipped["labels that are neither points nor rectangles"] += 1
    add_grouped_people(document, place, (name, height, width), points, boxes)


def _shared_ids(labels: Iterable[Mapping[str, Any]]) -> set[str | int]:
    """Return the ids that several labels have; other ids do not group anything."""
    ids = Counter(label["id"] for label in labels if isinstance(label.get("id"), str | int))
    return {value for value, count in ids.items() if count > 1}


def _label_name(label: Mapping[str, Any]) -> str | None:
    """Return what a label names: its class, or the type if the class is only a shape."""
    names = (label.get("class"), label.get("type"))
    return next((name for name in names if isinstance(name, str) and name not in _SHAPES), None)


FORMAT = AnnotationFormat("sloth", "Sloth", _is_sloth, _read)
