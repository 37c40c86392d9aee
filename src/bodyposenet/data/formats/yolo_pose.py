"""Ultralytics YOLO: read datasets for pose estimation, and write predictions as one.

`data.yaml` describes the classes and keypoints, and every image has a text file of labels, see
https://docs.ultralytics.com/datasets/pose/.
"""

from __future__ import annotations

import math
from codecs import BOM_UTF8
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from bodyposenet.data.annotations import shorten
from bodyposenet.data.formats.document import (
    PERSON,
    VISIBLE,
    AnnotationFile,
    AnnotationFormat,
    Box,
    CocoDocument,
    DocumentBuilder,
)
from bodyposenet.data.formats.predictions import (
    ImagePredictions,
    OutputFormat,
    PredictedImage,
    annotation_skeleton,
)
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import atomic_write, is_file
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.pose import MAX_KEYPOINTS
from bodyposenet.specs.spec_file import SpecFile

_DATA_FILE, _IMAGES, _LABELS = "data.yaml", "images", "labels"

_BOX_VALUES = 5
"""Class, x and y of the center, width and height."""


def _is_yolo_pose(file: AnnotationFile) -> bool:
    """Return whether a file is YAML."""
    return file.is_yaml


def _read(file: AnnotationFile) -> CocoDocument:
    """Read the labels of all images in the image folder."""
    layout = _Layout.read(SpecFile.read(file.path))
    document = DocumentBuilder(file, names_are_complete=True)
    for name, names in zip(layout.classes, layout.keypoint_names, strict=True):
        document.add_category(name, names, flip_idx=list(layout.flip_indices))
    names = _image_names(file, layout, document)
    labels = [_label_file(file.images.path / name) for name in names]
    if names and not any(map(is_file, labels)):
        raise BodyPoseNetError(
            f"{file.path}: no label files for the {len(names)} images of {file.images.path}; "
            f"expected {labels[0]}, for example",
            "Put the labels into a folder `labels` beside the folder `images`.",
        )
    for name, path in zip(names, labels, strict=True):
        try:
            height, width = file.images.size(name)
            image_id = document.add_image(name, name, height, width)
            rows = _read_rows(path)
        except ValueError as error:
            document.invalid.add(name, error)
            continue
        for line, row in rows:
            place = f"{path}:{line}"
            try:
                values = _parse_numbers(row)
                category, box, keypoints = _parse_person(values, layout, height, width)
                document.add_person(place, image_id, category, keypoints, box)
            except ValueError as error:
                document.invalid.add(place, error)
    return document.build()


@dataclass(frozen=True)
class _Layout:
    """Content of `data.yaml`.

    Args:
        classes: Names of the classes.
        keypoints: Number of keypoints.
        dimensions: Values per keypoint: 2 (x, y) or 3 (with the visibility flag).
        keypoint_names: Names of the keypoints of each class; empty if the file does not name them.
        flip_indices: Index of the mirrored keypoint of each keypoint; empty if unknown.
        content: The whole content.
    """

    classes: tuple[str, ...]
    keypoints: int
    dimensions: int
    keypoint_names: tuple[tuple[str, ...], ...]
    flip_indices: tuple[int, ...]
    content: Mapping[str, Any]

    @classmethod
    def read(cls, file: SpecFile) -> _Layout:
        """Read `data.yaml`.

        Raises:
            BodyPoseNetError: The file is invalid, or does not describe keypoints.
        """
        content = file.content()
        shape = _integers(content.get("kpt_shape")) or []
        if len(shape) != 2 or shape[1] not in (2, 3):
            raise file.error(
                ("kpt_shape",),
                "expected the number of keypoints and 2 or 3, the number of values of each, got "
                f"{shorten(content.get('kpt_shape'))}",
                "Use a dataset for pose estimation, such as one with kpt_shape: [17, 3].",
            )
        count, dimensions = shape
        if not 1 <= count <= MAX_KEYPOINTS:
            raise file.error(("kpt_shape",), f"{count} keypoints, not 1 to {MAX_KEYPOINTS}")
        classes = tuple(str(name) for name in _by_class(file, content, "names"))
        listed = _by_class(file, content, "kpt_names") or [[]] * len(classes)
        if listed and isinstance(listed[0], str):  # the same names for all classes
            listed = [listed] * len(classes)
        is_valid = len(listed) == len(classes) and all(
            isinstance(names, list) and len(set(map(str, names))) == len(names) in (0, count)
            for names in listed
        )
        if not is_valid:
            problem = f"expected {count} different names for each of {len(classes)} classes"
            raise file.error(("kpt_names",), problem)
        flips = _integers(content.get("flip_idx") or [])
        if flips is None or (flips and sorted(flips) != list(range(count))):
            problem = f"expected the indices 0 to {count - 1}, got {shorten(content['flip_idx'])}"
            raise file.error(("flip_idx",), problem)
        names = tuple(tuple(map(str, names)) for names in listed)
        return cls(classes, count, dimensions, names, tuple(flips), content)


