"""The INT8 part of `export`: its flags, the quantized file, the photos to compare it on."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import exists

if TYPE_CHECKING:
    from bodyposenet.exporting.int8.calibration import CalibrationSource
    from bodyposenet.exporting.int8.qdq import Int8Target

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
    from bodyposenet.exporting.int8.calibration import check_source

    check_source(_source(arguments, shape))


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
    from bodyposenet.exporting.int8.calibration import find_held_out
    from bodyposenet.exporting.int8.selection import select_images

    if arguments.cal_select:
        return select_images(
            arguments.cal_select, arguments.cal_source_dir, arguments.cal_image_dir,
            (arguments.batches or _BATCHES) * arguments.batch_size,
        ).others  # fmt: skip
    return find_held_out(_source(arguments, shape))


def quantize(
    content: bytes, arguments: argparse.Namespace, shape: tuple[int, int], flavour: Int8Target
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
    from bodyposenet.exporting.int8 import quantization as int8

    quantization = int8.Quantization(
        target=flavour,
        method=arguments.cal_method or int8.Quantization.method,
        float_outputs=arguments.float_outputs,
        nodes_to_exclude=tuple(arguments.float_layers),
        strict=arguments.strict_type_constraints,
    )
    return int8.quantize(content, _source(arguments, shape), quantization)


def _source(arguments: argparse.Namespace, shape: tuple[int, int]) -> CalibrationSource:
    from bodyposenet.exporting.int8.calibration import CalibrationSource, ExpectedCalibration

    def path(text: str | None) -> Path | None:
        return Path(text) if text else None

    expected = ExpectedCalibration(
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
        expected=expected,
    )
