"""Percentage of correct keypoints (PCK), for datasets whose people have no areas.

A keypoint is correct if it is closer to its label than a fraction of a reference length of the
person: the longer side of the box (Yang and Ramanan, "Articulated Human Detection with Flexible
Mixtures of Parts", 2013), the diagonal of the torso (Sapp and Taskar, "MODEC", 2013), or the head
(PCKh; Andriluka et al., "2D Human Pose Estimation: New Benchmark and State of the Art Analysis",
2014).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.evaluation.image_poses import ImagePoses
from bodyposenet.skeleton import Skeleton

Reference = Literal["box", "torso", "head"]

THRESHOLDS: dict[Reference, tuple[float, ...]] = {
    "box": (0.05, 0.1, 0.2), "torso": (0.05, 0.1, 0.2), "head": (0.1, 0.5),
}  # fmt: skip
"""Fractions of the reference length; the last one also determines which poses belong to whom."""

_TORSOS = (("left_shoulder", "right_hip"), ("right_shoulder", "left_hip"))
_HEADS = tuple(
    (top, neck) for top in ("head_top", "head") for neck in ("upper_neck", "neck")
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class PckScores:
    """Distances of all labeled keypoints of the people who count.

    Args:
        joints: Names of the D joints.
        reference: The reference length.
        distances: (N,) distance of each labeled keypoint to the detected one, as a fraction of the
            reference length; infinite if it is not detected.
        joint_indices: (N,) its joint.
        image_indices: (N,) its image.
        skipped_people: Number of people without a reference length, who do not count.
    """

    joints: tuple[str, ...]
    reference: Reference
    distances: NDArray[np.float64]
    joint_indices: NDArray[np.intp]
    image_indices: NDArray[np.intp]
    skipped_people: int

    @property
    def thresholds(self) -> dict[str, float]:
        """Fractions of the reference length by the name of the metric, such as `PCK_0.2`."""
        name = "PCKh" if self.reference == "head" else "PCK"
        return {f"{name}_{threshold:g}": threshold for threshold in THRESHOLDS[self.reference]}

    def metrics(self, weights: NDArray[np.float64] | None = None) -> dict[str, float]:
        """Return the PCK at each threshold by name, in 0..1; -1 without ground truth.

        Args:
            weights: (I,) weights of the images. Default: 1.
        """
        return {name: self.pck(limit, weights) for name, limit in self.thresholds.items()}

    def pck(self, threshold: float, weights: NDArray[np.float64] | None = None) -> float:
        """Return the share of correct keypoints, -1 without ground truth.

        Args:
            threshold: Fraction of the reference length.
            weights: (I,) weights of the images. Default: 1.
        """
        counts = np.ones(len(self.distances)) if weights is None else weights[self.image_indices]
        total = counts.sum()
        return float(counts[self.distances <= threshold].sum() / total) if total else -1.0

    def joint_pck(self, threshold: float) -> dict[str, float]:
        """Return the share of correct keypoints of each joint with labels.

        Args:
            threshold: Fraction of the reference length.
        """
        count = len(self.joints)
        totals = np.bincount(self.joint_indices, minlength=count)
        correct = np.bincount(self.joint_indices[self.distances <= threshold], minlength=count)
        return {
            joint: float(correct[k] / totals[k]) for k, joint in enumerate(self.joints) if totals[k]
        }


def pck_scores(
    images: Sequence[ImagePoses], joints: Sequence[str], reference: Reference
) -> PckScores:
    """Measure the distances of keypoints in images with any number of people.

    Poses are assigned to people greedily: the pair with the most correct keypoints at the largest
    threshold first, and among equal pairs the one with the highest score. All keypoints of people
    without a pose are wrong. Poses without a person have no effect on the PCK.

    Args:
        images: The images.
        joints: Names of the D joints.
        reference: The reference length.

    Raises:
        BodyPoseNetError: The dataset does not have the joints of the reference length.
    """
    limit = THRESHOLDS[reference][-1]
    ends = find_reference_joints(reference, joints)
    distances, joint_indices, image_indices = [np.zeros(0)], [np.zeros(0, int)], []
    skipped = 0
    for index, image in enumerate(images):
        lengths = _reference_lengths(image, ends)
        counts = ~image.ignored & (lengths > 0)
        skipped += image.num_people - int(counts.sum())
        found = _assigned_distances(image, np.where(counts, lengths, np.nan), limit)
        people, labeled = np.nonzero(image.labeled & counts[:, None])
        distances.append(found[people, labeled])
        joint_indices.append(labeled)
        image_indices += [index] * len(labeled)
    return PckScores(
        tuple(joints), reference, np.concatenate(distances), np.concatenate(joint_indices),
        np.array(image_indices, int), skipped,
    )  # fmt: skip


def find_reference_joints(reference: Reference, joints: Sequence[str]) -> list[tuple[int, int]]:
    """Find the joints whose distance is the reference length.

    Args:
        reference: The reference length.
        joints: Names of the joints of the dataset.

    Returns:
        Pairs of joint indices, the first one that is labeled is used; empty for the box.

    Raises:
        BodyPoseNetError: The dataset does not have such joints.
    """
    if reference == "box":
        return []
    pairs = _TORSOS if reference == "torso" else _HEADS
    names = Skeleton("dataset", tuple(joints), ())
    ends = [
        (start, end)
        for start, end in map(names.match, pairs)
        if start is not None and end is not None
    ]
    if not ends:
        expected = " or ".join(f"{start} and {end}" for start, end in pairs)
        raise BodyPoseNetError(
            f"--pck_reference {reference}: the dataset has no joints {expected}",
            "Choose another reference length, such as --pck_reference box.",
        )
    return ends


def _reference_lengths(image: ImagePoses, ends: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
    """Return the (G,) reference lengths of people: of the first pair that is labeled; else 0.

    The joints of the reference length need not be evaluated.
    """
    if not ends:
        return image.boxes[:, 2:].max(axis=1)
    lengths = np.zeros(len(image.annotated))
    for start, end in reversed(ends):
        both = image.annotated[:, start] & image.annotated[:, end]
        distances = np.linalg.norm(image.truth[:, start] - image.truth[:, end], axis=1)
        lengths = np.where(both, distances, lengths)
    return lengths


def _assigned_distances(
    image: ImagePoses, lengths: NDArray[np.float64], limit: float
) -> NDArray[np.float64]:
    """Return the (G, D) relative distances of labels to the pose that is assigned to each person.

    Args:
        image: The image.
        lengths: (G,) reference lengths; NaN for people who do not count.
        limit: Relative distance of correct keypoints.
    """
    assigned = np.full(image.labeled.shape, np.inf)
    offsets = image.poses[:, None] - image.truth
    distances = np.linalg.norm(offsets, axis=-1) / lengths[:, None]
    distances[~np.broadcast_to(image.detected[:, None], distances.shape)] = np.inf
    correct = ((distances <= limit) & image.labeled).sum(axis=-1)
    while correct.size and correct.max() > 0:
        pose, person = np.unravel_index(correct.argmax(), correct.shape)
        assigned[person] = distances[pose, person]
        correct[pose] = 0
        correct[:, person] = 0
    return assigned
