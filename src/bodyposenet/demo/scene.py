"""Draw scenes with people and annotate them as in COCO."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bodyposenet.demo.background import apply_camera_effects, paint_occluders, random_background
from bodyposenet.demo.canvas import OBJECT, Canvas, capsule
from bodyposenet.demo.figure import PARTS, PARTS_PER_PERSON, Figure, random_outfit
from bodyposenet.demo.pose import posed_body, random_pose
from bodyposenet.skeleton import COCO_JOINTS, side_of
from bodyposenet.types import Person

_CROWD_SHARE, _OBJECTS_SHARE, _UNLABELED_SHARE = 0.06, 0.18, 0.06
"""Probabilities of a crowd, of objects in front of people, and of a person without keypoints."""


def draw_scene(
    rng: np.random.Generator,
    height: int,
    width: int,
    joints: tuple[str, ...] = COCO_JOINTS,
    people: tuple[float, ...] = (0.45, 0.35, 0.2),
) -> tuple[NDArray[np.uint8], list[Person]]:
    """Draw a synthetic scene with people, and annotate it as in COCO.

    Args:
        rng: Random number generator; the same state gives the same scene.
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        joints: Names of the keypoints to annotate: COCO's, or other points of `pose.Body`.
        people: Probabilities of 1, 2, 3 ... people, not counting crowds; their sum is 1.

    Returns:
        The image, (height, width, 3) uint8 RGB, and its people, crowds last. `Person.keypoints` is
        (K, 3): x and y in pixels, and COCO's visibility flag: 2 visible, 1 occluded, 0 outside of
        the image or on a face that is turned away.

    Raises:
        KeyError: A joint is not a point of the body.

    Examples:
        ```python
        import numpy as np

        from bodyposenet.demo import draw_scene

        image, people = draw_scene(np.random.default_rng(0), height=480, width=640)
        ```
    """
    light = np.array((rng.uniform(-0.7, 0.7), rng.uniform(-0.7, 0.1), rng.uniform(0.6, 1.0)))
    canvas = Canvas(random_background(rng, height, width), light / np.linalg.norm(light))
    crowd = _crowd(rng, height, width) if rng.random() < _CROWD_SHARE else []
    figures = _figures(rng, height, width, 1 + int(rng.choice(len(people), p=people)))
    for number, figure in enumerate(crowd + figures):
        if figure.body.seated:
            _paint_seat(rng, canvas, figure)
        figure.paint(canvas, number)
    if rng.random() < _OBJECTS_SHARE:
        paint_occluders(rng, canvas)
    persons = [
        _without_keypoints(person) if rng.random() < _UNLABELED_SHARE else person
        for number, figure in enumerate(figures, start=len(crowd))
        if (person := annotate_person(canvas.part_ids, number, figure, joints))
    ]
    if region := annotate_crowd(canvas.part_ids, len(crowd), joints):
        persons.append(region)
    return apply_camera_effects(rng, canvas.image()), persons


def _without_keypoints(person: Person) -> Person:
    """Return the person without keypoints, as many in COCO."""
    return replace(person, keypoints=np.zeros_like(person.keypoints), num_keypoints=0)


def _figures(rng: np.random.Generator, height: int, width: int, count: int) -> list[Figure]:
    """Create people side by side in random depth order, most almost as tall as the image."""
    figures = []
    for slot in rng.permutation(count):
        share = rng.uniform(0.55, 0.95) if rng.random() < 0.9 else rng.uniform(0.4, 0.55)
        x = (slot + 0.5 + rng.uniform(-0.25, 0.25)) / count * width
        bottom = height * min(0.99, rng.uniform(max(share, 0.7), 1.05))
        if rng.random() < 0.12:
            bottom += height * rng.uniform(0.05, 0.3)  # cut off by the lower edge
        figures.append(_placed(rng, x, bottom, share * height, width))
    return figures


def _crowd(rng: np.random.Generator, height: int, width: int) -> list[Figure]:
    """Create a row of small people in the background."""
    size, count = rng.uniform(0.2, 0.3) * height, int(rng.integers(4, 8))
    left, bottom = rng.uniform(0, 0.5) * width, rng.uniform(0.5, 0.75) * height
    return [
        _placed(rng, left + 0.3 * size * i, bottom + rng.normal(0, 0.05) * size, size, width)
        for i in range(count)
    ]


def _placed(rng: np.random.Generator, x: float, bottom: float, size: float, width: int) -> Figure:
    """Create a person `size` pixels tall, centered at x, with the lowest point at `bottom`."""
    body = posed_body(random_pose(rng), camera_tilt=rng.uniform(-4, 12))
    points = np.array([point[:2] for point in body.points.values()])
    low, high = points.min(axis=0) - 0.03, points.max(axis=0) + 0.03
    stature = min(size / (high[1] - low[1]), width / (high[0] - low[0]))
    origin = np.array((x - stature * (low[0] + high[0]) / 2, bottom + stature * low[1]))
    return Figure(body, random_outfit(rng), stature, origin)


def _paint_seat(rng: np.random.Generator, canvas: Canvas, figure: Figure) -> None:
    """Paint a seat below the pelvis of a person who is sitting."""
    color = rng.uniform(40, 220, 3).astype(np.float32)
    size = 0.1 * figure.stature
    top = figure.at("pelvis") + np.array((0, size))
    floor = max(figure.at("left_ankle")[1], figure.at("right_ankle")[1])
    end = np.array((top[0], max(floor - size, top[1])))
    canvas.paint(capsule(top, end, size, size), lambda along, across: color, OBJECT)


_MIN_PIXELS, _MIN_VISIBLE = 60, 0.4
"""Smallest visible area of a person with keypoints: in pixels, and relative to the whole body."""
_BODY_AREA = 0.16
"""Area of a standing person, relative to the squared stature."""
_FACE = ("nose", "left_eye", "right_eye")


def annotate_person(
    part_ids: NDArray[np.int16], number: int, figure: Figure, joints: tuple[str, ...]
) -> Person | None:
    """Annotate a person; mostly occluded people have no keypoints, as in COCO.

    Args:
        part_ids: (H, W) part id of each pixel.
        number: Index of the person in the order of painting.
        figure: The person.
        joints: Names of the D keypoints.

    Returns:
        The annotation, or None if the person is not visible.
    """
    silhouette = part_ids // PARTS_PER_PERSON == number + 1
    polygons = _polygons(silhouette)
    if not polygons:
        return None
    area = int(silhouette.sum())
    keypoints = _keypoints(part_ids, number, figure, joints)
    if area < max(_MIN_PIXELS, _MIN_VISIBLE * _BODY_AREA * figure.stature**2):
        keypoints[:] = 0
    labeled = int((keypoints[:, 2] > 0).sum())
    return Person(keypoints, _box(silhouette), float(area), False, polygons, labeled, 0)


def annotate_crowd(
    part_ids: NDArray[np.int16], count: int, joints: tuple[str, ...]
) -> Person | None:
    """Annotate the first painted people as one crowd.

    Args:
        part_ids: (H, W) part id of each pixel.
        count: Number of people in the crowd.
        joints: Names of the D keypoints, which are not annotated.

    Returns:
        The annotation, or None if nobody is visible.
    """
    region = (part_ids >= PARTS_PER_PERSON) & (part_ids < PARTS_PER_PERSON * (count + 1))
    if not region.any():
        return None
    area, keypoints = float(region.sum()), np.zeros((len(joints), 3))
    return Person(keypoints, _box(region), area, True, _run_lengths(region), 0, 0)


def _keypoints(
    part_ids: NDArray[np.int16], number: int, figure: Figure, joints: tuple[str, ...]
) -> NDArray[np.float64]:
    """Return (D, 3): x, y and COCO's visibility flag."""
    height, width = part_ids.shape
    keypoints = np.zeros((len(joints), 3))
    for row, joint in enumerate(joints):
        x, y = figure.at(joint)
        column, line = round(float(x)), round(float(y))
        inside = 0 <= column < width and 0 <= line < height
        if inside and (joint not in _FACE or figure.faces_camera(joint)):
            part = int(part_ids[line, column]) - PARTS_PER_PERSON * (number + 1)
            keypoints[row] = (x, y, 2 if _is_visible(joint, part, figure) else 1)
    return keypoints


