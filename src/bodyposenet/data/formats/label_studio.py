"""Label Studio: read exports in its formats JSON and JSON-MIN, and write pre-annotations.

A person is a region of `RectangleLabels` with regions of `KeyPointLabels`, see
https://labelstud.io/guide/task_format. A keypoint belongs to the rectangle that is its parent in
the list of regions (`parentID`), or that it has a relation with. JSON-MIN contains neither.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple
from urllib.parse import quote, unquote

import numpy as np

from bodyposenet.console import logger
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
    parse_number,
    parse_numbers,
)
from bodyposenet.data.formats.grouping import (
    LabeledBox,
    LabeledPoint,
    add_grouped_people,
    box_around_rotated,
)
from bodyposenet.data.formats.image_folder import ImageFolder
from bodyposenet.data.formats.predictions import (
    MISSING,
    ImagePredictions,
    OutputFormat,
    PoseLabels,
    PredictedImage,
    annotation_skeleton,
    side_color,
)
from bodyposenet.data.formats.safe_xml import xml_attribute
from bodyposenet.files import atomic_write, write_json
from bodyposenet.media.images import IMAGE_EXTENSIONS

_OCCLUDED_CHOICES = ("occluded", "hidden")
"""Choices of a region (`<Choices perRegion="true">`) that mark a keypoint as occluded."""

_UPLOAD_PREFIX = re.compile(r"[0-9a-f]{8}-")
"""Label Studio prepends this to the names of uploaded files."""

_LOCAL_FILE = re.compile(r"[?&]d=([^&]*)")
_REMOTE_FILE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://[^/?#]*([^?#]*)")
"""Address of a file in Label Studio's local storage, and of one on a server or in a bucket."""

_OLDER_ANNOTATIONS = (
    "annotations of tasks with several annotations (the ground truth is used, or else the latest)"
)

_PREDICTIONS, _CONFIG = "predictions.json", "config.xml"
"""Files of pre-annotations."""

_DATA_KEY = "image"
"""Key of the image in the data of a task, and name of the image in the labeling configuration."""

_CONTROLS = {
    "rectanglelabels": "people", "keypointlabels": "keypoints", "choices": "visibility",
}  # fmt: skip
"""Type of a region -> name of its control in the labeling configuration."""

_POINT_WIDTH = 0.5
"""Width of a keypoint in percent of the image, for display only."""

_LABEL_KEYS = ("keypointlabels", "rectanglelabels", "labels")


def _is_label_studio(file: AnnotationFile) -> bool:
    """Return whether a file is a list of tasks (JSON), or of objects with regions (JSON-MIN)."""
    task = file.first_element
    if not isinstance(task, Mapping):
        return False
    if isinstance(task.get("data"), Mapping) or "annotation_id" in task:
        return True
    return any(_is_region(value) for values in task.values() for value in _as_list(values))


def _read(file: AnnotationFile) -> CocoDocument:
    """Read the images that are annotated, and their people."""
    document = DocumentBuilder(file, names_are_complete=False)
    for place, entry in _latest_entries(file.json.elements(), document):
        try:
            task = _select_annotation(entry, document)
            if task is not None:
                _add_image(document, file.images, place, task)
        except ValueError as error:
            document.invalid.add(place, error)
    return document.build()


def _latest_entries(
    entries: Iterable[Any], document: DocumentBuilder
) -> list[tuple[str, Mapping[str, Any]]]:
    """Return place and content of each task; JSON-MIN has one entry per annotation of a task."""
    tasks: dict[str, Mapping[str, Any]] = {}
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, Mapping):
            document.invalid.add(f"entry {number}", f"expected an object, got {shorten(entry)}")
            continue
        place = f"task {shorten(entry['id'])}" if "id" in entry else f"entry {number}"
        other = tasks.get(place)
        if other is not None:
            document.skipped[_OLDER_ANNOTATIONS] += 1
        if other is None or _date(other) <= _date(entry):
            tasks[place] = entry
    return list(tasks.items())


