"""Calibration: the ranges of a model's tensors, measured on images that stand for its use.

The images may lie in a folder or, prepared, in a tensorfile; the ranges, in a calibration cache.
Whatever exists is used, whatever is named and does not exist is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bodyposenet.console import logger, say, track
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.exporting.fitted_photos import fit_photos
from bodyposenet.exporting.int8.cache import find_tensors, read_cache, write_cache
from bodyposenet.exporting.int8.images import batched, sample_digest, sample_images
from bodyposenet.exporting.int8.origin import (
    CALIBRATE_AGAIN,
    Origin,
    digest_of,
    read_origin,
    write_origin,
)
from bodyposenet.exporting.int8.ranges import Histogram, Method, Range
from bodyposenet.exporting.int8.tensorfile import read_tensorfile, write_tensorfile
from bodyposenet.exporting.int8.watching import WatchedModel
from bodyposenet.files import exists
from bodyposenet.runtime.engines import onnx as onnx_engine
from bodyposenet.runtime.engines.exported import normalize

_TOLD = 5

Batches = Iterable[NDArray[np.float32]]
"""(N, H, W, 3) float32, normalized RGB."""


@dataclass(frozen=True)
class Asked:
    """What an existing cache must have been made with; None: anything.

    Args:
        method: How the ranges are found.
        images: How many images, of a folder.
        shape: Height and width of the images.
        batches: How many batches, of a tensorfile.
    """

    method: Method | None = None
    images: int | None = None
    shape: tuple[int, int] | None = None
    batches: int | None = None


@dataclass(frozen=True)
class CalibrationSource:
    """Where the ranges come from.

    Args:
        image_dir: Photos that stand for the model's use; folders in it are not searched.
        data_file: The tensorfile, read if it exists, else written; None: no such file.
        cache_file: The calibration cache, alike.
        batches: How many batches of photos, or of the tensorfile.
        batch_size: Photos in a batch.
        shape: Height and width that the photos are fitted into.
        asked: What of it a cache that exists must agree with.
    """

    image_dir: Path | None
    data_file: Path | None
    cache_file: Path | None
    batches: int
    batch_size: int
    shape: tuple[int, int]
    asked: Asked = Asked()

    @property
    def has_cache(self) -> bool:
        """Whether the calibration cache exists."""
        return self.cache_file is not None and exists(self.cache_file)

    @property
    def has_tensorfile(self) -> bool:
        """Whether the tensorfile exists."""
        return self.data_file is not None and exists(self.data_file)


def find_ranges(
    content: bytes, source: CalibrationSource, method: Method, needed: Sequence[str], model: str
) -> dict[str, Range]:
    """Read the ranges of a model's tensors, or measure and write them.

    Args:
        content: A float32 ONNX file from `export_onnx`, of any form.
        source: Where they come from.
        method: How they are found; a cache has been made by one.
        needed: Tensors that must have one.
        model: Its `fingerprint`, which a cache of ours must have.

    Raises:
        BodyPoseNetError: The cache is another model's, lacks some of these or was made otherwise
            than was asked, there is nothing to measure them with, or a file or a folder cannot be
            used.
    """
    if source.cache_file is not None and source.has_cache:
        return _read_again(source, source.cache_file, model, needed)
    # A tensorfile that exists already may come from anywhere.
    folder = None if source.has_tensorfile else source.image_dir
    images: list[int] = []
    batches = _counting(_batches(content, source), images)
    ranges = measure_ranges(content, batches, method, source.batches)
    if source.cache_file is not None:
        text = write_cache(source.cache_file, ranges)
        origin = Origin(
            model=model, cache=digest_of(text), method=method,
            input_shape=source.shape, batches=len(images), images=sum(images),
            photos=sample_digest(folder, sum(images)) if folder else None,
            ranges={name: (covered.low, covered.high) for name, covered in ranges.items()},
        )  # fmt: skip
        write_origin(source.cache_file, origin)
        say(f"written: {source.cache_file}, the ranges of {len(ranges)} tensors")
    return ranges


def count_calibrated(source: CalibrationSource) -> int | None:
    """Count the photos of `image_dir` that the ranges are, or will be, measured on.

    They are the first ones that `sample_images` draws.

    Args:
        source: Where the ranges come from, before `find_ranges` writes what is missing.

    Returns:
        None if it is unknown: a tensorfile, or a cache without an origin, may hold any photos.

    Raises:
        BodyPoseNetError: See `read_agreeing_origin`.
    """
    if source.cache_file is not None and source.has_cache:
        origin = read_agreeing_origin(source, source.cache_file)
        return origin.images if origin is not None and origin.photos is not None else None
    return None if source.has_tensorfile else source.batches * source.batch_size


def read_agreeing_origin(source: CalibrationSource, cache: Path) -> Origin | None:
    """Read the origin of a cache, and make sure that it does not contradict what is asked.

    Args:
        source: What is asked.
        cache: Exists.

    Returns:
        None if the cache has no origin, as those of TensorRT.

    Raises:
        BodyPoseNetError: It was made otherwise, has been changed since, or its origin is broken.
    """
    origin = read_origin(cache)
    if origin is None:
        return None
    asked = source.asked
    made: dict[str, tuple[object, object]] = {
        "--cal_method": (asked.method, origin.method),
        "--input_dims": (asked.shape, origin.input_shape),
    }
    if source.has_tensorfile:  # --batch_size is of photos; its batches have their own size
        made["--batches"] = asked.batches, origin.batches
    else:
        made["--batches times --batch_size"] = asked.images, origin.images
    contradictions = [
        f"{flag}: {found}, not {wanted}"
        for flag, (wanted, found) in made.items()
        if None not in (wanted, found) and wanted != found
    ]
    folder = source.image_dir
    if folder and origin.photos not in (None, sample_digest(folder, origin.images)):
        contradictions.append(f"--cal_image_dir: other photos than those in {folder}")
    if contradictions:
        raise BodyPoseNetError(
            f"{cache}: exists already, but was made with {'; '.join(contradictions)}",
            f"{CALIBRATE_AGAIN} Leave these flags out to use it as it is.",
        )
    return origin


def _read_again(
    source: CalibrationSource, cache: Path, model: str, needed: Sequence[str]
) -> dict[str, Range]:
    """The ranges of a cache; those of ours as they were measured."""
    written = read_cache(cache)
    ranges = find_tensors(written, needed)
    if others := sum(name not in written for name in ranges):
        logger.info("%s: %d tensors were found under TensorFlow's names", cache, others)
    _check_complete(ranges, cache, needed)
    origin = read_agreeing_origin(source, cache)
    if origin is None:
        logger.warning(
            "%s: does not tell how its ranges were measured, or of which model; they are used",
            cache,
        )
        say(f"calibration skipped: the ranges of {cache} are used")
        return ranges
    if origin.model != model:
        raise BodyPoseNetError(f"{cache}: holds the ranges of another model", CALIBRATE_AGAIN)
    say(f"calibration skipped: the ranges of {cache} are used ({origin})")
    return {name: Range(*ends) for name, ends in origin.ranges.items()}


def _counting(batches: Batches, sizes: list[int]) -> Iterator[NDArray[np.float32]]:
    """The batches, whose sizes are noted as they go by."""
    for batch in batches:
        sizes.append(len(batch))
        yield batch


def _check_complete(ranges: Mapping[str, Range], path: Path, needed: Sequence[str]) -> None:
    lacking = [name for name in needed if name not in ranges]
    if not lacking:
        return
    more = f" and {len(lacking) - _TOLD} more" if len(lacking) > _TOLD else ""
    raise BodyPoseNetError(
        f"{path}: lacks {len(lacking)} of the {len(needed)} tensors to quantize: "
        f"{', '.join(lacking[:_TOLD])}{more}",
        "It is another model's: name another --cal_cache_file, or delete it to calibrate again.",
    )


def _batches(content: bytes, source: CalibrationSource) -> Batches:
    """The images to calibrate with; those of the folder are written to the tensorfile first."""
    if source.data_file is not None and source.has_tensorfile:
        say(f"calibration on the images in {source.data_file}")
        if source.image_dir is not None:
            told = source.data_file, source.image_dir
            logger.warning("%s exists already: the photos of %s are not used", *told)
        return read_tensorfile(source.data_file, source.batches, source.shape)
    if source.image_dir is None:
        raise BodyPoseNetError(
            "INT8 needs images that stand for the model's use, to calibrate with",
            "Name their folder (--cal_image_dir), or a tensorfile (--cal_data_file) or calibration "
            "cache (--cal_cache_file) that exists.",
        )
    images = _normalized(content, source, source.image_dir)
    if source.data_file is None:
        return images
    write_tensorfile(source.data_file, track(images, "calibration images", source.batches))
    say(f"written: {source.data_file}")
    return read_tensorfile(source.data_file, source.batches, source.shape)


def _normalized(content: bytes, source: CalibrationSource, folder: Path) -> Batches:
    """Batches of photos as inference fits and normalizes them."""
    engine = onnx_engine.load("the exported model", content=content, on_cpu=True)
    photos = sample_images(folder, source.batches * source.batch_size)
    fitted = fit_photos(photos, engine, source.shape)
    for batch in batched(fitted, source.batch_size):
        yield normalize(np.stack(batch), engine.description)


def measure_ranges(
    content: bytes, batches: Batches, method: Method, total: int | None = None
) -> dict[str, Range]:
    """Run a model on images and find the ranges of its tensors.

    One image at a time, so that neither many batches nor large ones need more memory.

    Args:
        content: A float32 ONNX file from `export_onnx`, of any form.
        batches: (N, H, W, 3) float32 each, normalized RGB, whatever the model takes.
        method: See `Histogram.range`.
        total: How many batches there are, to say how far it is.

    Returns:
        Every float tensor's, from the network's normalized input on, by name.

    Raises:
        BodyPoseNetError: The model cannot be run on the images.
    """
    model = WatchedModel(content)
    histograms: dict[str, Histogram] = {}
    for batch in track(batches, "calibration", total):
        for tensors in model.run(batch):
            for name, values in tensors.items():
                histograms.setdefault(name, Histogram()).add(values)
    return {name: histogram.range(method) for name, histogram in histograms.items()}
