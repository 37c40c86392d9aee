"""Object keypoint similarity (OKS) between detected poses, for tracking and checks of engines.

OKS is defined by COCO (cocodataset.org, "keypoints-eval") for annotated people. Detections have no
annotated area, so the area is estimated from the joints. The evaluation of models uses
faster-coco-eval instead.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def pose_areas(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Estimate the areas of people from the boxes around their joints.

    The area is at least that of a box with the same longer side and half its width.

    Args:
        points: (P, K, 2) joints in pixels, NaN where they are missing.

    Returns:
        (P,) areas in square pixels.
    """
    missing = np.isnan(points)
    low = np.where(missing, np.inf, points).min(axis=1)
    high = np.where(missing, -np.inf, points).max(axis=1)
    sides = np.maximum(high - low, 1.0)  # one joint or none
    return np.maximum(sides.prod(axis=1), (sides.max(axis=1) / 2) ** 2)


def compare_poses(
    points: NDArray[np.float64],
    others: NDArray[np.float64],
    areas: NDArray[np.float64],
    sigmas: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Compare each of P people with each of Q others.

    Args:
        points: (P, K, 2) joints in pixels, NaN where they are missing.
        others: (Q, K, 2).
        areas: (P, Q) in square pixels.
        sigmas: (K,) OKS sigmas.

    Returns:
        (P, Q) sums of exp(-d^2 / (2 area (2 sigma)^2)) over the joints that both people have, and
        (P, Q) numbers of these joints; OKS is the quotient of both.
    """
    squares = ((points[:, None] - others[None]) ** 2).sum(axis=-1)
    exponents = squares / (2 * areas[..., None] * (2 * sigmas) ** 2)
    similarity = np.exp(-np.nan_to_num(exponents, nan=np.inf)).sum(axis=-1)
    return similarity, (~np.isnan(squares)).sum(axis=-1)
