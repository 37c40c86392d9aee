"""Decoder of `mode: tao`: the same rules and constants as TAO, without upsampling whole maps.

Steps: `find_peaks` in the heatmaps, `score_connections` along the part affinity fields,
`assemble` people (TAO reference, sections 11.4 to 11.8).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bodyposenet.decoding.common import keypoints_of
from bodyposenet.decoding.tao.assembly import assemble
from bodyposenet.decoding.tao.connections import score_connections
from bodyposenet.decoding.tao.peaks import find_peaks
from bodyposenet.decoding.tao.upsampling import upsampled_axis
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
    """Decode the maps of one image.

    Args:
        heatmaps: (K, h, w) finite values, without the background channel; h and w at least 1.
        pafs: (2 L, h, w) finite values.
        skeleton: Joints and limbs of the maps.
        heatmap_threshold: Minimum heatmap value of a peak (exclusive).
        paf_threshold: Minimum PAF score of a sample along a limb (exclusive).
        upsampling: Upsampling factors (vertical, horizontal) of the grid of the peaks.
        stride: Network input pixels per cell.

    Returns:
        Poses in network input pixels, not clipped to the image. A keypoint's score is the
        unsmoothed heatmap value at its peak. A person's score is 1 - 1 / total, where total is the
        sum of the scores of peaks and connections.
    """
    rows, columns = map(upsampled_axis, heatmaps.shape[1:], upsampling)
    limbs = np.array(skeleton.limbs, np.int64).reshape(-1, 2)
    points, scores, first = find_peaks(heatmaps, heatmap_threshold, rows, columns)
    connections, connection_scores = score_connections(
        pafs, limbs, points, first, paf_threshold, rows, columns
    )
    parts, totals = assemble(connections, connection_scores, scores, skeleton)
    # Bicubic interpolation can raise a peak slightly above 1.
    keypoints, keypoint_scores = keypoints_of(parts, points, scores.clip(max=1.0), np.float32)
    poses = Poses(keypoints, keypoint_scores, (1 - 1 / totals).astype(np.float32), skeleton)
    vertical, horizontal = upsampling
    return poses.transform(Affine.resize(stride / horizontal, stride / vertical))
