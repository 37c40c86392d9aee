"""Source of an INT8 calibration, and the checks that earlier files agree with the options.

Calibration caches and tensorfiles that exist are used, but not if they contradict the options: the
calibration method, the image size, the numbers of batches and images, or the photos. Files of TAO
and TensorRT lack some of these properties, which are then not checked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.exporting.int8.calibration_cache import (
    CALIBRATE_AGAIN,
    CalibrationMetadata,
    read_cache,
    read_metadata,
)
from bodyposenet.exporting.int8.ranges import CalibrationMethod
from bodyposenet.exporting.int8.tensorfile import (
    TensorfileInfo,
    read_tensorfile,
    read_tensorfile_info,
)
from bodyposenet.exporting.photos import (
    PhotoSplit,
    file_digest,
    sample_digest,
    shuffled_photos,
    split_photos,
)
from bodyposenet.files import exists, is_folder


@dataclass(frozen=True)
class ExpectedCalibration:
    """Properties that existing files of a calibration must have; None means any.

    Args:
        method: Calibration method.
        images: Number of images, if they come from a folder.
        shape: Height and width of the images in pixels.
        batches: Number of batches, if they come from a tensorfile.
        batch_size: Number of images per batch, if they come from a tensorfile.
    """

    method: CalibrationMethod | None = None
    images: int | None = None
    shape: tuple[int, int] | None = None
    batches: int | None = None
    batch_size: int | None = None


@dataclass(frozen=True)
class DatasetImages:
    """A dataset that calibration images are selected from.

    Args:
        annotations: Annotations in any format of `data.formats`.
        image_dir: Folder of its images.
    """

    annotations: Path
    image_dir: Path


@dataclass(frozen=True)
class CalibrationSource:
    """Source of the ranges: images, and files that earlier calibrations wrote.

    Args:
        image_dir: Folder of photos that are representative of the model's use; its subfolders are
            not searched.
        data_file: Tensorfile, read if it exists and written otherwise, or None.
        cache_file: Calibration cache, read if it exists and written otherwise, or None.
        batches: Number of batches, of photos or of the tensorfile.
        batch_size: Photos per batch.
        shape: Height and width in pixels that the photos are fitted to.
        expected: Properties that existing files must have.
        dataset: Dataset from which images are selected and copied to `image_dir`, a new folder; or
            None to use the photos that are there.
        hold_back: Whether to hold back photos for the comparison, see `split_photos`.
    """

    image_dir: Path | None
    data_file: Path | None
    cache_file: Path | None
    batches: int
    batch_size: int
    shape: tuple[int, int]
    expected: ExpectedCalibration = ExpectedCalibration()
    dataset: DatasetImages | None = None
    hold_back: bool = False

    @property
    def images(self) -> int:
        """Number of photos that the calibration asks for."""
        return self.batches * self.batch_size

    @property
    def has_cache(self) -> bool:
        """Whether the calibration cache exists."""
        return self.cache_file is not None and exists(self.cache_file)

    @property
    def has_tensorfile(self) -> bool:
        """Whether the tensorfile exists."""
        return self.data_file is not None and exists(self.data_file)


def check_source(source: CalibrationSource) -> None:
    """Check that a model can be calibrated from a source, before any work is done.

    Raises:
        BodyPoseNetError: A folder does not exist or has too few images, or a file of an earlier
            calibration is damaged, has another size, or contradicts what is expected.
    """
    if source.dataset is not None:
        _check_dataset(source, source.dataset)
        return
    if source.image_dir is not None and not is_folder(source.image_dir):
        raise BodyPoseNetError(
            f"Folder not found: --cal_image_dir {source.image_dir}",
            "Give a folder of photos that are representative of the model's use.",
        )
    if source.cache_file is not None and source.has_cache:
        read_cache(source.cache_file)
        read_matching_metadata(source, source.cache_file)
    elif source.data_file is not None and source.has_tensorfile:
        check_tensorfile(source)
        next(read_tensorfile(source.data_file, source.batches, source.shape))
    elif source.image_dir is not None:
        split_images(source, source.image_dir)  # checks the number
    else:
        raise no_images()


def read_matching_metadata(source: CalibrationSource, cache: Path) -> CalibrationMetadata | None:
    """Read the metadata of a cache, and check its expected properties.

    Args:
        source: Source with the expected properties.
        cache: An existing calibration cache.

    Returns:
        None if the cache has no metadata, like those that TensorRT writes.

    Raises:
        BodyPoseNetError: The cache does not have the expected properties, has been changed since
            its metadata was written, or its metadata is damaged.
    """
    metadata = read_metadata(cache)
    if metadata is None:
        return None
    contradictions = _contradictions(source, metadata)
    if contradictions:
        raise BodyPoseNetError(
            f"{cache}: already exists, but was written for {'; '.join(contradictions)}",
            f"{CALIBRATE_AGAIN} Omit these flags to use it as it is.",
        )
    return metadata


def check_tensorfile(source: CalibrationSource) -> TensorfileInfo | None:
    """Check an existing tensorfile against the options that `read_tensorfile` does not check.

    Returns:
        Its description; None if it does not exist.

    Raises:
        BodyPoseNetError: The file is damaged, or it was written for another batch size or for other
            photos.
    """
    path, folder, expected = source.data_file, source.image_dir, source.expected
    if path is None or not source.has_tensorfile:
        return None
    info = read_tensorfile_info(path)
    contradictions = []
    if expected.batch_size not in (None, info.batch_size):
        contradictions.append(f"--batch_size: {info.batch_size}, not {expected.batch_size}")
    if folder is not None and not _contains(folder, info.photos):
        contradictions.append(f"--cal_image_dir: other photos than those in {folder}")
    if contradictions:
        raise BodyPoseNetError(
            f"{path}: already exists, but was written for {'; '.join(contradictions)}",
            "Give another --cal_data_file, or delete the file to write it again. Omit these flags "
            "to use it as it is.",
        )
    return info


def split_images(source: CalibrationSource, folder: Path) -> PhotoSplit:
    """Divide the photos of `image_dir`; those selected from a dataset are all for calibration.

    Raises:
        BodyPoseNetError: See `split_photos`.
    """
    if source.dataset is not None:
        return split_photos(folder, None)
    return split_photos(folder, source.images, hold_back=source.hold_back)


def given_flags(source: CalibrationSource) -> list[str]:
    """Return the options, with their values, that a cache without metadata is not checked for."""
    expected = source.expected
    values = {
        "--cal_method": expected.method,
        "--input_dims": expected.shape,
        "--batches": expected.batches,
        "--batch_size": expected.batch_size,
        "--cal_image_dir": source.image_dir,
        "--cal_data_file": source.data_file if source.has_tensorfile else None,
    }
    return [f"{flag} {value}" for flag, value in values.items() if value is not None]


def no_images() -> BodyPoseNetError:
    """Return the error for a calibration without images and without a cache."""
    return BodyPoseNetError(
        "INT8 needs calibration images that are representative of the model's use",
        "Give their folder (--cal_image_dir), an existing tensorfile (--cal_data_file), or a "
        "calibration cache (--cal_cache_file).",
    )


def _contradictions(source: CalibrationSource, metadata: CalibrationMetadata) -> list[str]:
    """Describe the properties in which a cache differs from the options."""
    expected, folder, data_file = source.expected, source.image_dir, source.data_file
    # The requested number is accepted as well: photos may have been held back.
    pairs: dict[str, tuple[object, tuple[object, ...]]] = {
        "--cal_method": (expected.method, (metadata.method,)),
        "--input_dims": (expected.shape, (metadata.input_shape,)),
    }
    if source.has_tensorfile or metadata.photos is None:
        pairs["--batches"] = expected.batches, (metadata.batches, metadata.requested_batches)
        pairs["--batch_size"] = expected.batch_size, (metadata.batch_size,)
    else:  # the same photos in batches of another size have the same ranges
        images = metadata.images, metadata.requested_images
        pairs["--batches times --batch_size"] = expected.images, images
    contradictions = [
        f"{flag}: {actual[0]}, not {required}"
        for flag, (required, actual) in pairs.items()
        if None not in (required, actual[0]) and required not in actual
    ]
    if folder and not _has_photos(folder, metadata):
        contradictions.append(f"--cal_image_dir: other photos than those in {folder}")
    if data_file is not None and source.has_tensorfile:
        same = metadata.tensorfile in (None, file_digest(data_file))
        contradictions += [] if same else [f"--cal_data_file: another file than {data_file}"]
    return contradictions


def _has_photos(folder: Path, metadata: CalibrationMetadata) -> bool:
    """Return whether a cache was calibrated on photos of a folder; True if that is unknown."""
    if metadata.photos is None:
        return _contains(folder, metadata.photo_digests)
    return metadata.photos == sample_digest(folder, metadata.images)


def _contains(folder: Path, digests: Iterable[str] | None) -> bool:
    """Return whether a folder contains photos, given by their SHA-256; True if unknown."""
    missing = set(digests or ())
    for path in shuffled_photos(folder):
        if not missing:
            break
        missing.discard(file_digest(path))
    return not missing


def _check_dataset(source: CalibrationSource, dataset: DatasetImages) -> None:
    """Check that images can be selected, and that the calibration will use them."""
    if source.image_dir is None:
        raise BodyPoseNetError(
            "--cal_select needs --cal_image_dir", "Give a new folder for the selected images."
        )
    for flag, path in (
        ("--cal_cache_file", source.cache_file),
        ("--cal_data_file", source.data_file),
    ):
        if path is not None and exists(path):
            raise BodyPoseNetError(
                f"--cal_select: {flag} {path} already exists, so no image would be used",
                f"Give another {flag}, delete the file, or omit --cal_select.",
            )
    if not exists(dataset.annotations):
        raise BodyPoseNetError(f"File not found: --cal_select {dataset.annotations}")
    if not is_folder(dataset.image_dir):
        raise BodyPoseNetError(f"Folder not found: --cal_source_dir {dataset.image_dir}")
