"""Images that an exported model and its network are compared on, and the comparison itself.

The images are photos of a folder, photos that were held back from an INT8 calibration, or drawn
people; for the keypoint AP, the test images of a dataset. Photos that a model was calibrated on are
never used.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bodyposenet.commands.options import StrPath
from bodyposenet.console import logger
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import is_file, is_folder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bodyposenet.data.coco import CocoImage
    from bodyposenet.exporting.int8.calibration import CalibrationPhotos
    from bodyposenet.exporting.verification import AccuracyComparison, Verification
    from bodyposenet.inference.engines.base import Engine
    from bodyposenet.specs.dataset import DatasetSpec

_DRAWN_IMAGES = 4
_DRAWN_IMAGES_INT8 = 16
"""Number of drawn images of each size, if there are no photos to compare on."""


@dataclass(frozen=True)
class VerificationData:
    """Data to compare on that a user gives.

    Args:
        folder: Folder of photos, or None for the default images.
        dataset: Dataset spec, or None to measure no AP.
        images: Test images of the dataset, with their annotated people.
    """

    folder: Path | None
    dataset: DatasetSpec | None
    images: tuple[CocoImage, ...]


def load_verification_data(
    folder: StrPath | None, dataset_spec: StrPath | None, limit: int
) -> VerificationData:
    """Check the data to compare on, and load the annotations.

    Args:
        folder: Folder of photos.
        dataset_spec: Dataset spec.
        limit: Maximum number of test images, the first of the annotation file.

    Raises:
        BodyPoseNetError: The folder does not exist; the spec or the annotations are missing or
            invalid; or none of the images shows a labeled person.
    """
    if folder is not None and not is_folder(folder):
        raise BodyPoseNetError(
            f"Folder not found: --verify_images {folder}", "Give a folder of photos to compare on."
        )
    path = None if folder is None else Path(folder)
    if dataset_spec is None:
        return VerificationData(path, None, ())
    from bodyposenet.evaluation.evaluator import load_test_images
    from bodyposenet.specs.dataset import DatasetSpec

    spec = DatasetSpec.load(dataset_spec)
    images = load_test_images(spec, limit)
    if not any(person.is_labeled for image in images for person in image.persons):
        spec.fail(
            "test_data.annotation_root_dir_path",
            f"the first {len(images)} images have no person with labeled keypoints",
            "Give a larger --verify_limit, or another --verify_dataset.",
        )
    return VerificationData(path, spec, tuple(images))


def compare_with_network(
    network: Engine,
    exported: Engine,
    shape: tuple[int, int],
    data_type: Literal["fp32", "fp16", "int8"],
    data: VerificationData,
    calibrated: CalibrationPhotos | None,
) -> Verification:
    """Compare an exported model with its network.

    Args:
        network: The network.
        exported: The exported model.
        shape: Height and width in pixels that images are fitted to.
        data_type: Data type of the exported model.
        data: Data to compare on that the user gives.
        calibrated: Photos of the INT8 calibration; None for other data types.

    Raises:
        BodyPoseNetError: All photos or test images were used for calibration, or cannot be read.
    """
    from bodyposenet.exporting.verification import TOLERANCES, comparison_batches, verify

    batches = comparison_batches(
        network, shape, _photos(data, calibrated),
        more_shapes=calibrated is None and exported.fixed_shape is None,
        drawn=_DRAWN_IMAGES if calibrated is None else _DRAWN_IMAGES_INT8,
    )  # fmt: skip
    verification = verify(network, exported, batches, TOLERANCES[data_type])
    if data.dataset is None:
        return verification
    images = _without(data.dataset, data.images, _used(calibrated))
    accuracy = _compare_ap(network, exported, shape, data.dataset, images)
    logger.info("%s", accuracy)
    return replace(verification, accuracy=accuracy)


def _used(calibrated: CalibrationPhotos | None) -> Collection[str]:
    """Return the SHA-256 of the photos that are known to be used for calibration."""
    return (calibrated and calibrated.used) or ()


def _photos(
    data: VerificationData, calibrated: CalibrationPhotos | None
) -> list[NDArray[np.uint8]] | None:
    """Read the photos to compare on; None for drawn people."""
    from bodyposenet.exporting.photos import MIN_COMPARED, read_folder, read_photos

    if data.folder is not None:
        if calibrated is not None and calibrated.used is None:
            logger.warning(
                "It is unknown which photos were used for calibration; for an independent "
                "comparison, those of %s must be others",
                data.folder,
            )
        return read_folder(data.folder, _used(calibrated))
    if calibrated is None:
        return None
    photos = read_photos(calibrated.unused, _used(calibrated))
    if len(photos) >= MIN_COMPARED:
        logger.info("Comparing on %d photos that were not used for calibration", len(photos))
        return photos
    reason = (
        "it is unknown which photos were used for calibration"
        if calibrated.used is None
        else f"only {len(photos)} photos are known that were not used for calibration"
    )
    logger.warning(
        "Comparing on drawn people, because %s; give photos that are representative of the model's "
        "use with --verify_images",
        reason,
    )
    return None


def _without(
    spec: DatasetSpec, images: tuple[CocoImage, ...], calibrated: Collection[str]
) -> list[CocoImage]:
    """Return the test images of a dataset that were not used for calibration."""
    from bodyposenet.exporting.photos import file_digest

    folder = spec.images_folder("test")
    paths = [folder / image.file_name for image in images]
    others = [
        image
        for image, path in zip(images, paths, strict=True)
        if not (calibrated and is_file(path) and file_digest(path) in calibrated)
    ]
    if not others:
        raise BodyPoseNetError(
            f"--verify_dataset: all of its images in {folder} were used for calibration",
            "Give a dataset spec with other test images.",
        )
    if len(others) < len(images):
        skipped = len(images) - len(others)
        logger.warning("%s: skipped %d images that were used for calibration", folder, skipped)
    return others


def _compare_ap(
    network: Engine,
    exported: Engine,
    shape: tuple[int, int],
    spec: DatasetSpec,
    images: list[CocoImage],
) -> AccuracyComparison:
    """Measure the keypoint AP of both models on test images of a dataset."""
    from bodyposenet.evaluation.evaluator import evaluate_dataset
    from bodyposenet.exporting.verification import AccuracyComparison
    from bodyposenet.inference.predictor import Predictor
    from bodyposenet.specs.inference import InferenceSpec

    inference_spec = InferenceSpec(input_shape=shape, keep_aspect_ratio_mode="pad_image_input")
    before, after = (
        evaluate_dataset(Predictor(engine, inference_spec), spec, images).accuracy.ap
        for engine in (network, exported)
    )
    return AccuracyComparison(spec.dataset, len(images), before, after)
