"""CVAT: read exports in its format "CVAT for images 1.1", and write pre-annotations.

People are skeletons, see https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/. Boxes
and single points are grouped by CVAT's groups, or else by position.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bodyposenet.data.annotations import shorten
from bodyposenet.data.formats.document import (
    OCCLUDED,
    PERSON,
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
from bodyposenet.data.formats.predictions import (
    MISSING,
    ImagePredictions,
    OutputFormat,
    PredictedImage,
    annotation_skeleton,
    side_color,
)
from bodyposenet.data.formats.safe_xml import (
    XmlElement,
    read_elements,
    xml_attribute,
    xml_text,
)
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import atomic_write, write_json
from bodyposenet.skeleton import Skeleton

_EXPORT = 'Export the task as "CVAT for images 1.1".'

_PREDICTIONS, _LABELS = "predictions.xml", "labels.json"
"""Files of pre-annotations."""

_DRAWING_MARGIN = 5
"""Distance of a skeleton's drawing from the edge of its square of 100 units."""

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
    drawings = {
        label.child_text("name"): label.child_text("svg")
        for label in labels
        if label.child_text("type") == "skeleton"
    }
    points: dict[str, list[str]] = {name: [] for name in drawings}
    for label in labels:
        parent = label.child_text("parent")
        if parent in points:
            points[parent].append(label.child_text("name"))
    document = DocumentBuilder(file, names_are_complete=bool(drawings))
    for name, svg in drawings.items():
        limbs = _limbs(svg, points[name])
        document.add_category(name, points[name], **({"skeleton": limbs} if limbs else {}))
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
    single = [shape for shape in shapes if shape.tag == "points"]
    if document.names_are_complete:
        document.skipped["single points in tasks with skeletons"] += len(single)
        single = []
    if skeletons:
        _add_skeletons(document, place, image, skeletons, boxes)
        document.skipped["single points in images with skeletons"] += len(single)
    else:
        points = _parse_single_points(document, single)
        add_grouped_people(document, place, image, points, boxes)


