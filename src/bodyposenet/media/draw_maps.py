"""Pictures of heatmaps and PAFs: their intensity in color over the darkened image."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def draw_heatmaps(image: NDArray[np.uint8], heatmaps: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Draw the maximum over the heatmaps of all joints, without the background.

    Args:
        image: (H, W, 3) uint8 RGB, the network input.
        heatmaps: (K + 1, h, w) float32, the background last.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    return _overlay(image, heatmaps[:-1].max(axis=0))


def draw_pafs(image: NDArray[np.uint8], pafs: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Draw the maximum over the limbs of the length of the PAF vectors.

    Args:
        image: (H, W, 3) uint8 RGB, the network input.
        pafs: (2 L, h, w) float32, x and y of each limb.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    return _overlay(image, np.hypot(pafs[0::2], pafs[1::2]).max(axis=0))


def _overlay(image: NDArray[np.uint8], intensity: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Blend a color-mapped intensity of 0..1 over the darkened image."""
    height, width = image.shape[:2]
    gray = cv2.resize((intensity.clip(0, 1) * 255).astype(np.uint8), (width, height))
    color = cv2.cvtColor(cv2.applyColorMap(gray, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    return cv2.addWeighted(image, 0.4, color, 0.8, 0)  # type: ignore[return-value]
