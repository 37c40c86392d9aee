"""The INT8 flags of `export` and a float32 file in, the file in INT8 out."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from bodyposenet.errors import BodyPoseNetError, closest

if TYPE_CHECKING:
    from bodyposenet.exporting.int8.calibration import CalibrationSource
    from bodyposenet.exporting.int8.qdq import Flavour


def check_calibration(arguments: argparse.Namespace, shape: tuple[int, int]) -> None:
    """Refuse flags that leave nothing to calibrate with, or that contradict each other.

    Args:
        arguments: Of `export`.
        shape: Height and width of the images.

    Raises:
        BodyPoseNetError: There is no such folder, too few photos in it, or a file of an earlier
            calibration is damaged or of another size.
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
    if source.image_dir is not None and not source.image_dir.is_dir():
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
    """Whether an earlier calibration left a cache or a tensorfile, which is looked into."""
    from bodyposenet.exporting.int8.cache import read_cache
    from bodyposenet.exporting.int8.tensorfile import read_tensorfile

    if source.cache_file is not None and source.cache_file.exists():
        read_cache(source.cache_file)
        return True
    if source.data_file is not None and source.data_file.exists():
        next(read_tensorfile(source.data_file, source.batches, source.shape))
        return True
    return False


def _check_selection(arguments: argparse.Namespace) -> None:
    if not (arguments.cal_source_dir and arguments.cal_image_dir):
        raise BodyPoseNetError(
            "--cal_select, --cal_source_dir and --cal_image_dir belong together",
            "Give the annotations, the folder of their images, and a new folder for the selected.",
        )
    for flag, there in (("select", Path.is_file), ("source_dir", Path.is_dir)):
        named = getattr(arguments, f"cal_{flag}")
        if not there(Path(named)):
            raise BodyPoseNetError(
                f"--cal_{flag} {named}: no such file or folder", "Give one that exists."
            )


def prepare(arguments: argparse.Namespace, layers: Collection[str]) -> None:
    """Check the names of layers against the model, then select images where `--cal_select` asks.

    Args:
        arguments: Of `export`.
        layers: Names of the model's convolutions.

    Raises:
        BodyPoseNetError: A name fits no layer, or the images cannot be selected.
    """
    for pattern in arguments.float_layers:
        if not any(fnmatchcase(name, pattern) for name in layers):
            close = closest(pattern, layers) or list(layers)[:3]
            raise BodyPoseNetError(
                f"--float_layers: no layer is named {pattern}", f"There are {', '.join(close)} ..."
            )
    if arguments.cal_select:
        from bodyposenet.exporting.int8.selection import select_images

        select_images(
            arguments.cal_select, arguments.cal_source_dir, arguments.cal_image_dir,
            arguments.batches * arguments.batch_size,
        )  # fmt: skip


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
        method=arguments.cal_method,
        float_outputs=arguments.float_outputs,
        float_layers=tuple(arguments.float_layers),
        strict=arguments.strict_type_constraints,
    )
    return quantized(content, _source(arguments, shape), quantization)


def _source(arguments: argparse.Namespace, shape: tuple[int, int]) -> CalibrationSource:
    from bodyposenet.exporting.int8.calibration import CalibrationSource

    def path(text: str | None) -> Path | None:
        return Path(text) if text else None

    return CalibrationSource(
        image_dir=path(arguments.cal_image_dir),
        data_file=path(arguments.cal_data_file),
        cache_file=path(arguments.cal_cache_file),
        batches=arguments.batches,
        batch_size=arguments.batch_size,
        shape=shape,
    )
