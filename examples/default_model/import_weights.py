"""Bring published weights into a model file of ours.

python -m examples.default_model.import_weights --weights human-pose-estimation-0001.xml -o import.tlt
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bodyposenet.console import say
from bodyposenet.ending import exit_code_of
from bodyposenet.model.checkpoint import save_model
from bodyposenet.model.network import Normalization
from bodyposenet.model.pretrained import build_pretrained
from bodyposenet.specs.pose import DEFAULT_POSE_CONFIGURATION, load_skeleton


def main() -> None:
    """Read the weights, and write the network that they are of."""
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flags.add_argument(
        "--weights", required=True, type=Path, metavar="FILE",
        help="what pretrained_weights of a train spec reads: .xml, .pth, .tlt, .onnx",
    )  # fmt: skip
    flags.add_argument(
        "--pose_config", default=DEFAULT_POSE_CONFIGURATION, metavar="FILE",
        help="joints and limbs of the model; those of another name start anew",
    )  # fmt: skip
    flags.add_argument("-o", "--output_file", required=True, type=Path, metavar="FILE")
    arguments = flags.parse_args()
    skeleton = load_skeleton(arguments.pose_config)
    network, report = build_pretrained(arguments.weights, "", skeleton, Normalization())
    for line in report.lines():
        say(line)
    save_model(arguments.output_file, network)
    say(f"written: {arguments.output_file}")


if __name__ == "__main__":
    sys.exit(exit_code_of("import_weights.py", main))
