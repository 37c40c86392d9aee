"""Peaks of the upsampled heatmaps (TAO reference, sections 11.4 and 11.5)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

# TAO's 5x5 kernel is the outer product of this row with itself: square roots of the
# integrals of a unit normal over five equal bins on [-3.7, 3.7], normalized to the sum 1 (TAO
# reference, section 11.5).
_SMOOTHING = np.array([0.060411, 0.245542, 0.388092, 0.245542, 0.060411])
_NEIGHBORHOOD = np.ones((3, 3), np.uint8)

_MAX_PEAKS = 128
"""Maximum number of peaks per joint. A flat or noisy heatmap has a peak at every other pixel, and
the number of pairs is quadratic."""


@dataclass(frozen=True, eq=False)
class Peaks:
    """Candidates for the joints of all people, ordered by joint, then row, then column.

    Args:
        joints: (P,) int64, index of the joint.
        points: (P, 2) int64, x and y in pixels of the upsampled grid.
        scores: (P,) float32, values of the unsmoothed heatmap.
    """

    joints: NDArray[np.int64]
    points: NDArray[np.int64]
    scores: NDArray[np.float32]

    def of_joint(self, joint: int) -> NDArray[np.int64]:
        """Return the indices of the candidates for one joint, ascending."""
        return np.flatnonzero(self.joints == joint)


def find_peaks(
    heatmaps: NDArray[np.float32], threshold: float, upsampling: tuple[int, int]
) -> Peaks:
    """Find the peaks of every joint's heatmap.

    A pixel is a peak if its smoothed value is the largest of the 3x3 pixels around it and its
    unsmoothed value exceeds the threshold. A plateau has several peaks.

    Args:
        heatmaps: (K, h, w), without the background.
        threshold: Heatmap value that a peak must exceed.
        upsampling: Vertical and horizontal upsampling factor of the heatmaps.

    Returns:
        At most 128 peaks per joint, the highest ones.
    """
    joints, points, scores = [], [], []
    for joint, heatmap in enumerate(heatmaps):
        heatmap = upsample(heatmap, upsampling)
        smoothed = cv2.sepFilter2D(
            heatmap, cv2.CV_32F, _SMOOTHING, _SMOOTHING, borderType=cv2.BORDER_CONSTANT
        )
        is_peak = (smoothed == cv2.dilate(smoothed, _NEIGHBORHOOD)) & (heatmap > threshold)
        rows, columns = _highest(heatmap, *np.nonzero(is_peak))
        joints.append(np.full(len(rows), joint))
        points.append(np.column_stack([columns, rows]))
        scores.append(heatmap[rows, columns])
    return Peaks(np.concatenate(joints), np.concatenate(points), np.concatenate(scores))


def _highest(
    heatmap: NDArray[np.float32], rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Keep the highest peaks if there are too many, in their original order."""
    if len(rows) <= _MAX_PEAKS:
        return rows, columns
    descending = np.argsort(-heatmap[rows, columns], kind="stable")
    kept = np.sort(descending[:_MAX_PEAKS])
    return rows[kept], columns[kept]


def upsample(channel: NDArray[np.float32], factors: tuple[int, int]) -> NDArray[np.float32]:
    """Upsample one channel with bicubic interpolation, aligning the edges of the pixels.

    Args:
        channel: (h, w).
        factors: Vertical and horizontal factor.

    Returns:
        (h * vertical, w * horizontal).
    """
    vertical, horizontal = factors
    height, width = channel.shape
    size = (width * horizontal, height * vertical)
    return cv2.resize(channel, size, interpolation=cv2.INTER_CUBIC)  # type: ignore[return-value]
