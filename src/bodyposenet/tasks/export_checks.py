"""The flags of `export` in, what is to be written out; or what is wrong, before any work."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bodyposenet.console import logger
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.exporting.engine import DeviceOptions
from bodyposenet.files import exists, is_file, is_folder, make_directory, refuse_existing
from bodyposenet.sealing import model_file
from bodyposenet.specs.network import STRIDE
from bodyposenet.tasks.export_flags import find_useless
from bodyposenet.tasks.export_int8 import check_calibration

if TYPE_CHECKING:
    from bodyposenet.exporting.engine import Runtime

DataType = Literal["fp32", "fp16", "int8-cpu", "int8-tensorrt"]
"""As in the header of an exported file."""

_MODEL, _PLAIN, _SEALED, _ENGINE = ".tlt", ".onnx", ".etlt", ".engine"


@dataclass(frozen=True)
class Targets:
    """What is to be written, and of which model.

    Args:
        model: The model file.
        output: The .onnx or .etlt file.
        data_type: Of the calculation; INT8 with what it is for.
        device: What the export is checked with and built for.
        engine: The engine file; None: none.
        runtime: What builds it; None: nothing does, see `engine_problem`.
        engine_problem: Why TensorRT, which nobody asked for by name, cannot build the engine here.
        kit: Folder of the deployment kit; None: none.
        results: Folder of the status file.
    """

    model: Path
    output: Path
    data_type: DataType
    device: DeviceOptions
    engine: Path | None
    runtime: Runtime | None
    engine_problem: str
    kit: Path | None
    results: Path

    @property
    def is_sealed(self) -> bool:
        """Whether the output is an .etlt file."""
        return self.output.suffix.lower() == _SEALED


def find_targets(arguments: argparse.Namespace) -> Targets:
    """Check all flags, and that everything can be built and written.

    Raises:
        BodyPoseNetError: A flag is wrong; a file is missing, or exists and `--overwrite` is not
            given; there is nothing to calibrate with, or to build the engine with; a folder cannot
            be written.
        ModuleNotFoundError: The package of `--engine_runtime` is not installed.
    """
    if arguments.backend == "uff":
        raise BodyPoseNetError("--backend uff: a format that nothing reads any more", "Use onnx.")
    model = _find_model(Path(arguments.model))
    data_type = _data_type(arguments)
    output = _output_file(model, arguments.output_file)
    device = _device(arguments)
    engine, runtime, engine_problem = None, None, ""
    if arguments.engine_file:
        engine = _engine_file(arguments.engine_file)
        runtime, engine_problem = _engine_runtime(arguments.engine_runtime, data_type)
    _check_images(arguments, device.shape)
    targets = Targets(
        model=model,
        output=output,
        data_type=data_type,
        device=device,
        engine=engine,
        runtime=runtime,
        engine_problem=engine_problem,
        kit=Path(arguments.deployment_kit) if arguments.deployment_kit else None,
        results=Path(arguments.results_dir or output.parent),
    )
    _check_room(targets, overwrite=arguments.overwrite)
    for flag, needed in find_useless(arguments):
        logger.warning("--%s: without effect, it needs %s", flag, needed)
    _tell_what_is_sealed(arguments, targets)
    return targets


def _tell_what_is_sealed(arguments: argparse.Namespace, targets: Targets) -> None:
    files = [(targets.output, targets.is_sealed, f"-o NAME{_SEALED}")]
    if targets.engine is not None:
        files.append((targets.engine, arguments.seal_engine, "--seal_engine"))
    for path, is_sealed, how in files:
        if is_sealed and not arguments.key:
            logger.warning("%s will not be sealed: no key (-k) is given", path)
        if arguments.key and not is_sealed:
            logger.warning(
                "%s will be a plain file that anybody can read; %s seals it with the key", path, how
            )


def _find_model(model: Path) -> Path:
    model = model_file(model)
    if model.suffix.lower() in (_PLAIN, _SEALED, _ENGINE):
        raise BodyPoseNetError(
            f"{model}: has been exported already", f"Give -m the {_MODEL} file that train wrote."
        )
    if not is_file(model):
        raise BodyPoseNetError(f"{model}: no such file", f"Give -m a model ({_MODEL}).")
    return model


def _data_type(arguments: argparse.Namespace) -> DataType:
    """Models in INT8 for DeepStream or for an engine are for TensorRT, if nothing else is said."""
    if arguments.data_type != "int8":
        return arguments.data_type
    for_engine = arguments.engine_file and arguments.engine_runtime in (None, "tensorrt")
    usual = "tensorrt" if arguments.sdk_compatible_model or for_engine else "cpu"
    return "int8-cpu" if (arguments.int8_flavour or usual) == "cpu" else "int8-tensorrt"


def _device(arguments: argparse.Namespace) -> DeviceOptions:
    if arguments.sdk_compatible_model and arguments.upsample_ratio == 1:
        raise BodyPoseNetError(
            "--upsample_ratio 1: the deployable form enlarges the PAFs",
            "Give at least 2, or leave --sdk_compatible_model out.",
        )
    largest = max(arguments.batch_size, arguments.max_batch_size)
    if arguments.opt_batch_size > largest:
        raise BodyPoseNetError(
            f"--opt_batch_size {arguments.opt_batch_size}: more than the largest batch, {largest}",
            "Give a larger --max_batch_size.",
        )
    return DeviceOptions(
        shape=_checked_shape(arguments.input_dims, arguments.data_format)
        if arguments.input_dims
        else DeviceOptions.shape,
        opt_batch_size=arguments.opt_batch_size,
        max_batch_size=largest,
        workspace=arguments.max_workspace_size,
    )


def _checked_shape(sizes: tuple[int, ...], data_format: str) -> tuple[int, int]:
    """Height and width of H,W,C, or of C,H,W."""
    last = data_format == "channels_last"
    (height, width), channels = (sizes[:2], sizes[2]) if last else (sizes[1:], sizes[0])
    written = f"--input_dims {','.join(map(str, sizes))}"
    if channels != 3:
        order = "H,W,C" if last else "C,H,W"
        raise BodyPoseNetError(
            f"{written}: {channels} channels, but images have 3",
            f"With --data_format {data_format} the order is {order}.",
        )
    if height % STRIDE or width % STRIDE:
        raise BodyPoseNetError(
            f"{written}: height and width must be multiples of {STRIDE}",
            f"The next are {_multiples(height)} for the height and {_multiples(width)} for the "
            "width.",
        )
    return height, width


def _multiples(side: int) -> str:
    """The multiples of the stride next to a number of pixels."""
    below = side // STRIDE * STRIDE
    if below in (0, side):
        return str(below or STRIDE)
    return f"{below} or {below + STRIDE}"


def _check_images(arguments: argparse.Namespace, shape: tuple[int, int]) -> None:
    """Refuse to export where there is nothing to compare on or to calibrate with."""
    folder = arguments.verify_images
    if folder and not is_folder(folder):
        raise BodyPoseNetError(
            f"--verify_images {folder}: no such folder", "Give a folder of photos to compare on."
        )
    if arguments.data_type == "int8":
        check_calibration(arguments, shape)


def _output_file(model: Path, named: str | None) -> Path:
    """The name given, with the extension that it lacks; by default the model's."""
    output = Path(named) if named else model.with_suffix(_PLAIN)
    if not output.suffix:
        output = output.with_name(output.name + _PLAIN)
    if output.suffix.lower() not in (_PLAIN, _SEALED):
        raise BodyPoseNetError(
            f"{output}: neither an {_PLAIN} nor an {_SEALED} file",
            f"Give -o a name that ends in {_PLAIN}, or in {_SEALED} for a sealed file.",
        )
    return output


