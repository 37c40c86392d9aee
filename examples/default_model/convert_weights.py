r"""Convert weights, published ones or those of a training, to a model file (.tlt).

python -m examples.default_model.convert_weights --weights human-pose-estimation-0001.xml \
    -o import.tlt
python -m examples.default_model.convert_weights --weights runs/default_model/model.epoch-3.tlt \
    --average_with import.tlt --share 0.5 --half -o checkpoint.tlt
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bodyposenet import BodyPoseNetError
from bodyposenet.console import print_result
from bodyposenet.exit_codes import exit_code_of
from bodyposenet.model.checkpoint import model_header, named_tensors, write_tensors
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.model.pretrained import build_pretrained
from bodyposenet.specs.pose import load_skeleton


def main() -> None:
    """Read the weights, optionally average them with others, and write the model."""
    arguments = _flags().parse_args()
    if not 0 <= arguments.share <= 1:
        raise BodyPoseNetError(f"--share {arguments.share}: expected a number from 0 to 1")
    network = _read(arguments.weights, arguments.pose_config)
    tensors = named_tensors(network)
    if arguments.average_with is not None:
        others = named_tensors(_read(arguments.average_with, arguments.pose_config))
        if {name: t.shape for name, t in others.items()} != {
            name: t.shape for name, t in tensors.items()
        }:
            raise BodyPoseNetError(
                f"{arguments.average_with}: has another network than {arguments.weights}",
                "Use two models with the same architecture and the same numbers of channels.",
            )
        tensors = {
            name: tensor.lerp(others[name], 1 - arguments.share)
            if tensor.is_floating_point()
            else tensor
            for name, tensor in tensors.items()
        }
    if arguments.half:
        tensors = {
            name: tensor.half() if tensor.is_floating_point() else tensor
            for name, tensor in tensors.items()
        }
    write_tensors(arguments.output_file, model_header(network), tensors)
    print_result(f"written: {arguments.output_file}")


def _read(path: Path, pose_config: str | None) -> BodyPoseNetwork:
    skeleton = load_skeleton(pose_config) if pose_config else None
    network, report = build_pretrained(path, skeleton=skeleton)
    for line in report.lines():
        print_result(f"{path}: {line}")
    return network


def _flags() -> argparse.ArgumentParser:
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flags.add_argument(
        "--weights", required=True, type=Path, metavar="FILE",
        help="any file that pretrained_weights of a train spec accepts: .xml, .pth, .tlt, .onnx",
    )  # fmt: skip
    flags.add_argument(
        "--pose_config", metavar="FILE",
        help="joints and limbs; weights of new ones are near 0; default: those of the weights",
    )  # fmt: skip
    flags.add_argument(
        "--average_with", type=Path, metavar="FILE",
        help="weights of the same network to average with, such as those before the training",
    )  # fmt: skip
    flags.add_argument(
        "--share", type=float, default=0.5,
        help="share of --weights in the average; default: 0.5",
    )  # fmt: skip
    flags.add_argument("--half", action="store_true", help="write float16, at half the size")
    flags.add_argument("-o", "--output_file", required=True, type=Path, metavar="FILE")
    return flags


if __name__ == "__main__":
    sys.exit(exit_code_of("convert_weights.py", main))
