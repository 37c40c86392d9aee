"""Write a trained model as ONNX, for ONNX Runtime, OpenVINO, TensorRT and others; no GPU is needed.

The file takes images of any multiple of 8 as height and width, and gives the last stage's maps. It
is compared with the network, as inference runs it, before anything is written. With --engine_file
an engine is built from it; where that cannot be, the model is written, and the exit code is 2. With
--deployment_kit what other programs need to run it is written too.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from bodyposenet.console import logger, say
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.results_folder import StatusFile
from bodyposenet.tasks.export_checks import Targets, find_targets
from bodyposenet.tasks.export_flags import add_arguments
from bodyposenet.tasks.export_int8 import (
    hold_out_photos,
    quantize,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from bodyposenet.exporting.onnx import OnnxExportOptions
    from bodyposenet.runtime.description import ModelDescription
    from bodyposenet.runtime.engines.pytorch import PyTorchEngine

__all__ = ["add_arguments", "run"]

_OTHER_SHAPES = (136, 200), (96, 64)
"""Heights and widths of further comparisons; no file may be bound to one size unasked."""


def run(arguments: argparse.Namespace) -> None:
    """Export.

    Raises:
        BodyPoseNetError: A flag or the model is wrong, or the exported model gives other maps.
    """
    from bodyposenet.exporting.onnx import export_onnx
    from bodyposenet.model.checkpoint import read_model
    from bodyposenet.runtime.engines import pytorch

    if arguments.verbose:
        logger.setLevel(logging.DEBUG)
    targets = find_targets(arguments)
    with StatusFile(targets.results) as status:
        claimed = _read_train_spec(arguments.experiment_spec)
        training = None if claimed is None else claimed.training()
        header, network = read_model(targets.model, arguments.key, training)
        engine = pytorch.PyTorchEngine(network, pytorch.CPU)
        if claimed is not None:
            path = arguments.experiment_spec
            _check_agreement(claimed, engine.description, path, targets.model)
        held_out = None
        if arguments.data_type == "int8":
            from bodyposenet.exporting.int8.quantization import check_excluded

            check_excluded(arguments.float_layers, network.widths())
            held_out = hold_out_photos(arguments, targets.device.shape)
        content = export_onnx(network, header, _form(arguments, targets.device.shape))
        content = _convert(content, arguments, targets)
        _verify(engine, content, arguments, targets, held_out)
        _write(content, arguments, targets)
        status.write("RUNNING", f"exported {targets.output}")
        if targets.engine is not None:
            _write_engine(content, arguments, targets, targets.engine)


def _form(arguments: argparse.Namespace, shape: tuple[int, int]) -> OnnxExportOptions:
    from bodyposenet.exporting.onnx import OnnxExportOptions

    batch = arguments.static_batch_size
    return OnnxExportOptions(
        channels_last=arguments.data_format == "channels_last",
        upsample_ratio=arguments.upsample_ratio if arguments.sdk_compatible_model else 1,
        static_batch_size=batch if batch > 0 else None,
        static_shape=shape if arguments.static_input_dims else None,
        normalizes_input=arguments.bake_normalization,
    )


def _convert(content: bytes, arguments: argparse.Namespace, targets: Targets) -> bytes:
    """The float32 file to the type of data that is asked for."""
    if targets.data_type == "fp32":
        return content
    if targets.data_type == "fp16":
        from bodyposenet.exporting.float16 import to_float16

        return to_float16(content)
    flavour = "cpu" if targets.data_type == "int8-cpu" else "tensorrt"
    return quantize(content, arguments, targets.device.shape, flavour)


def _verify(
    network: PyTorchEngine,
    content: bytes,
    arguments: argparse.Namespace,
    targets: Targets,
    held_out: Sequence[Path] | None,
) -> None:
    """Compare the file with the network, and print how far they are apart."""
    from bodyposenet.exporting.verification import TOLERANCES, verify
    from bodyposenet.runtime.engines import onnx

    exported = onnx.load(targets.output, content=content, on_cpu=True)
    tolerance = TOLERANCES[arguments.data_type]
    batches = _batches(network, exported.fixed_shape, arguments, targets.device.shape, held_out)
    verification = verify(network, exported, batches, tolerance)
    if verification.matched_share is not None:
        say(f"{verification.matched_share:.1%} of the keypoints are the same")
    problem = verification.problem
    if problem is None:
        return
    if not arguments.allow_inaccurate:
        raise BodyPoseNetError(
            f"{targets.output}: not written, it is too far from the network: its {problem}",
            f"{tolerance.remedy} --allow_inaccurate writes it all the same.",
        )
    logger.warning("%s: too far from the network: its %s", targets.output, problem)


def _batches(
    network: PyTorchEngine,
    fixed_shape: tuple[int, int] | None,
    arguments: argparse.Namespace,
    shape: tuple[int, int],
    held_out: Sequence[Path] | None,
) -> Iterator[NDArray[np.uint8]]:
    """Images to compare on: photos of a folder, or drawn people."""
    from bodyposenet.exporting.photos import read_folder, read_held_out
    from bodyposenet.exporting.verification import drawn_batches, photo_batches

    is_int8, shapes = arguments.data_type == "int8", [shape]
    if not is_int8 and fixed_shape is None:
        shapes += [other for other in _OTHER_SHAPES if other != shape]
    if arguments.verify_images:
        return photo_batches(network, read_folder(arguments.verify_images), shapes)
    if is_int8 and arguments.cal_image_dir:  # made for images like those
        return photo_batches(
            network, read_held_out(held_out, Path(arguments.cal_image_dir)), shapes
        )
    return drawn_batches(shapes)


def _write(content: bytes, arguments: argparse.Namespace, targets: Targets) -> None:
    """Write the file, and the deployment kit."""
    from bodyposenet.files import replacing
    from bodyposenet.runtime.engines.sealed_onnx import write_etlt

    if targets.is_sealed:
        write_etlt(targets.output, content, arguments.key)
    else:
        with replacing(targets.output, durable=True) as file:
            file.write(content)
    say(f"written: {targets.output}, {len(content) / 2**20:.1f} MiB, {targets.data_type}")
    if targets.kit is not None:
        _write_kit(content, arguments.cal_cache_file, targets, targets.kit)


def _write_engine(
    content: bytes, arguments: argparse.Namespace, targets: Targets, path: Path
) -> None:
    """Build an engine of the file that is written.

    Raises:
        BodyPoseNetError: TensorRT is not here, or the engine cannot be built.
    """
    from bodyposenet.exporting.engine import EngineOptions, build_engine_file

    if targets.runtime is None:
        raise BodyPoseNetError(
            f"{targets.output} is written, but no engine {path}: TensorRT builds it, and "
            f"{targets.engine_problem}",
            "Export on a machine that has an NVIDIA GPU and TensorRT (pip install "
            "'bodyposenet[tensorrt]'), or give the file to trtexec there; --engine_runtime "
            "openvino builds an engine for this machine's processor.",
        )
    timing_cache = Path(arguments.timing_cache) if arguments.timing_cache else None
    options = EngineOptions(targets.runtime, targets.device, timing_cache)
    key = arguments.key if arguments.seal_engine else ""
    header = build_engine_file(content, path, options, key)
    say(f"written: {path}, {header.runtime} {header.version}, for {header.device}")


def _write_kit(content: bytes, cache: str | None, targets: Targets, folder: Path) -> None:
    from bodyposenet.exporting.bundle import BundleOptions, write_bundle

    options = BundleOptions(targets.device, Path(cache) if cache else None)
    write_bundle(folder, targets.output, content, options)
    say(f"written: {folder}, its README.md tells what the files are for")


def _read_train_spec(path: str | None) -> ModelDescription | None:
    """Describe the model by its train spec, which a Keras file of TAO needs: it has no header."""
    if path is None:
        return None
    from bodyposenet.runtime.description import ModelDescription
    from bodyposenet.specs.training import TrainSpec

    return ModelDescription.from_train_spec(TrainSpec.load(path))


def _check_agreement(
    claimed: ModelDescription, model: ModelDescription, path: str, file: Path
) -> None:
    if differing := claimed.differences(model):
        raise BodyPoseNetError(
            f"{path} and the model {file} differ in {', '.join(differing)}",
            "Name the spec that the model was trained with, or leave -e out.",
        )
