"""Drawing of skeletons on images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from bodyposenet.errors import check_score, check_type
from bodyposenet.media.images import Color, Image, check_color, to_pixels
from bodyposenet.poses import DEFAULT_SCORE_THRESHOLD, Poses
from bodyposenet.skeleton import Skeleton

Rgb = tuple[int, int, int]

_OUTLINE: Rgb = (18, 18, 24)
_UNPAINTED = np.array([*_OUTLINE, 0], np.uint8).view(np.uint32)[0]
"""RGBA of an empty layer pixel as one number; dark, because the edges of outlines blend with it."""

_FRACTION_BITS = 4
"""Fixed-point bits of OpenCV coordinates: 1/16 pixel."""

_FRINGE = 0.6
"""Pixels that OpenCV's antialiasing adds to each side of a shape."""

_HALF_CIRCLE = np.linspace(-np.pi / 2, np.pi / 2, 17)
"""Angles of the vertices of a polygon that approximates half a circle."""

_RING_HOLE = 0.6
"""Inner radius of the ring of an inferred joint, relative to the outer one."""

_INFERRED_LIMB = 0.4
"""Width of a limb with an inferred joint, relative to other limbs."""

_MIN_INFERRED_SCORE = 0.1
"""Minimum score of an inferred joint that is drawn. Of the inferred joints with lower scores of 607
photos of COCO, 2 % are on the person; most of the others are outside of the photo or hidden."""


@dataclass(frozen=True)
class _Pen:
    """Line widths of one person, in pixels.

    Args:
        limb: Width of a limb.
        outline: Width of the dark outline of limbs and joints.
        joint: Radius of a joint.
    """

    limb: float
    outline: float
    joint: float


def draw(
    image: Image,
    poses: Poses,
    *,
    score_threshold: float = DEFAULT_SCORE_THRESHOLD,
    color: Color = "rgb",
) -> NDArray[np.uint8]:
    """Draw people on a copy of an image: limbs in the skeleton's colors, and joints as dots.

    Line widths scale with the image, and are finer on small people. Low scores are drawn more
    transparent. Inferred joints (`complete_pose`) are drawn as rings with thin limbs if their score
    is at least 0.1, and otherwise omitted, because most of them are not visible in the image.
    Larger people are drawn over smaller ones.

    Args:
        image: Any image that the model accepts: a path, an array (H, W, 3) uint8, a PIL image, a
            `Frame`, and others. It is not modified.
        poses: People in image pixels.
        score_threshold: Minimum score of people who are drawn, 0 to 1.
        color: Channel order of the image, if it is an array, and of the result: `rgb`, or `bgr` as
            in OpenCV.

    Returns:
        (H, W, 3) uint8, RGB or BGR.

    Raises:
        BodyPoseNetError: The image or the poses have a wrong type, an argument is out of range, or
            the image cannot be read.
    """
    check_score("score_threshold", score_threshold)
    check_color(color)
    remedy = "Give the poses of a model, or some of them, such as poses[[0, 2]]."
    check_type("draw", poses, Poses, remedy)
    canvas = to_pixels(image, color).copy()
    poses = _without_guesses(poses[poses.scores >= score_threshold])
    extents = [_extent(points) for points in poses.keypoints]
    joint_colors = _joint_colors(poses.skeleton)
    for person in sorted(range(len(poses)), key=extents.__getitem__):
        if not np.isnan(poses.keypoints[person]).all():
            pen = _pen(canvas.shape[:2], extents[person])
            _draw_person(canvas, poses, person, pen, joint_colors)
    return np.ascontiguousarray(canvas[..., ::-1]) if color == "bgr" else canvas


def _without_guesses(poses: Poses) -> Poses:
    """Return the poses without the inferred joints whose scores are too low to be drawn."""
    if poses.inferred is None:
        return poses
    guessed = poses.inferred & (poses.keypoint_scores < _MIN_INFERRED_SCORE)
    return replace(poses, keypoints=np.where(guessed[..., None], np.nan, poses.keypoints))


def _extent(points: NDArray[np.floating]) -> float:
    """Return the longer side of the box around a person's joints."""
    visible = points[~np.isnan(points[:, 0])]
    return float(np.ptp(visible, axis=0).max()) if len(visible) else 0.0


