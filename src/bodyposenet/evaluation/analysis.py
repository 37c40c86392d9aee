"""Analysis of an evaluation: error types, AP per joint and size, and the quality of each image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bodyposenet.evaluation.error_types import (
    ErrorSummary,
    PoseErrors,
    find_errors,
    summarize_errors,
)
from bodyposenet.evaluation.image_poses import ImagePoses
from bodyposenet.evaluation.oks_matching import (
    AREA_RANGES,
    evaluate_variants,
    joint_variants,
    size_variants,
)

OKS_BINS = 20
"""Number of bins of the OKS histogram."""


@dataclass(frozen=True)
class SizeScore:
    """AP and AR of people of a size.

    Args:
        size: Name of the size, see `AREA_RANGES`.
        people: Number of people of this size who count.
        ap: AP over the OKS thresholds .50 to .95; -1 without people.
        ar: AR over the same thresholds.
    """

    size: str
    people: int
    ap: float
    ar: float


@dataclass(frozen=True, eq=False)
class Analysis:
    """Analysis of an evaluation.

    Args:
        errors: Error types, and the AP without the errors of each type.
        joint_ap: AP by joint, with the similarity of this joint alone as the OKS; -1 without
            labels.
        sizes: AP by size of people.
        person_oks: (N,) OKS of each person who counts and the pose that is matched with the person,
            0 without a pose.
        image_qualities: (I,) quality of the poses of each image, see `image_quality`.
        images: The I images.
    """

    errors: ErrorSummary
    joint_ap: Mapping[str, float]
    sizes: tuple[SizeScore, ...]
    person_oks: NDArray[np.float64]
    image_qualities: NDArray[np.float64]
    images: Sequence[ImagePoses]

    def oks_histogram(self) -> tuple[NDArray[np.int64], int]:
        """Return the histogram of the OKS of people and their poses.

        Returns:
            (20,) numbers of people in bins of equal size from 0 to 1, and the number of people
            without a pose, who are in no bin.
        """
        matched = self.person_oks[self.person_oks > 0]
        counts, _ = np.histogram(matched, OKS_BINS, (0, 1))
        return counts, len(self.person_oks) - len(matched)


def analyze(
    images: Sequence[ImagePoses],
    joints: Sequence[str],
    sigmas: NDArray[np.float64],
    mirrored: Sequence[int],
) -> Analysis:
    """Analyze the poses of a dataset.

    Args:
        images: One or more images.
        joints: Names of the D joints.
        sigmas: (D,) OKS sigmas.
        mirrored: For each joint the index of the joint on the other side, or its own.
    """
    errors = [find_errors(image, sigmas, mirrored) for image in images]
    by_joint = evaluate_variants(images, [joint_variants(image, sigmas) for image in images])
    by_size = evaluate_variants(
        images, [size_variants(image, sigmas, AREA_RANGES) for image in images]
    )
    return Analysis(
        errors=summarize_errors(images, errors, joints, sigmas),
        joint_ap={joint: matched.ap for joint, matched in zip(joints, by_joint, strict=True)},
        sizes=tuple(
            SizeScore(size, int(matched.people.sum()), matched.ap, matched.ar)
            for size, matched in zip(AREA_RANGES, by_size, strict=True)
        ),
        person_oks=np.concatenate([_person_oks(found) for found in errors]),
        image_qualities=np.array([
            image_quality(image, found) for image, found in zip(images, errors, strict=True)
        ]),
        images=images,
    )  # fmt: skip


def image_quality(image: ImagePoses, errors: PoseErrors) -> float:
    """Return the quality of the poses of an image, 0 to 1.

    It is the sum of the OKS of all matched poses, divided by the number of people plus the scores
    of all poses without a person: the mean OKS, lowered by missed people and by false positives.

    Args:
        image: The image.
        errors: Its errors.

    Returns:
        The quality, or NaN if there are neither people nor poses.
    """
    total = image.num_people + image.scores[errors.false_positives].clip(0, 1).sum()
    return float(errors.oks.sum() / total) if total else np.nan


def _person_oks(errors: PoseErrors) -> NDArray[np.float64]:
    """Return the OKS of each person who counts, 0 without a pose."""
    return np.concatenate([errors.oks, np.zeros(int(errors.false_negatives.sum()))])
