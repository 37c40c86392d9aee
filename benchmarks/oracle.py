"""Oracle AP: the keypoint AP of perfect maps, the targets of the annotations, when decoded.

python -m benchmarks.oracle [--annotations A.json] --input-shape 288 384 --mode pad_image_input
    --results out.json [--limit N] [--quick] [--json FILE]

The result is an upper bound for any network with this decoder and input size. No image is read:
keypoints are transformed to network pixels in the same way as images in inference. Both decoders
are measured with both pose configurations, `accurate` also with `complete_pose`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from bodyposenet import Skeleton
from bodyposenet.console import progress
from bodyposenet.data.coco import CocoImage, load_coco
from bodyposenet.demo import write_drawn_dataset
from bodyposenet.evaluation import evaluate_poses
from bodyposenet.files import write_json
from bodyposenet.model.targets import TargetOptions
from bodyposenet.skeleton import COCO_JOINTS
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.specs.pose import DEFAULT_POSE_CONFIGURATION, load_skeleton
from bodyposenet.training.oracle import decode_perfect_maps

from . import harness

_QUICK_IMAGES = 100

_POSE_CONFIGURATIONS = {
    "19_limbs": DEFAULT_POSE_CONFIGURATION,
    "22_limbs": "bpnet_18joints_22limbs.json",
}

_VARIANTS: dict[str, dict[str, Any]] = {
    "accurate": {},
    "accurate_complete_pose": {"complete_pose": True},
    "tao": {"mode": "tao"},
}
"""Keys of the inference spec."""


def measure(arguments: argparse.Namespace) -> harness.Figures:
    """Decode the perfect maps of all images with every variant, and measure the AP of each.

    The figure `ap` is that of the default decoder with the default pose configuration; only its
    poses are written to `--results`.
    """
    torch.set_num_threads(1)  # the maps of one image are small
    images = _annotated_images(arguments.annotations)
    images = images[: _QUICK_IMAGES if arguments.quick else arguments.limit]
    figures = {}
    for limbs, configuration in _POSE_CONFIGURATIONS.items():
        skeleton = load_skeleton(configuration)
        for name, variant in _VARIANTS.items():
            spec = InferenceSpec(
                input_shape=tuple(arguments.input_shape),
                keep_aspect_ratio_mode=arguments.mode,
                **variant,
            )
            results = _decode_all(images, skeleton, spec, f"oracle, {limbs}, {name}")
            figures[f"ap_{name}_{limbs}"] = evaluate_poses(
                results, images, COCO_JOINTS, skeleton
            ).ap
            is_default = configuration == DEFAULT_POSE_CONFIGURATION and not variant
            if is_default and arguments.results is not None:
                write_json(arguments.results, results, indent=None)
    return {"ap": figures["ap_accurate_19_limbs"], **figures}


def _decode_all(
    images: Sequence[CocoImage], skeleton: Skeleton, spec: InferenceSpec, description: str
) -> list[dict[str, Any]]:
    """Decode the perfect maps of all images; return the poses as COCO results."""
    joint_map = skeleton.joints_from(COCO_JOINTS)
    return [
        result
        for image in progress(images, description)
        for result in decode_perfect_maps(image, joint_map, spec, TargetOptions()).to_coco(
            image.image_id, COCO_JOINTS
        )
    ]


def _annotated_images(path: Path | None) -> list[CocoImage]:
    """Return the images of an annotation file, or synthetic images if no file is given."""
    if path is not None:
        return load_coco(path, COCO_JOINTS)
    with tempfile.TemporaryDirectory() as folder:
        write_drawn_dataset(Path(folder), 1, _QUICK_IMAGES, (240, 320), seed=0)
        return load_coco(Path(folder) / "annotations" / "test.json", COCO_JOINTS)


def _flags() -> argparse.ArgumentParser:
    flags = harness.parser("oracle", __doc__)
    flags.add_argument(
        "--annotations", type=Path, help="COCO keypoint JSON; default: synthetic people"
    )
    flags.add_argument(
        "--input-shape", type=int, nargs=2, default=(288, 384), metavar=("H", "W"),
        help="height and width of the network input",
    )  # fmt: skip
    flags.add_argument(
        "--mode", choices=("pad_image_input", "adjust_network_input"), default="pad_image_input"
    )
    flags.add_argument("--results", type=Path, help="write the poses to this file, as COCO results")
    flags.add_argument("--limit", type=int, help="only the first N images")
    return flags


if __name__ == "__main__":
    harness.run("oracle", _flags(), measure)
