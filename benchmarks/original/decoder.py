"""TAO's decoder (TAO reference, section 11): upsample all maps, find peaks, connect and assemble.

It is written for clarity and exactness, as the reference for faster decoders.
"""

from __future__ import annotations

import numpy as np

from bodyposenet import Affine, Maps, Poses, Skeleton

from .assembly import PersonCandidate, connect_parts
from .limbs import find_connections
from .peaks import Peaks, find_peaks


def decode_like_original(
    maps: Maps,
    skeleton: Skeleton,
    heatmap_threshold: float = 0.1,
    paf_threshold: float = 0.05,
    upsampling: tuple[int, int] = (8, 8),
) -> Poses:
    """Decode the maps of one image like TAO.

    Args:
        maps: Heatmaps and part affinity fields, finite.
        skeleton: The joints and limbs of the maps.
        heatmap_threshold: Heatmap value that a peak must exceed.
        paf_threshold: PAF score that a sample must exceed.
        upsampling: Vertical and horizontal upsampling factor of the maps.

    Returns:
        Poses in network input pixels, not clipped to the image. A keypoint's score is the
        unsmoothed heatmap at its peak; a person's is 1 - 1 / total, where total is the sum of the
        peaks and of the connections between them.
    """
    peaks = find_peaks(maps.heatmaps[:-1], heatmap_threshold, upsampling)
    connections = find_connections(maps.pafs, peaks, skeleton, paf_threshold, upsampling)
    people = connect_parts(connections, peaks, skeleton)
    vertical, horizontal = upsampling
    to_network = Affine.resize(maps.stride / horizontal, maps.stride / vertical)
    return _poses(people, peaks, skeleton).transform(to_network)


def _poses(people: list[PersonCandidate], peaks: Peaks, skeleton: Skeleton) -> Poses:
    """Look up the peaks of each person; positions are on the upsampled grid."""
    if not people:
        return Poses.empty(skeleton)
    parts = np.array([person.parts for person in people])
    present = parts >= 0
    keypoints = np.full((*parts.shape, 2), np.nan, np.float32)
    keypoints[present] = peaks.points[parts[present]]
    scores = np.zeros(parts.shape, np.float32)
    # Bicubic upsampling can raise a peak slightly above 1.
    scores[present] = peaks.scores[parts[present]].clip(max=1.0)
    totals = np.array([person.total for person in people])
    return Poses(keypoints, scores, (1 - 1 / totals).astype(np.float32), skeleton)
