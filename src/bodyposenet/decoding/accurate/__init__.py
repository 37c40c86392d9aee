"""The decoder of `mode: accurate`: sub-pixel peaks, without upsampling the maps.

heatmaps -> find_peaks -> score_connections (along the part affinity fields) -> assemble
with complete_pose: merge_fragments before, infer_joints after the smallest people are dropped
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bodyposenet.decoding.accurate.assembly import MISSING, People, assemble, person_scores
from bodyposenet.decoding.accurate.body_model import body_model
from bodyposenet.decoding.accurate.completion import infer_joints, merge_fragments
from bodyposenet.decoding.accurate.connections import score_connections
from bodyposenet.decoding.accurate.peaks import find_peaks
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
    """Find the people in the maps of one image.

    Args:
        heatmaps: (K, h, w), finite, without the background; h and w are at least 1.
        pafs: (2 L, h, w), finite.
        skeleton: The joints and limbs that the maps are of.
        heatmap_threshold: A peak's cell must be higher than this.
        paf_threshold: The PAF score of a sample along a limb must be higher than this.
        complete_pose: Merge fragments of people, and infer their missing joints.
        stride: Network input pixels per cell.
        heatmap_sigma: Standard deviation of a joint's Gaussian, in network input pixels.

    Returns:
        The people of at least three joints (all joints of a skeleton that has fewer), best first,
        in network input pixels, not clipped to the image. A keypoint's score is the height of its
        peak, that of an inferred one the heatmap there; a person's grows with the sum of its peaks
        and connections (`person_scores`).
    """
    sigma = heatmap_sigma / stride
    people = _find_people(heatmaps, pafs, skeleton, heatmap_threshold, paf_threshold, sigma)
    model = body_model(skeleton.joints) if complete_pose else None
    if model is not None:
        people = merge_fragments(people, model)
    least = min(_MIN_JOINTS, len(skeleton.joints))
    people = people.take(people.found.sum(axis=1) >= least)
    people = people.take(np.argsort(-people.totals, kind="stable"))
    inferred = None
    if model is not None:
        found = people.found
        people = infer_joints(people, heatmaps, model, sigma)
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
    """All people that connections make, however few joints they have."""
    limbs = np.array(skeleton.limbs, np.int64).reshape(-1, 2)
    auxiliary = np.isin(np.arange(len(limbs)), skeleton.auxiliary or ())
    points, scores, first = find_peaks(heatmaps, heatmap_threshold, sigma)
    connections, connection_scores = score_connections(
        pafs, limbs, points, scores, first, paf_threshold
    )
    parts, totals = assemble(
        connections, connection_scores, limbs, auxiliary, scores, len(skeleton.joints)
    )
    found = parts != MISSING
    keypoints = np.full((*parts.shape, 2), np.nan)
    keypoints[found] = points[parts[found]]
    keypoint_scores = np.zeros(parts.shape)
    keypoint_scores[found] = scores[parts[found]]
    return People(keypoints, keypoint_scores, totals)
