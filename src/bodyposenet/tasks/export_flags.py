"""The flags of `export`: TAO's (reference 1.7) and our own; which of them do nothing."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import NamedTuple

from bodyposenet.exporting.engine import DeviceOptions
from bodyposenet.tasks.flags import add_key_argument


class _Need(NamedTuple):
    """What flags need to have an effect: in words, as a question, and the flags."""

    words: str
    is_met: Callable[[argparse.Namespace], object]
    flags: tuple[str, ...]


_NEEDS = (
    _Need(
        "--data_type int8",
        lambda given: given.data_type == "int8",
        ("int8_flavour", "cal_image_dir", "cal_data_file", "cal_cache_file", "batches",
         "cal_method", "float_outputs", "float_layers", "strict_type_constraints", "force_ptq",
         "cal_select"),
    ),
    _Need("--cal_select", lambda given: given.cal_select, ("cal_source_dir",)),
    _Need(
        "--sdk_compatible_model", lambda given: given.sdk_compatible_model, ("upsample_ratio",)
    ),
    _Need(
        "--engine_file",
        lambda given: given.engine_file,
        ("engine_runtime", "timing_cache", "seal_engine"),
    ),
    _Need(
        "--engine_file or --deployment_kit",
        lambda given: given.engine_file or given.deployment_kit,
        ("max_batch_size", "opt_batch_size", "max_workspace_size"),
    ),
    _Need(
        "--data_type int8, --engine_file or --deployment_kit",
        lambda given: given.data_type == "int8" or given.engine_file or given.deployment_kit,
        ("batch_size",),
    ),
)  # fmt: skip


def find_useless(arguments: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Flags that are given and have no effect, with what they need for one.

    Args:
        arguments: Of `export`; a flag that has its default counts as not given.
    """
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    for need in _NEEDS:
        if need.is_met(arguments):
            continue
        for flag in need.flags:
            if getattr(arguments, flag) != parser.get_default(flag):
                yield flag, need.words


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All flags of `export`."""
    parser.add_argument(
        "-m",
        "--model",
        metavar="FILE",
        required=True,
        help="model to export (.tlt, or .hdf5 of TAO 5)",
    )
    add_key_argument(parser)
    parser.add_argument(
        "-o", "--output_file", metavar="FILE",
        help="NAME.onnx, or NAME.etlt: sealed with the key; default: MODEL.onnx beside the model",
    )  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    parser.add_argument(
        "-e", "--experiment_spec", metavar="FILE",
        help="train spec; must agree with the model file, and describes TAO's own .hdf5",
    )  # fmt: skip
    parser.add_argument(
        "-t", "--backend", choices=("onnx", "tfonnx", "uff"), default="onnx",
        help="onnx and tfonnx are the same here; uff is a format of the past",
    )  # fmt: skip
    parser.add_argument(
        "--verify_images", metavar="DIR",
        help="photos to compare on; default: drawn people; with INT8: photos of --cal_image_dir "
        "(or --cal_source_dir) not used for calibration, if at least 4 remain",
    )  # fmt: skip
    parser.add_argument(
        "--allow_inaccurate", action="store_true",
        help="write the file even where it is further from the network than is allowed",
    )  # fmt: skip
    parser.add_argument("-v", "--verbose", action="store_true", help="the same as -l DEBUG")
    _add_form_arguments(parser.add_argument_group("form of the file"))
    int8 = parser.add_argument_group("INT8")
    _add_int8_arguments(int8)
    _add_calibration_arguments(int8)
    _add_engine_arguments(parser.add_argument_group("engine and deployment"))


def _add_form_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-d", "--input_dims", type=_dimensions, metavar="H,W,C",
        help="size of the images that the file is compared, calibrated and built for; it takes any "
        "size (C,H,W with channels_first); default: 256,256,3",
    )  # fmt: skip
    group.add_argument(
        "-i", "--data_format", choices=("channels_last", "channels_first"),
        default="channels_last", help="layout of input and outputs",
    )  # fmt: skip
    group.add_argument(
        "--data_type", choices=("fp32", "fp16", "int8"), default="fp32",
        help="of the weights and the calculation; input and outputs are fp32",
    )  # fmt: skip
    group.add_argument(
        "--sdk_compatible_model", action="store_true",
        help="the form that DeepStream's pose application takes: PAFs enlarged, under other names",
    )  # fmt: skip
    group.add_argument(
        "-u", "--upsample_ratio", type=_count, default=4, metavar="N",
        help="by how much that form enlarges the PAFs",
    )  # fmt: skip
    group.add_argument(
        "--static_batch_size", type=int, default=-1, metavar="N",
        help="take exactly so many images at once; -1: any number",
    )  # fmt: skip
    group.add_argument(
        "--static_input_dims", action="store_true", help="take images of the size -d only"
    )
    group.add_argument(
        "--bake_normalization", action="store_true",
        help="take pixels (uint8 RGB): the normalization becomes part of the file",
    )  # fmt: skip


def _add_int8_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--int8_flavour", choices=("cpu", "tensorrt"),
        help="what the file is for; default: tensorrt with --sdk_compatible_model, else cpu",
    )  # fmt: skip
    group.add_argument(
        "--float_outputs", action=argparse.BooleanOptionalAction, default=True,
        help="keep the output layers of all stages in float",
    )  # fmt: skip
    group.add_argument(
        "--float_layers", nargs="+", default=(), metavar="NAME",
        help="further layers to keep in float, as in stage1/conv1 or 'stage2/*'",
    )  # fmt: skip
    group.add_argument(
        "-s", "--strict_type_constraints", action="store_true",
        help="no layer between quantized ones stays in float",
    )  # fmt: skip
    group.add_argument(
        "--force_ptq", action="store_true", help="always so here: quantize after training"
    )


def _add_calibration_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--cal_image_dir", metavar="DIR", help="images to calibrate with; subfolders are skipped"
    )
    group.add_argument(
        "--cal_data_file", metavar="FILE",
        help="tensorfile of calibration images; read if it exists, else written",
    )  # fmt: skip
    group.add_argument(
        "--cal_cache_file", metavar="FILE",
        help="calibration cache in TensorRT's format; read if it exists, else written",
    )  # fmt: skip
    group.add_argument(
        "--batches", type=_count, metavar="N", help="batches to calibrate with; default: 10"
    )
    group.add_argument(
        "--batch_size", type=_count, default=1, metavar="N", help="images of such a batch"
    )
    group.add_argument(
        "--cal_method", choices=("percentile", "entropy", "minmax"),
        help="how the ranges follow from the values seen; default: percentile",
    )  # fmt: skip
    group.add_argument(
        "--cal_select", metavar="FILE",
        help="first fill --cal_image_dir with a choice of this COCO file: few people, many, hidden",
    )  # fmt: skip
    group.add_argument(
        "--cal_source_dir", metavar="DIR", help="where the images of --cal_select lie"
    )


def _add_engine_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--engine_file", metavar="FILE", help="also build an engine for this machine (.engine)"
    )
    group.add_argument(
        "--seal_engine", action="store_true",
        help="seal the engine with the key; else it is a plain file, as TensorRT's are",
    )  # fmt: skip
    group.add_argument(
        "--engine_runtime", choices=("tensorrt", "openvino", "auto"),
        help="runtime that builds the engine; auto: TensorRT where it works, else OpenVINO. A "
        "named runtime that is missing is an error before the export starts. Default: TensorRT; if "
        "it is missing, only the model is written, with exit code 2",
    )  # fmt: skip
    group.add_argument(
        "--max_batch_size", type=_count, default=1, metavar="N",
        help="largest batch of the engine (at least --batch_size)",
    )  # fmt: skip
    group.add_argument(
        "--opt_batch_size", type=_count, default=1, metavar="N", help="its usual batch"
    )
    group.add_argument(
        "--max_workspace_size", type=_count, default=DeviceOptions.workspace,
        metavar="BYTES", help="memory that TensorRT may use for a layer",
    )  # fmt: skip
    group.add_argument(
        "--timing_cache", metavar="FILE", help="TensorRT's timing cache, read and written"
    )
    group.add_argument(
        "--deployment_kit", metavar="DIR",
        help="also write what DeepStream, Triton, trtexec and Python need to run the file",
    )  # fmt: skip


def _dimensions(text: str) -> tuple[int, ...]:
    """Three sizes, as in 288,384,3."""
    sizes = tuple(int(size) for size in text.split(",") if size.isdecimal())
    if len(sizes) != 3 or text.count(",") != 2 or 0 in sizes:
        raise argparse.ArgumentTypeError(f"{text}: not three sizes, as in 288,384,3")
    return sizes


def _count(text: str) -> int:
    """A whole number, at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: not a whole number of at least 1")
    return int(text)
