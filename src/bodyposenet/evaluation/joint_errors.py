"""Results matched with people -> how well each joint is found: which joints need work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MATCHING_OKS = 0.5

Annotation = Mapping[str, Any]
Match = tuple[Annotation, Annotation]


@dataclass(frozen=True)
class JointError:
    """How one joint fares, over the people who were found (OKS >= 0.5).

    Args:
        joint: Its name.
        labelled: How many of these people have it labelled.
        found: Share of them where it was found; NaN if it is never labelled.
        median: Median distance between found and labelled place, as a share of the person's size
            (the square root of the area); NaN if it was never found.
        mean: Mean of the same.
    """

    joint: str
    labelled: int
    found: float
    median: float
    mean: float


def match_poses(
    oks: NDArray[np.float64], people: Sequence[Annotation], poses: Sequence[Annotation]
) -> Iterator[Match]:
    """Match the poses of one image with its people as COCO does it: the best pose chooses first.

    Args:
        oks: (D, G) similarity of the poses, best first, with the people.
        people: The G people; crowds and people without labelled joints match nobody.
        poses: The image's poses in any order; those after the first D by score are left out.

    Yields:
        A person and the pose that it was matched with.
    """
    ranked = sorted(poses, key=lambda pose: -pose["score"])
    free = np.array([not person["iscrowd"] and person["num_keypoints"] > 0 for person in people])
    for similarities, pose in zip(oks, ranked, strict=False):
        candidates = np.where(free, similarities, -1.0)
        best = int(candidates.argmax())
        if candidates[best] >= MATCHING_OKS:
            free[best] = False
            yield people[best], pose


def compute_joint_errors(matches: Sequence[Match], joints: Sequence[str]) -> tuple[JointError, ...]:
    """Sum up how far the joints of matched poses lie from where they were labelled.

    Args:
        matches: People and their poses.
        joints: Names of the D joints of both.
    """
    shape = (len(matches), len(joints), 3)
    truth = np.array([person["keypoints"] for person, _ in matches], float).reshape(shape)
    poses = np.array([pose["keypoints"] for _, pose in matches], float).reshape(shape)
    sizes = np.sqrt([person["area"] for person, _ in matches]).clip(min=1)
    distances = np.linalg.norm(truth[..., :2] - poses[..., :2], axis=-1) / sizes[:, None]
    labelled = truth[..., 2] > 0
    found = labelled & (poses[..., 2] > 0)
    errors = []
    for k, joint in enumerate(joints):
        count, errors_found = int(labelled[:, k].sum()), distances[found[:, k], k]
        share = len(errors_found) / count if count else np.nan
        median = float(np.median(errors_found)) if len(errors_found) else np.nan
        mean = float(errors_found.mean()) if len(errors_found) else np.nan
        errors.append(JointError(joint, count, share, median, mean))
    return tuple(errors)