def _integers(values: Any) -> list[int] | None:
    """Return a list of integers; None if the value is not one."""
    if isinstance(values, list) and all(type(value) is int for value in values):
        return values
    return None


def _by_class(file: SpecFile, content: Mapping[str, Any], key: str) -> list[Any]:
    """Return a list by class, which can be written as a mapping from the numbers of the classes.

    Raises:
        BodyPoseNetError: It is neither.
    """
    values = content.get(key)
    if isinstance(values, dict) and sorted(map(str, values)) == sorted(
        map(str, range(len(values)))
    ):
        values = [values.get(number, values.get(str(number))) for number in range(len(values))]
    if values is None and key != "names":
        return []
    if not isinstance(values, list) or not values:
        raise file.error((key,), f"expected a list or numbered entries, got {shorten(values)}")
    return values


def _image_names(file: AnnotationFile, layout: _Layout, document: DocumentBuilder) -> list[str]:
    """Return the images of the folder, or those of them that a list of images names.

    Raises:
        BodyPoseNetError: A list of images cannot be read.
    """
    key = {"train": "train", "test": "val", None: None}[file.mode]
    if key == "val" and layout.content.get("val") is None:
        key = "test"
    entries = layout.content.get(key) if key is not None else None
    lists = [
        entry
        for entry in (entries if isinstance(entries, list) else [entries])
        if isinstance(entry, str) and entry.endswith(".txt")
    ]
    if not lists:
        return file.images.names
    root = layout.content.get("path")
    folders = [file.path.parent / root, file.path.parent] if isinstance(root, str) else []
    named: set[str] = set()
    for entry in lists:
        candidates = [folder / entry for folder in folders or [file.path.parent]]
        path = next((path for path in candidates if is_file(path)), None)
        if path is None:
            raise BodyPoseNetError(
                f"{file.path}: {key}: file not found: {candidates[0]}",
                "Correct the path in the file, or remove the key to read all images.",
            )
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        named.update(file.images.find(line.strip()) for line in lines if line.strip())
    names = [name for name in file.images.names if name in named]
    document.skipped["listed images that are not in the image folder"] += len(named) - len(names)
    return names


def _label_file(image: Path) -> Path:
    """Return the label file of an image: in `labels` instead of `images`, or beside the image."""
    beside = image.with_suffix(".txt")
    parts = list(image.absolute().parts)
    folders = [index for index, part in enumerate(parts[:-1]) if part == "images"]
    if not folders:
        return beside
    parts[folders[-1]] = "labels"
    path = Path(*parts).with_suffix(".txt")
    return beside if is_file(beside) and not is_file(path) else path


def _read_rows(path: Path) -> list[tuple[int, list[str]]]:
    """Read the rows of a label file with their line numbers; none if it does not exist.

    Raises:
        ValueError: The file cannot be read, or is not text.
    """
    try:
        lines = path.read_bytes().removeprefix(BOM_UTF8).decode("ascii").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file") from error
    return [(number, line.split()) for number, line in enumerate(lines, 1) if line.strip()]


def _parse_numbers(row: Sequence[str]) -> list[float]:
    """Parse a row of finite numbers.

    Raises:
        ValueError: A value is not a number.
    """
    values = []
    for text in row:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ValueError(f"expected finite numbers, got {shorten(text)}")
        values.append(value)
    return values


