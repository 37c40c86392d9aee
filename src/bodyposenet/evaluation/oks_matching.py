"""Matching of poses with people as in COCO's evaluation, and the AP of what was matched.

The results equal those of COCO's evaluation. In contrast to it, several variants of the
similarities are evaluated at once (single joints, corrected poses, sizes of people), and the AP of
resampled images needs no new matching.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bodyposenet.evaluation.image_poses import ImagePoses, keypoint_similarities

OKS_THRESHOLDS: NDArray[np.float64] = np.linspace(0.5, 0.95, 10)
"""COCO's OKS thresholds."""

AREA_RANGES = {
    "all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}  # fmt: skip
"""COCO's areas of people in square pixels, by the name of the size."""

_RECALLS = np.linspace(0, 1, 101)


class Variants(NamedTuple):
    """V variants of the evaluation of one image.

    Args:
        oks: (V, P, G) similarities of poses and people.
        ignored: (V, G) people who do not count; poses that are matched with them do not count
            either.
        excluded: (V, P) poses that do not count if they are not matched.
    """

    oks: NDArray[np.float64]
    ignored: NDArray[np.bool_]
    excluded: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class MatchedPoses:
    """True and false positives among all poses of a dataset, the pose with the highest score first.

    Args:
        image_indices: (N,) index of the image of each pose.
        true_positives: (T, N) poses that are matched with a person who counts, by OKS threshold.
        false_positives: (T, N) poses that are not matched.
        people: (I,) number of people who count in each image.
    """

    image_indices: NDArray[np.intp]
    true_positives: NDArray[np.bool_]
    false_positives: NDArray[np.bool_]
    people: NDArray[np.int64]

    @property
    def ap(self) -> float:
        """AP, the mean over all OKS thresholds; -1 without ground truth."""
        return float(self._means[0])

    @property
    def ar(self) -> float:
        """AR, the mean over all OKS thresholds; -1 without ground truth."""
        return float(self._means[1])

    @cached_property
    def _means(self) -> NDArray[np.float64]:
        """AP and AR of all images."""
        return np.mean(self.weighted(np.ones(len(self.people))), axis=1)

    def weighted(
        self, weights: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the AP and AR at each OKS threshold, with a weight for each image.

        Args:
            weights: (I,) weights of the images. A weight of 2 has the effect of an image that
                occurs twice, a weight of 0 that of an image that is left out.

        Returns:
            (T,) AP and (T,) AR; -1 without ground truth.
        """
        total, thresholds = float(self.people @ weights), len(self.true_positives)
        if not total:
            return -np.ones(thresholds), -np.ones(thresholds)
        pose_weights = weights[self.image_indices]
        true = np.cumsum(self.true_positives * pose_weights, axis=1)
        false = np.cumsum(self.false_positives * pose_weights, axis=1)
        recalls = true / total
        precisions = true / (true + false + np.spacing(1))
        envelopes = np.maximum.accumulate(precisions[:, ::-1], axis=1)[:, ::-1]
        envelopes = np.pad(envelopes, ((0, 0), (0, 1)))  # recalls that are not reached
        means = [
            envelope[np.searchsorted(recall, _RECALLS)].mean()
            for recall, envelope in zip(recalls, envelopes, strict=True)
        ]
        return np.array(means), recalls[:, -1] if recalls.size else np.zeros(thresholds)


def match_people(
    oks: NDArray[np.float64],
    ignored: NDArray[np.bool_],
    crowds: NDArray[np.bool_],
    thresholds: NDArray[np.float64] = OKS_THRESHOLDS,
) -> NDArray[np.intp]:
    """Match the poses of an image with its people like COCO: greedily, in order of the scores.

    A pose is matched with the most similar person who is not matched yet, and with a person who
    does not count only if there is no other. Crowds can be matched any number of times.

    Args:
        oks: (V, P, G) similarities of poses, best first, and people.
        ignored: (V, G) people who do not count.
        crowds: (G,) crowds.
        thresholds: (T,) smallest OKS of a match.

    Returns:
        (V, T, P) index of the matched person, or -1.
    """
    variants, poses, people = oks.shape
    matches = np.full((variants, len(thresholds), poses), -1)
    if not people:
        return matches
    limits = np.minimum(thresholds, 1 - 1e-10)[:, None]
    is_ignored = ignored[:, None]
    is_free = np.ones((variants, len(thresholds), people), bool)
    rows, columns = np.ogrid[:variants, : len(thresholds)]
    for pose in range(poses):
        similarity = oks[:, None, pose]
        candidates = np.where(is_free & (similarity >= limits), similarity, -1.0)
        counts = (candidates >= 0) & ~is_ignored
        candidates[is_ignored & counts.any(axis=-1, keepdims=True)] = -1
        # COCO takes the last one of several people with the same similarity.
        chosen = people - 1 - candidates[..., ::-1].argmax(axis=-1)
        is_matched = candidates[rows, columns, chosen] >= 0
        matches[..., pose] = np.where(is_matched, chosen, -1)
        is_free[rows, columns, chosen] &= ~is_matched | crowds[chosen]
    return matches


def evaluate_variants(
    images: Sequence[ImagePoses], variants: Sequence[Variants]
) -> list[MatchedPoses]:
    """Match the poses of all images.

    Args:
        images: One or more images.
        variants: The same number of variants for each image.

    Returns:
        The matched poses of each variant.
    """
    matched = [_match_image(*pair) for pair in zip(images, variants, strict=True)]
    scores = np.concatenate([image.scores for image in images])
    indices = np.repeat(np.arange(len(images)), [len(image.scores) for image in images])
    ids = np.array([image.image_id for image in images])[indices]
    order = np.lexsort((ids, -scores))  # COCO evaluates images in order of their ids.
    stacked = zip(
        np.concatenate([one.true_positives for one in matched], axis=2),
        np.concatenate([one.false_positives for one in matched], axis=2),
        np.stack([one.people for one in matched], axis=1),
        strict=True,
    )
    return [
        MatchedPoses(indices[order], true_positives[:, order], false_positives[:, order], people)
        for true_positives, false_positives, people in stacked
    ]


class _MatchedImage(NamedTuple):
    """True and false positives (V, T, P) of an image, and the number of its people (V,)."""

    true_positives: NDArray[np.bool_]
    false_positives: NDArray[np.bool_]
    people: NDArray[np.int64]


def _match_image(image: ImagePoses, variants: Variants) -> _MatchedImage:
    """Match the poses of one image."""
    matches = match_people(variants.oks, variants.ignored, image.crowds)
    is_matched = matches >= 0
    rows = np.arange(len(variants.ignored))[:, None, None]
    counts = ~np.pad(variants.ignored, ((0, 0), (0, 1)))[rows, matches]  # -1 is the padding
    return _MatchedImage(
        is_matched & counts,
        ~is_matched & ~variants.excluded[:, None],
        (~variants.ignored).sum(axis=1),
    )


def size_variants(image: ImagePoses, sigmas: NDArray[np.float64], sizes: Iterable[str]) -> Variants:
    """Return a variant per size of people, as in COCO's evaluation.

    Args:
        image: The image.
        sigmas: (D,) OKS sigmas.
        sizes: Names of `AREA_RANGES`.
    """
    ranges = np.array([AREA_RANGES[size] for size in sizes])
    low, high = ranges.T[..., None]
    oks = image.oks(sigmas)
    return Variants(
        np.broadcast_to(oks, (len(ranges), *oks.shape)),
        image.ignored | (image.areas < low) | (image.areas > high),
        (image.pose_areas < low) | (image.pose_areas > high),
    )


def joint_variants(image: ImagePoses, sigmas: NDArray[np.float64]) -> Variants:
    """Return a variant per joint: its similarity alone is the OKS.

    People without a label of the joint do not count. Poses without the joint are not evaluated.

    Args:
        image: The image.
        sigmas: (D,) OKS sigmas.
    """
    points = keypoint_similarities(image.poses, image.truth, image.areas, sigmas)
    oks = np.where(image.labeled, points, image.box_similarities(sigmas))
    oks[~np.broadcast_to(image.detected[:, None], oks.shape)] = -1
    return Variants(np.moveaxis(oks, -1, 0), image.crowds | ~image.labeled.T, ~image.detected.T)
