"""Drawing the track ids of people above their heads."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from bodyposenet.poses import Poses

_FONT = cv2.FONT_HERSHEY_DUPLEX
_HEIGHT = 22
"""Pixels of a letter at scale 1."""


def draw_track_ids(image: NDArray[np.uint8], poses: Poses) -> NDArray[np.uint8]:
    """Write the ids of people above their uppermost joints.

    Args:
        image: (H, W, 3) uint8, RGB; it stays as it is.
        poses: People in image pixels; those without an id get no number.

    Returns:
        (H, W, 3) uint8, RGB.
    """
    canvas = image.copy()
    if poses.track_ids is None:
        return canvas
    scale = max(min(image.shape[:2]) / 900, 0.4)
    for identity, points in zip(poses.track_ids.tolist(), poses.keypoints, strict=True):
        found = points[~np.isnan(points[:, 0])]
        if identity < 0 or not len(found):
            continue
        x, y = found[found[:, 1].argmin()]
        middle = 0.5 * cv2.getTextSize(str(identity), _FONT, scale, 1)[0][0]
        corner = np.array([x - middle, y - 0.8 * scale * _HEIGHT])
        place = np.clip(corner, (0, scale * _HEIGHT), image.shape[1::-1]).round().astype(int)
        for color, thickness in (((0, 0, 0), 4), ((255, 255, 255), 1)):
            width = max(round(thickness * scale), thickness)
            cv2.putText(
                canvas, str(identity), place.tolist(), _FONT, scale, color, width, cv2.LINE_AA
            )
    return canvas