def _add_skeletons(
    document: DocumentBuilder,
    place: str,
    image: tuple[str, int, int],
    skeletons: Iterable[XmlElement],
    boxes: Sequence[LabeledBox],
) -> None:
    """Add an image and its skeletons, with the boxes of their groups.

    Raises:
        ValueError: A skeleton is invalid.
    """
    by_group = {box.group: box.box for box in boxes if box.group is not None}
    used: set[str | None] = set()
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
        box = by_group.get(group)
        used.add(group)
        if not keypoints and box is None:
            document.skipped["skeletons without a visible point"] += 1
            continue
        document.add_person(
            f"{place}, skeleton {number}", image_id, _label(skeleton), keypoints, box
        )
    document.skipped["boxes in images with skeletons that are not grouped with a skeleton"] += sum(
        box.group is None or box.group not in used for box in boxes
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


def _write_images(folder: Path, predictions: ImagePredictions) -> None:
    """Write predictions.xml, and labels.json, the definition of the skeleton for a new task.

    Args:
        folder: Existing folder of the files.
        predictions: The predictions.

    Raises:
        BodyPoseNetError: A file cannot be written.
    """
    skeleton = annotation_skeleton(predictions.skeleton)
    drawing = _drawing(skeleton, predictions.images)
    write_json(folder / _LABELS, [_label_definition(skeleton, drawing)])
    with atomic_write(folder / _PREDICTIONS, durable=True) as file:
        file.write(_meta(skeleton, drawing).encode())
        for number, image in enumerate(predictions.images):
            file.write(_image(number, image, skeleton).encode())
        file.write(b"</annotations>\n")


def _label_definition(skeleton: Skeleton, drawing: str) -> dict[str, Any]:
    """Return the label of people for the raw editor of a task's labels."""
    return {
        "name": PERSON,
        "type": "skeleton",
        "color": side_color(PERSON),
        "attributes": [],
        "sublabels": [
            {"name": joint, "type": "points", "color": side_color(joint), "attributes": []}
            for joint in skeleton.joints
        ],
        "svg": drawing,
    }


def _drawing(skeleton: Skeleton, images: Iterable[PredictedImage]) -> str:
    """Return the drawing of a skeleton that CVAT uses for new people (elements of SVG)."""
    places = _mean_places(skeleton, images).round(1).tolist()
    lines = [
        '<line x1="{}" y1="{}" x2="{}" y2="{}" stroke="black" stroke-width="0.5" data-type="edge" '
        'data-node-from="{}" data-node-to="{}"></line>'.format(
            *places[start], *places[end], start + 1, end + 1
        )
        for start, end in skeleton.limbs
    ]
    circles = [
        f'<circle r="1" cx="{x}" cy="{y}" fill="{side_color(joint)}" stroke="black" '
        f'stroke-width="0.1" data-type="element node" data-element-id="{number}" '
        f'data-node-id="{number}" data-label-name={xml_attribute(joint)}></circle>'
        for number, (joint, (x, y)) in enumerate(zip(skeleton.joints, places, strict=True), 1)
    ]
    return "".join(lines + circles)


def _mean_places(skeleton: Skeleton, images: Iterable[PredictedImage]) -> NDArray[np.float64]:
    """Return (K, 2) mean places of the joints in the boxes of people, in a square of 100 units.

    Joints that nobody has are on a circle.
    """
    angles = np.linspace(0, 2 * np.pi, len(skeleton.joints), endpoint=False)
    circle = 0.5 + 0.5 * np.stack([np.sin(angles), -np.cos(angles)], axis=1)
    total, counts = np.zeros_like(circle), np.zeros((len(circle), 1))
    for image in images:
        labels = image.labels()
        corners, ends = labels.boxes[:, None, :2], labels.boxes[:, None, 2:]
        is_labeled = labels.visibility[..., None] != MISSING
        total += np.sum((labels.keypoints - corners) / (ends - corners), 0, where=is_labeled)
        counts += is_labeled.sum(axis=0)
    places = np.where(counts, total / np.maximum(counts, 1), circle)
    return _DRAWING_MARGIN + (100 - 2 * _DRAWING_MARGIN) * places


def _meta(skeleton: Skeleton, drawing: str) -> str:
    """Return the beginning of the XML file, with the definition of the labels."""
    joints = "".join(
        f"<label><name>{xml_text(joint)}</name><type>points</type><attributes></attributes>"
        f"<parent>{PERSON}</parent></label>\n"
        for joint in skeleton.joints
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n'
        f"<meta><task><labels>\n<label><name>{PERSON}</name><type>skeleton</type>"
        f"<attributes></attributes><svg>{xml_text(drawing)}</svg></label>\n{joints}"
        "</labels></task></meta>\n"
    )


def _image(number: int, image: PredictedImage, skeleton: Skeleton) -> str:
    """Return the element of an image. Missing joints are `outside`, inferred ones `occluded`.

    Missing joints, too, need a place, which CVAT shows if they are moved into the image.
    """
    labels = image.labels()
    people = []
    for points, flags in zip(labels.keypoints, labels.visibility, strict=True):
        center = points[flags != MISSING].mean(axis=0)
        joints = (
            f'<points label={xml_attribute(joint)} source="auto" outside="{int(flag == MISSING)}" '
            f'occluded="{int(flag == OCCLUDED)}" points="{x:.3f},{y:.3f}"></points>\n'
            for joint, flag, (x, y) in zip(
                skeleton.joints,
                flags,
                np.where(flags[:, None] == MISSING, center, points),
                strict=True,
            )
        )
        people.append(
            f'<skeleton label="{PERSON}" source="auto" z_order="0">\n{"".join(joints)}</skeleton>\n'
        )
    return (
        f'<image id="{number}" name={xml_attribute(image.name)} width="{image.width}" '
        f'height="{image.height}">\n{"".join(people)}</image>\n'
    )


OUTPUT_FORMAT = OutputFormat("cvat", (_PREDICTIONS, _LABELS), _write_images)
