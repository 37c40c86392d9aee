"""Test-time augmentation: the flip test and the rotation test.

The flip test (`FlipTest`) averages the maps of an image and of its mirror image. The rotation test
(`merge_rotations`) merges the people detected in an image and in its rotations by 90 degrees, so
that people who are lying down are detected, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bodyposenet.oks import compare_poses, pose_areas
from bodyposenet.skeleton import Skeleton
from bodyposenet.types import Maps, Poses

QUARTER_TURNS = (0, 1, -1)
"""Counterclockwise quarter turns of the rotation test."""

DUPLICATE_OKS = 0.4
"""Minimum OKS of detections of the same person in two orientations.

Lower than COCO's 0.5 for a match with an annotation, because both detections are inexact. Of 1,614
pairs of people annotated in the same COCO photo, 11 have this OKS.
"""

_MIN_JOINTS = 3
"""Minimum number of common joints; if there are fewer, the missing ones have an OKS of 0."""

_NONE = -1
"""Mirrored joint of a left or right joint without a counterpart."""


class FlipTest:
    """Averages the maps of an image and of its mirror image.

    Channels of left and right joints are swapped back, and the horizontal component of each part
    affinity field changes its sign. If the skeleton lists a mirrored limb from end to start, the
    whole field changes its sign. Channels of left or right joints without a counterpart, and of
    limbs without a mirrored limb, are not averaged.

    Args:
        skeleton: Joints and limbs of the maps.
    """

    def __init__(self, skeleton: Skeleton) -> None:
        joints = _mirrored_joints(skeleton)
        background = len(skeleton.joints)
        pairs = [(joint, other) for joint, other in enumerate(joints) if other != _NONE]
        pairs.append((background, background))
        self._joints, self._mirrored_joints = np.array(pairs, np.intp).T
        self._limbs, self._mirrored_limbs, self._directions = _mirrored_limbs(skeleton, joints)

    def average(self, plain: Maps, mirrored: Maps) -> Maps:
        """Average two maps.

        Args:
            plain: Maps of an image whose width is a multiple of the stride.
            mirrored: Maps of the same image with its columns in reverse order.

        Returns:
            The mean, on the cells of `plain`.
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
    """Return the mirrored joint of each joint."""
    return [
        _NONE if joint in skeleton.unpaired else other
        for joint, other in zip(skeleton.joints, skeleton.mirrored, strict=True)
    ]


def _mirrored_limbs(
    skeleton: Skeleton, joints: list[int]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Return limbs with a mirrored limb, the mirrored limbs, and the signs (x, y) of the fields."""
    index_of = {limb: index for index, limb in enumerate(skeleton.limbs)}
    pairs: list[tuple[int, int, int]] = []
    for index, (start, end) in enumerate(skeleton.limbs):
        same, reverse = (joints[start], joints[end]), (joints[end], joints[start])
        if same in index_of:
            pairs.append((index, index_of[same], 1))
        elif reverse in index_of:
            pairs.append((index, index_of[reverse], -1))
    limbs, mirrored, direction = np.array(pairs, np.intp).reshape(-1, 3).T
    return limbs, mirrored, np.stack([-direction, direction], axis=1).astype(np.float32)


def merge_rotations(by_turn: Sequence[Poses], *, duplicate_oks: float = DUPLICATE_OKS) -> Poses:
    """Merge the detections in several orientations of one image.

    Of two detections of the same person, the one with the higher score is kept. Detections in the
    same orientation never suppress each other, because the decoder assigns each joint to only one
    person.

    Args:
        by_turn: Detections in each orientation, all in image pixels; at least one `Poses`.
        duplicate_oks: Minimum object keypoint similarity of detections of the same person.

    Returns:
        The people, best first.
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
    """Compute the (N, N) OKS of all pairs of people over the joints detected in both.

    The scale is that of the larger person, so that a detection of some joints is a duplicate of
    that of the whole person. Inferred joints are ignored: they depend on the detected ones and
    would hide duplicates.
    """
    points = poses.keypoints.astype(np.float64)
    if poses.inferred is not None:
        points[poses.inferred] = np.nan
    areas = pose_areas(points)
    areas, sigmas = np.maximum(areas[:, None], areas), np.array(poses.skeleton.sigmas)
    similarity, common = compare_poses(points, points, areas, sigmas)
    return similarity / np.maximum(common, min(_MIN_JOINTS, len(sigmas)))