def _engine_file(named: str) -> Path:
    if Path(named).suffix.lower() != _ENGINE:
        raise BodyPoseNetError(
            f"{named}: no name of an engine",
            f"Give --engine_file a name that ends in {_ENGINE}.",
        )
    return Path(named)


def _engine_runtime(
    asked: Literal["auto"] | Runtime | None, data_type: DataType
) -> tuple[Runtime | None, str]:
    """What builds the engine, or why TensorRT cannot, where no runtime is asked for by name."""
    from bodyposenet.exporting.engine import choose_runtime

    if asked in (None, "tensorrt") and data_type == "int8-cpu":
        raise BodyPoseNetError(
            "--engine_file: TensorRT takes no INT8 of the flavour cpu",
            "Give --int8_flavour tensorrt, or --engine_runtime openvino.",
        )
    if asked is not None:
        return choose_runtime(asked, data_type), ""
    try:
        return choose_runtime("tensorrt", data_type), ""
    except ModuleNotFoundError as error:
        return None, f"the package {error.name} is not installed"
    except BodyPoseNetError as error:
        return None, error.what


def _check_room(targets: Targets, *, overwrite: bool) -> None:
    """Refuse to write over files, and to write where one may not; folders are made."""
    files = [path for path in (targets.output, targets.engine) if path is not None]
    for path in files:
        if is_folder(path):
            raise BodyPoseNetError(f"{path}: is a folder", "Name a file.")
        refuse_existing(path, overwrite=overwrite)
    folders = [*(path.parent for path in files), targets.results]
    if targets.kit is not None:
        _check_kit(targets.kit, folders, overwrite=overwrite)
        folders.append(targets.kit if exists(targets.kit) else targets.kit.parent)
    for folder in folders:
        try:
            make_directory(folder)
        except BodyPoseNetError as error:
            raise BodyPoseNetError(
                error.what, "Choose a folder that you may write to, or change its permissions."
            ) from error


def _check_kit(kit: Path, folders: Sequence[Path], *, overwrite: bool) -> None:
    """Refuse a kit in a folder that holds, or would hold, anything else."""
    if exists(kit) and not is_folder(kit):
        raise BodyPoseNetError(f"{kit}: is a file", "Name a folder for the deployment kit.")
    if is_folder(kit) and any(kit.iterdir()):
        refuse_existing(kit, overwrite=overwrite)
    for folder in folders:
        if folder.resolve().is_relative_to(kit.resolve()):
            raise BodyPoseNetError(
                f"{folder}: is, or lies in, the folder of the deployment kit, which gets the "
                "model as its own model.onnx",
                "Name a folder for --deployment_kit alone.",
            )
