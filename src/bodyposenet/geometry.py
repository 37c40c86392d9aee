"""Affine maps of points, images and network maps, with one pixel convention.

The center of pixel i has the coordinate i (the convention of COCO and OpenCV). So a resize by s
maps x to (x + 0.5) s - 0.5, and cell i of a map with stride 8 has its center at 8 i + 3.5. All
geometric transforms of the package use this module.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Affine:
    """An affine map from source pixels to target pixels.

    Args:
        matrix: (2, 3) float64; a point (x, y) is mapped to matrix @ (x, y, 1).
    """

    matrix: NDArray[np.float64]

    @classmethod
    def translation(cls, x: float, y: float) -> Affine:
        """Return the translation by (x, y) pixels."""
        return cls(np.array([[1.0, 0.0, x], [0.0, 1.0, y]]))

    @classmethod
    def scaling(cls, x: float, y: float | None = None) -> Affine:
        """Return the scaling about the origin by x, and by y vertically if it is given."""
        return cls(np.array([[x, 0.0, 0.0], [0.0, x if y is None else y, 0.0]]))

    @classmethod
    def rotation(cls, degrees: float) -> Affine:
        """Return the rotation about the origin; positive angles rotate from the x to the y axis."""
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        return cls(np.array([[cos, -sin, 0.0], [sin, cos, 0.0]]))

    @classmethod
    def resize(cls, x: float, y: float | None = None) -> Affine:
        """Return the map of an image resize by x (and y vertically): edges map to edges."""
        y = x if y is None else y
        return cls(np.array([[x, 0.0, x / 2 - 0.5], [0.0, y, y / 2 - 0.5]]))

    @classmethod
    def quarter_turns(cls, turns: int, height: int, width: int) -> Affine:
        """Return the rotation of an image by quarter turns, as `numpy.rot90` does.

        The map is exact: pixel centers map to pixel centers.

        Args:
            turns: Counterclockwise quarter turns.
            height: Height of the source image in pixels.
            width: Width of the source image in pixels.
        """
        right, bottom = width - 1, height - 1
        matrices = (
            [[1, 0, 0], [0, 1, 0]],
            [[0, 1, 0], [-1, 0, right]],
            [[-1, 0, right], [0, -1, bottom]],
            [[0, -1, bottom], [1, 0, 0]],
        )
        return cls(np.array(matrices[turns % 4], np.float64))

    def then(self, following: Affine) -> Affine:
        """Return the map that applies this map first and `following` second."""
        matrix = following.matrix[:, :2] @ self.matrix
        matrix[:, 2] += following.matrix[:, 2]
        return Affine(matrix)

    def inverse(self) -> Affine:
        """Return the inverse map.

        Raises:
            numpy.linalg.LinAlgError: The map is singular.
        """
        linear = np.linalg.inv(self.matrix[:, :2]).astype(np.float64)
        return Affine(np.column_stack([linear, -linear @ self.matrix[:, 2]]))

    @property
    def scale(self) -> float:
        """Size of a source pixel in target pixels (geometric mean of both axes)."""
        return math.sqrt(abs(float(np.linalg.det(self.matrix[:, :2]))))

    @property
    def mirrors(self) -> bool:
        """Whether the map contains a reflection, which exchanges left and right."""
        return float(np.linalg.det(self.matrix[:, :2])) < 0

    def apply(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Map points, (..., 2) in source pixels, to target pixels; NaN stays NaN."""
        return points @ self.matrix[:, :2].T + self.matrix[:, 2]

    def warp(
        self,
        image: NDArray[np.uint8],
        height: int,
        width: int,
        *,
        outside: int,
        interpolation: int = cv2.INTER_LINEAR,
    ) -> NDArray[np.uint8]:
        """Warp an image to height x width target pixels.

        If the map shrinks an axis of the source by two or more, blocks of source pixels are
        averaged first, to avoid aliasing.

        Args:
            image: (h, w) or (h, w, c) uint8.
            height: Height of the target.
            width: Width of the target.
            outside: Value of target pixels outside of the image.
            interpolation: An OpenCV interpolation flag.

        Returns:
            (height, width) or (height, width, c) uint8.
        """
        matrix = self
        blocks = 1 / np.maximum(np.hypot(*self.matrix[:, :2]), 1 / max(image.shape[:2]))
        columns = image.shape[1] // max(int(blocks[0]), 1) or 1
        rows = image.shape[0] // max(int(blocks[1]), 1) or 1
        if (rows, columns) != image.shape[:2]:
            shrink = Affine.resize(columns / image.shape[1], rows / image.shape[0])
            image = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
            matrix = shrink.inverse().then(self)
        border = (outside,) * 4
        return cv2.warpAffine(  # type: ignore[return-value]
            image, matrix.matrix, (width, height), flags=interpolation, borderValue=border
        )

    def resample(
        self, channels: NDArray[np.float32], height: int, width: int
    ) -> NDArray[np.float32]:
        """Resample float maps on height x width target cells (bicubic, edges repeated).

        Args:
            channels: (C, h, w) float32.
            height: Height of the target.
            width: Width of the target.

        Returns:
            (C, height, width) float32.
        """
        target = np.empty((len(channels), height, width), np.float32)
        for source, canvas in zip(channels, target, strict=True):
            cv2.warpAffine(
                source, self.matrix, (width, height), canvas,
                flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE,
            )  # fmt: skip
        return target
