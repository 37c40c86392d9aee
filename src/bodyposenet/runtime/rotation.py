"""Rotation test: find people who lie, by running the network on the turned image too.

Networks learn mostly from people who stand or sit. Someone who lies on the ground stands upright in
the image turned by 90 degrees to one side or the other. Every orientation is decoded by itself, and
people who were found in several of them are merged by non-maximum suppression.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bodyposenet.oks import compare_poses, pose_areas
from bodyposenet.types import Poses

TURNS = (0, 1, -1)
"""Counterclockwise quarter turns of the image."""

DUPLICATE_OKS = 0.4
"""OKS from which detections in two orientations are the same person: less than COCO's .5 for a
match with the annotation, since both err. Of 1,614 pairs of people annotated in one photo of COCO,
11 resemble each other as much."""

_MIN_JOINTS = 3
"""With fewer joints in common, the missing ones count as an OKS of 0."""


def merge_turns(by_turn: Sequence[Poses], *, duplicate_oks: float = DUPLICATE_OKS) -> Poses:
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
