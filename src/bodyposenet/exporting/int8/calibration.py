"""INT8 calibration: the ranges of a model's tensors, measured on images or read from a cache.

The images come from a folder or, already fitted and normalized, from a tensorfile. The ranges that
`measure_ranges` finds on them are kept in a calibration cache. Files that exist are read; files
that are given but do not exist are written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
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
    write_cache,
    write_metadata,
)
from bodyposenet.exporting.int8.calibration_source import (
    CalibrationSource,
    check_tensorfile,
    given_flags,
    no_images,
    read_matching_metadata,
    split_images,
)
from bodyposenet.exporting.int8.ranges import Batches, CalibrationMethod, Range, measure_ranges
from bodyposenet.exporting.int8.tensorfile import read_tensorfile, write_tensorfile
from bodyposenet.exporting.photos import (
    Photo,
    PhotoSplit,
    batched,
    file_digest,
    fit_photos,
    sample_digest,
    sample_photos,
    select_images,
    shuffled_photos,
)
from bodyposenet.inference.engines import onnx as onnx_engine
from bodyposenet.inference.engines.exported import normalize

_MAX_LISTED = 5
"""Maximum number of tensors that an error lists."""


@dataclass(frozen=True)
class CalibrationPhotos:
    """The photos of a calibration, so that a model is compared with its network on others.

    Args:
        used: SHA-256 of the photos that are used for calibration; None if they are unknown.
        unused: Photos that can be compared on, after those in `used` are removed; in random order.
    """

    used: frozenset[str] | None
    unused: list[Path]


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
    tensorfile = check_tensorfile(source)
    folder = source.image_dir if tensorfile is None else None
    if tensorfile is not None and tensorfile.photos is None and source.image_dir is not None:
        names = source.data_file, source.image_dir
        logger.warning("%s already exists, so the photos of %s are not used", *names)
    total = _batch_count(source)
    digests: list[str] = []
    sizes: list[int] = []
    batches = _counting(_batches(content, source, digests), sizes)
    ranges = measure_ranges(content, batches, method, total)
    if source.cache_file is not None:
        text = write_cache(source.cache_file, ranges)
        metadata = CalibrationMetadata(
            model=model, cache=cache_digest(text), method=method,
            input_shape=source.shape, batches=len(sizes), images=sum(sizes),
            requested_batches=source.batches,
            batch_size=source.batch_size if tensorfile is None else tensorfile.batch_size,
            photos=sample_digest(folder, sum(sizes)) if folder else None,
            photo_digests=tuple(digests) if folder else tensorfile and tensorfile.photos,
            tensorfile=file_digest(source.data_file) if source.data_file else None,
            ranges={name: (each.low, each.high) for name, each in ranges.items()},
        )  # fmt: skip
        write_metadata(source.cache_file, metadata)
        logger.info("Wrote %s: the ranges of %d tensors", source.cache_file, len(ranges))
    return ranges


def prepare_images(source: CalibrationSource) -> CalibrationPhotos:
    """Select images if the source is a dataset, and list the photos of the calibration.

    It must be called before `find_ranges` writes the files that are missing.

    Args:
        source: Images and files that the ranges come from.

    Returns:
        The photos that are used, and those of the dataset or of `image_dir` that are not.

    Raises:
        BodyPoseNetError: The images cannot be selected; see also `read_matching_metadata`.
    """
    folder = source.image_dir
    if folder is not None and source.dataset is not None:
        split = select_images(
            source.dataset.annotations, source.dataset.image_dir, folder, source.images,
            hold_back=source.hold_back,
        )  # fmt: skip
        return _divide(source, split)
    if source.cache_file is not None and source.has_cache:
        used = _cached_photos(source, source.cache_file)
    elif (tensorfile := check_tensorfile(source)) is not None:
        used = tensorfile.photos
    elif folder is not None:
        return _divide(source, split_images(source, folder))
    else:
        raise no_images()
    if used is None or folder is None:
        return CalibrationPhotos(None if used is None else frozenset(used), [])
    return CalibrationPhotos(frozenset(used), shuffled_photos(folder)[::-1])


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
            "%s: used without a check, because it has no metadata file; it must belong to %s",
            cache, ", ".join(["this model", *given_flags(source)]),
        )  # fmt: skip
        return ranges
    if metadata.model != model:
        raise BodyPoseNetError(f"{cache}: holds the ranges of another model", CALIBRATE_AGAIN)
    logger.info("Calibration skipped: using the ranges of %s (%s)", cache, metadata)
    if source.data_file is not None and not source.has_tensorfile:
        logger.warning("%s: not written, because %s already exists", source.data_file, cache)
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


def _batches(content: bytes, source: CalibrationSource, digests: list[str]) -> Batches:
    """Return the batches of images; those of a folder are written to the tensorfile first.

    The `file_digest` of each photo is appended to `digests`, if it is known.
    """
    if source.data_file is not None and source.has_tensorfile:
        logger.info("Calibrating on the images of %s", source.data_file)
        return read_tensorfile(source.data_file, source.batches, source.shape)
    if source.image_dir is None:
        raise no_images()
    images = _normalized(content, source, source.image_dir, digests)
    if source.data_file is None:
        return images
    write_tensorfile(
        source.data_file, progress(images, "calibration images", _batch_count(source)),
        requested=(source.batches, source.batch_size), photos=digests,
    )  # fmt: skip
    logger.info("Wrote %s", source.data_file)
    return read_tensorfile(source.data_file, source.batches, source.shape)


def _normalized(
    content: bytes, source: CalibrationSource, folder: Path, digests: list[str]
) -> Batches:
    """Yield batches of photos, fitted and normalized as in inference."""
    engine = onnx_engine.load("the exported model", content=content, device="cpu")
    photos = _recording(sample_photos(folder, split_images(source, folder), source.images), digests)
    fitted = fit_photos(photos, engine, source.shape)
    for batch in batched(fitted, source.batch_size):
        yield normalize(np.stack(batch), engine.description)


def _recording(photos: Iterable[Photo], digests: list[str]) -> Iterator[NDArray[np.uint8]]:
    """Yield the pixels of photos, and append their `file_digest` to `digests`."""
    for photo in photos:
        digests.append(file_digest(photo.path))
        yield photo.pixels


def _divide(source: CalibrationSource, split: PhotoSplit) -> CalibrationPhotos:
    """Return the photos of a calibration that is not done yet, and log how many are held back."""
    used = split.calibration[: source.images]
    if len(used) < source.images:
        logger.warning(
            "Calibrating on %d photos instead of %d: %d are held back for the comparison with the "
            "network; give others with --verify_images to calibrate on all",
            len(used), source.images, len(split.comparison),
        )  # fmt: skip
    return CalibrationPhotos(frozenset(map(file_digest, used)), split.comparison)


def _batch_count(source: CalibrationSource) -> int:
    """Return the number of batches, which photos that are held back can reduce."""
    if source.image_dir is None or source.has_tensorfile:
        return source.batches
    images = min(source.images, len(split_images(source, source.image_dir).calibration))
    return ceil(images / source.batch_size)


def _cached_photos(source: CalibrationSource, cache: Path) -> Sequence[str] | None:
    """Return the digests of the photos that a cache was calibrated on; None if unknown."""
    metadata = read_matching_metadata(source, cache)
    if metadata is None:
        return None
    if metadata.photo_digests is None and metadata.photos is not None and source.image_dir:
        paths = shuffled_photos(source.image_dir)  # of an older version: those are the first ones
        return [file_digest(path) for path in paths[: metadata.images]]
    return metadata.photo_digests
