"""Maps -> poses the original's way: enlarge every map, then look for people.

See the TAO reference, section 11.

    heatmaps -> find_peaks -> find_connections (along the part affinity fields) -> connect_parts

It is written for clarity and exactness, as the measure of any faster decoder.
"""

from __future__ import annotations

import numpy as np

from bodyposenet.geometry import Affine
from bodyposenet.skeleton import Skeleton
from bodyposenet.types import Maps, Poses

from .assembly import Body, connect_parts
from .limbs import find_connections
from .peaks import Peaks, find_peaks


def decode_originally(
    maps: Maps,
    skeleton: Skeleton,
    heatmap_threshold: float = 0.1,
    paf_threshold: float = 0.05,
    upsampling: tuple[int, int] = (8, 8),
) -> Poses:
    """Find the people in the maps of one image.

    Args:
        maps: Heatmaps and part affinity fields, finite.
        skeleton: The joints and limbs that the maps are of.
        heatmap_threshold: A peak must be higher than this.
        paf_threshold: A PAF sample must agree with the limb's direction by more than this.
        upsampling: Factors (vertical, horizontal) that maps are enlarged by.

    Returns:
        Poses in network input pixels, not clipped to the image. A keypoint's score is the
        unsmoothed heatmap at its peak; a person's is 1 - 1 / total, where total is the sum of the
        peaks and of the connections between them.
    """
    peaks = find_peaks(maps.heatmaps[:-1], heatmap_threshold, upsampling)
    connections = find_connections(maps.pafs, peaks, skeleton, paf_threshold, upsampling)
    bodies = connect_parts(connections, peaks, skeleton)
    vertical, horizontal = upsampling
    to_network = Affine.resize(maps.stride / horizontal, maps.stride / vertical)
    return _poses(bodies, peaks, skeleton).transform(to_network)


def _poses(bodies: list[Body], peaks: Peaks, skeleton: Skeleton) -> Poses:
    """Look up the peaks of each body; positions stay on the upsampled grid."""
    if not bodies:
        return Poses.empty(skeleton)
    parts = np.array([body.parts for body in bodies])
    found = parts >= 0
    keypoints = np.full((*parts.shape, 2), np.nan, np.float32)
    keypoints[found] = peaks.points[parts[found]]
    scores = np.zeros(parts.shape, np.float32)
    # Bicubic upsampling can lift a peak a little above 1.
    scores[found] = peaks.scores[parts[found]].clip(max=1.0)
    totals = np.array([body.total for body in bodies])
    return Poses(keypoints, scores, (1 - 1 / totals).astype(np.float32), skeleton)
