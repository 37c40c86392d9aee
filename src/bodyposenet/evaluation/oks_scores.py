"""Metrics of COCO and CrowdPose for images with any weights, as comparisons of models need them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bodyposenet.evaluation.image_poses import ImagePoses
from bodyposenet.evaluation.keypoint_ap import METRICS, Metric
from bodyposenet.evaluation.oks_matching import (
    OKS_THRESHOLDS,
    MatchedPoses,
    evaluate_variants,
    size_variants,
)


class Group(NamedTuple):
    """People that count in some of the metrics.

    Args:
        matched: Their matched poses.
        images: (I,) whether each image belongs to the group.
    """

    matched: MatchedPoses
    images: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class OksScores:
    """AP and AR of groups of people.

    Args:
        definitions: The metrics.
        groups: The groups by the metrics' `area`.
    """

    definitions: tuple[Metric, ...]
    groups: Mapping[str, Group]

    def metrics(self, weights: NDArray[np.float64] | None = None) -> dict[str, float]:
        """Return the metrics by name; -1 without ground truth.

        Args:
            weights: (I,) weights of the images. Default: 1.
        """
        curves = {}
        for name, (matched, is_member) in self.groups.items():
            image_weights = np.ones(len(is_member)) if weights is None else weights
            curves[name] = matched.weighted(image_weights * is_member)
        values = {}
        for metric in self.definitions:
            curve = curves[metric.area][metric.kind == "AR"]
            if ":" in metric.oks:
                values[metric.name] = float(curve.mean())
            else:
                values[metric.name] = float(curve[_threshold_index(metric.oks)])
        return values


def coco_scores(images: Sequence[ImagePoses], sigmas: NDArray[np.float64]) -> OksScores:
    """Return COCO's ten metrics, `METRICS`.

    Args:
        images: One or more images.
        sigmas: (D,) OKS sigmas.
    """
    sizes = ("all", "medium", "large")
    matched = evaluate_variants(images, [size_variants(image, sigmas, sizes) for image in images])
    every_image = np.ones(len(images), bool)
    groups = {size: Group(one, every_image) for size, one in zip(sizes, matched, strict=True)}
    return OksScores(METRICS, groups)


def _threshold_index(oks: str) -> int:
    """Return the index of an OKS threshold such as `0.75`."""
    return int(np.abs(OKS_THRESHOLDS - float(oks)).argmin())
