"""Evaluate a predictor on the test images of a dataset."""

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
    """What an evaluation found.

    Args:
        accuracy: AP and AR.
        results: The poses in COCO's result format, floats.
        images: The poses as entries of detections.json.
        unreadable: Images that could not be read, and why; nobody was found in them.
        resized: Images of another size than the annotations state, and what became of their poses.
    """

    accuracy: KeypointAP
    results: list[dict[str, Any]]
    images: list[dict[str, Any]]
    unreadable: list[str]
    resized: list[str]


@dataclass(frozen=True, eq=False)
class ImageResult:
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
    """Read the images and people of a dataset's test JSON, sizes as `correct_image_sizes`.

    Args:
        spec: The dataset.
        max_images: Only so many images, the first of the JSON.

    Raises:
        BodyPoseNetError: The annotations are missing or wrong.
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
    """Find the people in test images and measure the keypoint AP.

    Args:
        predictor: The model and how it is used.
        spec: The dataset. Keypoints whose flags it maps to not labelled do not count.
        images: Its test images (`load_test_images`); those without people count too.

    Raises:
        BodyPoseNetError: The folder of the dataset is missing.
    """
    findings = predict_images(predictor, spec, images)
    return score_results(findings, predictor.engine.skeleton, spec, images)


def predict_images(
    predictor: Predictor, spec: DatasetSpec, images: Sequence[CocoImage]
) -> list[ImageResult]:
    """Find the people in test images, or in a share of them; arguments as `evaluate_dataset`."""
    return predict_test_images(LocalExecutor(predictor), spec, images)


def predict_test_images(
    executor: Executor, spec: DatasetSpec, images: Sequence[CocoImage]
) -> list[ImageResult]:
    """Have the people in test images found.

    Args:
        executor: Does the work.
        spec: The dataset.
        images: Its test images.

    Raises:
        BodyPoseNetError: The folder of the dataset is missing.
    """
    work = EvaluationJob(spec.images_folder("test"), spec.person.keypoints)
    unseen = [replace(image, persons=()) for image in images]
    findings = executor.run(work, unseen)
    return list(progress(findings, f"evaluation on {spec.dataset}", len(images)))


class _StoredPose(StoredResult):
    """A person in COCO's result format."""

    image_id: int
    category_id: int
    keypoints: list[float]
    score: float


class _StoredImageResult(StoredResult):
    """The fields of a `ImageResult`."""

    entry: detections.DetectionsEntry
    results: list[_StoredPose]
    unreadable: str = ""
    resized: str = ""


@dataclass(frozen=True)
class EvaluationJob:
    """Finds the people in test images; see `scale.executor.ResumableJob`.

    Args:
        folder: Of the images.
        joints: The dataset's keypoints, for results in COCO's format.
    """

    folder: Path
    joints: tuple[str, ...]

    def pipeline(self, predictor: Predictor) -> Pipeline[CocoImage, ImageResult]:
        """Images in, what was found in them out."""
        return Pipeline(predictor, self._read, self._describe, self._skip)

    def describe(self) -> dict[str, Any]:
        """That people are found, and the joints of their poses in COCO's format."""
        return {"finds": "people in test images", "joints": self.joints}

    def key(self, item: CocoImage) -> str:
        """The file, and what the annotations say of it."""
        file = [
            self.folder.as_posix(),
            item.file_name,
            file_fingerprint(self.folder / item.file_name),
        ]
        return json.dumps([*file, item.image_id, item.height, item.width])

    def store(self, result: ImageResult) -> dict[str, Any]:
        """The finding's fields."""
        return asdict(result)

    def restore(self, stored: dict[str, Any]) -> ImageResult:
        """The finding of these fields."""
        self._check(stored)
        return ImageResult(**stored)

    def is_done(self, stored: dict[str, Any]) -> bool:
        """Whether the image could be read."""
        return not self._check(stored).unreadable

    def _check(self, stored: dict[str, Any]) -> _StoredImageResult:
        kept = _StoredImageResult.check(stored)
        for result in kept.results:
            if len(result.keypoints) != 3 * len(self.joints):
                raise BodyPoseNetError(
                    f"a kept result is damaged: {len(result.keypoints)} numbers for "
                    f"{len(self.joints)} keypoints",
                    BEGIN_AGAIN,
                )
        return kept

    def _read(self, image: CocoImage) -> NDArray[np.uint8]:
        return read_image(self.folder / image.file_name, (image.height, image.width))

    def _describe(self, image: CocoImage, pixels: NDArray[np.uint8], poses: Poses) -> ImageResult:
        """Poses in pixels of the size that the annotations state."""
        path, (height, width) = self.folder / image.file_name, pixels.shape[:2]
        resized = ""
        if (height, width) != (image.height, image.width):
            poses = poses.transform(Affine.resize(image.width / width, image.height / height))
            stated = f"{image.width} x {image.height}"
            resized = f"{path}: is {width} x {height}, annotated as {stated}; the poses are scaled"
            logger.warning("%s", resized)
        entry = detections.describe_image(path, poses, _fields(image))
        return ImageResult(entry, poses.to_coco(image.image_id, self.joints), resized=resized)

    def _skip(self, image: CocoImage, error: BodyPoseNetError) -> ImageResult:
        logger.warning("counts as an image without detections: %s", error)
        path = self.folder / image.file_name
        entry = detections.describe_image(path, error.what, _fields(image))
        return ImageResult(entry, [], unreadable=error.what)


def score_results(
    findings: Sequence[ImageResult],
    skeleton: Skeleton,
    spec: DatasetSpec,
    images: Sequence[CocoImage],
) -> DatasetResult:
    """Measure the keypoint AP of what was found.

    Args:
        findings: One per image, in their order.
        skeleton: Of the network.
        spec: The dataset.
        images: All of its test images.
    """
    results = [result for finding in findings for result in finding.results]
    accuracy = evaluate_poses(
        results,
        images,
        spec.person.keypoints,
        skeleton,
        sigmas=spec.person.sigmas,
        labelled_flags=spec.visibility_flags.labelled(),
    )
    return DatasetResult(
        accuracy,
        results,
        images=[finding.entry for finding in findings],
        unreadable=[finding.unreadable for finding in findings if finding.unreadable],
        resized=[finding.resized for finding in findings if finding.resized],
    )


def _fields(image: CocoImage) -> dict[str, Any]:
    """What TAO writes of an image of a dataset."""
    meta = {"file_name": image.file_name, "height": image.height, "width": image.width}
    return {"image_id": image.image_id, "image_meta": meta}
