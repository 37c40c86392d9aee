"""A predictor and the test images of a dataset in; the keypoint AP and the poses out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from bodyposenet.console import logger, track
from bodyposenet.data.coco import CocoImage, load_coco
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.evaluation import KeypointAP, evaluate_poses
from bodyposenet.geometry import Affine
from bodyposenet.media.source import read_image
from bodyposenet.runtime import detections
from bodyposenet.runtime.predictor import Predictor
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.dataset import DatasetSpec


class DatasetResult(NamedTuple):
    """What an evaluation found.

    Args:
        accuracy: AP and AR.
        results: The poses in COCO's result format, floats.
        images: The poses as entries of detections.json.
        unreadable: Images that could not be read, and why; nobody was found in them.
        resized: Images whose size is not what the annotations say; their poses are scaled to that.
    """

    accuracy: KeypointAP
    results: list[dict[str, Any]]
    images: list[dict[str, Any]]
    unreadable: list[str]
    resized: list[str]


@dataclass(frozen=True, eq=False)
class Finding:
    """What was found in one image.

    Args:
        entry: The poses as an entry of detections.json.
        results: The poses in COCO's result format.
        unreadable: Why the image could not be read; empty if it could.
        resized: How its size differs from the annotations; empty if it does not.
    """

    entry: dict[str, Any]
    results: list[dict[str, Any]]
    unreadable: str = ""
    resized: str = ""


def load_test_images(spec: DatasetSpec, max_images: int | None = None) -> list[CocoImage]:
    """Read the images and people of a dataset's test JSON.

    Args:
        spec: The dataset.
        max_images: Only so many images, the first of the JSON.

    Raises:
        BodyPoseNetError: The annotations are missing or wrong.
    """
    return load_coco(spec.annotations("test"), spec.person.keypoints)[:max_images]


def evaluate_dataset(
    predictor: Predictor, spec: DatasetSpec, images: Sequence[CocoImage]
) -> DatasetResult:
    """Find the people in test images and measure the keypoint AP.

    Args:
        predictor: The model and how it is used.
        spec: The dataset. Keypoints whose flags it maps to not labelled do not count.
        images: Its test images (`load_test_images`); those without people count too.

    Raises:
        BodyPoseNetError: The folder of the dataset is missing.
    """
    findings = find_people(predictor, spec, images)
    return score_findings(findings, predictor.engine.skeleton, spec, images)


def find_people(
    predictor: Predictor, spec: DatasetSpec, images: Sequence[CocoImage]
) -> list[Finding]:
    """Find the people in test images, or in a share of them; arguments as `evaluate_dataset`."""
    folder = spec.images_folder("test")
    return [
        _find_in(predictor, folder / image.file_name, image, spec.person.keypoints)
        for image in track(images, f"evaluation on {spec.dataset}")
    ]


def score_findings(
    findings: Sequence[Finding], skeleton: Skeleton, spec: DatasetSpec, images: Sequence[CocoImage]
) -> DatasetResult:
    """Measure the keypoint AP of what was found.

    Args:
        findings: One per image, in their order.
        skeleton: Of the network.
        spec: The dataset.
        images: All of its test images.
    """
    results = [result for finding in findings for result in finding.results]
    flags = spec.visibility_flags.classes()
    accuracy = evaluate_poses(
        results,
        images,
        spec.person.keypoints,
        skeleton,
        sigmas=spec.person.sigmas,
        labelled_flags=[flag for flag, meaning in flags.items() if meaning.is_labelled],
    )
    return DatasetResult(
        accuracy,
        results,
        images=[finding.entry for finding in findings],
        unreadable=[finding.unreadable for finding in findings if finding.unreadable],
        resized=[finding.resized for finding in findings if finding.resized],
    )


def _find_in(
    predictor: Predictor, path: Path, image: CocoImage, joints: tuple[str, ...]
) -> Finding:
    """Poses in pixels of the size that the annotations state."""
    try:
        pixels = read_image(path, (image.height, image.width))
        poses = predictor(pixels)
    except BodyPoseNetError as error:
        logger.warning("counts as an image without detections: %s", error)
        entry = detections.describe_image(path, error.what, _fields(image))
        return Finding(entry, [], unreadable=error.what)
    height, width = pixels.shape[:2]
    resized = ""
    if (height, width) != (image.height, image.width):
        poses = poses.moved(Affine.resize(image.width / width, image.height / height))
        stated = f"{image.width} x {image.height}"
        resized = f"{path}: is {width} x {height}, its annotations say {stated}"
        logger.warning("%s; the poses are scaled", resized)
    entry = detections.describe_image(path, poses, _fields(image))
    return Finding(entry, poses.to_coco(image.image_id, joints), resized=resized)


def _fields(image: CocoImage) -> dict[str, Any]:
    """What TAO writes of an image of a dataset."""
    meta = {"file_name": image.file_name, "height": image.height, "width": image.width}
    return {"image_id": image.image_id, "image_meta": meta}
