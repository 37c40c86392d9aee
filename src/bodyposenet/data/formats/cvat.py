"""CVAT: read exports in its format "CVAT for images 1.1".

People are skeletons, see https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/. Boxes
and single points are grouped by CVAT's groups, or else by position.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

from bodyposenet.data.annotations import shorten
from bodyposenet.data.formats.document import (
    OCCLUDED,
    VISIBLE,
    AnnotationFile,
    AnnotationFormat,
    Box,
    CocoDocument,
    DocumentBuilder,
    Keypoint,
)
from bodyposenet.data.formats.grouping import (
    LabeledBox,
    LabeledPoint,
    add_grouped_people,
    box_around_rotated,
)
from bodyposenet.data.formats.safe_xml import XmlElement, read_elements
from bodyposenet.errors import BodyPoseNetError

_EXPORT = 'Export the task as "CVAT for images 1.1".'

_SVG_TAG = re.compile(r"<(?:line|circle)\b[^>]*>")
_SVG_ATTRIBUTE = re.compile(r'([\w-]+)="([^"]*)"')


def _is_cvat(file: AnnotationFile) -> bool:
    """Return whether a file is XML."""
    return file.is_xml


def _read(file: AnnotationFile) -> CocoDocument:
    """Read the labels of the task, and all images."""
    document: DocumentBuilder | None = None
    for element in read_elements(file.path):
        if element.tag == "meta" and document is None:
            document = _start_document(file, element)
        elif element.tag == "track":
            raise BodyPoseNetError(
                f"{file.path}:{element.line}: an export of a video, with tracks", _EXPORT
            )
        elif element.tag == "image":
            document = document or DocumentBuilder(file, names_are_complete=False)
            place = f"{file.path}:{element.line}: image {shorten(element.attributes.get('name'))}"
            try:
                _add_image(document, file, place, element)
            except ValueError as error:
                document.invalid.add(place, error)
    if document is None:
        raise BodyPoseNetError(f"{file.path}: no element `image`", _EXPORT)
    return document.build()


def _start_document(file: AnnotationFile, meta: XmlElement) -> DocumentBuilder:
    """Return a document with the skeletons that the task defines."""
    labels = list(meta.find_all("label"))
    skeletons = [label for label in labels if label.child_text("type") == "skeleton"]
    document = DocumentBuilder(file, names_are_complete=bool(skeletons))
    for skeleton in skeletons:
        name = skeleton.child_text("name")
        points = [p.child_text("name") for p in labels if p.child_text("parent") == name]
        limbs = _limbs(skeleton.child_text("svg"), points)
        document.add_category(name, points, **({"skeleton": limbs} if limbs else {}))
    return document


def _limbs(svg: str, points: list[str]) -> list[list[int]]:
    """Return the edges of a skeleton's drawing as pairs of numbers of points, from 1."""
    names: dict[str, str] = {}
    edges: list[tuple[str, str]] = []
    for tag in _SVG_TAG.findall(svg):
        attributes = dict(_SVG_ATTRIBUTE.findall(tag))
        if "data-node-from" in attributes and "data-node-to" in attributes:
            edges.append((attributes["data-node-from"], attributes["data-node-to"]))
        elif "data-node-id" in attributes and "data-label-name" in attributes:
            names[attributes["data-node-id"]] = attributes["data-label-name"]
    numbers = {node: points.index(name) + 1 for node, name in names.items() if name in points}
    return [[numbers[a], numbers[b]] for a, b in edges if a in numbers and b in numbers]


def _add_image(
    document: DocumentBuilder, file: AnnotationFile, place: str, element: XmlElement
) -> None:
    """Add an image and its people.

    Raises:
        ValueError: The image or one of its shapes is invalid.
    """
    name = element.attributes.get("name")
    if not name:
        raise ValueError("missing attribute `name`")
    size = _integer(element, "height"), _integer(element, "width")
    image = (file.images.find(name), *size)
    shapes = element.children
    skeletons = [shape for shape in shapes if shape.tag == "skeleton"]
    boxes = [_parse_box(shape) for shape in shapes if shape.tag == "box"]
    others = sum(shape.tag not in ("skeleton", "box", "points", "tag") for shape in shapes)
    document.skipped["shapes that are neither skeletons, points nor boxes"] += others
    if skeletons:
        _add_skeletons(document, place, image, skeletons, boxes)
        document.skipped["single points in images with skeletons"] += sum(
            shape.tag == "points" for shape in shapes
        )
    else:
        single = [shape for shape in shapes if shape.tag == "points"]
        points = _parse_single_points(document, single)
        add_grouped_people(document, place, image, points, boxes)


