"""Write a trained model as ONNX, for ONNX Runtime, OpenVINO, TensorRT and others; no GPU is needed.

The file takes float32 images of any multiple of 8 as height and width, normalized outside, and
gives the last stage's maps. It is compared with the network before it is written.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from bodyposenet.console import StatusFile, say
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.tasks.flags import add_key_argument

if TYPE_CHECKING:
    from bodyposenet.runtime.pytorch import PyTorchEngine

_EXTENSION = ".onnx"
_SECOND_SHAPE = 136, 200
"""Height and width of a second comparison; no file may be bound to one size."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `export` that a plain ONNX file needs (reference 1.7)."""
    parser.add_argument(
        "-m", "--model", metavar="FILE", required=True, help="model to export (.tlt)"
    )
    add_key_argument(parser)
    parser.add_argument(
        "-o", "--output_file", metavar="FILE", help="the .onnx file; default: beside the model"
    )
    parser.add_argument(
        "-e", "--experiment_spec", metavar="FILE",
        help="train spec; the model file knows all that it says, it must agree",
    )  # fmt: skip
    parser.add_argument(
        "-t", "--backend", choices=("onnx", "tfonnx", "uff"), default="onnx",
        help="onnx and tfonnx are the same here; uff is a format of the past",
    )  # fmt: skip
    parser.add_argument(
        "-d", "--input_dims", type=_dimensions, default="256,256,3", metavar="H,W,C",
        help="the file is compared with the network at this size; it takes any (C,H,W with "
        "channels_first)",
    )  # fmt: skip
    parser.add_argument(
        "-i", "--data_format", choices=("channels_last", "channels_first"),
        default="channels_last", help="layout of input and outputs",
    )  # fmt: skip
    parser.add_argument(
        "--data_type", choices=("fp32", "fp16"), default="fp32",
        help="of the weights and the calculation; input and outputs are fp32",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> None:
    """Export.

    Raises:
        BodyPoseNetError: A flag or the model is wrong, or the exported model gives other maps.
    """
    from bodyposenet.exporting.float16 import to_float16
    from bodyposenet.exporting.onnx import export_onnx
    from bodyposenet.exporting.verification import check, compare, table
    from bodyposenet.files import replacing
    from bodyposenet.model.checkpoint import read_model
    from bodyposenet.runtime import onnx, pytorch

    if arguments.backend == "uff":
        raise BodyPoseNetError("--backend uff: a format that nothing reads any more", "Use onnx.")
    output = _output_file(arguments.model, arguments.output_file)
    shape = _checked_shape(arguments.input_dims, arguments.data_format)
    with StatusFile(arguments.results_dir or output.parent) as status:
        header, network = read_model(arguments.model, arguments.key)
        engine = pytorch.PyTorchEngine(network, pytorch.CPU)
        _check_train_spec(arguments.experiment_spec, engine, arguments.model)
        content = export_onnx(
            network, header, channels_last=arguments.data_format == "channels_last"
        )
        if arguments.data_type == "fp16":
            content = to_float16(content)
        exported = onnx.load(output, content=content, on_cpu=True)
        comparisons = compare(engine, exported, [shape, _SECOND_SHAPE])
        say("largest difference from the network's maps, as a share of the largest value, and")
        say("keypoints of these maps that differ by more than 0.1 pixels:")
        say("\n".join(table(comparisons)))
        check(comparisons, arguments.data_type)
        with replacing(output, durable=True) as file:
            file.write(content)
        say(f"written: {output}, {len(content) / 2**20:.1f} MiB, {arguments.data_type}")
        status.write("RUNNING", f"exported {output}")


def _dimensions(text: str) -> tuple[int, ...]:
    """Three sizes, as in 288,384,3."""
    sizes = tuple(int(size) for size in text.split(",") if size.isdecimal())
    if len(sizes) != 3 or text.count(",") != 2 or 0 in sizes:
        raise argparse.ArgumentTypeError(f"{text}: not three sizes, as in 288,384,3")
    return sizes


def _checked_shape(sizes: tuple[int, ...], data_format: str) -> tuple[int, int]:
    """Height and width of H,W,C, or of C,H,W."""
    last = data_format == "channels_last"
    (height, width), channels = (sizes[:2], sizes[2]) if last else (sizes[1:], sizes[0])
    if channels != 3:
        order = "H,W,C" if last else "C,H,W"
        raise BodyPoseNetError(
            f"--input_dims {','.join(map(str, sizes))}: {channels} channels, but images have 3",
            f"With --data_format {data_format} the order is {order}.",
        )
    return height, width


def _output_file(model: str, named: str | None) -> Path:
    output = Path(named) if named else Path(model).with_suffix(_EXTENSION)
    if output.suffix.lower() != _EXTENSION:
        raise BodyPoseNetError(
            f"{output}: only {_EXTENSION} files are written",
            f"Give -o a name that ends in {_EXTENSION}.",
        )
    return output


def _check_train_spec(path: str | None, engine: PyTorchEngine, model: str) -> None:
    """A train spec adds nothing to what the model file knows; a contradiction is a mistake."""
    if path is None:
        return
    from bodyposenet.runtime.description import ModelDescription
    from bodyposenet.specs.training import TrainSpec

    claimed = ModelDescription.from_train_spec(TrainSpec.load(path))
    if differing := claimed.differences(engine.description):
        raise BodyPoseNetError(
            f"{path} and the model {model} differ in {', '.join(differing)}",
            "Name the spec that the model was trained with, or leave -e out.",
        )
