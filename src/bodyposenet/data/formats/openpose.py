"""OpenPose's JSON: one file per image or frame (`--write_json` of OpenPose, version 1.3)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bodyposenet.data.formats.predictions import (
    ImagePredictions,
    OutputFormat,
    PredictedFrame,
    PredictedImage,
    VideoPredictions,
)
from bodyposenet.files import atomic_write
from bodyposenet.poses import NO_ID, Poses
from bodyposenet.skeleton import Skeleton

_VERSION = 1.3

_COCO = (
    "Nose", "Neck", "RShoulder", "RElbow", "RWrist", "LShoulder", "LElbow", "LWrist", "RHip",
    "RKnee", "RAnkle", "LHip", "LKnee", "LAnkle", "REye", "LEye", "REar", "LEar",
)  # fmt: skip
_BODY_25 = (
    *_COCO[:8], "MidHip", *_COCO[8:], "LBigToe", "LSmallToe", "LHeel", "RBigToe", "RSmallToe",
    "RHeel",
)  # fmt: skip
_MODELS = (_BODY_25, _COCO)
"""Joints of OpenPose's models BODY_25 and COCO, in their order."""

_OTHER_KEYS = (
    "face_keypoints_2d", "hand_left_keypoints_2d", "hand_right_keypoints_2d", "pose_keypoints_3d",
    "face_keypoints_3d", "hand_left_keypoints_3d", "hand_right_keypoints_3d",
)  # fmt: skip
"""Keys of a person that stay empty; readers expect them."""


def _write_images(folder: Path, predictions: ImagePredictions) -> None:
    """Write NAME_keypoints.json for each image.

    Joints are in the order of OpenPose's model BODY_25 or COCO if the skeleton has all of its
    joints, else in the skeleton's order.

    Args:
        folder: Existing folder of the files.
        predictions: The predictions.

    Raises:
        BodyPoseNetError: A file cannot be written.
    """
    _write(folder, predictions.images, predictions.skeleton)


def _write_video(folder: Path, predictions: VideoPredictions) -> None:
    """Write VIDEO_000000000000_keypoints.json and so on for each frame; see `_write_images`."""
    _write(folder, predictions.frames, predictions.skeleton)


def _write(
    folder: Path, items: Iterable[PredictedImage | PredictedFrame], skeleton: Skeleton
) -> None:
    order = _joint_order(skeleton)
    for item in items:
        document = {"version": _VERSION, "people": _people(item.poses, order)}
        with atomic_write(folder / f"{item.stem}_keypoints.json", make_folder=False) as file:
            file.write(json.dumps(document).encode())


def _joint_order(skeleton: Skeleton) -> list[int]:
    """Return the indices of the skeleton's joints in the order of the file."""
    for model in _MODELS:
        indices = [index for index in skeleton.match(model) if index is not None]
        if len(indices) == len(model):
            return indices
    return list(range(len(skeleton.joints)))


def _people(poses: Poses, order: list[int]) -> list[dict[str, Any]]:
    """Return the entries of the people; missing joints are 0, 0 with the score 0."""
    values = poses.to_dict()
    ids = values.get("track_ids", [NO_ID] * len(poses))
    people = []
    for track, points, scores in zip(
        ids, values["keypoints"], values["keypoint_scores"], strict=True
    ):
        triples = [number for k in order for number in (*points[k], scores[k])]
        empty = {key: [] for key in _OTHER_KEYS}
        people.append({"person_id": [track], "pose_keypoints_2d": triples, **empty})
    return people


OUTPUT_FORMAT = OutputFormat("openpose", ("*_keypoints.json",), _write_images, _write_video)
