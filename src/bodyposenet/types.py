"""Data types shared by several packages: annotated people, training records and network maps.

`Poses` and `DEFAULT_SCORE_THRESHOLD` are re-exported from `poses`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bodyposenet.poses import DEFAULT_SCORE_THRESHOLD, Poses

__all__ = [
    "DEFAULT_SCORE_THRESHOLD",
    "HEATMAP_SIGMA",
    "MASK_VALID",
    "PAD_VALUE",
    "Maps",
    "Person",
    "Poses",
    "Record",
    "Visibility",
]

HEATMAP_SIGMA = 7.0
"""Default standard deviation of a joint's Gaussian in the heatmaps, in network input pixels."""

PAD_VALUE = 128
"""Value of input pixels outside of the image, in training and inference; the default normalization
maps it to 0."""

MASK_VALID = 255
"""Mask value of pixels that the loss includes; 0 for the others."""


class Visibility(IntEnum):
    """Visibility of an annotated keypoint, mapped from the dataset's flags."""

    VISIBLE = 0
    ANNOTATABLE = 1
    OCCLUDED = 2
    TRUNCATED = 3
    NOT_LABELED = 4
    NOT_LABELED_IN_DATASET = 5

    @property
    def is_labeled(self) -> bool:
        """Whether the keypoint is trained: visible, annotatable or occluded."""
        return self <= Visibility.OCCLUDED


@dataclass(frozen=True, eq=False)
class Person:
    """An annotated person, in image pixels.

    Args:
        keypoints: (D, 3) float64: x, y and the dataset's visibility flag.
        box: (4,) x, y, width, height.
        area: Area of the segmentation in square pixels, or of the box if there is none.
        is_crowd: Whether the region contains people who are not annotated individually.
        segmentation: COCO polygons (lists or arrays), RLE or uncompressed RLE; or None.
        num_keypoints: Number of labeled keypoints.
        annotation_id: Id of the annotation.
        is_pseudo: Whether this is a pseudo-label, a detection of a model.
    """

    keypoints: NDArray[np.float64]
    box: tuple[float, float, float, float]
    area: float
    is_crowd: bool
    segmentation: Any
    num_keypoints: int
    annotation_id: int
    is_pseudo: bool = False

    @property
    def is_labeled(self) -> bool:
        """Whether this is a single person with labeled keypoints, not a crowd."""
        return self.num_keypoints > 0 and not self.is_crowd

    @property
    def center(self) -> tuple[float, float]:
        """Center of the box, (x, y)."""
        x, y, width, height = self.box
        return x + width / 2, y + height / 2


@dataclass(frozen=True, eq=False)
class Record:
    """One training record: an image and its people, the anchor person first.

    Args:
        image_id: COCO image id.
        image_path: Path relative to the dataset's root.
        mask_path: Path relative to the dataset's root.
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        dataset: Name of the dataset, the key of its dataset spec.
        joints: (P, D, 3) float64: x, y and visibility flag, in the dataset's joint order.
        scales: (P,) float64, height of each person's box in pixels.
        centers: (P, 2) float64, center of each person's box in pixels.
        person_index: Index of the anchor person among the image's annotations.
    """

    image_id: int
    image_path: str
    mask_path: str
    height: int
    width: int
    dataset: str
    joints: NDArray[np.float64]
    scales: NDArray[np.float64]
    centers: NDArray[np.float64]
    person_index: int = 0


@dataclass(frozen=True, eq=False)
class Maps:
    """The network's maps of one image: its output, or training targets.

    Args:
        heatmaps: (K + 1, h, w) float32, one per joint, then the background.
        pafs: (2 L, h, w) float32, x and y of each limb's part affinity field (PAF).
        stride: Input pixels per cell.
        heatmap_sigma: Standard deviation of a joint's Gaussian, in input pixels.
    """

    heatmaps: NDArray[np.float32]
    pafs: NDArray[np.float32]
    stride: int = 8
    heatmap_sigma: float = HEATMAP_SIGMA
