"""Object keypoint similarity (OKS) between poses, which have no annotated area.

COCO's measure (cocodataset.org, "keypoints-eval"); the evaluation itself is faster-coco-eval's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def pose_areas(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Estimate the areas of people for OKS, by the boxes around their joints.

    A box never counts for less than that of a slender person of the same height.

    Args:
        points: (P, K, 2) joints in pixels, NaN where they are missing.

    Returns:
        (P,) areas in square pixels.
    """
    missing = np.isnan(points)
    low = np.where(missing, np.inf, points).min(axis=1)
    high = np.where(missing, -np.inf, points).max(axis=1)
    sides = np.maximum(high - low, 1.0)  # one joint, or none
    return np.maximum(sides.prod(axis=1), (sides.max(axis=1) / 2) ** 2)


def compare_poses(
    points: NDArray[np.float64],
    others: NDArray[np.float64],
    areas: NDArray[np.float64],
    sigmas: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Compare every person with every other.

    Args:
        points: (P, K, 2) joints in pixels, NaN where they are missing.
        others: (Q, K, 2).
        areas: (P, Q) in square pixels.
        sigmas: (K,) OKS sigmas.

    Returns:
        (P, Q) the sum over the joints that both have of exp(-d^2 / (2 area (2 sigma)^2)), and
        (P, Q) how many joints these are: the OKS is their quotient.
    """
    squares = ((points[:, None] - others[None]) ** 2).sum(axis=-1)
    exponents = squares / (2 * areas[..., None] * (2 * sigmas) ** 2)
    similarity = np.exp(-np.nan_to_num(exponents, nan=np.inf)).sum(axis=-1)
    return similarity, (~np.isnan(squares)).sum(axis=-1)
