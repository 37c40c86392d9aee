"""Calibration: the ranges of a model's tensors, measured on images that represent its use.

The images come from a folder or, already prepared, from a tensorfile; the ranges may come from a
calibration cache. Files that exist are read, files that are named and do not exist are written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bodyposenet.console import logger, progress
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.exporting.int8.calibration_cache import (
    CALIBRATE_AGAIN,
    CalibrationMetadata,
    cache_digest,
    find_tensors,
    read_cache,
    read_metadata,
    write_cache,
    write_metadata,
)
from bodyposenet.exporting.int8.ranges import Batches, CalibrationMethod, Range, measure_ranges
from bodyposenet.exporting.int8.tensorfile import read_tensorfile, write_tensorfile
from bodyposenet.exporting.photos import (
    batched,
    fit_photos,
    held_out_photos,
    sample_digest,
    sample_images,
    select_images,
)
from bodyposenet.files import exists, is_file, is_folder
from bodyposenet.inference.engines import onnx as onnx_engine
from bodyposenet.inference.engines.exported import normalize

_MAX_LISTED = 5


@dataclass(frozen=True)
class ExpectedCalibration:
    """Properties that an existing calibration cache must have; None for any.

    Args:
        method: Calibration method.
        images: Number of images, if they come from a folder.
        shape: Height and width of the images in pixels.
        batches: Number of batches, if they come from a tensorfile.
    """

    method: CalibrationMethod | None = None
    images: int | None = None
    shape: tuple[int, int] | None = None
    batches: int | None = None


@dataclass(frozen=True)
class DatasetImages:
    """A dataset that calibration images are selected from.

    Args:
        annotations: Annotations in COCO's keypoint format.
        image_dir: Folder of its images.
    """

    annotations: Path
    image_dir: Path


@dataclass(frozen=True)
class CalibrationSource:
    """Files and images that the ranges come from.

    Args:
        image_dir: Folder of photos that represent the model's use; subfolders are not searched.
        data_file: Tensorfile, read if it exists and written otherwise; None for no such file.
        cache_file: Calibration cache, likewise.
        batches: Number of batches of photos, or of the tensorfile.
        batch_size: Photos per batch.
        shape: Height and width in pixels that the photos are fitted to.
        expected: Properties that an existing cache must have.
        dataset: Dataset whose images are selected and copied to `image_dir`, a new folder.
    """

    image_dir: Path | None
    data_file: Path | None
    cache_file: Path | None
    batches: int
    batch_size: int
    shape: tuple[int, int]
    expected: ExpectedCalibration = ExpectedCalibration()
    dataset: DatasetImages | None = None

    @property
    def has_cache(self) -> bool:
        """Whether the calibration cache exists."""
        return self.cache_file is not None and exists(self.cache_file)

    @property
    def has_tensorfile(self) -> bool:
        """Whether the tensorfile exists."""
        return self.data_file is not None and exists(self.data_file)


def check_source(source: CalibrationSource) -> None:
    """Check, before any work, that a model can be calibrated from the source.

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
            "Give a folder of photos that represent the model's use.",
        )
    if source.cache_file is not None and source.has_cache:
        read_cache(source.cache_file)
        read_matching_metadata(source, source.cache_file)
    elif source.data_file is not None and source.has_tensorfile:
        next(read_tensorfile(source.data_file, source.batches, source.shape))
    elif source.image_dir is not None:
        sample_images(source.image_dir, source.batches * source.batch_size)  # only counts them
    else:
        raise _no_images()


