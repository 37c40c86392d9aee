"""INT8 calibration: images, tensorfile and calibration cache that a model's ranges come from.

The images come from a folder or, already fitted and normalized, from a tensorfile. The ranges that
`measure_ranges` finds on them are kept in a calibration cache. Files that exist are read; files
that are given but do not exist are written.
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
"""Maximum number of tensors that an error lists."""


@dataclass(frozen=True)
class ExpectedCalibration:
    """Properties that an existing calibration cache must have; None means any.

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
    """Source of the ranges: images, and files that earlier calibrations wrote.

    Args:
        image_dir: Folder of photos that are representative of the model's use; its subfolders are
            not searched.
        data_file: Tensorfile, read if it exists and written otherwise, or None.
        cache_file: Calibration cache, read if it exists and written otherwise, or None.
        batches: Number of batches, of photos or of the tensorfile.
        batch_size: Photos per batch.
        shape: Height and width in pixels that the photos are fitted to.
        expected: Properties that an existing cache must have.
        dataset: Dataset from which images are selected and copied to `image_dir`, a new folder; or
            None to use the photos that are there.
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
        next(read_tensorfile(source.data_file, source.batches, source.shape))
    elif source.image_dir is not None:
        sample_images(source.image_dir, source.batches * source.batch_size)  # checks the number
    else:
        raise _no_images()


def find_ranges(
    content: bytes,
    source: CalibrationSource,
    method: CalibrationMethod,
    needed: Sequence[str],
    model: str,
) -> dict[str, Range]:
    """Read the ranges of a model's tensors from a cache, or measure them and write the cache.

    Args:
        content: Content of a float32 ONNX file from `export_onnx`.
        source: Images and files that the ranges come from.
        method: Calibration method for measuring.
        needed: Names of tensors that must have a range.
        model: The model's `fingerprint`, which must match that in the metadata of a cache.

    Returns:
        Range by the name of the tensor.

    Raises:
        BodyPoseNetError: The cache belongs to another model, lacks some of the tensors, or does not
            have the expected properties; there are no images; or a file or folder cannot be used.
    """
    if source.cache_file is not None and source.has_cache:
        return _read_cached(source, source.cache_file, model, needed)
    # It is unknown which photos an existing tensorfile was written from.
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
            ranges={name: (each.low, each.high) for name, each in ranges.items()},
        )  # fmt: skip
        write_metadata(source.cache_file, metadata)
        logger.info("Wrote %s: the ranges of %d tensors", source.cache_file, len(ranges))
    return ranges


def prepare_images(source: CalibrationSource) -> list[Path] | None:
    """Select images if the source is a dataset, and list photos not used for calibration.

    It must be called before `find_ranges` writes the files that are missing.

    Args:
        source: Images and files that the ranges come from.

    Returns:
        The photos of the dataset or of `image_dir` that are not used for calibration. None if there
        is no folder, or if its used photos are unknown, as for an existing tensorfile or a cache
        without metadata.

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
    """Count the photos of `image_dir` that the ranges are or will be measured on.

    These are the first photos in the order of `sample_images`.

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
    expected = source.expected
    pairs: dict[str, tuple[object, object]] = {
        "--cal_method": (expected.method, metadata.method),
        "--input_dims": (expected.shape, metadata.input_shape),
    }
    if source.has_tensorfile:  # --batch_size does not apply to its batches
        pairs["--batches"] = expected.batches, metadata.batches
    else:
        pairs["--batches times --batch_size"] = expected.images, metadata.images
    contradictions = [
        f"{flag}: {actual}, not {required}"
        for flag, (required, actual) in pairs.items()
        if None not in (required, actual) and required != actual
    ]
    folder = source.image_dir
    if folder and metadata.photos not in (None, sample_digest(folder, metadata.images)):
        contradictions.append(f"--cal_image_dir: other photos than those in {folder}")
    if contradictions:
        raise BodyPoseNetError(
            f"{cache}: already exists, but was written for {'; '.join(contradictions)}",
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
        logger.info("%s: %d tensors were found by TensorFlow's names", cache, others)
    _check_complete(ranges, cache, needed)
    metadata = read_matching_metadata(source, cache)
    if metadata is None:
        logger.warning(
            "%s: without a metadata file beside it, it cannot be checked that the cache belongs to "
            "this model and these images",
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
    """Check that a cache has the ranges of all tensors that are quantized."""
    missing = [name for name in needed if name not in ranges]
    if not missing:
        return
    more = f" and {len(missing) - _MAX_LISTED} more" if len(missing) > _MAX_LISTED else ""
    raise BodyPoseNetError(
        f"{path}: lacks {len(missing)} of the {len(needed)} tensors to quantize: "
        f"{', '.join(missing[:_MAX_LISTED])}{more}",
        "It belongs to another model: give another --cal_cache_file, or delete the file to "
        "calibrate again.",
    )


def _batches(content: bytes, source: CalibrationSource) -> Batches:
    """Return the batches of images; those of a folder are written to the tensorfile first."""
    if source.data_file is not None and source.has_tensorfile:
        logger.info("Calibrating on the images of %s", source.data_file)
        if source.image_dir is not None:
            names = source.data_file, source.image_dir
            logger.warning("%s already exists, so the photos of %s are not used", *names)
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
    if not is_file(dataset.annotations):
        raise BodyPoseNetError(f"File not found: --cal_select {dataset.annotations}")
    if not is_folder(dataset.image_dir):
        raise BodyPoseNetError(f"Folder not found: --cal_source_dir {dataset.image_dir}")


def _no_images() -> BodyPoseNetError:
    """Return the error for a calibration without images and without a cache."""
    return BodyPoseNetError(
        "INT8 needs calibration images that are representative of the model's use",
        "Give their folder (--cal_image_dir), an existing tensorfile (--cal_data_file), or a "
        "calibration cache (--cal_cache_file).",
    )
