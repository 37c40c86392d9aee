"""The decoder of `mode: tao`: the original's, without enlarging the maps.

heatmaps -> find_peaks -> score_connections (along the part affinity fields) -> assemble

The steps and their constants are the original's (TAO reference, sections 11.4 to 11.8).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bodyposenet.decoding.tao.assembly import MISSING, assemble
from bodyposenet.decoding.tao.connections import score_connections
from bodyposenet.decoding.tao.peaks import find_peaks
from bodyposenet.decoding.tao.upsampling import enlarge_axis
from bodyposenet.geometry import Affine
from bodyposenet.skeleton import Skeleton
from bodyposenet.types import Poses

__all__ = ["decode_tao"]


def decode_tao(
    heatmaps: NDArray[np.float32],
    pafs: NDArray[np.float32],
    skeleton: Skeleton,
    heatmap_threshold: float,
    paf_threshold: float,
    upsampling: tuple[int, int],
    stride: int = 8,
) -> Poses:
    """Find the people in the maps of one image.

    Args:
        heatmaps: (K, h, w), finite, without the background; h and w are at least 1.
        pafs: (2 L, h, w), finite.
        skeleton: The joints and limbs that the maps are of.
        heatmap_threshold: A peak must be higher than this.
        paf_threshold: The PAF score of a sample along a limb must be higher than this.
        upsampling: Factors (vertical, horizontal) of the grid that peaks lie on.
        stride: Network input pixels per cell.

    Returns:
        Poses in network input pixels, not clipped to the image. A keypoint's score is the
        unsmoothed heatmap at its peak; a person's is 1 - 1 / total, where total is the sum of the
        peaks and of the connections between them.
    """
    rows, columns = map(enlarge_axis, heatmaps.shape[1:], upsampling)
    limbs = np.array(skeleton.limbs, np.int64).reshape(-1, 2)
    points, scores, first = find_peaks(heatmaps, heatmap_threshold, rows, columns)
    connections, connection_scores = score_connections(
        pafs, limbs, points, first, paf_threshold, rows, columns
    )
    parts, totals = assemble(connections, connection_scores, scores, skeleton)
    found = parts != MISSING
    keypoints = np.full((*parts.shape, 2), np.nan, np.float32)
    keypoints[found] = points[parts[found]]
    keypoint_scores = np.zeros(parts.shape, np.float32)
    # Bicubic interpolation can lift a peak a little above 1.
    keypoint_scores[found] = scores[parts[found]].clip(max=1.0)
    poses = Poses(keypoints, keypoint_scores, (1 - 1 / totals).astype(np.float32), skeleton)
    vertical, horizontal = upsampling
    return poses.transform(Affine.resize(stride / horizontal, stride / vertical))