def _is_visible(joint: str, part: int, figure: Figure) -> bool:
    """Return whether the part that is visible at the position of a joint contains the joint."""
    if not 0 <= part < len(PARTS) or PARTS[part] not in _parts_at(joint):
        return False
    behind = figure.depth(joint) < figure.depth("pelvis", "neck") - 0.06
    return not (behind and PARTS[part] in ("torso", "head"))


def _parts_at(joint: str) -> tuple[str, ...]:
    """Return the parts of the body that contain a joint."""
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
    """Return the box (x, y, width, height) of a region."""
    x, y, width, height = cv2.boundingRect(region.astype(np.uint8))
    return float(x), float(y), float(width), float(height)


def _polygons(region: NDArray[np.bool_]) -> list[list[float]]:
    """Return COCO polygons; contours are relative to pixel centers, polygons to pixel edges."""
    contours, _ = cv2.findContours(
        region.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    return [(contour.reshape(-1) + 0.5).tolist() for contour in contours if len(contour) >= 3]


def _run_lengths(region: NDArray[np.bool_]) -> dict[str, Any]:
    """Return COCO's uncompressed RLE: column by column, starting with background."""
    flat = region.T.reshape(-1)
    changes = np.flatnonzero(np.diff(flat, prepend=False)).tolist()
    counts = [end - start for start, end in pairwise([0, *changes, flat.size])]
    return {"size": list(region.shape), "counts": counts}