class _Task(NamedTuple):
    """An annotated image.

    Args:
        data: Data of the task, which contains the address of the image.
        results: Results of one annotation.
    """

    data: Mapping[str, Any]
    results: Sequence[Mapping[str, Any]]


def _select_annotation(entry: Mapping[str, Any], document: DocumentBuilder) -> _Task | None:
    """Select the annotation of a task; None if nobody has annotated it.

    Raises:
        ValueError: The entry is invalid.
    """
    data = entry.get("data")
    if not isinstance(data, Mapping):
        return _Task(entry, _results_of_minimal_entry(entry))
    annotations = _objects("annotations", entry.get("annotations", entry.get("completions")))
    finished = [a for a in annotations if not (a.get("was_cancelled") or a.get("skipped"))]
    if not finished:
        document.skipped["tasks without annotations"] += 1
        return None
    document.skipped[_OLDER_ANNOTATIONS] += len(finished) - 1
    chosen = max(finished, key=lambda a: (bool(a.get("ground_truth")), _date(a)))
    uploaded = {"image": entry["file_upload"]} if entry.get("file_upload") else {}
    return _Task(uploaded | dict(data), _objects("result", chosen.get("result")))


def _date(annotation: Mapping[str, Any]) -> str:
    """Return the date of the last change as text that can be compared (ISO 8601)."""
    return str(annotation.get("updated_at") or annotation.get("created_at") or "")


