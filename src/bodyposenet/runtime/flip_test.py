"""Flip test: average the maps of an image and of its mirror image.

In a mirror image left and right joints have changed places, so their channels are swapped back; the
horizontal component of every part affinity field changes its sign.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bodyposenet.skeleton import Skeleton
from bodyposenet.types import Maps

_NONE = -1
"""In place of the counterpart of a joint of one side that has none on the other."""


class FlipTest:
    """Which channels of a skeleton's maps become which in a mirror image, and their average.

    A limb may become one that the skeleton lists from end to start: that field is turned round. A
    joint of one side without a counterpart on the other, and a limb whose mirrored limb the
    skeleton lacks, cannot be found in a mirror image: their channels stay as the plain image gave
    them.

    Args:
        skeleton: The joints and limbs that the maps are of.
    """

    def __init__(self, skeleton: Skeleton) -> None:
        joints = _mirrored_joints(skeleton)
        background = len(skeleton.joints)
        pairs = [(joint, other) for joint, other in enumerate(joints) if other != _NONE]
        pairs.append((background, background))
        self._joints, self._mirrored_joints = np.array(pairs, np.intp).T
        self._limbs, self._mirrored_limbs, self._directions = _mirrored_limbs(skeleton, joints)

    def average(self, plain: Maps, mirrored: Maps) -> Maps:
        """The mean of both on the plain image's cells.

        Args:
            plain: Maps of an image whose width is whole cells.
            mirrored: Maps of that image with its columns in reverse order.
        """
        heatmaps = plain.heatmaps.copy()
        heatmaps[self._joints] += mirrored.heatmaps[self._mirrored_joints, :, ::-1]
        heatmaps[self._joints] /= 2
        height, width = plain.pafs.shape[1:]
        pafs = plain.pafs.reshape(-1, 2, height, width).copy()
        fields = mirrored.pafs.reshape(pafs.shape)[self._mirrored_limbs, :, :, ::-1]
        pafs[self._limbs] += fields * self._directions[..., None, None]
        pafs[self._limbs] /= 2
        return replace(plain, heatmaps=heatmaps, pafs=pafs.reshape(plain.pafs.shape))


def _mirrored_joints(skeleton: Skeleton) -> list[int]:
    """What each joint becomes."""
    return [
        _NONE if joint in skeleton.unpaired else other
        for joint, other in zip(skeleton.joints, skeleton.mirrored, strict=True)
    ]


def _mirrored_limbs(
    skeleton: Skeleton, joints: list[int]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Limbs that have a mirrored limb, that limb, and the signs (x, y) of its field."""
    places = {limb: place for place, limb in enumerate(skeleton.limbs)}
    found: list[tuple[int, int, int]] = []
    for place, (start, end) in enumerate(skeleton.limbs):
        ahead, back = (joints[start], joints[end]), (joints[end], joints[start])
        if ahead in places:
            found.append((place, places[ahead], 1))
        elif back in places:
            found.append((place, places[back], -1))
    limbs, mirrored, direction = np.array(found, np.intp).reshape(-1, 3).T
    return limbs, mirrored, np.stack([-direction, direction], axis=1).astype(np.float32)
