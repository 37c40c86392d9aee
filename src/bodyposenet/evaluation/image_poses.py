"""Annotated people and predicted poses of an image as arrays, and the OKS between them.

The similarities are those of COCO (cocodataset.org, "keypoints-eval"). `keypoint_ap` computes
COCO's metrics with faster-coco-eval; everything that needs the similarity of single joints, other
areas or corrected poses uses the arrays of this module.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bodyposenet.data.coco import CocoImage


@dataclass(frozen=True, eq=False)
class ImagePoses:
    """Annotated people and predicted poses of one image, in image pixels.

    Args:
        image_id: COCO's image id.
        truth: (G, D, 2) labeled keypoints of the people, 0 where they are not labeled.
        annotated: (G, D) whether a keypoint is labeled.
        labeled: (G, D) whether it is labeled and evaluated.
        areas: (G,) areas of the people in square pixels.
        boxes: (G, 4) boxes of the people: x, y, width, height.
        crowds: (G,) whether an annotation is a crowd.
        poses: (P, D, 2) predicted keypoints, the pose with the highest score first; 0 where they
            are not detected.
        detected: (P, D) whether a keypoint is detected.
        scores: (P,) scores of the poses, descending.
    """

    image_id: int
    truth: NDArray[np.float64]
    annotated: NDArray[np.bool_]
    labeled: NDArray[np.bool_]
    areas: NDArray[np.float64]
    boxes: NDArray[np.float64]
    crowds: NDArray[np.bool_]
    poses: NDArray[np.float64]
    detected: NDArray[np.bool_]
    scores: NDArray[np.float64]

    @cached_property
    def ignored(self) -> NDArray[np.bool_]:
        """(G,) whether a person does not count: crowds, and people without labeled keypoints."""
        return self.crowds | ~self.labeled.any(axis=1)

    @property
    def num_people(self) -> int:
        """Number of people who count."""
        return int((~self.ignored).sum())

    @cached_property
    def pose_areas(self) -> NDArray[np.float64]:
        """(P,) areas of the boxes around all D keypoints, as COCO computes them.

        Keypoints that are not detected are at (0, 0) and inside of the box.
        """
        return np.ptp(self.poses, axis=1).prod(axis=1)

    def best_poses(self, count: int) -> ImagePoses:
        """Return the same image with the `count` poses of the highest scores only."""
        if len(self.scores) <= count:
            return self
        return replace(
            self,
            poses=self.poses[:count],
            detected=self.detected[:count],
            scores=self.scores[:count],
        )

    def with_joints(self, evaluated: NDArray[np.bool_]) -> ImagePoses:
        """Return the same image, in which the labels of other joints are not evaluated.

        Args:
            evaluated: (D,) whether each joint is evaluated.
        """
        return replace(self, labeled=self.annotated & evaluated)

    def with_box_areas(self, share: float) -> ImagePoses:
        """Return the same image with areas that are a share of the boxes' areas."""
        return replace(self, areas=share * self.boxes[:, 2] * self.boxes[:, 3])

    def oks(self, sigmas: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the (P, G) OKS between poses and people.

        Args:
            sigmas: (D,) OKS sigmas.
        """
        points = keypoint_similarities(self.poses, self.truth, self.areas, sigmas)
        return self.mean_similarity(points, self.box_similarities(sigmas))

    def box_similarities(self, sigmas: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the (P, G, D) similarities of predicted keypoints and boxes of people.

        COCO uses them for people without labeled keypoints: the distance is that to the box,
        extended by its size on every side.

        Args:
            sigmas: (D,) OKS sigmas.
        """
        corners, sizes = self.boxes[:, :2], self.boxes[:, 2:]
        points = self.poses[:, None]
        below = np.maximum((corners - sizes)[:, None] - points, 0)
        above = np.maximum(points - (corners + 2 * sizes)[:, None], 0)
        return np.exp(-((below + above) ** 2).sum(axis=-1) / _scales(self.areas, sigmas))

    def mean_similarity(
        self, points: NDArray[np.float64], boxes: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the (..., P, G) OKS from the similarities of points and boxes.

        Args:
            points: (..., P, G, D) from `keypoint_similarities`.
            boxes: (P, G, D) from `box_similarities`.
        """
        counts = self.labeled.sum(axis=1)
        means = (points * self.labeled).sum(axis=-1) / np.maximum(counts, 1)
        return np.where(counts > 0, means, boxes.mean(axis=-1))


def keypoint_similarities(
    poses: NDArray[np.float64],
    truth: NDArray[np.float64],
    areas: NDArray[np.float64],
    sigmas: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the similarities of keypoints and labels, exp(-d^2 / (2 s^2 (2 sigma)^2)).

    Args:
        poses: (..., P, D, 2) predicted keypoints in pixels.
        truth: (G, D, 2) annotated keypoints in pixels.
        areas: (G,) areas s^2 of the annotated people in square pixels.
        sigmas: (D,) OKS sigmas.

    Returns:
        (..., P, G, D) similarities.
    """
    squares = ((poses[..., :, None, :, :] - truth) ** 2).sum(axis=-1)
    return np.exp(-squares / _scales(areas, sigmas))


def arrange_images(
    images: Sequence[CocoImage],
    results: Sequence[Mapping[str, Any]],
    joints: int,
    labeled_flags: Collection[int],
) -> list[ImagePoses]:
    """Arrange annotated people and predicted poses as arrays.

    Args:
        images: The images with their people.
        results: Poses in COCO's result format, with D keypoints each.
        joints: The number of keypoints, D.
        labeled_flags: Visibility flags of labeled keypoints.

    Returns:
        One entry per image, in the order of the images.
    """
    by_image: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for result in results:
        by_image[result["image_id"]].append(result)
    flags = list(labeled_flags)
    return [_arrange_image(image, by_image[image.image_id], joints, flags) for image in images]


def _arrange_image(
    image: CocoImage, results: Sequence[Mapping[str, Any]], joints: int, flags: Sequence[int]
) -> ImagePoses:
    """Arrange the people and poses of one image."""
    people, ranked = image.persons, sorted(results, key=lambda result: -result["score"])
    shape = (len(people), joints, 3)
    truth = np.array([person.keypoints for person in people], float).reshape(shape)
    labeled = np.isin(truth[..., 2], flags)
    keypoints = [result["keypoints"] for result in ranked]
    poses = np.array(keypoints, float).reshape(len(ranked), joints, 3)
    return ImagePoses(
        image_id=image.image_id,
        truth=np.where(labeled[..., None], truth[..., :2], 0),
        annotated=labeled,
        labeled=labeled,
        areas=np.array([person.area for person in people], float),
        boxes=np.array([person.box for person in people], float).reshape(-1, 4),
        crowds=np.array([person.is_crowd for person in people], bool),
        poses=poses[..., :2],
        detected=poses[..., 2] > 0,
        scores=np.array([result["score"] for result in ranked], float),
    )


def _scales(areas: NDArray[np.float64], sigmas: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (G, D) denominators of squared distances in the OKS."""
    return 2 * (areas[:, None] + np.spacing(1)) * (2 * sigmas) ** 2
