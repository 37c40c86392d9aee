"""TAO's rendering of targets, in loops over joints and people (TAO reference, section 6).

A baseline only: unlike `bodyposenet.model.targets`, fields are sampled at the corners of cells, and
later people overwrite earlier ones.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bodyposenet import Skeleton
from bodyposenet.model.targets import TargetOptions

_MIN_HEATMAP_VALUE = 0.001


def loop_targets(
    keypoints: NDArray[np.floating],
    labeled: NDArray[np.bool_],
    skeleton: Skeleton,
    height: int,
    width: int,
    options: TargetOptions = TargetOptions(),
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Render the targets of one sample.

    Args:
        keypoints: (P, K, 2) float, x and y in network pixels.
        labeled: (P, K) bool, the keypoints to render.
        skeleton: Joints and limbs.
        height: Height of the network input in pixels.
        width: Width of the network input in pixels.
        options: Stride, sigma of the Gaussians and half width of the limbs.

    Returns:
        Heatmaps (K + 1, h, w) float32, the background last, and PAFs (2 L, h, w) float32.
    """
    shape = -(-height // options.stride), -(-width // options.stride)
    return (
        _loop_heatmaps(keypoints, labeled, *shape, options),
        _loop_pafs(keypoints, labeled, skeleton, *shape, options),
    )


def _loop_heatmaps(
    keypoints: NDArray[np.floating],
    labeled: NDArray[np.bool_],
    rows: int,
    columns: int,
    options: TargetOptions,
) -> NDArray[np.float32]:
    people, joints = labeled.shape
    heatmaps = np.zeros((joints + 1, rows, columns), np.float32)
    middle = (options.stride - 1) / 2
    grid_x, grid_y = np.meshgrid(
        np.arange(columns) * options.stride + middle, np.arange(rows) * options.stride + middle
    )
    for joint in range(joints):
        for person in range(people):
            if labeled[person, joint]:
                x, y = keypoints[person, joint]
                squared = (grid_x - x) ** 2 + (grid_y - y) ** 2
                peak = np.exp(-squared / (2 * options.heatmap_sigma**2))
                peak[peak < _MIN_HEATMAP_VALUE] = 0
                heatmaps[joint] = np.maximum(heatmaps[joint], peak)
    heatmaps[joints] = np.clip(1 - heatmaps[:joints].max(axis=0), 0, 1)
    return heatmaps


def _loop_pafs(
    keypoints: NDArray[np.floating],
    labeled: NDArray[np.bool_],
    skeleton: Skeleton,
    rows: int,
    columns: int,
    options: TargetOptions,
) -> NDArray[np.float32]:
    pafs = np.zeros((skeleton.paf_channels, rows, columns), np.float32)
    for limb, (start, end) in enumerate(skeleton.limbs):
        for person in range(len(labeled)):
            if labeled[person, start] and labeled[person, end]:
                first, second = keypoints[person, start], keypoints[person, end]
                _draw_limb(pafs[2 * limb : 2 * limb + 2], first, second, options)
    return pafs


def _draw_limb(
    field: NDArray[np.float32],
    start: NDArray[np.floating],
    end: NDArray[np.floating],
    options: TargetOptions,
) -> None:
    """Write one person's limb into its field (2, h, w), including the zeros beside the limb."""
    (start_x, start_y), (along_x, along_y) = start, end - start
    length = np.hypot(along_x, along_y)
    if length == 0:
        return
    stride, reach = options.stride, options.paf_half_width * options.stride
    low, high = np.minimum(start, end) - reach, np.maximum(start, end) + reach
    left, top = (max(0, round(float(edge) / stride)) for edge in low)
    right = min(field.shape[2], round(float(high[0]) / stride))
    bottom = min(field.shape[1], round(float(high[1]) / stride))
    if left >= right or top >= bottom:
        return
    grid_x, grid_y = np.meshgrid(np.arange(left, right) * stride, np.arange(top, bottom) * stride)
    distance = np.abs((start_y - grid_y) * along_x - (start_x - grid_x) * along_y) / length
    inside = distance <= reach
    field[0, top:bottom, left:right] = np.where(inside, along_x / length, 0)
    field[1, top:bottom, left:right] = np.where(inside, along_y / length, 0)
