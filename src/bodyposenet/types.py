"""The few values that pass between rooms: ground truth, records, network maps, poses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bodyposenet.skeleton import Skeleton

if TYPE_CHECKING:
    from bodyposenet.geometry import Affine


HEATMAP_SIGMA = 7.0
"""Standard deviation of a joint's Gaussian in the heatmaps, in network input pixels, where neither
a train spec nor a model gives another."""

GRAY = 128
"""What fills the network's input where the image does not reach, in training as in inference; with
the default normalization it becomes 0."""

VALID = 255
"""What a mask holds where training counts; 0 where it does not."""

DRAWN_SCORE = 0.6
"""Least score of the people who are drawn, where nothing else is said."""

_PEOPLE_SHOWN = 3
"""How many people of `Poses` its repr tells one by one."""


class Visibility(IntEnum):
    """What a dataset says of a keypoint, after its flags were mapped (reference 2.1)."""

    VISIBLE = 0
    ANNOTATABLE = 1
    OCCLUDED = 2
    TRUNCATED = 3
    NOT_LABELED = 4
    NOT_LABELED_IN_DATASET = 5

    @property
    def is_labelled(self) -> bool:
        """Visible, annotatable and occluded keypoints are trained alike; the others are not."""
        return self <= Visibility.OCCLUDED


@dataclass(frozen=True, eq=False)
class Person:
    """One annotated person, in image pixels.

    Args:
        keypoints: (D, 3) float64: x, y and the dataset's own visibility flag.
        box: (4,) x, y, width, height.
        area: Area of the segmentation, in pixels; of the box, if there is no segmentation.
        is_crowd: The region holds many people that are not told apart.
        segmentation: COCO polygons (lists or arrays), RLE or uncompressed RLE; or None.
        num_keypoints: How many keypoints are labelled.
        annotation_id: Id of the annotation.
        is_pseudo: A model found this person; nobody annotated it.
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
    def is_labelled(self) -> bool:
        """Whether this is one person, no crowd, and has labelled keypoints."""
        return self.num_keypoints > 0 and not self.is_crowd

    @property
    def center(self) -> tuple[float, float]:
        """Middle of the box, (x, y)."""
        x, y, width, height = self.box
        return x + width / 2, y + height / 2


@dataclass(frozen=True, eq=False)
class Record:
    """One training record: an image and its people, the one it is centred on first.

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
    """What the network says of one image: made by `model.targets` and by every engine.

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


@dataclass(frozen=True, eq=False)
class Poses:
    """The people found in one image.

    Args:
        keypoints: (N, K, 2) float32, x and y in image pixels, NaN where a joint is missing.
        keypoint_scores: (N, K) float32 in 0..1, 0 where a joint is missing.
        scores: (N,) float32, one per person, higher is surer.
        skeleton: Names and limbs of the K joints.
        track_ids: (N,) int, or None outside of video.
        inferred: (N, K) bool, joints that `complete_pose` made up; None where it did not run.
    """

    keypoints: NDArray[np.float32]
    keypoint_scores: NDArray[np.float32]
    scores: NDArray[np.float32]
    skeleton: Skeleton
    track_ids: NDArray[np.int64] | None = None
    inferred: NDArray[np.bool_] | None = None

    @classmethod
    def empty(cls, skeleton: Skeleton) -> Poses:
        """Nobody."""
        joints = len(skeleton.joints)
        shape = (0, joints)
        return cls(
            np.zeros((*shape, 2), np.float32), np.zeros(shape, np.float32),
            np.zeros(0, np.float32), skeleton,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.scores)

    def __repr__(self) -> str:
        if not len(self):
            return f"Poses(nobody, {self.skeleton.name})"
        people = [
            f"{score:.2f} with {found.sum()} joints"
            for score, found in zip(self.scores[:_PEOPLE_SHOWN], self.found, strict=False)
        ]
        more = ["..."] if len(self) > _PEOPLE_SHOWN else []
        noun = "person" if len(self) == 1 else "people"
        return f"Poses({len(self)} {noun}, {self.skeleton.name}: {', '.join(people + more)})"

    def __iter__(self) -> Iterator[Poses]:
        """Each person, as a `Poses` of one."""
        return (self[person] for person in range(len(self)))

    def __getitem__(self, index: int | np.integer | slice | list[int] | NDArray[Any]) -> Poses:
        """The chosen people; one index gives a `Poses` of one person.

        Args:
            index: A number, a slice, a list of numbers, or (N,) bool, such as `poses.scores > .5`.

        Raises:
            IndexError: There are fewer people.
        """
        chosen = index
        if isinstance(index, int | np.integer):
            if not -len(self) <= index < len(self):
                raise IndexError(f"person {index} of {len(self)}")
            chosen = slice(index, index + 1 or None)
        return Poses(
            self.keypoints[chosen],
            self.keypoint_scores[chosen],
            self.scores[chosen],
            self.skeleton,
            None if self.track_ids is None else self.track_ids[chosen],
            None if self.inferred is None else self.inferred[chosen],
        )

    @property
    def found(self) -> NDArray[np.bool_]:
        """(N, K) which joints are there; the others are missing, their keypoints NaN."""
        return ~np.isnan(self.keypoints[..., 0])

    def moved(self, to_image: Affine) -> Poses:
        """The same people with every point mapped by an `Affine`."""
        points = to_image.apply(self.keypoints).astype(np.float32)
        return replace(self, keypoints=points)

    def named(self, person: int = 0) -> dict[str, tuple[float, float, float]]:
        """Joint name -> (x, y, score) of one person; joints that are missing are left out.

        Args:
            person: Its index.
        """
        points, scores = self.keypoints[person], self.keypoint_scores[person]
        return {
            self.skeleton.joints[k]: (float(points[k, 0]), float(points[k, 1]), float(scores[k]))
            for k in np.flatnonzero(self.found[person])
        }

    def to_dict(self) -> dict[str, Any]:
        """Lists for JSON, in TAO's schema: a missing joint is [0, 0], its score 0."""
        result: dict[str, Any] = {
            "keypoints": np.nan_to_num(self.keypoints).astype(float).round(3).tolist(),
            "scores": self.scores.astype(float).round(5).tolist(),
            "keypoint_scores": self.keypoint_scores.astype(float).round(5).tolist(),
        }
        if self.track_ids is not None:
            result["track_ids"] = self.track_ids.tolist()
        if self.inferred is not None:
            result["inferred"] = self.inferred.tolist()
        return result

    def to_coco(self, image_id: int, joints: tuple[str, ...]) -> list[dict[str, Any]]:
        """Results in COCO's format, for the joints that the dataset labels.

        Args:
            image_id: COCO's image id.
            joints: The dataset's joint names; those that the skeleton lacks are missing.

        Returns:
            One dict per person: image_id, category_id, keypoints (x, y, 1 if found else 0) and
            score.
        """
        order = [self.skeleton.joints.index(j) if j in self.skeleton.joints else -1 for j in joints]
        triples = np.zeros((len(self), len(joints), 3))
        for column, k in enumerate(order):
            if k >= 0:
                found = self.found[:, k]
                triples[found, column, :2] = self.keypoints[found, k]
                triples[found, column, 2] = 1
        return [
            {
                "image_id": image_id,
                "category_id": 1,
                "keypoints": triples[person].round(3).reshape(-1).tolist(),
                "score": float(self.scores[person]),
            }
            for person in range(len(self))
        ]
