"""Evaluation on rotated images, for people who lie on the ground or are upside down.

Images and annotations are rotated in memory by 90, 180 or 270 degrees counterclockwise, without
resampling, so only the orientation of the people changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bodyposenet import Affine, BodyPoseNetError, Poses
from bodyposenet.console import logger, progress
from bodyposenet.data.coco import CocoImage
from bodyposenet.evaluation import KeypointAP, evaluate_poses
from bodyposenet.inference.pipeline import Pipeline
from bodyposenet.inference.predictor import Predictor
from bodyposenet.media.images import read_image
from bodyposenet.specs.dataset import DatasetSpec
from bodyposenet.types import Person

ANGLES = (90, 180, 270)
"""Degrees, counterclockwise."""

_EDGES = Affine.translation(-0.5, -0.5)
"""From coordinates of boxes, where the edge of pixel 0 is at 0, to those with its center at 0."""


def rotate_pixels(pixels: NDArray[np.uint8], degrees: int) -> NDArray[np.uint8]:
    """Rotate an image counterclockwise.

    Args:
        pixels: (H, W, 3) uint8.
        degrees: A multiple of 90.
    """
    return np.ascontiguousarray(np.rot90(pixels, degrees // 90))


def rotate_annotations(image: CocoImage, degrees: int) -> CocoImage:
    """Rotate the annotations of an image as `rotate_pixels` rotates its pixels.

    Keypoints are points, with the centers of pixels at integers; boxes extend from edge to edge of
    pixels. Areas do not change; segmentations, which keypoint evaluation does not use, are dropped.

    Args:
        image: The image and its people.
        degrees: A multiple of 90, counterclockwise.
    """
    turns = degrees // 90
    turn = Affine.quarter_turns(turns, image.height, image.width)
    height, width = (image.width, image.height) if turns % 2 else (image.height, image.width)
    people = tuple(_rotate_person(person, turn) for person in image.persons)
    return replace(image, height=height, width=width, persons=people)


def _rotate_person(person: Person, turn: Affine) -> Person:
    keypoints = np.column_stack([turn.apply(person.keypoints[:, :2]), person.keypoints[:, 2]])
    x, y, width, height = person.box
    corners = np.array([[x, y], [x + width, y + height]])
    corners = _EDGES.then(turn).then(_EDGES.inverse()).apply(corners)
    left, top = corners.min(axis=0).tolist()
    right, bottom = corners.max(axis=0).tolist()
    box = (left, top, right - left, bottom - top)
    return replace(person, keypoints=keypoints, box=box, segmentation=None)


def evaluate_rotated(
    predictor: Predictor, spec: DatasetSpec, images: Sequence[CocoImage], degrees: int
) -> KeypointAP:
    """Measure the keypoint AP on rotated images.

    Args:
        predictor: The model to evaluate.
        spec: The dataset.
        images: Its test images, not rotated; unreadable images count as without detections.
        degrees: A multiple of 90, counterclockwise.

    Raises:
        BodyPoseNetError: The folder of the dataset is missing.
    """
    folder, joints = spec.images_folder("test"), spec.person.keypoints

    def read(image: CocoImage) -> NDArray[np.uint8]:
        pixels = read_image(folder / image.file_name, (image.height, image.width))
        return rotate_pixels(pixels, degrees)

    def to_coco(image: CocoImage, pixels: NDArray[np.uint8], poses: Poses) -> list[dict[str, Any]]:
        annotated = rotate_annotations(image, degrees)
        height, width = pixels.shape[:2]  # of the file; the annotations may state another size
        resize = Affine.resize(annotated.width / width, annotated.height / height)
        return poses.transform(resize).to_coco(image.image_id, joints)

    def skip(image: CocoImage, error: BodyPoseNetError) -> list[dict[str, Any]]:
        logger.warning("Counts as an image without detections: %s", error)
        return []

    found = Pipeline(predictor, read, to_coco, skip).run(images)
    results = [
        result for each in progress(found, f"rotated by {degrees}", len(images)) for result in each
    ]
    return evaluate_poses(
        results,
        [rotate_annotations(image, degrees) for image in images],
        joints,
        predictor.engine.skeleton,
        sigmas=spec.person.sigmas,
        labeled_flags=spec.visibility_flags.labeled(),
    )
