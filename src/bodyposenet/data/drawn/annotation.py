"""What is seen of drawn people: owners of the pixels and figures in, COCO's annotations out."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bodyposenet.data.drawn.figure import PARTS, PARTS_PER_PERSON, Figure
from bodyposenet.skeleton import side_of
from bodyposenet.types import Person

_LEAST_PIXELS, _LEAST_SEEN = 60, 0.4
_BODY_AREA = 0.16
"""Area of a standing person, in squares of the stature."""
_FACE = ("nose", "left_eye", "right_eye")


def annotate_person(
    owners: NDArray[np.int16], number: int, figure: Figure, joints: tuple[str, ...]
) -> Person | None:
    """Annotate a person; one of whom little is seen is left unlabelled, as in COCO.

    Args:
        owners: (H, W) who is seen in each pixel.
        number: The person's number among the painted.
        figure: The person.
        joints: Names of the D keypoints.

    Returns:
        The person, or None if nothing of it is seen.
    """
    silhouette = owners // PARTS_PER_PERSON == number + 1
    polygons = _polygons(silhouette)
    if not polygons:
        return None
    area = int(silhouette.sum())
    keypoints = _keypoints(owners, number, figure, joints)
    if area < max(_LEAST_PIXELS, _LEAST_SEEN * _BODY_AREA * figure.stature**2):
        keypoints[:] = 0
    labelled = int((keypoints[:, 2] > 0).sum())
    return Person(keypoints, _box(silhouette), float(area), False, polygons, labelled, 0)


def annotate_crowd(owners: NDArray[np.int16], count: int, joints: tuple[str, ...]) -> Person | None:
    """Annotate the first `count` painted people as one crowd; None if nothing of it is seen."""
    region = (owners >= PARTS_PER_PERSON) & (owners < PARTS_PER_PERSON * (count + 1))
    if not region.any():
        return None
    area, keypoints = float(region.sum()), np.zeros((len(joints), 3))
    return Person(keypoints, _box(region), area, True, _run_lengths(region), 0, 0)


def _keypoints(
    owners: NDArray[np.int16], number: int, figure: Figure, joints: tuple[str, ...]
) -> NDArray[np.float64]:
    """(D, 3): x, y and COCO's flag."""
    height, width = owners.shape
    keypoints = np.zeros((len(joints), 3))
    for row, joint in enumerate(joints):
        x, y = figure.at(joint)
        column, line = round(float(x)), round(float(y))
        inside = 0 <= column < width and 0 <= line < height
        if inside and (joint not in _FACE or figure.faces_us(joint)):
            part = int(owners[line, column]) - PARTS_PER_PERSON * (number + 1)
            keypoints[row] = (x, y, 2 if _is_seen(joint, part, figure) else 1)
    return keypoints


def _is_seen(joint: str, part: int, figure: Figure) -> bool:
    """Whether the part that is seen at a joint's place shows the joint, or hides it."""
    if not 0 <= part < len(PARTS) or PARTS[part] not in _parts_at(joint):
        return False
    behind = figure.depth(joint) < figure.depth("pelvis", "neck") - 0.06
    return not (behind and PARTS[part] in ("torso", "head"))


def _parts_at(joint: str) -> tuple[str, ...]:
    """The parts of the body that show a joint."""
    side = side_of(joint)
    parts = {
        "nose": ("head",), "eye": ("head",), "chin": ("head", "torso"), "crown": ("head",),
        "ear": ("head", f"{side}_ear"), "neck": ("torso",), "pelvis": ("torso",),
        "shoulder": ("torso", f"{side}_upper_arm"),
        "elbow": (f"{side}_upper_arm", f"{side}_forearm"), "wrist": (f"{side}_forearm",),
        "hand": (f"{side}_forearm",),
        "hip": ("torso", f"{side}_thigh"), "knee": (f"{side}_thigh", f"{side}_shin"),
        "ankle": (f"{side}_shin",), "toe": (f"{side}_shin",),
    }  # fmt: skip
    return parts[joint.removeprefix(f"{side}_")]


def _box(region: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    x, y, width, height = cv2.boundingRect(region.astype(np.uint8))
    return float(x), float(y), float(width), float(height)


def _polygons(region: NDArray[np.bool_]) -> list[list[float]]:
    """COCO's polygons, which count from the pixels' edges; a contour runs through centers."""
    contours, _ = cv2.findContours(
        region.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    return [(contour.reshape(-1) + 0.5).tolist() for contour in contours if len(contour) >= 3]


def _run_lengths(region: NDArray[np.bool_]) -> dict[str, Any]:
    """COCO's uncompressed run lengths: column by column, background first."""
    flat = region.T.reshape(-1)
    changes = np.flatnonzero(np.diff(flat, prepend=False)).tolist()
    counts = [end - start for start, end in pairwise([0, *changes, flat.size])]
    return {"size": list(region.shape), "counts": counts}
