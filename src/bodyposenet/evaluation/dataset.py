"""A predictor and a dataset spec in; the keypoint AP on its test images, and their poses, out."""

from __future__ import annotations

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
from bodyposenet.specs.dataset import DatasetSpec
from bodyposenet.types import Poses


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


def evaluate_dataset(
    predictor: Predictor, dataset_spec: DatasetSpec, *, max_images: int | None = None
) -> DatasetResult:
    """Find the people in every image of a dataset's test JSON and measure the keypoint AP.

    Args:
        predictor: The model and how it is used.
        dataset_spec: The dataset; images without people count too. Keypoints whose flags it maps to
            not labelled do not.
        max_images: Only so many images, the first of the JSON.

    Raises:
        BodyPoseNetError: The annotations are missing or wrong.
    """
    category = dataset_spec.person
    images = load_coco(dataset_spec.annotations("test"), category.keypoints)[:max_images]
    root = dataset_spec.existing("root_directory_path", dataset_spec.root_directory_path)
    folder = root / dataset_spec.split("test").images_root_dir_path
    results: list[dict[str, Any]] = []
    entries: list[dict[str, Any]] = []
    unreadable: list[str] = []
    resized: list[str] = []
    for image in track(images, f"evaluation on {dataset_spec.dataset}"):
        path = folder / image.file_name
        try:
            poses = _find_people(predictor, path, image, resized)
        except BodyPoseNetError as error:
            logger.warning("counts as an image without detections: %s", error)
            unreadable.append(error.what)
            entries.append(detections.describe_image(path, error.what, _fields(image)))
            continue
        results.extend(poses.to_coco(image.image_id, category.keypoints))
        entries.append(detections.describe_image(path, poses, _fields(image)))
    flags = dataset_spec.visibility_flags.classes()
    accuracy = evaluate_poses(
        results,
        images,
        category.keypoints,
        predictor.engine.skeleton,
        sigmas=category.sigmas,
        labelled_flags=[flag for flag, meaning in flags.items() if meaning.is_labelled],
    )
    return DatasetResult(accuracy, results, entries, unreadable, resized)


def _find_people(predictor: Predictor, path: Path, image: CocoImage, resized: list[str]) -> Poses:
    """Poses in pixels of the size that the annotations state."""
    pixels = read_image(path, (image.height, image.width))
    poses = predictor(pixels)
    height, width = pixels.shape[:2]
    if (height, width) == (image.height, image.width):
        return poses
    message = f"{path}: is {width} x {height}, its annotations say {image.width} x {image.height}"
    logger.warning("%s; the poses are scaled", message)
    resized.append(message)
    return poses.moved(Affine.resize(image.width / width, image.height / height))


def _fields(image: CocoImage) -> dict[str, Any]:
    """What TAO writes of an image of a dataset."""
    meta = {"file_name": image.file_name, "height": image.height, "width": image.width}
    return {"image_id": image.image_id, "image_meta": meta}
