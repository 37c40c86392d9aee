"""Maps -> poses, between the cells and without upsampling (`mode: accurate`).

heatmaps -> find_peaks -> find_connections (along the part affinity fields) -> group_parts
with complete_pose: merge_fragments before, infer_joints after the smallest bodies are dropped
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bodyposenet.decoding.bodies import Bodies, person_scores
from bodyposenet.decoding.body_model import body_model
from bodyposenet.decoding.completion import infer_joints, merge_fragments
from bodyposenet.decoding.grouping import MISSING, group_parts
from bodyposenet.decoding.limb_scores import find_connections
from bodyposenet.decoding.sub_pixel_peaks import find_peaks
from bodyposenet.geometry import Affine
from bodyposenet.skeleton import Skeleton
from bodyposenet.types import HEATMAP_SIGMA, Poses

_LEAST_PARTS = 3


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
        paf_threshold: A PAF sample must agree with the limb's direction by more than this.
        complete_pose: Join what is left of a body, and infer its missing joints.
        stride: Network input pixels per cell.
        heatmap_sigma: Standard deviation of a joint's Gaussian, in network input pixels.

    Returns:
        The bodies of at least three parts (all parts of a skeleton that has fewer joints), best
        first, in network input pixels, not clipped to the image. A keypoint's score is the height
        of its peak, that of an inferred one the heatmap there; a person's grows with the sum of
        its peaks and connections (`person_scores`).
    """
    sigma = heatmap_sigma / stride
    bodies = _find_bodies(heatmaps, pafs, skeleton, heatmap_threshold, paf_threshold, sigma)
    model = body_model(skeleton.joints) if complete_pose else None
    if model is not None:
        bodies = merge_fragments(bodies, model)
    least = min(_LEAST_PARTS, len(skeleton.joints))
    bodies = bodies.take(bodies.found.sum(axis=1) >= least)
    bodies = bodies.take(np.argsort(-bodies.totals, kind="stable"))
    inferred = None
    if model is not None:
        found = bodies.found
        bodies = infer_joints(bodies, heatmaps, model, sigma)
        inferred = bodies.found & ~found
    return Poses(
        bodies.points.astype(np.float32),
        bodies.scores.astype(np.float32),
        person_scores(bodies.totals),
        skeleton,
        inferred=inferred,
    ).transform(Affine.resize(stride))


def _find_bodies(
    heatmaps: NDArray[np.float32],
    pafs: NDArray[np.float32],
    skeleton: Skeleton,
    heatmap_threshold: float,
    paf_threshold: float,
    sigma: float,
) -> Bodies:
    """All bodies that connections make, however few parts they have."""
    limbs = np.array(skeleton.limbs, np.int64).reshape(-1, 2)
    completing = np.isin(np.arange(len(limbs)), skeleton.completing or ())
    places, heights, first = find_peaks(heatmaps, heatmap_threshold, sigma)
    connections, strengths = find_connections(pafs, limbs, places, heights, first, paf_threshold)
    parts, totals = group_parts(
        connections, strengths, limbs, completing, heights, len(skeleton.joints)
    )
    found = parts != MISSING
    points = np.full((*parts.shape, 2), np.nan)
    points[found] = places[parts[found]]
    scores = np.zeros(parts.shape)
    scores[found] = heights[parts[found]]
    return Bodies(points, scores, totals)
