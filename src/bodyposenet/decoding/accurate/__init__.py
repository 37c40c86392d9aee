"""Decoder of `mode: accurate`: sub-pixel peaks, without upsampling of the maps.

Steps: `find_peaks` in the heatmaps, `score_connections` along the part affinity fields,
`assemble` people. With `complete_pose`, `merge_fragments` runs before people with too few joints
are dropped, and `infer_joints` afterwards.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bodyposenet.decoding.accurate.assembly import People, assemble, person_scores
from bodyposenet.decoding.accurate.completion import infer_joints, merge_fragments
from bodyposenet.decoding.accurate.connections import score_connections
from bodyposenet.decoding.accurate.peaks import find_peaks
from bodyposenet.decoding.accurate.pose_prior import load_pose_prior
from bodyposenet.decoding.common import keypoints_of
from bodyposenet.geometry import Affine
from bodyposenet.skeleton import Skeleton
from bodyposenet.types import HEATMAP_SIGMA, Poses

__all__ = ["decode_accurate"]

_MIN_JOINTS = 3


def decode_accurate(
    heatmaps: NDArray[np.float32],
    pafs: NDArray[np.float32],
    skeleton: Skeleton,
    heatmap_threshold: float,
    paf_threshold: float,
    complete_pose: bool = False,
    stride: int = 8,
    heatmap_sigma: float = HEATMAP_SIGMA,
) -> Poses:
    """Decode the maps of one image.

    Args:
        heatmaps: (K, h, w) finite values, without the background channel; h and w at least 1.
        pafs: (2 L, h, w) finite values.
        skeleton: Joints and limbs of the maps.
        heatmap_threshold: Minimum heatmap value of a peak's cell (exclusive).
        paf_threshold: Minimum PAF score of a sample along a limb (exclusive).
        complete_pose: Merge fragments of people and infer their missing joints.
        stride: Network input pixels per cell.
        heatmap_sigma: Standard deviation of a joint's Gaussian, in network input pixels.

    Returns:
        People with at least three joints (all joints of a smaller skeleton), best first, in
        network input pixels, not clipped to the image. A keypoint's score is the height of its
        peak; an inferred keypoint's score is the heatmap value there. A person's score
        increases with the sum of the scores of peaks and connections (`person_scores`).
    """
    sigma = heatmap_sigma / stride
    people = _find_people(heatmaps, pafs, skeleton, heatmap_threshold, paf_threshold, sigma)
    prior = load_pose_prior(skeleton.joints) if complete_pose else None
    if prior is not None:
        people = merge_fragments(people, prior)
    min_joints = min(_MIN_JOINTS, len(skeleton.joints))
    people = people.take(people.found.sum(axis=1) >= min_joints)
    people = people.take(np.argsort(-people.totals, kind="stable"))
    inferred = None
    if prior is not None:
        found = people.found
        people = infer_joints(people, heatmaps, prior, sigma)
        inferred = people.found & ~found
    return Poses(
        people.points.astype(np.float32),
        people.scores.astype(np.float32),
        person_scores(people.totals),
        skeleton,
        inferred=inferred,
    ).transform(Affine.resize(stride))


def _find_people(
    heatmaps: NDArray[np.float32],
    pafs: NDArray[np.float32],
    skeleton: Skeleton,
    heatmap_threshold: float,
    paf_threshold: float,
    sigma: float,
) -> People:
    """Find all people, including those with very few joints."""
    limbs = np.array(skeleton.limbs, np.int64).reshape(-1, 2)
    auxiliary = np.isin(np.arange(len(limbs)), skeleton.auxiliary or ())
    points, scores, first = find_peaks(heatmaps, heatmap_threshold, sigma)
    connections, connection_scores = score_connections(
        pafs, limbs, points, scores, first, paf_threshold
    )
    parts, totals = assemble(
        connections, connection_scores, limbs, auxiliary, points, scores, len(skeleton.joints)
    )
    return People(*keypoints_of(parts, points, scores, np.float64), totals)
