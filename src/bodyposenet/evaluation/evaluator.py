"""Evaluation of a model on the test images of a dataset.

`load_test_images` reads the annotations, `evaluate_dataset` predicts the poses and computes the AP.
`predict_test_images` and `score_results` are its two steps: the prediction can run in many
processes or on many machines, as an `EvaluationJob`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bodyposenet.console import logger, progress
from bodyposenet.data.coco import CocoImage, read_dataset
from bodyposenet.data.image_checks import correct_image_sizes
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.evaluation import KeypointAP, evaluate_poses
from bodyposenet.geometry import Affine
from bodyposenet.inference import detections
from bodyposenet.inference.parallel.executor import Executor, LocalExecutor
from bodyposenet.inference.parallel.result_store import BEGIN_AGAIN, StoredResult, file_fingerprint
from bodyposenet.inference.pipeline import Pipeline
from bodyposenet.inference.predictor import Predictor
from bodyposenet.media.images import read_image
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.dataset import DatasetSpec
from bodyposenet.types import Poses


class DatasetResult(NamedTuple):
    """Result of an evaluation on a dataset.

    Args:
        accuracy: AP and AR.
        results: The poses in COCO's result format, not rounded.
        images: An entry of detections.json for each image.
        unreadable: An error for each image that could not be read. It counts as an image without
            detections.
        resized: A message for each image whose size differs from the annotations.
    """

    accuracy: KeypointAP
    results: list[dict[str, Any]]
    images: list[dict[str, Any]]
    unreadable: list[str]
    resized: list[str]


@dataclass(frozen=True, eq=False)
class ImageResult:
    """Predictions for one image.

    Args:
        entry: The poses as an entry of detections.json.
        results: The poses in COCO's result format.
        unreadable: Error message if the image could not be read, else empty.
        resized: Message if the size of the image differs from the annotations, else empty.
    """

    entry: dict[str, Any]
    results: list[dict[str, Any]]
    unreadable: str = ""
    resized: str = ""


def load_test_images(spec: DatasetSpec, max_images: int | None = None) -> list[CocoImage]:
    """Load the test images of a dataset with their annotated people.

    Image sizes are corrected from the image files, see `correct_image_sizes`.

    Args:
        spec: The dataset spec.
        max_images: Maximum number of images, the first of the JSON file; None for all.

    Raises:
        BodyPoseNetError: The annotations are missing or invalid.
    """
    dataset = read_dataset(spec, "test")
    dataset = correct_image_sizes(
        replace(dataset, images=dataset.images[:max_images]), spec.images_folder("test")
    )
    dataset.log(spec.annotations("test"))
    return dataset.images


def evaluate_dataset(
    predictor: Predictor, spec: DatasetSpec, images: Sequence[CocoImage]
) -> DatasetResult:
    """Predict the poses in test images, and compute the keypoint AP.

    Args:
        predictor: The model and its inference spec.
        spec: The dataset spec. Keypoints whose flags it maps to not_labeled do not count.
        images: The test images (`load_test_images`). Images without people count too.

    Raises:
        BodyPoseNetError: The folder of the dataset is missing.
    """
    results = predict_test_images(LocalExecutor(predictor), spec, images)
    return score_results(results, predictor.engine.skeleton, spec, images)


def predict_test_images(
    executor: Executor, spec: DatasetSpec, images: Sequence[CocoImage]
) -> list[ImageResult]:
    """Predict the poses in test images with an executor, which may use many processes or machines.

    Args:
        executor: Runs the prediction.
        spec: The dataset spec.
        images: The test images.

    Returns:
        One result per image, in order of the images.

    Raises:
        BodyPoseNetError: The folder of the dataset is missing.
    """
    job = EvaluationJob(spec.images_folder("test"), spec.person.keypoints)
    without_people = [replace(image, persons=()) for image in images]  # Jobs need no ground truth.
    results = executor.run(job, without_people)
    return list(progress(results, f"evaluation on {spec.dataset}", len(images)))


def score_results(
    results: Sequence[ImageResult],
    skeleton: Skeleton,
    spec: DatasetSpec,
    images: Sequence[CocoImage],
) -> DatasetResult:
    """Compute the keypoint AP of predictions.

    Args:
        results: One result per image, in order of the images.
        skeleton: Skeleton of the model.
        spec: The dataset spec.
        images: The test images, with their people.
    """
    poses = [pose for result in results for pose in result.results]
    accuracy = evaluate_poses(
        poses,
        images,
        spec.person.keypoints,
        skeleton,
        sigmas=spec.person.sigmas,
        labeled_flags=spec.visibility_flags.labeled(),
    )
    return DatasetResult(
        accuracy,
        poses,
        images=[result.entry for result in results],
        unreadable=[result.unreadable for result in results if result.unreadable],
        resized=[result.resized for result in results if result.resized],
    )


class _StoredPose(StoredResult):
    """A pose in COCO's result format."""

    image_id: int
    category_id: int
    keypoints: list[float]
    score: float


