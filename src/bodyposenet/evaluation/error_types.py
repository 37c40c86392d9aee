"""Types of keypoint errors, and what the AP would be without the errors of each type.

The types are those of Ronchi and Perona, "Benchmarking and Error Diagnosis in Multi-Instance Pose
Estimation" (ICCV 2017), with the thresholds of their tool coco-analyze. Poses are matched with
people at an OKS of at least 0.1. The type of a joint then depends on its keypoint similarity,
exp(-d^2 / (2 area (2 sigma)^2)), to the labels of this joint, and of the joint on the other side of
the body, of all people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bodyposenet.evaluation.image_poses import ImagePoses, keypoint_similarities
from bodyposenet.evaluation.oks_matching import Variants, evaluate_variants, match_people

MATCHING_OKS = 0.1
"""Smallest OKS between a pose and the person that it is matched with (coco-analyze: oksLocThrs)."""

JITTER_LIMIT, MISS_LIMIT = 0.85, 0.5
"""Similarities below which a joint is jitter, and a miss (coco-analyze: jitterKsThrs)."""


class ErrorType(IntEnum):
    """Type of a labeled joint of a matched pose."""

    GOOD = 0
    """At its label: a similarity of at least 0.85."""
    JITTER = 1
    """Near its label: a similarity of at least 0.5 and less than 0.85."""
    INVERSION = 2
    """At the label of the joint on the other side of the same person."""
    SWAP = 3
    """At a label of another person."""
    MISS = 4
    """Far from all labels: similarities of less than 0.5."""
    UNDETECTED = 5
    """Not detected. Ronchi and Perona count it as a miss."""

    @property
    def label(self) -> str:
        """Name in reports and files."""
        return self.name.lower()


CORRECTIONS: Mapping[str, tuple[ErrorType, ...]] = {
    "jitter": (ErrorType.JITTER,),
    "inversion": (ErrorType.INVERSION,),
    "swap": (ErrorType.SWAP,),
    "miss": (ErrorType.MISS, ErrorType.UNDETECTED),
}
"""Types of joints that are corrected together, by the name of the correction."""

FALSE_POSITIVES, FALSE_NEGATIVES = "false positives", "false negatives"

_UNLABELED = -1


class PoseErrors(NamedTuple):
    """Errors of the poses of one image.

    Args:
        poses: (M,) indices of the poses that are matched with people who count.
        people: (M,) indices of these people.
        oks: (M,) OKS of these pairs.
        types: (M, D) `ErrorType` of each joint, -1 for joints without a label.
        corrected: (M, D, 2) position of each joint after the correction of its error.
        false_positives: (P,) poses that are not matched with any person.
        false_negatives: (G,) people who count and are not matched with a pose.
    """

    poses: NDArray[np.intp]
    people: NDArray[np.intp]
    oks: NDArray[np.float64]
    types: NDArray[np.intp]
    corrected: NDArray[np.float64]
    false_positives: NDArray[np.bool_]
    false_negatives: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class ErrorSummary:
    """Errors of all images.

    Args:
        joints: Names of the D joints.
        counts: (D, 6) number of labeled joints of matched poses, by joint and `ErrorType`.
        false_positives: Number of poses that are not matched with any person.
        false_negatives: Number of people without a matched pose.
        ap: AP of the poses as they are, -1 without ground truth.
        corrected_ap: AP without the errors of one type, by the names of `CORRECTIONS`,
            `FALSE_POSITIVES` (poses removed) and `FALSE_NEGATIVES` (people not counted).
    """

    joints: tuple[str, ...]
    counts: NDArray[np.int64]
    false_positives: int
    false_negatives: int
    ap: float
    corrected_ap: Mapping[str, float]

    def shares(self) -> dict[str, float]:
        """Return the share of each type of joints by its label; NaN without matched poses."""
        totals = self.counts.sum(axis=0)
        number = int(totals.sum())
        return {
            kind.label: float(totals[kind] / number) if number else np.nan for kind in ErrorType
        }


def find_errors(
    image: ImagePoses, sigmas: NDArray[np.float64], mirrored: Sequence[int]
) -> PoseErrors:
    """Find the errors of the poses of an image.

    The corrections are those of the paper: jitter is moved to a similarity of 0.85, a miss to a
    similarity of 0.5, and an inversion or swap as close to its label as it is to the wrong one.

    Args:
        image: The image.
        sigmas: (D,) OKS sigmas.
        mirrored: For each joint the index of the joint on the other side, or its own.
    """
    oks = image.oks(sigmas)
    thresholds = np.array([MATCHING_OKS])
    matches = match_people(oks[None], image.ignored[None], image.crowds, thresholds)[0, 0]
    counts = ~np.append(image.ignored, True)  # the last one is for poses without a match
    poses = np.flatnonzero(counts[matches])
    people = matches[poses]
    own, inverted, others = _label_similarities(image, sigmas, mirrored, poses, people)
    best = np.maximum(np.maximum(own, inverted), others)
    is_own = (own >= inverted) & (own >= others)
    types = np.select(
        [
            ~image.labeled[people], ~image.detected[poses], best < MISS_LIMIT,
            is_own & (best >= JITTER_LIMIT), is_own, inverted >= others,
        ],
        [
            _UNLABELED, ErrorType.UNDETECTED, ErrorType.MISS,
            ErrorType.GOOD, ErrorType.JITTER, ErrorType.INVERSION,
        ],
        ErrorType.SWAP,
    )  # fmt: skip
    is_missed = _is_any_of(types, CORRECTIONS["miss"])
    targets = np.select([types == ErrorType.JITTER, is_missed], [JITTER_LIMIT, MISS_LIMIT], best)
    scales = 2 * image.areas[people, None] * (2 * sigmas) ** 2
    corrected = image.truth[people]
    corrected[..., 0] += np.sqrt(-np.log(targets.clip(MISS_LIMIT, 1)) * scales)
    is_unmatched = ~image.ignored
    is_unmatched[people] = False
    return PoseErrors(
        poses, people, oks[poses, people], types, corrected,
        false_positives=matches < 0, false_negatives=is_unmatched,
    )  # fmt: skip


def summarize_errors(
    images: Sequence[ImagePoses],
    errors: Sequence[PoseErrors],
    joints: Sequence[str],
    sigmas: NDArray[np.float64],
) -> ErrorSummary:
    """Count the errors of all images, and compute the AP without the errors of each type.

    Args:
        images: The images.
        errors: Errors of each image, from `find_errors`.
        joints: Names of the D joints.
        sigmas: (D,) OKS sigmas.
    """
    counts = np.zeros((len(joints), len(ErrorType)), np.int64)
    for found in errors:
        counts += (found.types[..., None] == np.arange(len(ErrorType))).sum(axis=0)
    variants = [
        _corrected_variants(image, found, sigmas)
        for image, found in zip(images, errors, strict=True)
    ]
    original, *corrected = (matched.ap for matched in evaluate_variants(images, variants))
    names = (*CORRECTIONS, FALSE_POSITIVES, FALSE_NEGATIVES)
    return ErrorSummary(
        tuple(joints), counts,
        sum(int(found.false_positives.sum()) for found in errors),
        sum(int(found.false_negatives.sum()) for found in errors),
        original, dict(zip(names, corrected, strict=True)),
    )  # fmt: skip


def _corrected_variants(
    image: ImagePoses, errors: PoseErrors, sigmas: NDArray[np.float64]
) -> Variants:
    """Return the variants: as it is, each correction, without false positives, and negatives."""
    count = 1 + len(CORRECTIONS) + 2
    poses = np.repeat(image.poses[None], count, axis=0)
    for variant, types in enumerate(CORRECTIONS.values(), start=1):
        is_corrected = _is_any_of(errors.types, types)[..., None]
        poses[variant, errors.poses] = np.where(
            is_corrected, errors.corrected, poses[variant, errors.poses]
        )
    points = keypoint_similarities(poses, image.truth, image.areas, sigmas)
    ignored = np.repeat(image.ignored[None], count, axis=0)
    excluded = np.zeros((count, len(image.scores)), bool)
    excluded[-2] = errors.false_positives
    ignored[-1] |= errors.false_negatives
    return Variants(
        image.mean_similarity(points, image.box_similarities(sigmas)), ignored, excluded
    )


def _is_any_of(types: NDArray[np.intp], kinds: Sequence[ErrorType]) -> NDArray[np.bool_]:
    """Return which types are one of some kinds."""
    return (types[..., None] == np.array(kinds)).any(axis=-1)


def _label_similarities(
    image: ImagePoses,
    sigmas: NDArray[np.float64],
    mirrored: Sequence[int],
    poses: NDArray[np.intp],
    people: NDArray[np.intp],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the similarities of the joints of M matched poses to labels, 0 without a label.

    Returns:
        (M, D) each: to the label of the same joint of the matched person, to that of the joint on
        the other side, and the largest similarity to one of both of another person.
    """
    order = list(mirrored)
    is_paired = np.array(order) != np.arange(len(order))
    found = image.poses[poses]
    same = keypoint_similarities(found, image.truth, image.areas, sigmas) * image.labeled
    opposite = keypoint_similarities(found, image.truth[:, order], image.areas, sigmas)
    opposite *= image.labeled[:, order] & is_paired
    rows = np.arange(len(poses))
    own, inverted = same[rows, people], opposite[rows, people]
    others = np.maximum(same, opposite)
    others[rows, people] = 0
    return own, inverted, others.max(axis=1, initial=0)
