"""Flip test: average the maps of an image and of its mirror image.

In a mirror image left and right joints have changed places, so their channels are swapped back; the
horizontal component of every part affinity field changes its sign.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bodyposenet.oks import compare_poses, pose_areas
from bodyposenet.skeleton import Skeleton
from bodyposenet.types import Maps, Poses

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


TURNS = (0, 1, -1)
"""Counterclockwise quarter turns of the image."""

DUPLICATE_OKS = 0.4
"""OKS from which detections in two orientations are the same person: less than COCO's .5 for a
match with the annotation, since both err. Of 1,614 pairs of people annotated in one photo of COCO,
11 resemble each other as much."""

_MIN_JOINTS = 3
"""With fewer joints in common, the missing ones count as an OKS of 0."""


def merge_rotations(by_turn: Sequence[Poses], *, duplicate_oks: float = DUPLICATE_OKS) -> Poses:
    """Merge the people found in several orientations of one image.

    Of two detections of the same person the one of the higher score is kept. Detections of the same
    orientation never suppress each other: the decoder gives a joint to one person only, so they are
    different people, however close they are.

    Args:
        by_turn: The detections in each orientation, all in image pixels; at least one `Poses`.
        duplicate_oks: Detections of different orientations are the same person from this object
            keypoint similarity on.

    Returns:
        The people, the highest score first.
    """
    turns = np.repeat(np.arange(len(by_turn)), [len(poses) for poses in by_turn])
    poses = Poses.concat(by_turn)
    order = np.argsort(-poses.scores, kind="stable")
    poses, turns = poses[order], turns[order]
    is_same = _similarities(poses) >= duplicate_oks
    is_same &= turns[:, None] != turns
    kept = np.ones(len(poses), bool)
    for person in range(len(poses)):
        if kept[person]:
            kept[person + 1 :] &= ~is_same[person, person + 1 :]
    return poses[kept]


def _similarities(poses: Poses) -> NDArray[np.float64]:
    """(N, N) OKS of every two people, over the joints that the network found of both.

    Its scale is the larger one of both people: a detection of some joints only is a duplicate of
    that of the whole person. Inferred joints would hide duplicates: they vary with what was found.
    """
    points = poses.keypoints.astype(np.float64)
    if poses.inferred is not None:
        points[poses.inferred] = np.nan
    areas = pose_areas(points)
    areas, sigmas = np.maximum(areas[:, None], areas), np.array(poses.skeleton.sigmas)
    similarity, common = compare_poses(points, points, areas, sigmas)
    return similarity / np.maximum(common, min(_MIN_JOINTS, len(sigmas)))