def find_ranges(
    content: bytes,
    source: CalibrationSource,
    method: CalibrationMethod,
    needed: Sequence[str],
    model: str,
) -> dict[str, Range]:
    """Read the ranges of a model's tensors, or measure and write them.

    Args:
        content: A float32 ONNX file from `export_onnx`.
        source: Files and images that the ranges come from.
        method: Calibration method; a cache has been made with one.
        needed: Names of tensors that must have a range.
        model: Its `fingerprint`, which a cache of ours must have.

    Raises:
        BodyPoseNetError: The cache belongs to another model, lacks some of the tensors, or was made
            otherwise than expected; there are no images; or a file or folder cannot be used.
    """
    if source.cache_file is not None and source.has_cache:
        return _read_cached(source, source.cache_file, model, needed)
    # The images of a tensorfile that exists already may come from anywhere.
    folder = None if source.has_tensorfile else source.image_dir
    images: list[int] = []
    batches = _counting(_batches(content, source), images)
    ranges = measure_ranges(content, batches, method, source.batches)
    if source.cache_file is not None:
        text = write_cache(source.cache_file, ranges)
        metadata = CalibrationMetadata(
            model=model, cache=cache_digest(text), method=method,
            input_shape=source.shape, batches=len(images), images=sum(images),
            photos=sample_digest(folder, sum(images)) if folder else None,
            ranges={name: (covered.low, covered.high) for name, covered in ranges.items()},
        )  # fmt: skip
        write_metadata(source.cache_file, metadata)
        logger.info("Wrote %s: the ranges of %d tensors", source.cache_file, len(ranges))
    return ranges


def prepare_images(source: CalibrationSource) -> list[Path] | None:
    """Select the images of a dataset if there is one, and list photos not used for calibration.

    Args:
        source: Files and images that the ranges come from, before `find_ranges` writes the files
            that are missing.

    Returns:
        The other photos of the dataset or of `image_dir`. None if there is no folder, or if it is
        unknown which of its photos are used: a tensorfile or a cache without metadata may come
        from any.

    Raises:
        BodyPoseNetError: The images cannot be selected; see also `read_matching_metadata`.
    """
    if source.image_dir is None:
        return None
    if source.dataset is not None:
        dataset, count = source.dataset, source.batches * source.batch_size
        return select_images(dataset.annotations, dataset.image_dir, source.image_dir, count).others
    count = count_calibrated(source)
    return None if count is None else held_out_photos(source.image_dir, count)


def count_calibrated(source: CalibrationSource) -> int | None:
    """Count the photos of `image_dir` that the ranges are, or will be, measured on.

    They are the first ones that `sample_images` samples.

    Args:
        source: As for `prepare_images`.

    Returns:
        None if the number is unknown.

    Raises:
        BodyPoseNetError: See `read_matching_metadata`.
    """
    if source.cache_file is not None and source.has_cache:
        metadata = read_matching_metadata(source, source.cache_file)
        return metadata.images if metadata is not None and metadata.photos is not None else None
    return None if source.has_tensorfile else source.batches * source.batch_size


def read_matching_metadata(source: CalibrationSource, cache: Path) -> CalibrationMetadata | None:
    """Read the metadata of a cache, and check it against what is expected.

    Args:
        source: Holds the expected properties.
        cache: The calibration cache; it exists.

    Returns:
        None if the cache has no metadata, like those of TensorRT.

    Raises:
        BodyPoseNetError: The cache was made otherwise than expected or has been changed since, or
            its metadata is damaged.
    """
    metadata = read_metadata(cache)
    if metadata is None:
        return None
    expected = source.expected
    pairs: dict[str, tuple[object, object]] = {
        "--cal_method": (expected.method, metadata.method),
        "--input_dims": (expected.shape, metadata.input_shape),
    }
    if source.has_tensorfile:  # its batches have their own size, whatever --batch_size is
        pairs["--batches"] = expected.batches, metadata.batches
    else:
        pairs["--batches times --batch_size"] = expected.images, metadata.images
    contradictions = [
        f"{flag}: {found}, not {wanted}"
        for flag, (wanted, found) in pairs.items()
        if None not in (wanted, found) and wanted != found
    ]
    folder = source.image_dir
    if folder and metadata.photos not in (None, sample_digest(folder, metadata.images)):
        contradictions.append(f"--cal_image_dir: other photos than those in {folder}")
    if contradictions:
        raise BodyPoseNetError(
            f"{cache}: already exists, but was made with {'; '.join(contradictions)}",
            f"{CALIBRATE_AGAIN} Omit these flags to use it as it is.",
        )
    return metadata