def _add_skeletons(
    document: DocumentBuilder,
    place: str,
    image: tuple[str, int, int],
    skeletons: Iterable[XmlElement],
    boxes: Iterable[LabeledBox],
) -> None:
    """Add an image and its skeletons, with the boxes of their groups.

    Raises:
        ValueError: A skeleton is invalid.
    """
    by_group: Mapping[object, Box] = {box.group: box.box for box in boxes}
    unused = list(boxes)
    image_id = document.add_image(place, *image)
    for number, skeleton in enumerate(skeletons, 1):
        keypoints = {}
        for points in skeleton.children:
            if points.tag == "points" and points.attributes.get("outside") != "1":
                label = _label(points)
                if label in keypoints:
                    raise ValueError(f"two keypoints {label!r} in the same skeleton")
                (keypoints[label],) = _parse_points(points)
        group = _group(skeleton)
        box = by_group.get(group) if group is not None else None
        unused = [other for other in unused if box is None or other.group != group]
        if not keypoints and box is None:
            document.skipped["skeletons without a visible point"] += 1
            continue
        document.add_person(
            f"{place}, skeleton {number}", image_id, _label(skeleton), keypoints, box
        )
    document.skipped["boxes in images with skeletons that are not grouped with a skeleton"] += len(
        unused
    )


def _parse_single_points(
    document: DocumentBuilder, shapes: Iterable[XmlElement]
) -> list[LabeledPoint]:
    """Parse points outside of skeletons, each of which is a keypoint.

    Raises:
        ValueError: A shape is invalid.
    """
    points = []
    for shape in shapes:
        keypoints = _parse_points(shape)
        if len(keypoints) == 1:
            points.append(LabeledPoint(_label(shape), keypoints[0], _group(shape)))
        else:
            document.skipped["shapes of several points, whose names are unknown"] += 1
    return points


def _parse_points(shape: XmlElement) -> list[Keypoint]:
    """Return the points of a shape.

    Raises:
        ValueError: They are not pairs of numbers.
    """
    flag = OCCLUDED if shape.attributes.get("occluded") == "1" else VISIBLE
    text = shape.attributes.get("points", "")
    points = []
    for pair in text.split(";"):
        try:
            x, y = map(float, pair.split(","))
        except ValueError:
            x = y = math.nan
        if not (math.isfinite(x) and math.isfinite(y)):
            raise ValueError(f"points of line {shape.line}: expected x,y, got {shorten(text)}")
        points.append(Keypoint(x, y, flag))
    return points


def _parse_box(shape: XmlElement) -> LabeledBox:
    """Parse a box; of a rotated one, the box around it.

    Raises:
        ValueError: A coordinate is missing or invalid.
    """
    left, top, right, bottom = (_number(shape, key) for key in ("xtl", "ytl", "xbr", "ybr"))
    box: Box = (left, top, right - left, bottom - top)
    degrees = _number(shape, "rotation") if "rotation" in shape.attributes else 0.0
    center = (left + right) / 2, (top + bottom) / 2
    return LabeledBox(_label(shape), box_around_rotated(box, degrees, center), _group(shape))


def _label(shape: XmlElement) -> str:
    """Return the label of a shape.

    Raises:
        ValueError: It has none.
    """
    label = shape.attributes.get("label")
    if not label:
        raise ValueError(f"{shape.tag} of line {shape.line}: missing attribute `label`")
    return label


def _group(shape: XmlElement) -> str | None:
    """Return the group of a shape; None for no group, which CVAT also writes as 0."""
    group = shape.attributes.get("group_id")
    return None if group in (None, "", "0") else group


def _number(shape: XmlElement, key: str) -> float:
    """Return a number.

    Raises:
        ValueError: It is missing, or not a finite number.
    """
    text = shape.attributes.get(key)
    try:
        number = float(text or "")
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{key} of line {shape.line} must be a number, got {shorten(text)}")
    return number


def _integer(shape: XmlElement, key: str) -> int:
    """Return a positive whole number.

    Raises:
        ValueError: It is missing or invalid.
    """
    number = _number(shape, key)
    if number < 1 or number % 1:
        raise ValueError(f"{key} of line {shape.line} must be a whole number, got {number:g}")
    return int(number)


FORMAT = AnnotationFormat("cvat", "CVAT", _is_cvat, _read)
