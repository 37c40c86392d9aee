"""Errors of each keypoint: how often it is detected, and how far it is from its annotation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MATCHING_OKS = 0.5
"""Smallest OKS between a pose and the person that it is matched with."""

Annotation = Mapping[str, Any]
"""Annotation or result in COCO's format."""

Match = tuple[Annotation, Annotation]
"""An annotated person, and the pose that is matched with it."""


@dataclass(frozen=True)
class JointError:
    """Detection rate and error of one keypoint, over all matched people (OKS >= 0.5).

    Distances are fractions of the person's size, the square root of the annotated area.

    Args:
        joint: Name of the keypoint.
        labeled: Number of matched people with a label for it.
        detected: Fraction of these people for whom it is detected; NaN if it is never labeled.
        median: Median distance between detection and label; NaN if it is never detected.
        mean: Mean distance; NaN if it is never detected.
    """

    joint: str
    labeled: int
    detected: float
    median: float
    mean: float


def match_poses(
    oks: NDArray[np.float64], people: Sequence[Annotation], poses: Sequence[Annotation]
) -> Iterator[Match]:
    """Match the poses of an image with its people, like COCO: greedily, in order of the scores.

    Args:
        oks: (D, G) OKS between the D poses with the highest scores, best first, and the people.
        people: The G people. Crowds and people without labeled keypoints are not matched.
        poses: The poses of the image, in any order.

    Yields:
        Pairs of a person and a pose.
    """
    ranked = sorted(poses, key=lambda pose: -pose["score"])
    is_unmatched = np.array(
        [not person["iscrowd"] and person["num_keypoints"] > 0 for person in people]
    )
    for similarities, pose in zip(oks, ranked, strict=False):
        candidates = np.where(is_unmatched, similarities, -1.0)
        best = int(candidates.argmax())
        if candidates[best] >= MATCHING_OKS:
            is_unmatched[best] = False
            yield people[best], pose


def compute_joint_errors(matches: Sequence[Match], joints: Sequence[str]) -> tuple[JointError, ...]:
    """Compute the error of each keypoint from matched people and poses.

    Args:
        matches: The matched pairs.
        joints: Names of the keypoints in both.
    """
    shape = (len(matches), len(joints), 3)
    truth = np.array([person["keypoints"] for person, _ in matches], float).reshape(shape)
    poses = np.array([pose["keypoints"] for _, pose in matches], float).reshape(shape)
    sizes = np.sqrt([person["area"] for person, _ in matches]).clip(min=1)
    distances = np.linalg.norm(truth[..., :2] - poses[..., :2], axis=-1) / sizes[:, None]
    is_labeled = truth[..., 2] > 0
    is_detected = is_labeled & (poses[..., 2] > 0)
    errors = []
    for k, joint in enumerate(joints):
        num_labeled, detected = int(is_labeled[:, k].sum()), distances[is_detected[:, k], k]
        rate = len(detected) / num_labeled if num_labeled else np.nan
        median = float(np.median(detected)) if len(detected) else np.nan
        mean = float(detected.mean()) if len(detected) else np.nan
        errors.append(JointError(joint, num_labeled, rate, median, mean))
    return tuple(errors)
