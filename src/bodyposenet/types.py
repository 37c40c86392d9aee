"""The values that pass between packages: annotated people, training records, network maps, poses.

Poses have a module of their own, `poses`.
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
]  # fmt: skip

HEATMAP_SIGMA = 7.0
"""Standard deviation of a joint's Gaussian in the heatmaps, in network input pixels, where neither
a train spec nor a model gives another."""

PAD_VALUE = 128
"""Value of the network's input outside of the image, in training and inference; the default
normalization maps it to 0."""

MASK_VALID = 255
"""Value of a mask where the loss counts; 0 elsewhere."""


class Visibility(IntEnum):
    """Visibility of an annotated keypoint, after the dataset's own flags were mapped."""

    VISIBLE = 0
    ANNOTATABLE = 1
    OCCLUDED = 2
    TRUNCATED = 3
    NOT_LABELED = 4
    NOT_LABELED_IN_DATASET = 5

    @property
    def is_labeled(self) -> bool:
        """Whether the keypoint is trained: if it is visible, annotatable or occluded."""
        return self <= Visibility.OCCLUDED


@dataclass(frozen=True, eq=False)
class Person:
    """One annotated person, in image pixels.

    Args:
        keypoints: (D, 3) float64: x, y and the dataset's own visibility flag.
        box: (4,) x, y, width, height.
        area: Area of the segmentation, in pixels; of the box, if there is no segmentation.
        is_crowd: Whether the region holds many people who are not annotated one by one.
        segmentation: COCO polygons (lists or arrays), RLE or uncompressed RLE; or None.
        num_keypoints: How many keypoints are labeled.
        annotation_id: Id of the annotation.
        is_pseudo: Whether this is a pseudo label: a detection of a model, not an annotation.
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
        """Whether this is one person, not a crowd, with labeled keypoints."""
        return self.num_keypoints > 0 and not self.is_crowd

    @property
    def center(self) -> tuple[float, float]:
        """Middle of the box, (x, y)."""
        x, y, width, height = self.box
        return x + width / 2, y + height / 2


@dataclass(frozen=True, eq=False)
class Record:
    """One training record: an image and its people, the anchor person first.

    Args:
        image_id: COCO's image id.
        image_path: Relative to the dataset's root.
        mask_path: Relative to the dataset's root.
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        dataset: Name of the dataset; the key of its dataset spec.
        joints: (P, D, 3) float64: x, y, the dataset's own visibility flag; its own joint order.
        scales: (P,) float64, height of each person's box.
        centers: (P, 2) float64, middle of each person's box.
        person_index: Index of the first person among the image's annotations.
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
    """The network's output for one image, made by `model.targets` and by every engine.

    Args:
        heatmaps: (K + 1, h, w) float32, one per joint and the background last.
        pafs: (2 L, h, w) float32, x and y of each limb's part affinity field.
        stride: Input pixels per cell.
        heatmap_sigma: Standard deviation of a joint's Gaussian, in input pixels.
    """

    heatmaps: NDArray[np.float32]
    pafs: NDArray[np.float32]
    stride: int = 8
    heatmap_sigma: float = HEATMAP_SIGMA
