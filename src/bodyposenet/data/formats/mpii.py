"""MPII: read its annotations in the JSON files of HRNet and MMPose, one entry per person.

See https://github.com/leoxiaobin/deep-high-resolution-net.pytorch and
https://mmpose.readthedocs.io. The pixels of MPII are numbered from 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bodyposenet.data.annotations import shorten
from bodyposenet.data.formats.document import (
    PERSON,
    AnnotationFile,
    AnnotationFormat,
    Box,
    CocoDocument,
    DocumentBuilder,
    Keypoint,
    parse_number,
)

JOINTS = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis",
    "thorax", "upper_neck", "head_top", "right_wrist", "right_elbow", "right_shoulder",
    "left_shoulder", "left_elbow", "left_wrist",
)  # fmt: skip
"""Names of MPII's joints, in the order of the files."""

_LIMBS = (
    ("right_ankle", "right_knee"), ("right_knee", "right_hip"), ("right_hip", "pelvis"),
    ("pelvis", "left_hip"), ("left_hip", "left_knee"), ("left_knee", "left_ankle"),
    ("pelvis", "thorax"), ("thorax", "upper_neck"), ("upper_neck", "head_top"),
    ("upper_neck", "right_shoulder"), ("right_shoulder", "right_elbow"),
    ("right_elbow", "right_wrist"), ("upper_neck", "left_shoulder"),
    ("left_shoulder", "left_elbow"), ("left_elbow", "left_wrist"),
)  # fmt: skip

_FIRST_PIXEL = 1
_SCALE_PIXELS = 200
"""Side of the square around a person of scale 1."""


def _is_mpii(file: AnnotationFile) -> bool:
    """Return whether a file is a list of people with an image, a center and a scale."""
    entry = file.first_element
    return isinstance(entry, Mapping) and {"image", "center", "scale"} <= entry.keys()


def _read(file: AnnotationFile) -> CocoDocument:
    """Read all people, grouped by image."""
    document = DocumentBuilder(file, names_are_complete=True)
    limbs = [[JOINTS.index(joint) + 1 for joint in limb] for limb in _LIMBS]
    document.add_category(PERSON, JOINTS, skeleton=limbs)
    image_ids: dict[str, int] = {}
    for number, entry in enumerate(file.json.elements(), 1):
        place = f"entry {number}"
        try:
            if not isinstance(entry, Mapping) or not isinstance(entry.get("image"), str):
                raise ValueError(f"expected an object with an image, got {shorten(entry)}")
            name = file.images.find(entry["image"])
            if name not in image_ids:
                image_ids[name] = document.add_image(place, name, *file.images.size(name))
            keypoints = _parse_joints(entry)
            box = None if keypoints else _parse_square(entry)
            document.add_person(place, image_ids[name], PERSON, keypoints, box)
        except ValueError as error:
            document.invalid.add(place, error)
    return document.build()


def _parse_joints(entry: Mapping[str, Any]) -> dict[str, Keypoint]:
    """Return the visible joints by name; none if the entry has no joints, as in the test set.

    Raises:
        ValueError: The number of joints differs, or a value is invalid.
    """
    if "joints" not in entry:
        return {}
    keypoints = {}
    joints, visible = (_list_of_joints(entry, key) for key in ("joints", "joints_vis"))
    for name, point, flag in zip(JOINTS, joints, visible, strict=True):
        if not flag:
            continue
        if not isinstance(point, list) or len(point) < 2:
            raise ValueError(f"joints: expected x and y of {name}, got {shorten(point)}")
        x, y = (parse_number(value, f"joints: {name}") - _FIRST_PIXEL for value in point[:2])
        keypoints[name] = Keypoint(x, y)
    return keypoints


def _list_of_joints(entry: Mapping[str, Any], key: str) -> list[Any]:
    """Return a list with a value for every joint.

    Raises:
        ValueError: It is not one.
    """
    values = entry.get(key)
    if not isinstance(values, list) or len(values) != len(JOINTS):
        found = len(values) if isinstance(values, list) else shorten(values)
        raise ValueError(f"{key}: expected {len(JOINTS)} values, got {found}")
    return values


def _parse_square(entry: Mapping[str, Any]) -> Box:
    """Return the square of a person's center and scale.

    Raises:
        ValueError: A value is invalid.
    """
    center = entry.get("center")
    if not isinstance(center, list) or len(center) != 2:
        raise ValueError(f"center: expected x and y, got {shorten(center)}")
    x, y = (parse_number(value, "center") - _FIRST_PIXEL for value in center)
    side = parse_number(entry.get("scale"), "scale") * _SCALE_PIXELS
    return x - side / 2, y - side / 2, side, side


FORMAT = AnnotationFormat("mpii", "MPII", _is_mpii, _read)
