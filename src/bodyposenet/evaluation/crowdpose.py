"""The evaluation protocol of CrowdPose: AP of images with few, some and many overlapping people.

Li et al., "CrowdPose: Efficient Crowded Scenes Pose Estimation and A New Benchmark" (CVPR 2019).
The metrics are those of the authors' crowdpose-api: COCO's, with 0.53 times the area of the box as
the area of a person, and the AP of three levels of crowding.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from bodyposenet.data.coco import CocoImage
from bodyposenet.evaluation.image_poses import ImagePoses
from bodyposenet.evaluation.keypoint_ap import Metric
from bodyposenet.evaluation.oks_matching import evaluate_variants, size_variants
from bodyposenet.evaluation.oks_scores import Group, OksScores

BOX_AREA_SHARE = 0.53
"""Area of a person as a share of the area of the box (crowdpose-api)."""

CROWD_LEVELS = {"crowd_easy": (0.0, 0.2), "crowd_medium": (0.2, 0.8), "crowd_hard": (0.8, np.inf)}
"""Crowd indices of the images of each level, the upper limit excluded.

These are the limits of crowdpose-api, and so of all published values. The paper states 0.1 instead
of 0.2.
"""

METRICS: tuple[Metric, ...] = (
    Metric("AP", "0.50:0.95", "all"), Metric("AP", "0.50", "all"), Metric("AP", "0.75", "all"),
    Metric("AR", "0.50:0.95", "all"), Metric("AR", "0.50", "all"), Metric("AR", "0.75", "all"),
    *(Metric("AP", "0.50:0.95", level) for level in CROWD_LEVELS),
)  # fmt: skip
"""Metrics of CrowdPose, in the order of crowdpose-api."""


def crowdpose_scores(
    images: Sequence[ImagePoses], sigmas: NDArray[np.float64], crowd_indices: NDArray[np.float64]
) -> OksScores:
    """Return the metrics of CrowdPose.

    Args:
        images: One or more images, with the areas of `BOX_AREA_SHARE`.
        sigmas: (D,) OKS sigmas.
        crowd_indices: (I,) crowd index of each image.
    """
    variants = [size_variants(image, sigmas, ("all",)) for image in images]
    (matched,) = evaluate_variants(images, variants)
    groups = {"all": Group(matched, np.ones(len(images), bool))}
    for level, (low, high) in CROWD_LEVELS.items():
        groups[level] = Group(matched, (crowd_indices >= low) & (crowd_indices < high))
    return OksScores(METRICS, groups)


def crowd_indices(
    images: Sequence[CocoImage], labeled_flags: Collection[int]
) -> NDArray[np.float64]:
    """Return the crowd index of each image: that of the annotations, or else the computed one.

    Args:
        images: The images.
        labeled_flags: Visibility flags of labeled keypoints.

    Returns:
        (I,) crowd indices.
    """
    return np.array([
        compute_crowd_index(image, labeled_flags) if image.crowd_index is None
        else image.crowd_index
        for image in images
    ])  # fmt: skip


def compute_crowd_index(image: CocoImage, labeled_flags: Collection[int]) -> float:
    """Compute the crowd index of an image.

    It is the mean over all people of the number of other people's keypoints in their box, divided
    by the number of their own keypoints in it (section 4.1 of the paper). The `crowdIndex` in the
    annotations of CrowdPose can differ.

    Args:
        image: The image. Crowds and people without labeled keypoints in their box do not count.
        labeled_flags: Visibility flags of labeled keypoints.

    Returns:
        The crowd index, 0 without people.
    """
    people = [person for person in image.persons if not person.is_crowd]
    if not people:
        return 0.0
    keypoints = np.stack([person.keypoints for person in people])
    is_labeled = np.isin(keypoints[..., 2], list(labeled_flags))
    corners, sizes = np.split(np.array([person.box for person in people]), 2, axis=1)
    offsets = keypoints[None, ..., :2] - corners[:, None, None]
    is_inside = ((offsets >= 0) & (offsets <= sizes[:, None, None])).all(axis=-1) & is_labeled
    counts = is_inside.sum(axis=-1)  # keypoints of person j in the box of person i
    own = counts.diagonal()
    others = counts.sum(axis=1) - own
    ratios = others[own > 0] / own[own > 0]
    return float(ratios.mean()) if len(ratios) else 0.0
