"""Stick figures of four colored dots, and a fake engine that detects only upright ones."""

from __future__ import annotations

import cv2
import numpy as np

from bodyposenet.skeleton import Skeleton
from bodyposenet.types import Maps

STICK = Skeleton("stick", ("head", "neck", "hip", "foot"), ((0, 1), (1, 2), (2, 3)))
STRIDE = 8
COLORS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0))
UPRIGHT = np.array([[0.0, -0.5], [0.0, -0.25], [0.05, 0.1], [0.0, 0.5]])
LYING = UPRIGHT[:, ::-1] * [1, -1]
"""With the head on the left."""
LYING_THE_OTHER_WAY = -LYING
UPSIDE_DOWN = -UPRIGHT
LEANING = (UPRIGHT + LYING) / np.sqrt(2)
"""Tilted by 45 degrees."""


class UprightEngine:
    """Fake network: returns perfect maps of people whose feet are below their heads.

    Args:
        fixed_shape: The only supported height and width, or None for any.
        min_slope: Minimum ratio of the vertical to the horizontal distance from head to feet.
    """

    skeleton = STICK
    stride = STRIDE
    stages = 1

    def __init__(self, fixed_shape: tuple[int, int] | None = None, min_slope: float = 2.0) -> None:
        self.fixed_shape = fixed_shape
        self._min_slope = min_slope
        self.shapes: list[tuple[int, ...]] = []

    def infer(self, images: np.ndarray, stage: int | None = None) -> list[Maps]:
        assert not any(side % STRIDE for side in images.shape[1:3])
        assert self.fixed_shape in (None, images.shape[1:3])
        self.shapes.append(images.shape)
        return [
            render(upright_people(image, self._min_slope), *image.shape[:2]) for image in images
        ]


def draw_people(height: int, width: int, people: list[np.ndarray]) -> np.ndarray:
    """Draw (4, 2) people as dots whose radius depends on the size of the image."""
    image = np.zeros((height, width, 3), np.uint8)
    radius = min(height, width) / 45
    for points in people:
        for (x, y), color in zip(points, COLORS, strict=True):
            center = (round(x * 16), round(y * 16))
            cv2.circle(image, center, round(radius * 16), color, -1, cv2.LINE_AA, 4)
    return image


def upright_people(image: np.ndarray, min_slope: float) -> list[np.ndarray]:
    """Find upright people by their dots: each joint is the dot nearest to the previous joint."""
    heads, *others = (find_dots(image, color) for color in COLORS)
    people = []
    for head in heads:
        points = [head]
        for dots in others:
            distances = np.linalg.norm(dots - points[-1], axis=1)
            points.append(dots[distances.argmin()])
        x, y = points[-1] - head
        if y > min_slope * abs(x):
            people.append(np.array(points))
    return people


def find_dots(image: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """Return the (N, 2) centers of the dots of one color."""
    weights = 255 - np.abs(image.astype(float) - color).sum(axis=-1)
    count, dots = cv2.connectedComponents((weights > 0).astype(np.uint8))
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    centers = []
    for dot in range(1, count):
        own = weights * (dots == dot)
        if (own > 0).sum() > 4:
            centers.append([(own * columns).sum() / own.sum(), (own * rows).sum() / own.sum()])
    return np.array(centers).reshape(-1, 2)


def render(people: list[np.ndarray], height: int, width: int) -> Maps:
    """Return Gaussian heatmaps, and strips of unit vectors, at the centers of the cells."""
    rows, columns = np.mgrid[: height // STRIDE, : width // STRIDE] * STRIDE + 3.5
    cells = np.stack([columns, rows], axis=-1)
    heatmaps = np.zeros((5, *columns.shape))
    pafs = np.zeros((3, 2, *columns.shape))
    for points in people:
        squares = ((cells - points[:, None, None]) ** 2).sum(axis=-1)
        heatmaps[:4] = np.maximum(heatmaps[:4], np.exp(-squares / (2 * 7**2)))
        for limb, (start, end) in enumerate(STICK.limbs):
            length = np.linalg.norm(points[end] - points[start])
            unit = (points[end] - points[start]) / length
            along = (cells - points[start]) @ unit
            across = np.abs((cells - points[start]) @ np.array([-unit[1], unit[0]]))
            strip = (across < STRIDE) & (along > -STRIDE) & (along < length + STRIDE)
            pafs[limb][:, strip] = unit[:, None]
    heatmaps[4] = 1 - heatmaps[:4].max(axis=0)
    return Maps(heatmaps.astype(np.float32), pafs.reshape(6, *columns.shape).astype(np.float32))