def _pen(image_shape: tuple[int, ...], extent: float) -> _Pen:
    by_image = 0.0115 * np.sqrt(image_shape[0] * image_shape[1])
    limb = float(np.clip(min(by_image, 0.035 * extent), 1.5, 40.0))
    return _Pen(limb=limb, outline=max(0.7, 0.2 * limb), joint=max(1.3, 0.75 * limb))


def _draw_person(
    canvas: NDArray[np.uint8], poses: Poses, person: int, pen: _Pen, joint_colors: Sequence[Rgb]
) -> None:
    """Draw one person on a layer, then blend it into the canvas."""
    points, skeleton = poses.keypoints[person].astype(np.float64), poses.skeleton
    visible = ~np.isnan(points[:, 0])
    drawn = [k for k, limb in enumerate(skeleton.limbs) if visible[list(limb)].all()]
    limbs = np.array([skeleton.limbs[k] for k in drawn], np.intp).reshape(-1, 2)
    inferred = np.zeros_like(visible) if poses.inferred is None else poses.inferred[person]
    opacities, sizes = _opacities(poses.keypoint_scores[person]), _sizes(points, limbs, pen)
    widths = pen.limb * sizes[limbs].min(axis=1)
    widths[inferred[limbs].any(axis=1)] *= _INFERRED_LIMB
    limb_colors = [skeleton.colors[k] for k in drawn]
    limb_opacities = opacities[limbs].min(axis=1)
    starts, ends = points[limbs[:, 0]], points[limbs[:, 1]]
    layer = _Layer(canvas, points[visible], margin=pen.joint + pen.outline + 2)
    layer.lines(starts, ends, widths + 2 * pen.outline, [_OUTLINE] * len(limbs), limb_opacities)
    layer.lines(starts, ends, widths, limb_colors, limb_opacities)
    radii = pen.joint * sizes
    dots = [
        dot
        for k in np.flatnonzero(visible).tolist()
        for dot in (
            (k, radii[k] + pen.outline, _OUTLINE, opacities[k]),
            (k, radii[k], joint_colors[k], opacities[k]),
            (k, _RING_HOLE * radii[k], joint_colors[k], 0.0),
        )[: 3 if inferred[k] else 2]
    ]
    joints, radii, colors, covers = zip(*dots, strict=True)
    centers = points[list(joints)]
    layer.lines(centers, centers, 2 * np.array(radii), colors, np.array(covers))
    layer.blend_into(canvas)


def _sizes(
    points: NDArray[np.floating], limbs: NDArray[np.intp], pen: _Pen
) -> NDArray[np.floating]:
    """Return the relative size of each joint, up to 1; joints with short limbs are smaller."""
    lengths = np.hypot(*(points[limbs[:, 0]] - points[limbs[:, 1]]).T)
    reach = np.zeros(len(points))
    for side in limbs.T:
        np.maximum.at(reach, side, lengths)
    reach[reach == 0] = np.inf
    return np.clip(0.2 * reach / pen.limb, 0.5, 1.0)