def _read_cached(
    source: CalibrationSource, cache: Path, model: str, needed: Sequence[str]
) -> dict[str, Range]:
    """Return the ranges of a cache; with metadata, exactly as they were measured."""
    written = read_cache(cache)
    ranges = find_tensors(written, needed)
    if others := sum(name not in written for name in ranges):
        logger.info("%s: %d tensors have TensorFlow's names", cache, others)
    _check_complete(ranges, cache, needed)
    metadata = read_matching_metadata(source, cache)
    if metadata is None:
        logger.warning(
            "%s: used without knowing which model and images it was made with, because there is no "
            "metadata file beside it",
            cache,
        )
        return ranges
    if metadata.model != model:
        raise BodyPoseNetError(f"{cache}: holds the ranges of another model", CALIBRATE_AGAIN)
    logger.info("Calibration skipped: using the ranges of %s (%s)", cache, metadata)
    return {name: Range(*ends) for name, ends in metadata.ranges.items()}


def _counting(batches: Batches, sizes: list[int]) -> Iterator[NDArray[np.float32]]:
    """Yield the batches, and append their sizes to `sizes`."""
    for batch in batches:
        sizes.append(len(batch))
        yield batch


def _check_complete(ranges: Mapping[str, Range], path: Path, needed: Sequence[str]) -> None:
    missing = [name for name in needed if name not in ranges]
    if not missing:
        return
    more = f" and {len(missing) - _MAX_LISTED} more" if len(missing) > _MAX_LISTED else ""
    raise BodyPoseNetError(
        f"{path}: lacks {len(missing)} of the {len(needed)} tensors to quantize: "
        f"{', '.join(missing[:_MAX_LISTED])}{more}",
        "It belongs to another model: name another --cal_cache_file, or delete it to calibrate "
        "again.",
    )


def _batches(content: bytes, source: CalibrationSource) -> Batches:
    """Return the calibration images; those of the folder are written to the tensorfile first."""
    if source.data_file is not None and source.has_tensorfile:
        logger.info("Calibrating on the images of %s", source.data_file)
        if source.image_dir is not None:
            names = source.data_file, source.image_dir
            logger.warning("%s already exists: the photos of %s are not used", *names)
        return read_tensorfile(source.data_file, source.batches, source.shape)
    if source.image_dir is None:
        raise _no_images()
    images = _normalized(content, source, source.image_dir)
    if source.data_file is None:
        return images
    write_tensorfile(source.data_file, progress(images, "calibration images", source.batches))
    logger.info("Wrote %s", source.data_file)
    return read_tensorfile(source.data_file, source.batches, source.shape)


def _normalized(content: bytes, source: CalibrationSource, folder: Path) -> Batches:
    """Yield batches of photos, fitted and normalized as in inference."""
    engine = onnx_engine.load("the exported model", content=content, device="cpu")
    photos = sample_images(folder, source.batches * source.batch_size)
    fitted = fit_photos(photos, engine, source.shape)
    for batch in batched(fitted, source.batch_size):
        yield normalize(np.stack(batch), engine.description)


def _check_dataset(source: CalibrationSource, dataset: DatasetImages) -> None:
    """Check that images can be selected, and that the calibration would use them."""
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
                f"Name another {flag}, delete it, or omit --cal_select.",
            )
    if not is_file(dataset.annotations):
        raise BodyPoseNetError(f"File not found: --cal_select {dataset.annotations}")
    if not is_folder(dataset.image_dir):
        raise BodyPoseNetError(f"Folder not found: --cal_source_dir {dataset.image_dir}")


def _no_images() -> BodyPoseNetError:
    return BodyPoseNetError(
        "INT8 needs calibration images that represent the model's use",
        "Give their folder (--cal_image_dir), or an existing tensorfile (--cal_data_file) or "
        "calibration cache (--cal_cache_file).",
    )
