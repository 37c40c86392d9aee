"""Predictions of a model in images or in a video, the input of the writers of all formats."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bodyposenet.data.formats.document import OCCLUDED, VISIBLE
from bodyposenet.person_pose import boxes_with_margin
from bodyposenet.poses import Poses
from bodyposenet.skeleton import Skeleton, side_of
from bodyposenet.specs.pose import COCO_POSE_CONFIGURATION, bundled_skeleton

MISSING = 0
"""COCO's visibility flag of missing joints."""

MODEL_PREFIX = "bodyposenet"
"""Beginning of the names of models in files for other tools."""

_COLORS = {"left": "#3399ff", "right": "#ff9933", "": "#33cc66"}
"""Color of joints by side; as in drawings, cold on the left and warm on the right."""


@dataclass(frozen=True, eq=False)
class PoseLabels:
    """Poses as annotations of people, with the joints and people that are inside the image.

    Args:
        keypoints: (N, K, 2) float64, x and y in image pixels; 0 where a joint is missing.
        visibility: (N, K) int64, COCO's flags: `VISIBLE` for detected, `OCCLUDED` for inferred
            (`complete_pose`) and `MISSING` for missing joints.
        keypoint_scores: (N, K) float32.
        boxes: (N, 4) float64, left, top, right and bottom in image pixels.
        scores: (N,) float32, one per person.
    """

    keypoints: NDArray[np.float64]
    visibility: NDArray[np.int64]
    keypoint_scores: NDArray[np.float32]
    boxes: NDArray[np.float64]
    scores: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True, eq=False)
class PredictedImage:
    """Poses in an image.

    Args:
        name: Path relative to the common folder of all images, with `/`; only the file name if
            there is none.
        stem: File name without extension, unique among all images.
        image_id: Unique id of the image.
        width: Width in pixels.
        height: Height in pixels.
        poses: The poses in pixels of the image.
        address: Address of an image on a web server, else empty.
    """

    name: str
    stem: str
    image_id: int
    width: int
    height: int
    poses: Poses
    address: str = ""

    def labels(self) -> PoseLabels:
        """Return the poses as annotations, with the joints of the `annotation_skeleton`.

        Joints outside of the image become missing, and people with fewer than two joints, which do
        not define a box, are omitted. Boxes have a margin around the joints.
        """
        poses = self.poses
        joints = annotation_skeleton(poses.skeleton).joints
        chosen = np.array([poses.skeleton.joints.index(joint) for joint in joints])
        points = poses.keypoints[:, chosen].astype(np.float64)
        # The center of pixel i is at i, so the image extends half a pixel beyond its outer pixels.
        limits = np.array([self.width, self.height]) - 0.5
        inside = np.all((points >= -0.5) & (points <= limits), axis=2)
        points = np.where(inside[..., None], points, np.nan).clip(0)
        visibility = np.where(inside, VISIBLE, MISSING)
        if poses.inferred is not None:
            visibility[inside & poses.inferred[:, chosen]] = OCCLUDED
        kept = np.flatnonzero(inside.any(axis=1))
        boxes = boxes_with_margin(points[kept], (self.width, self.height))
        has_area = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        kept, boxes = kept[has_area], boxes[has_area]
        return PoseLabels(
            np.nan_to_num(points[kept]),
            visibility[kept],
            np.where(inside, poses.keypoint_scores[:, chosen], 0)[kept],
            boxes,
            poses.scores[kept],
        )


@dataclass(frozen=True, eq=False)
class PredictedFrame:
    """Poses in a frame of a video.

    Args:
        stem: Name for a file of this frame, unique among all frames.
        index: Index of the frame, from 0.
        time: Seconds since the first frame.
        poses: The poses in pixels of the frame; with tracking, they have `track_ids`.
    """

    stem: str
    index: int
    time: float
    poses: Poses


@dataclass(frozen=True, eq=False)
class ImagePredictions:
    """Predictions in images.

    Args:
        images: The images.
        skeleton: Skeleton of all poses.
        model: Name of the model.
        folder: Absolute path of the common folder of the images, or None if there is none, as for
            images on a web server.
    """

    images: Sequence[PredictedImage]
    skeleton: Skeleton
    model: str
    folder: Path | None = None


@dataclass(frozen=True, eq=False)
class VideoPredictions:
    """Predictions in a video.

    Args:
        frames: The frames. Every iteration starts at the first one, so that a long video need not
            be in memory.
        skeleton: Skeleton of all poses.
        model: Name of the model.
        name: Name of the video.
    """

    frames: Iterable[PredictedFrame]
    skeleton: Skeleton
    model: str
    name: str


@dataclass(frozen=True)
class OutputFormat:
    """A format in which predictions can be written.

    Args:
        name: Its name in the option `output_format`.
        files: Patterns of its files, relative to its folder.
        write_images: Function that writes predictions in images to an empty folder, or None if
            the format is for videos only. It raises a `BodyPoseNetError` if a file cannot be
            written.
        write_video: The same for predictions in a video, or None if the format is for images only.
        needs_tracks: Whether the predictions must have track ids.
        check_names: Function that raises a `BodyPoseNetError` if images of these names cannot be
            written, or None if all can.
    """

    name: str
    files: tuple[str, ...]
    write_images: Callable[[Path, ImagePredictions], None] | None = None
    write_video: Callable[[Path, VideoPredictions], None] | None = None
    needs_tracks: bool = False
    check_names: Callable[[Iterable[str]], None] | None = None


@cache
def annotation_skeleton(skeleton: Skeleton) -> Skeleton:
    """Return the skeleton of annotations of people: that of COCO, or the same one.

    It is COCO's if the skeleton has COCO's joints and no others but derived ones, such as the neck
    of the default model, which training computes from the shoulders.
    """
    coco = bundled_skeleton(COCO_POSE_CONFIGURATION)
    joints = set(skeleton.joints)
    has_others = any(joint not in skeleton.derived for joint in joints - set(coco.joints))
    return skeleton if has_others or not joints >= set(coco.joints) else coco


def side_color(joint: str) -> str:
    """Return the color of a joint in annotation tools as `#rrggbb`: it tells left from right."""
    return _COLORS[side_of(joint)]