def _opacities(scores: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the opacity of each joint, increasing up to a score of 0.5."""
    return 0.95 * np.clip(0.5 + scores, 0.65, 1.0)


def _joint_colors(skeleton: Skeleton) -> list[Rgb]:
    """Return the color of each joint: a light tint of a limb that ends (or else starts) in it."""
    colors: list[Rgb] = []
    for joint in range(len(skeleton.joints)):
        ends = [k for k, limb in enumerate(skeleton.limbs) if limb[1] == joint]
        touches = ends or [k for k, limb in enumerate(skeleton.limbs) if joint in limb]
        base = np.array(skeleton.colors[touches[0]] if touches else (255, 255, 255))
        red, green, blue = np.round(base + 0.55 * (255 - base)).astype(int).tolist()
        colors.append((red, green, blue))
    return colors


class _Layer:
    """An RGBA layer over a part of the canvas.

    Args:
        canvas: (H, W, 3) uint8.
        points: (P, 2) points that the layer must contain, in canvas pixels.
        margin: Margin around the points, in pixels.
    """

    def __init__(
        self, canvas: NDArray[np.uint8], points: NDArray[np.floating], margin: float
    ) -> None:
        limit = np.array(canvas.shape[1::-1])
        low = np.clip(np.floor(points.min(axis=0) - margin), 0, limit - 1).astype(int)
        high = np.clip(np.ceil(points.max(axis=0) + margin) + 1, low + 1, limit).astype(int)
        self._corner: NDArray[np.intp] = low
        self._place = np.s_[low[1] : high[1], low[0] : high[0]]
        shape = (int(high[1] - low[1]), int(high[0] - low[0]))
        self._pixels = np.full(shape, _UNPAINTED).view(np.uint8).reshape(*shape, 4)

    def lines(
        self, starts: NDArray[np.floating], ends: NDArray[np.floating],
        widths: NDArray[np.floating], colors: Sequence[Rgb], opacities: NDArray[np.floating],
    ) -> None:  # fmt: skip
        """Draw lines with round ends; starts and ends are (L, 2)."""
        along = np.arctan2(*(ends - starts).T[::-1])[:, None]
        angles = np.concatenate([along + _HALF_CIRCLE, along + np.pi + _HALF_CIRCLE], axis=1)
        centers = np.repeat(np.stack([ends, starts], axis=1), len(_HALF_CIRCLE), axis=1)
        rims = np.stack([np.cos(angles), np.sin(angles)], axis=2)
        halves = np.maximum(widths / 2 - _FRINGE, 0.0)[:, None, None]
        self._fill(centers + halves * rims, colors, opacities)

    def _fill(
        self, polygons: NDArray[np.floating], colors: Sequence[Rgb],
        opacities: NDArray[np.floating],
    ) -> None:  # fmt: skip
        fixed = np.round((polygons - self._corner) * (1 << _FRACTION_BITS)).astype(np.int32)
        covers = np.round(255 * opacities).tolist()
        for corners, color, cover in zip(fixed, colors, covers, strict=True):
            value = (*color, cover)
            cv2.fillConvexPoly(self._pixels, corners, value, cv2.LINE_AA, _FRACTION_BITS)

    def blend_into(self, canvas: NDArray[np.uint8]) -> None:
        """Blend the layer into the canvas."""
        part, colors = canvas[self._place], cv2.cvtColor(self._pixels, cv2.COLOR_RGBA2RGB)
        cover = cv2.cvtColor(cv2.extractChannel(self._pixels, 3), cv2.COLOR_GRAY2RGB)
        below = cv2.multiply(part, cv2.bitwise_not(cover), scale=1 / 255)
        cv2.multiply(colors, cover, colors, scale=1 / 255)
        part[:] = cv2.add(below, colors)


_FONT = cv2.FONT_HERSHEY_DUPLEX
_HEIGHT = 22
"""Height of a letter at scale 1, in pixels."""


def draw_track_ids(image: NDArray[np.uint8], poses: Poses) -> NDArray[np.uint8]:
    """Draw the track ids of people above their topmost joints, on a copy of the image.

    Args:
        image: (H, W, 3) uint8, RGB.
        poses: People in image pixels; those with an id of -1 are skipped.

    Returns:
        (H, W, 3) uint8, RGB.
    """
    canvas = image.copy()
    if poses.track_ids is None:
        return canvas
    scale = max(min(image.shape[:2]) / 900, 0.4)
    for track_id, points in zip(poses.track_ids.tolist(), poses.keypoints, strict=True):
        visible = points[~np.isnan(points[:, 0])]
        if track_id < 0 or not len(visible):
            continue
        x, y = visible[visible[:, 1].argmin()]
        middle = 0.5 * cv2.getTextSize(str(track_id), _FONT, scale, 1)[0][0]
        corner = np.array([x - middle, y - 0.8 * scale * _HEIGHT])
        place = np.clip(corner, (0, scale * _HEIGHT), image.shape[1::-1]).round().astype(int)
        for color, thickness in (((0, 0, 0), 4), ((255, 255, 255), 1)):
            width = max(round(thickness * scale), thickness)
            cv2.putText(
                canvas, str(track_id), place.tolist(), _FONT, scale, color, width, cv2.LINE_AA
            )
    return canvas