def _results_of_minimal_entry(entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the regions of a JSON-MIN entry in the structure of the results of JSON."""
    regions = [
        value for values in entry.values() for value in _as_list(values) if _is_region(value)
    ]
    return [
        {
            "type": "rectanglelabels" if "height" in region else "keypointlabels",
            "value": region,
            "original_width": region.get("original_width"),
            "original_height": region.get("original_height"),
        }
        for region in regions
    ]


def _is_region(value: Any) -> bool:
    """Return whether a value is a rectangle or keypoint of JSON-MIN."""
    return isinstance(value, Mapping) and "x" in value and any(key in value for key in _LABEL_KEYS)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _objects(key: str, values: Any) -> list[Mapping[str, Any]]:
    """Check that a value is a list of objects; null is an empty list.

    Raises:
        ValueError: It is not.
    """
    if values is None:
        return []
    if not isinstance(values, list) or not all(isinstance(value, Mapping) for value in values):
        raise ValueError(f"{key} must be a list of objects, got {shorten(values)}")
    return values


def _add_image(document: DocumentBuilder, images: ImageFolder, place: str, task: _Task) -> None:
    """Add an image and its people.

    Raises:
        ValueError: The task is invalid.
    """
    name = _find_image(images, task.data)
    height, width = _stated_size(task.results) or images.size(name)
    regions = _parse_regions(task.results, document)
    groups = _Groups(regions, task.results)
    points, boxes = [], []
    for region in regions:
        group = groups.of(region)
        if region.kind == "point":
            x, y = parse_numbers(region.value, "x", "y")
            flag = OCCLUDED if region.is_occluded else VISIBLE
            keypoint = Keypoint(x * width / 100, y * height / 100, flag)
            points.append(LabeledPoint(region.label, keypoint, group))
        else:
            boxes.append(LabeledBox(region.label, _parse_box(region.value, height, width), group))
    add_grouped_people(document, place, (name, height, width), points, boxes)


@dataclass(frozen=True)
class _Region:
    """A keypoint or rectangle.

    Args:
        kind: Its shape.
        value: Its position, in percent of the image.
        label: Its label.
        is_occluded: Whether it is marked as occluded.
        id: Its id, or None.
        parent: Id of the region that it belongs to in the list of regions, or None.
    """

    kind: Literal["point", "box"]
    value: Mapping[str, Any]
    label: str
    is_occluded: bool
    id: Hashable
    parent: Hashable


_KINDS: Mapping[str, Literal["point", "box"]] = {
    "keypointlabels": "point", "keypoint": "point", "rectanglelabels": "box", "rectangle": "box",
}  # fmt: skip
_ATTRIBUTES = ("labels", "choices", "textarea", "rating", "number")
"""Results that describe a region: they have the id of the region."""


def _parse_regions(
    results: Iterable[Mapping[str, Any]], document: DocumentBuilder
) -> list[_Region]:
    """Parse the keypoints and rectangles of an annotation, and count what is skipped.

    Raises:
        ValueError: A region is invalid.
    """
    shapes = [result for result in results if _type(result) in _KINDS]
    shape_ids = {_id(result, "id") for result in shapes}
    attributes: dict[Hashable, dict[str, Any]] = {}
    for result in results:
        if _type(result) in _ATTRIBUTES and _id(result, "id") in shape_ids:
            value = result.get("value")
            attributes.setdefault(_id(result, "id"), {}).update(
                value if isinstance(value, Mapping) else {}
            )
        elif _type(result) not in (*_KINDS, "relation"):
            document.skipped["regions that are neither keypoints nor rectangles"] += 1
    regions = []
    for result in shapes:
        if result.get("image_rotation") not in (None, 0):
            raise ValueError(
                f"the image is rotated by {shorten(result['image_rotation'])} degrees in Label "
                "Studio; reset the rotation there and correct the regions"
            )
        value = result.get("value")
        if not isinstance(value, Mapping):
            raise ValueError(f"value of a region must be an object, got {shorten(value)}")
        attribute = attributes.get(_id(result, "id"), {})
        label = _label({**attribute, **value})
        if label is None:
            document.skipped["regions without a label"] += 1
            continue
        choices = [str(choice).casefold() for choice in _as_list(attribute.get("choices"))]
        is_occluded = any(choice in _OCCLUDED_CHOICES for choice in choices)
        ids = _id(result, "id"), _id(result, "parentID")
        regions.append(_Region(_KINDS[_type(result)], value, label, is_occluded, *ids))
    return regions


def _type(result: Mapping[str, Any]) -> str:
    """Return the type of a result; an empty text if it has none."""
    value = result.get("type")
    return value if isinstance(value, str) else ""


def _id(result: Mapping[str, Any], key: str) -> Hashable:
    """Return the id of a region, or None."""
    value = result.get(key)
    return value if isinstance(value, str | int) else None


def _label(value: Mapping[str, Any]) -> str | None:
    """Return the label of a region, or None if it has none.

    Raises:
        ValueError: It has several labels, or the label is not text.
    """
    labels = next((value[key] for key in _LABEL_KEYS if value.get(key)), None)
    if labels is None:
        return None
    if not isinstance(labels, list) or len(labels) != 1 or not isinstance(labels[0], str):
        raise ValueError(f"expected one label per region, got {shorten(labels)}")
    return labels[0]


class _Groups:
    """Which regions belong together.

    Args:
        regions: Regions of an image.
        results: Results of the annotation, including relations.
    """

    def __init__(self, regions: Sequence[_Region], results: Iterable[Mapping[str, Any]]) -> None:
        self._boxes = {region.id for region in regions if region.kind == "box"} - {None}
        self._parents = {region.id: region.parent for region in regions if region.id is not None}
        self._with_children = {region.parent for region in regions} - {None}
        self._tops: dict[Hashable, Hashable] = {}
        self._related: dict[Hashable, set[Hashable]] = {}
        for result in results:
            if _type(result) == "relation":
                ends = _id(result, "from_id"), _id(result, "to_id")
                for one, other in (ends, ends[::-1]):
                    self._related.setdefault(one, set()).add(other)

    def _top(self, region: Hashable) -> Hashable:
        """Return the first rectangle, or else the topmost region, from a region upward."""
        path = []
        while region not in self._tops:
            path.append(region)
            self._tops[region] = region  # ends cycles
            parent = None if region in self._boxes else self._parents.get(region)
            if parent is None:
                break
            region = parent
        top = self._tops[region]
        self._tops.update(dict.fromkeys(path, top))
        return top

    def of(self, region: _Region) -> Hashable:
        """Return the group of a region; None for a keypoint without one.

        It is the id of the rectangle above a keypoint in the list of regions, or that it has a
        relation with, or of the topmost keypoint above it.

        Raises:
            ValueError: The keypoint has relations with several rectangles.
        """
        if region.kind == "box":
            return region.id
        if region.parent is not None:
            return self._top(region.parent)
        if region.id in self._with_children:
            return region.id
        related = self._related.get(region.id, set()) & self._boxes
        if len(related) > 1:
            raise ValueError(f"keypoint {region.label!r} has relations with several rectangles")
        return next(iter(related), None)


def _parse_box(value: Mapping[str, Any], height: int, width: int) -> Box:
    """Convert a rectangle to pixels; of a rotated one, return the box around it.

    Raises:
        ValueError: A value is not a number.
    """
    x, y, box_width, box_height = parse_numbers(value, "x", "y", "width", "height")
    degrees = parse_number(value.get("rotation", 0), "rotation")  # about the top left corner
    left, top = x * width / 100, y * height / 100
    box = (left, top, box_width * width / 100, box_height * height / 100)
    return box_around_rotated(box, degrees, (left, top))


def _stated_size(results: Iterable[Mapping[str, Any]]) -> tuple[int, int] | None:
    """Return height and width of the image that the results state, or None.

    Raises:
        ValueError: They are not positive whole numbers.
    """
    for result in results:
        size = result.get("original_height"), result.get("original_width")
        if None not in size:
            height, width = (parse_number(side, "original size") for side in size)
            if min(height, width) < 1 or height % 1 or width % 1:
                raise ValueError(f"invalid size of the image: {width:g} x {height:g} pixels")
            return int(height), int(width)
    return None


def _find_image(images: ImageFolder, data: Mapping[str, Any]) -> str:
    """Return the path of the image of a task.

    Raises:
        ValueError: The data contain no address of an image, or several.
    """
    address = data.get("image")
    if not isinstance(address, str) or not address:
        found = [value for value in data.values() if _is_image(value)]
        if len(found) != 1:
            raise ValueError(
                f"expected one image in the data of the task, got {len(found)} addresses of images"
            )
        address = found[0]
    path = _path(address)
    return images.find(path, _UPLOAD_PREFIX.sub("", PurePosixPath(path).name, count=1))


def _is_image(value: Any) -> bool:
    """Return whether a value is the address of an image."""
    return isinstance(value, str) and _path(value).lower().endswith(IMAGE_EXTENSIONS)


def _path(address: str) -> str:
    """Return the path in an address such as `/data/local-files/?d=photos/1.jpg`, decoded."""
    local = _LOCAL_FILE.search(address)
    remote = _REMOTE_FILE.match(address)
    return unquote(local[1] if local else remote[1] if remote else address)


FORMAT = AnnotationFormat("label_studio", "Label Studio", _is_label_studio, _read)


def _write_images(folder: Path, predictions: ImagePredictions) -> None:
    """Write predictions.json, a task per image, and config.xml, its labeling configuration.

    Args:
        folder: Existing folder of the files.
        predictions: The predictions.

    Raises:
        BodyPoseNetError: A file cannot be written.
    """
    tasks = [_task(image, predictions) for image in predictions.images]
    write_json(folder / _PREDICTIONS, tasks, indent=None)
    with atomic_write(folder / _CONFIG, durable=True) as file:
        joints = annotation_skeleton(predictions.skeleton).joints
        file.write(labeling_configuration(joints).encode())
    if predictions.folder is not None:
        logger.info(
            "label_studio: serve the images with LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true and "
            "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT=%s, and add the local storage %s",
            predictions.folder.parent, predictions.folder,
        )  # fmt: skip


def _task(image: PredictedImage, predictions: ImagePredictions) -> dict[str, Any]:
    """Return a task with a prediction."""
    labels, joints = image.labels(), annotation_skeleton(predictions.skeleton).joints
    results = [
        region for person in range(len(labels)) for region in _person(image, labels, person, joints)
    ]
    score = round(float(labels.scores.mean()), 5) if len(labels) else 0.0
    prediction = {"model_version": predictions.model, "score": score, "result": results}
    return {"data": {_DATA_KEY: _address(image, predictions.folder)}, "predictions": [prediction]}


def _person(
    image: PredictedImage, labels: PoseLabels, person: int, joints: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yield the regions of a person: the box, and the keypoints, whose parent it is."""
    percent = 100 / np.array([image.width, image.height])
    corner, end = labels.boxes[person, :2] * percent, labels.boxes[person, 2:] * percent
    (left, top), (width, height) = corner.round(6).tolist(), (end - corner).round(6).tolist()
    box = {
        "x": left, "y": top, "width": width, "height": height, "rotation": 0,
        "rectanglelabels": [PERSON],
    }  # fmt: skip
    box_id, score = f"person{person}", float(labels.scores[person])
    yield _region(image, box_id, "rectanglelabels", box) | {"score": round(score, 5)}
    points = (labels.keypoints[person] * percent).round(6).tolist()
    for k in np.flatnonzero(labels.visibility[person] != MISSING).tolist():
        place = {"x": points[k][0], "y": points[k][1], "width": _POINT_WIDTH}
        point = place | {"keypointlabels": [joints[k]]}
        region, score = f"{box_id}-{k}", float(labels.keypoint_scores[person, k])
        yield (
            _region(image, region, "keypointlabels", point)
            | {"parentID": box_id, "score": round(score, 5)}
        )  # fmt: skip
        if labels.visibility[person, k] == OCCLUDED:
            choice = place | {"choices": [_OCCLUDED_CHOICES[0]]}
            yield _region(image, region, "choices", choice)


def _region(image: PredictedImage, name: str, kind: str, value: dict[str, Any]) -> dict[str, Any]:
    """Return a region with positions in percent of the image."""
    return {
        "id": name, "type": kind, "from_name": _CONTROLS[kind], "to_name": _DATA_KEY,
        "original_width": image.width, "original_height": image.height, "image_rotation": 0,
        "value": value,
    }  # fmt: skip


def _address(image: PredictedImage, folder: Path | None) -> str:
    """Return the address of an image; files are served from the parent of their folder."""
    if image.address:
        return image.address
    path = PurePosixPath(folder.name if folder is not None else "", image.name)
    # File names that are not valid text are encoded as the original bytes.
    return f"/data/local-files/?d={quote(path.as_posix(), errors='surrogateescape')}"


def labeling_configuration(joints: Iterable[str], category: str = PERSON) -> str:
    """Return a labeling configuration: boxes around people, and their keypoints.

    Left and right joints have different colors, and keypoints can be marked as occluded.

    Args:
        joints: Names of the joints.
        category: Label of the boxes.

    Returns:
        The configuration, XML.
    """
    box, points, choices = (
        f'name="{_CONTROLS[kind]}" toName="{_DATA_KEY}"'
        for kind in ("rectanglelabels", "keypointlabels", "choices")
    )
    keypoints = "\n".join(
        f'    <Label value={xml_attribute(joint)} background="{side_color(joint)}"/>'
        for joint in joints
    )
    return f"""\
<View>
  <Image name="{_DATA_KEY}" value="${_DATA_KEY}" zoom="true" zoomControl="true"/>
  <RectangleLabels {box}>
    <Label value={xml_attribute(category)} background="{side_color(category)}"/>
  </RectangleLabels>
  <KeyPointLabels {points} strokeWidth="3">
{keypoints}
  </KeyPointLabels>
  <Choices {choices} perRegion="true" whenTagName="{_CONTROLS["keypointlabels"]}">
    <Choice value="{_OCCLUDED_CHOICES[0]}"/>
  </Choices>
</View>
"""


OUTPUT_FORMAT = OutputFormat("label_studio", (_PREDICTIONS, _CONFIG), _write_images)
