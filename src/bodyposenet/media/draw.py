"""An image and poses in, the image with skeletons drawn on it out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.media.pixels import Image, to_pixels
from bodyposenet.skeleton import Skeleton
from bodyposenet.types import DRAWN_SCORE, Poses

Color = tuple[int, int, int]

_OUTLINE: Color = (18, 18, 24)
_FRACTION_BITS = 4
"""cv2 takes coordinates in 1/16 pixels."""

_FRINGE = 0.6
"""What cv2's antialiasing adds to a shape on each side, in pixels."""

_ANGLES = np.linspace(0, 2 * np.pi, 32, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
"""(32, 2) corners of a polygon that looks like a circle."""

_HOLE = 0.6
"""Radius of the hole in an inferred joint, as a share of the joint's."""

_INFERRED_LIMB = 0.4
"""Width of a limb that ends in an inferred joint, as a share of the others'."""


@dataclass(frozen=True)
class _Pen:
    """How thick one person is drawn, in pixels.

    Args:
        limb: Width of a limb.
        outline: Width of the dark line around limbs and joints, one side.
        joint: Radius of a joint.
    """

    limb: float
    outline: float
    joint: float


def draw(image: Image, poses: Poses, *, score_threshold: float = DRAWN_SCORE) -> NDArray[np.uint8]:
    """Draw people: limbs in the skeleton's colors, joints as dots, all with a thin dark outline.

    Lines grow with the image and are finer on small people; what the network is less sure of is
    fainter, and joints that were not found but inferred are rings at thin limbs. Larger people are
    drawn over smaller ones.

    Args:
        image: A path, an array (H, W, 3) uint8 RGB, or a PIL image; it stays as it is.
        poses: People in image pixels.
        score_threshold: Least score of the people who are drawn.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        BodyPoseNetError: What is given is no image or no poses, or the image's file cannot be read.
    """
    if not isinstance(poses, Poses):
        raise BodyPoseNetError(
            f"a {type(poses).__name__} is no Poses",
            "Give what the model found, or some of it by an index: poses[[0, 2]].",
        )
    canvas = to_pixels(image).copy()
    poses = poses[poses.scores >= score_threshold]
    extents = [_extent(points) for points in poses.keypoints]
    for person in np.argsort(extents, kind="stable"):
        if not np.isnan(poses.keypoints[person]).all():
            _draw_person(canvas, poses, int(person), _pen(canvas.shape[:2], extents[person]))
    return canvas


def _extent(points: NDArray[np.floating]) -> float:
    """Longer side of the box around a person's joints."""
    found = points[~np.isnan(points[:, 0])]
    return float(np.ptp(found, axis=0).max()) if len(found) else 0.0


def _pen(image_shape: tuple[int, ...], extent: float) -> _Pen:
    by_image = 0.0115 * np.sqrt(image_shape[0] * image_shape[1])
    limb = float(np.clip(min(by_image, 0.035 * extent), 1.5, 40.0))
    return _Pen(limb=limb, outline=max(0.7, 0.2 * limb), joint=max(1.3, 0.75 * limb))


def _draw_person(canvas: NDArray[np.uint8], poses: Poses, person: int, pen: _Pen) -> None:
    """Paint one person on a layer of its own, then lay that over the canvas."""
    points, skeleton = poses.keypoints[person], poses.skeleton
    found = ~np.isnan(points[:, 0])
    limbs = {k: limb for k, limb in enumerate(skeleton.limbs) if found[list(limb)].all()}
    opacities = _opacities(poses.keypoint_scores[person])
    sizes = _sizes(points, list(limbs.values()), pen)
    inferred = poses.inferred[person] if poses.inferred is not None else np.zeros(len(found), bool)
    widths = {
        k: pen.limb * min(sizes[start], sizes[end])
        * (_INFERRED_LIMB if inferred[[start, end]].any() else 1.0)
        for k, (start, end) in limbs.items()
    }  # fmt: skip
    layer = _Layer(canvas, points[found], margin=pen.joint + pen.outline + 2)
    for k, (start, end) in limbs.items():
        width = widths[k] + 2 * pen.outline
        opacity = min(opacities[start], opacities[end])
        layer.line(points[start], points[end], width, _OUTLINE, opacity)
    for k, (start, end) in limbs.items():
        layer.line(points[start], points[end], widths[k], skeleton.colors[k])
    colors = _joint_colors(skeleton)
    for k in np.flatnonzero(found):
        radius = pen.joint * sizes[k]
        layer.dot(points[k], radius + pen.outline, _OUTLINE, opacities[k])
        layer.dot(points[k], radius, colors[k])
        if inferred[k]:
            layer.dot(points[k], _HOLE * radius, colors[k], opacity=0.0)
    layer.lay_over(canvas)


def _sizes(
    points: NDArray[np.floating], limbs: Sequence[tuple[int, int]], pen: _Pen
) -> NDArray[np.floating]:
    """How large each joint is drawn, up to 1: eyes and other joints with short limbs are finer."""
    reach = np.zeros(len(points))
    for limb in limbs:
        length = np.hypot(*(points[limb[0]] - points[limb[1]]))
        reach[list(limb)] = np.maximum(reach[list(limb)], length)
    reach[reach == 0] = np.inf
    return np.clip(0.2 * reach / pen.limb, 0.5, 1.0)


def _opacities(scores: NDArray[np.floating]) -> NDArray[np.floating]:
    """Full from a score of one half, never less than two thirds of that."""
    return 0.95 * np.clip(0.5 + scores, 0.65, 1.0)


def _joint_colors(skeleton: Skeleton) -> list[Color]:
    """A light tint of the first limb that ends in the joint, or else starts in it."""
    colors = []
    for joint in range(len(skeleton.joints)):
        ends = [k for k, limb in enumerate(skeleton.limbs) if limb[1] == joint]
        touches = ends or [k for k, limb in enumerate(skeleton.limbs) if joint in limb]
        base = np.array(skeleton.colors[touches[0]] if touches else (255, 255, 255))
        red, green, blue = np.round(base + 0.55 * (255 - base)).astype(int).tolist()
        colors.append((red, green, blue))
    return colors


class _Layer:
    """A part of the canvas to paint on: colors, and how much of them covers the canvas.

    Args:
        canvas: (H, W, 3) uint8.
        points: (P, 2) what is painted, in pixels of the canvas.
        margin: How far strokes reach beyond the points.
    """

    def __init__(
        self, canvas: NDArray[np.uint8], points: NDArray[np.floating], margin: float
    ) -> None:
        limit = np.array(canvas.shape[1::-1])
        low = np.clip(np.floor(points.min(axis=0) - margin), 0, limit - 1).astype(int)
        high = np.clip(np.ceil(points.max(axis=0) + margin) + 1, low + 1, limit).astype(int)
        self._corner = low
        self._place = np.s_[low[1] : high[1], low[0] : high[0]]
        shape = (high[1] - low[1], high[0] - low[0])
        self._colors = np.full((*shape, 3), _OUTLINE, np.uint8)
        self._cover = np.zeros(shape, np.uint8)

    def line(
        self, start: NDArray[np.floating], end: NDArray[np.floating], width: float,
        color: Color, opacity: float | None = None,
    ) -> None:  # fmt: skip
        """A round-ended line; with an opacity it also covers the canvas."""
        across = end - start
        length = float(np.hypot(*across))
        half = max(width / 2 - _FRINGE, 0.0)
        normal = np.array([-across[1], across[0]]) / max(length, 1e-6) * half
        corners = np.stack([start + normal, end + normal, end - normal, start - normal])
        self._polygon(corners, color, opacity)
        for cap in (start, end):
            self.dot(cap, width / 2, color, opacity)

    def dot(
        self, center: NDArray[np.floating], radius: float, color: Color,
        opacity: float | None = None,
    ) -> None:  # fmt: skip
        """A filled circle; with an opacity it also covers the canvas."""
        self._polygon(center + max(radius - _FRINGE, 0.0) * _CIRCLE, color, opacity)

    def _polygon(self, corners: NDArray[np.floating], color: Color, opacity: float | None) -> None:
        fixed = np.round((corners - self._corner) * (1 << _FRACTION_BITS)).astype(np.int32)
        cv2.fillConvexPoly(self._colors, fixed, color, cv2.LINE_AA, _FRACTION_BITS)
        if opacity is not None:
            value = round(255 * opacity)
            cv2.fillConvexPoly(self._cover, fixed, value, cv2.LINE_AA, _FRACTION_BITS)

    def lay_over(self, canvas: NDArray[np.uint8]) -> None:
        """Blend the layer into the canvas."""
        below = canvas[self._place].astype(np.float32)
        share = self._cover[..., None].astype(np.float32) / 255
        canvas[self._place] = np.round(below + (self._colors - below) * share).astype(np.uint8)