class _StoredImageResult(StoredResult):
    """Fields of an `ImageResult`."""

    entry: detections.DetectionsEntry
    results: list[_StoredPose]
    unreadable: str = ""
    resized: str = ""


@dataclass(frozen=True)
class EvaluationJob:
    """Prediction of the poses in test images; see `inference.parallel.executor.ResumableJob`.

    Args:
        folder: Folder of the images.
        joints: Keypoints of the dataset, for results in COCO's format.
    """

    folder: Path
    joints: tuple[str, ...]

    def pipeline(self, predictor: Predictor) -> Pipeline[CocoImage, ImageResult]:
        """Return the pipeline from images to their results."""
        return Pipeline(predictor, self._read, self._describe, self._skip)

    def describe(self) -> dict[str, Any]:
        """Return what all results depend on besides the model."""
        return {"finds": "people in test images", "joints": self.joints}

    def key(self, item: CocoImage) -> str:
        """Return what the result of an image depends on: its file and its annotated size."""
        file = [
            self.folder.as_posix(),
            item.file_name,
            file_fingerprint(self.folder / item.file_name),
        ]
        return json.dumps([*file, item.image_id, item.height, item.width])

    def store(self, result: ImageResult) -> dict[str, Any]:
        """Return the fields of a result."""
        return asdict(result)

    def restore(self, stored: dict[str, Any]) -> ImageResult:
        """Return the result with these fields."""
        self._check(stored)
        return ImageResult(**stored)

    def is_done(self, stored: dict[str, Any]) -> bool:
        """Return whether the image could be read."""
        return not self._check(stored).unreadable

    def _check(self, stored: dict[str, Any]) -> _StoredImageResult:
        """Check the fields of a stored result.

        Raises:
            BodyPoseNetError: They are damaged.
        """
        checked = _StoredImageResult.check(stored)
        for result in checked.results:
            if len(result.keypoints) != 3 * len(self.joints):
                raise BodyPoseNetError(
                    f"a saved result is damaged: expected {3 * len(self.joints)} values for "
                    f"{len(self.joints)} keypoints, got {len(result.keypoints)}",
                    BEGIN_AGAIN,
                )
        return checked

    def _read(self, image: CocoImage) -> NDArray[np.uint8]:
        """Read an image, oriented like its annotations."""
        return read_image(self.folder / image.file_name, (image.height, image.width))

    def _describe(self, image: CocoImage, pixels: NDArray[np.uint8], poses: Poses) -> ImageResult:
        """Convert the poses of an image to its result, in pixels of the annotated size."""
        path, (height, width) = self.folder / image.file_name, pixels.shape[:2]
        resized = ""
        if (height, width) != (image.height, image.width):
            poses = poses.transform(Affine.resize(image.width / width, image.height / height))
            annotated = f"{image.width} x {image.height}"
            resized = (
                f"{path}: is {width} x {height}, but annotated as {annotated}; its poses are scaled"
            )
            logger.warning("%s", resized)
        entry = detections.describe_image(path, poses, _image_fields(image))
        return ImageResult(entry, poses.to_coco(image.image_id, self.joints), resized=resized)

    def _skip(self, image: CocoImage, error: BodyPoseNetError) -> ImageResult:
        """Return the result of an image that could not be read."""
        logger.warning("Evaluated as an image without detections: %s", error)
        path = self.folder / image.file_name
        entry = detections.describe_image(path, error.what, _image_fields(image))
        return ImageResult(entry, [], unreadable=error.what)


def _image_fields(image: CocoImage) -> dict[str, Any]:
    """Return TAO's fields of a dataset image in detections.json."""
    meta = {"file_name": image.file_name, "height": image.height, "width": image.width}
    return {"image_id": image.image_id, "image_meta": meta}
