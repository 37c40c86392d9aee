r"""Write the initial weights of `train.yaml`: layers of VGG19 and of the default model.

python -m examples.vgg.initial_weights -e examples/vgg/train.yaml \
    --vgg19 vgg19.safetensors --stage1 default.tlt -o runs/vgg_initial.tlt

VGG19 provides the first eight convolutions, trained on ImageNet, and the default model stage 1:
that of TAO's network and that of lightweight OpenPose have the same layers, so the backbone learns
features that a trained stage can read already. All other layers keep their random weights.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from bodyposenet import BodyPoseNetError
from bodyposenet.console import print_result
from bodyposenet.exit_codes import exit_code_of
from bodyposenet.model.checkpoint import load_model, named_tensors, save_model
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.model.pretrained import load_pretrained
from bodyposenet.specs.training import TrainSpec


def main() -> None:
    """Build the network of the train spec, load both files, and write the model."""
    arguments = _flags().parse_args()
    spec = TrainSpec.load(arguments.experiment_spec_file)
    torch.manual_seed(spec.random_seed)
    network = BodyPoseNetwork(spec.skeleton, spec.model)
    report = load_pretrained(network, arguments.vgg19)
    print_result(f"{arguments.vgg19}: {len(report.loaded)} tensors loaded")
    trained = named_tensors(load_model(arguments.stage1))
    stage1 = {name: t for name, t in named_tensors(network).items() if name.startswith("stage1/")}
    if any(name not in trained or trained[name].shape != t.shape for name, t in stage1.items()):
        raise BodyPoseNetError(
            f"{arguments.stage1}: its stage 1 has other layers than that of the train spec",
            "Use lightweight OpenPose, not pruned, with the same joints and limbs.",
        )
    for name, tensor in stage1.items():
        tensor.copy_(trained[name])
    print_result(f"{arguments.stage1}: {len(stage1)} tensors loaded")
    save_model(arguments.output_file, network)
    print_result(f"written: {arguments.output_file}")


def _flags() -> argparse.ArgumentParser:
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flags.add_argument(
        "-e", "--experiment_spec_file", required=True, type=Path, metavar="FILE",
        help="train spec of the network",
    )  # fmt: skip
    flags.add_argument(
        "--vgg19", required=True, type=Path, metavar="FILE", help="VGG19 trained on ImageNet"
    )
    flags.add_argument(
        "--stage1", required=True, type=Path, metavar="FILE",
        help="model of lightweight OpenPose with the same joints and limbs",
    )  # fmt: skip
    flags.add_argument("-o", "--output_file", required=True, type=Path, metavar="FILE")
    return flags


if __name__ == "__main__":
    sys.exit(exit_code_of("initial_weights.py", main))
