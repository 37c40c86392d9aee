"""The INT8 part of `export`: its flags, the quantized file, the photos to compare it on."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from bodyposenet.console import logger, say
from bodyposenet.errors import BodyPoseNetError, closest
from bodyposenet.files import exists, is_folder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bodyposenet.exporting.int8.calibration import CalibrationSource
    from bodyposenet.exporting.int8.qdq import Flavour

_BATCHES = 10
"""To calibrate with, as in the original."""

_ENOUGH = 4
"""Photos to compare on."""


def check_calibration(arguments: argparse.Namespace, shape: tuple[int, int]) -> None:
    """Refuse flags that leave nothing to calibrate with, or that contradict each other.

    Args:
        arguments: Of `export`.
        shape: Height and width of the images.

    Raises:
        BodyPoseNetError: There is no such folder, too few photos in it, or a file of an earlier
            calibration is damaged, of another size or contradicts the flags.
    """
    if arguments.float_layers and arguments.strict_type_constraints:
        raise BodyPoseNetError(
            "--float_layers: with --strict_type_constraints only the outputs are in float",
            "Leave one of the two out.",
        )
    if arguments.cal_select:
        _check_selection(arguments)
        return
    source = _source(arguments, shape)
    if source.image_dir is not None and not is_folder(source.image_dir):
        raise BodyPoseNetError(
            f"--cal_image_dir {source.image_dir}: no such folder",
            "Give a folder of photos that stand for the model's use.",
        )
    if _is_calibrated_already(source):
        return
    if source.image_dir is None:
        raise BodyPoseNetError(
            "INT8 needs images that stand for the model's use, to calibrate with",
            "Name their folder (--cal_image_dir), or a tensorfile (--cal_data_file) or calibration "
            "cache (--cal_cache_file) that exists.",
        )
    from bodyposenet.exporting.int8.images import sample_images

    sample_images(source.image_dir, source.batches * source.batch_size)  # counts, reads none yet


def _is_calibrated_already(source: CalibrationSource) -> bool:
    """Whether an earlier calibration left a cache or a tensorfile, which is checked."""
    from bodyposenet.exporting.int8.cache import read_cache
    from bodyposenet.exporting.int8.calibration import read_agreeing_origin
    from bodyposenet.exporting.int8.tensorfile import read_tensorfile

    if source.cache_file is not None and source.has_cache:
        read_cache(source.cache_file)
        read_agreeing_origin(source, source.cache_file)
        return True
    if source.data_file is not None and source.has_tensorfile:
        next(read_tensorfile(source.data_file, source.batches, source.shape))
        return True
    return False


def _check_selection(arguments: argparse.Namespace) -> None:
    if not (arguments.cal_source_dir and arguments.cal_image_dir):
        raise BodyPoseNetError(
            "--cal_select, --cal_source_dir and --cal_image_dir belong together",
            "Give the annotations, the folder of their images, and a new folder for the selected.",
        )
    for flag in ("cache_file", "data_file"):
        named = getattr(arguments, f"cal_{flag}")
        if named and exists(named):
            raise BodyPoseNetError(
                f"--cal_select: --cal_{flag} {named} exists already, and no image would be used",
                f"Name another --cal_{flag}, delete it, or leave --cal_select out.",
            )
    for flag, there in (("select", Path.is_file), ("source_dir", Path.is_dir)):
        named = getattr(arguments, f"cal_{flag}")
        if not there(Path(named)):
            raise BodyPoseNetError(
                f"--cal_{flag} {named}: no such file or folder", "Give one that exists."
            )


def check_layers(patterns: Collection[str], layers: Collection[str]) -> None:
    """Check the names of layers against the model.

    Args:
        patterns: Of `--float_layers`.
        layers: Names of the model's convolutions.

    Raises:
        BodyPoseNetError: A name fits no layer.
    """
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in layers):
            close = closest(pattern, layers) or list(layers)[:3]
            raise BodyPoseNetError(
                f"--float_layers: no layer is named {pattern}", f"There are {', '.join(close)} ..."
            )


def hold_out_photos(arguments: argparse.Namespace, shape: tuple[int, int]) -> Sequence[Path] | None:
    """Select images where `--cal_select` asks, and list photos that are not calibrated with.

    This comes before the calibration, which writes the files that tell what it was done with.

    Args:
        arguments: Of `export`.
        shape: Height and width of the images.

    Returns:
        Photos of `--cal_source_dir` or `--cal_image_dir`; None if it is unknown which were
        calibrated with, or there is no such folder.

    Raises:
        BodyPoseNetError: The images cannot be selected, or the folder is missing.
    """
    from bodyposenet.exporting.int8.calibration import count_calibrated
    from bodyposenet.exporting.int8.images import held_out_photos
    from bodyposenet.exporting.int8.selection import select_images

    if arguments.cal_select:
        return select_images(
            arguments.cal_select, arguments.cal_source_dir, arguments.cal_image_dir,
            (arguments.batches or _BATCHES) * arguments.batch_size,
        ).others  # fmt: skip
    source = _source(arguments, shape)
    if source.image_dir is None:
        return None
    calibrated = count_calibrated(source)
    return None if calibrated is None else held_out_photos(source.image_dir, calibrated)


def quantize(
    content: bytes, arguments: argparse.Namespace, shape: tuple[int, int], flavour: Flavour
) -> bytes:
    """Bring a float32 file to INT8.

    Args:
        content: Of the ONNX file.
        arguments: Of `export`.
        shape: Height and width of the images.
        flavour: What the file is for.

    Raises:
        BodyPoseNetError: An image or another file cannot be used.
    """
    from bodyposenet.exporting.int8.quantization import Quantization, quantized

    quantization = Quantization(
        flavour=flavour,
        method=arguments.cal_method or Quantization.method,
        float_outputs=arguments.float_outputs,
        float_layers=tuple(arguments.float_layers),
        strict=arguments.strict_type_constraints,
    )
    return quantized(content, _source(arguments, shape), quantization)


def photos_to_compare(
    arguments: argparse.Namespace, held_out: Sequence[Path] | None
) -> list[NDArray[np.uint8]]:
    """Read photos that were not calibrated with, if there are enough, else of `--cal_image_dir`.

    Args:
        arguments: Of `export`.
        held_out: From `hold_out_photos`.

    Raises:
        BodyPoseNetError: There is no such folder, or no image in it can be read.
    """
    from bodyposenet.exporting.int8.images import held_out_photos, read_photos
    from bodyposenet.exporting.verification import PHOTOS

    folder = Path(arguments.cal_image_dir)
    photos = read_photos(held_out or (), PHOTOS)
    if len(photos) >= _ENOUGH:
        place = arguments.cal_source_dir if arguments.cal_select else folder
        say(f"compared on {len(photos)} photos of {place} that were not calibrated with")
        return photos
    reason = (
        "it is unknown which ones the tensorfile or calibration cache was made of"
        if held_out is None
        else f"only {len(photos)} others are there"
    )
    logger.warning(
        "%s: compared on photos that may have been calibrated with: %s; --verify_images names "
        "better ones",
        folder, reason,
    )  # fmt: skip
    photos = read_photos(held_out_photos(folder, 0), PHOTOS)
    if not photos:
        raise BodyPoseNetError(
            f"{folder}: none of its images can be read, to compare on",
            "Give --verify_images, or another --cal_image_dir.",
        )
    return photos


def _source(arguments: argparse.Namespace, shape: tuple[int, int]) -> CalibrationSource:
    from bodyposenet.exporting.int8.calibration import Asked, CalibrationSource

    def path(text: str | None) -> Path | None:
        return Path(text) if text else None

    asked = Asked(
        method=arguments.cal_method,
        images=arguments.batches and arguments.batches * arguments.batch_size,
        shape=shape if arguments.input_dims else None,
        batches=arguments.batches,
    )
    return CalibrationSource(
        image_dir=path(arguments.cal_image_dir),
        data_file=path(arguments.cal_data_file),
        cache_file=path(arguments.cal_cache_file),
        batches=arguments.batches or _BATCHES,
        batch_size=arguments.batch_size,
        shape=shape,
        asked=asked,
    )
