"""Pictures of the reports: photos with predicted poses, and with the annotated people over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bodyposenet.evaluation.image_poses import ImagePoses
from bodyposenet.media.draw import draw
from bodyposenet.reporting.image_regions import Region, RegionPicture, read_region
from bodyposenet.skeleton import Skeleton
from bodyposenet.types import Poses

_MARGIN = 0.25
"""Margin around people, as a fraction of the longer side of the box around them."""

_CROP_RANGE = (0.25, 0.6)
"""Smallest and largest sides of a region that is cropped, as fractions of those of the image."""

_SEPARATOR = 6
"""Width of the line between two versions of a picture, in pixels."""

_TRUTH_COLOR, _SHADOW_COLOR = (255, 255, 255), (0, 0, 0)
_DASH, _GAP = 5.0, 4.0
"""Lengths of the dashes of annotated limbs and of the gaps between them, in pixels."""


def draw_entry(entry: Mapping[str, Any], skeleton: Skeleton) -> NDArray[np.uint8]:
    """Read an image, and draw its predicted poses on the downscaled image.

    Args:
        entry: The image's entry in detections.json.
        skeleton: Skeleton of the poses.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        BodyPoseNetError: The image cannot be read.
    """
    pixels, to_picture = _read(entry, _whole_image(entry))
    return draw(pixels, Poses.from_dict(entry, skeleton).transform(to_picture), score_threshold=0)


def draw_with_truth(
    entry: Mapping[str, Any],
    versions: Sequence[ImagePoses],
    joints: Sequence[str],
    skeleton: Skeleton,
) -> NDArray[np.uint8]:
    """Read an image, and draw its predicted poses in color and the annotated people in white.

    If all people are in a small part of the image, only this part is drawn.

    Args:
        entry: The image's entry in detections.json.
        versions: The people of the image with the poses of one or more models, which are drawn side
            by side.
        joints: Names of the D keypoints.
        skeleton: Skeleton whose limbs are drawn.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        BodyPoseNetError: The image cannot be read.
    """
    pixels, to_picture = _read(entry, _people_region(entry, versions))
    to_skeleton = skeleton.joints_from(joints)
    separator = np.full((len(pixels), _SEPARATOR, 3), 255, np.uint8)
    pictures: list[NDArray[np.uint8]] = []
    for image in versions:
        points, is_visible = to_skeleton.keypoints(image.poses, image.detected)
        points = np.where(is_visible[..., None], to_picture.apply(points), np.nan)
        poses = Poses(
            points.astype(np.float32), is_visible.astype(np.float32),
            image.scores.astype(np.float32), skeleton,
        )  # fmt: skip
        picture = draw(pixels, poses, score_threshold=0)
        truth, is_labeled = to_skeleton.keypoints(image.truth, image.labeled)
        for person in np.flatnonzero(~image.crowds):
            _draw_person(picture, to_picture.apply(truth[person]), is_labeled[person], skeleton)
        pictures += [separator, picture]
    return np.hstack(pictures[1:])


def _whole_image(entry: Mapping[str, Any]) -> Region:
    """Return the region of the whole image."""
    return Region(0, 0, entry["image_meta"]["width"], entry["image_meta"]["height"])


def _people_region(entry: Mapping[str, Any], versions: Sequence[ImagePoses]) -> Region:
    """Return the part of an image with all annotated people and poses, if it is small."""
    whole = _whole_image(entry)
    size = np.array([whole.width, whole.height])
    points = np.concatenate([
        part
        for image in versions
        for part in (
            image.boxes[~image.ignored, :2],
            image.boxes[~image.ignored, :2] + image.boxes[~image.ignored, 2:],
            image.poses[image.detected],
        )
    ])  # fmt: skip
    if not len(points):
        return whole
    smallest, largest = (share * size for share in _CROP_RANGE)
    extent = np.ptp(points, axis=0)
    extent = np.maximum(extent + 2 * _MARGIN * extent.max(), smallest)
    if (extent > largest).any():
        return whole
    corner = np.clip((points.min(axis=0) + points.max(axis=0) - extent) / 2, 0, size - extent)
    return Region(*corner.tolist(), *extent.tolist())


def _read(entry: Mapping[str, Any], region: Region) -> RegionPicture:
    """Read a region of an image, which is enlarged if necessary; the whole image is not."""
    meta = entry["image_meta"]
    max_scale = 1 if region == _whole_image(entry) else np.inf
    return read_region(entry["full_image_path"], (meta["height"], meta["width"]), region, max_scale)


def _draw_person(
    picture: NDArray[np.uint8],
    points: NDArray[np.float64],
    labeled: NDArray[np.bool_],
    skeleton: Skeleton,
) -> None:
    """Draw an annotated person: dashed white limbs, and rings at the joints."""
    for start, end in skeleton.limbs:
        if labeled[start] and labeled[end]:
            _draw_dashes(picture, points[start], points[end])
    visible = points[labeled]
    extent = float(np.ptp(visible, axis=0).max()) if len(visible) > 1 else np.inf
    radius = int(np.clip(0.04 * extent, 1, 3))
    for x, y in visible.round().astype(int).tolist():
        cv2.circle(picture, (x, y), radius + 1, _SHADOW_COLOR, 1, cv2.LINE_AA)
        cv2.circle(picture, (x, y), radius, _TRUTH_COLOR, 1, cv2.LINE_AA)


def _draw_dashes(
    picture: NDArray[np.uint8], start: NDArray[np.float64], end: NDArray[np.float64]
) -> None:
    """Draw a dashed line with a dark shadow."""
    length = float(np.linalg.norm(end - start))
    places = np.arange(0, length, _DASH + _GAP)[:, None]
    direction = (end - start) / max(length, 1e-9)
    begins = (start + places * direction).round().astype(int).tolist()
    ends = (start + np.minimum(places + _DASH, length) * direction).round().astype(int).tolist()
    for color, width in ((_SHADOW_COLOR, 3), (_TRUTH_COLOR, 1)):
        for first, last in zip(begins, ends, strict=True):
            cv2.line(picture, first, last, color, width, cv2.LINE_AA)