def _parse_person(
    values: Sequence[float], layout: _Layout, height: int, width: int
) -> tuple[str, Box, list[float]]:
    """Return class, box and keypoints in pixels; no keypoints if the row has only a box.

    Raises:
        ValueError: The number of values, the class or a flag is invalid.
    """
    expected = _BOX_VALUES + layout.keypoints * layout.dimensions
    if len(values) not in (_BOX_VALUES, expected):
        raise ValueError(
            f"expected {expected} values (class, box, {layout.keypoints} x {layout.dimensions} of "
            f"kpt_shape), got {len(values)}"
        )
    number, x, y, box_width, box_height = values[:_BOX_VALUES]
    if number not in range(len(layout.classes)):
        raise ValueError(f"unknown class {number:g}; data.yaml has {len(layout.classes)}")
    box = (
        (x - box_width / 2) * width,
        (y - box_height / 2) * height,
        box_width * width,
        box_height * height,
    )
    keypoints: list[float] = []
    for start in range(_BOX_VALUES, len(values), layout.dimensions):
        point = values[start : start + layout.dimensions]
        flag = point[2] if layout.dimensions == 3 else VISIBLE * _is_labeled(*point)
        if flag not in (0, 1, 2):
            raise ValueError(
                f"unknown visibility flag {flag:g} of a keypoint; predictions with scores are not "
                "annotations"
            )
        keypoints += (point[0] * width, point[1] * height, int(flag)) if flag else (0, 0, 0)
    return layout.classes[int(number)], box, keypoints


def _is_labeled(x: float, y: float) -> bool:
    """Return whether a keypoint without a flag is labeled: not negative, not (0, 0)."""
    return min(x, y) >= 0 and max(x, y) > 0


FORMAT = AnnotationFormat("yolo_pose", "YOLO-pose", _is_yolo_pose, _read, has_parts=True)


def _write_images(folder: Path, predictions: ImagePredictions) -> None:
    """Write data.yaml and a file of labels per image, for images in the folder `images`.

    Args:
        folder: Existing folder of the files.
        predictions: The predictions.

    Raises:
        BodyPoseNetError: A file cannot be written, or two images would have the same label file.
    """
    _check_names(image.name for image in predictions.images)
    with atomic_write(folder / _DATA_FILE, durable=True) as file:
        layout = _layout(annotation_skeleton(predictions.skeleton))
        text = yaml.safe_dump(layout, sort_keys=False, default_flow_style=None, width=100)
        file.write(f"# Predictions of {predictions.model}\n{text}".encode())
    for image in predictions.images:
        path = folder / _LABELS / Path(image.name).with_suffix(".txt")
        with atomic_write(path) as file:
            file.write(_rows(image).encode())


def _check_names(names: Iterable[str]) -> None:
    """Raise an error if two images would have the same label file."""
    others: dict[str, str] = {}
    for name in names:
        stem = str(Path(name).with_suffix(""))
        other = others.get(stem)
        others[stem] = name
        if other is not None:
            raise BodyPoseNetError(
                f"--output_format yolo_pose: {other} and {name} would have the same labels",
                "Rename one of the images; YOLO finds labels by the name without extension.",
            )


def _layout(skeleton: Skeleton) -> dict[str, Any]:
    """Return the content of data.yaml, in which the same images serve for validation."""
    return {
        "train": _IMAGES,
        "val": _IMAGES,
        "names": {0: PERSON},
        "kpt_shape": [len(skeleton.joints), 3],
        "flip_idx": list(skeleton.mirrored),
        "kpt_names": {0: list(skeleton.joints)},
    }


def _rows(image: PredictedImage) -> str:
    """Return the label file of an image, with a line per person."""
    labels = image.labels()
    size = np.array([image.width, image.height])
    low, high = labels.boxes[:, :2] / size, labels.boxes[:, 2:] / size
    boxes = np.hstack([(low + high) / 2, high - low])
    lines = []
    for box, points, flags in zip(boxes, labels.keypoints / size, labels.visibility, strict=True):
        triples = (f"{x:.7f} {y:.7f} {flag}" for (x, y), flag in zip(points, flags, strict=True))
        lines.append(f"0 {' '.join(f'{value:.7f}' for value in box)} {' '.join(triples)}\n")
    return "".join(lines)


OUTPUT_FORMAT = OutputFormat(
    "yolo_pose",
    (_DATA_FILE, f"{_LABELS}/**/*.txt", f"{_LABELS}.cache"),
    _write_images,
    check_names=_check_names,
)
