"""The only code that moves pixels or points: one affine map, with one pixel convention.

The center of pixel i lies at coordinate i (COCO's and OpenCV's convention), so a resize by s maps
x to (x + 0.5) s - 0.5, and cell i of a map with stride 8 has its center at 8 i + 3.5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Affine:
    """A map of the plane, from source pixels to target pixels.

    Args:
        matrix: (2, 3) float64; a point (x, y) goes to matrix @ (x, y, 1).
    """

    matrix: NDArray[np.float64]

    @classmethod
    def translation(cls, x: float, y: float) -> Affine:
        """Shift by (x, y) pixels."""
        return cls(np.array([[1.0, 0.0, x], [0.0, 1.0, y]]))

    @classmethod
    def scaling(cls, x: float, y: float | None = None) -> Affine:
        """Scale about the origin by x, and by y vertically if it is given."""
        return cls(np.array([[x, 0.0, 0.0], [0.0, x if y is None else y, 0.0]]))

    @classmethod
    def rotation(cls, degrees: float) -> Affine:
        """Rotate about the origin; a positive angle turns the x axis towards the y axis."""
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        return cls(np.array([[cos, -sin, 0.0], [sin, cos, 0.0]]))

    @classmethod
    def resize(cls, x: float, y: float | None = None) -> Affine:
        """Resize an image by the factor x (and y vertically): pixel edges map to pixel edges."""
        y = x if y is None else y
        return cls(np.array([[x, 0.0, x / 2 - 0.5], [0.0, y, y / 2 - 0.5]]))

    @classmethod
    def quarter_turns(cls, turns: int, height: int, width: int) -> Affine:
        """Turn an image counterclockwise by whole quarter turns, as `numpy.rot90` does.

        The map is exact: pixel centers map to pixel centers.

        Args:
            turns: Quarter turns; negative ones turn clockwise.
            height: Of the image before the turn, in pixels.
            width: Of the image before the turn, in pixels.
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
        """The map that applies this one first and `following` second."""
        matrix = following.matrix[:, :2] @ self.matrix
        matrix[:, 2] += following.matrix[:, 2]
        return Affine(matrix)

    def inverse(self) -> Affine:
        """The map back.

        Raises:
            numpy.linalg.LinAlgError: The map is singular.
        """
        linear = np.linalg.inv(self.matrix[:, :2]).astype(np.float64)
        return Affine(np.column_stack([linear, -linear @ self.matrix[:, 2]]))

    @property
    def scale(self) -> float:
        """How many target pixels one source pixel is wide (geometric mean of both axes)."""
        return math.sqrt(abs(float(np.linalg.det(self.matrix[:, :2]))))

    @property
    def mirrors(self) -> bool:
        """Whether the target shows a mirror image, in which left and right change places."""
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
        """Draw the image on a canvas of height x width target pixels.

        Where the map shrinks an axis of the source by two or more, whole blocks of source pixels
        are averaged first, so that nothing is skipped over.

        Args:
            image: (h, w) or (h, w, c) uint8.
            height: Rows of the canvas.
            width: Columns of the canvas.
            outside: Value of the canvas where the image does not reach.
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
        """Read float maps on a grid of height x width target cells (bicubic, edges repeated).

        Args:
            channels: (C, h, w) float32.
            height: Rows of the target grid.
            width: Columns of the target grid.

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
