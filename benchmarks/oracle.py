"""What perfect maps are worth: targets rendered from annotations, decoded, measured as keypoint AP.

python -m benchmarks.oracle --annotations A.json --input-shape 288 384 --mode pad_image_input
    --results out.json [--limit N] [--quick] [--json FILE]

No image is read: each one's people are taken to network pixels as inference would take the image.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from bodyposenet.console import track
from bodyposenet.data.coco import CocoImage, load_coco
from bodyposenet.decoding import decode
from bodyposenet.evaluation import evaluate_poses
from bodyposenet.files import write_json
from bodyposenet.model.targets import render_targets
from bodyposenet.runtime.predictor import network_affine
from bodyposenet.skeleton import COCO_JOINTS, JointMap
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.specs.pose import DEFAULT_POSE_CONFIGURATION, load_skeleton
from bodyposenet.types import Maps, Poses

from . import harness

_QUICK_IMAGES = 100


def find_people(image: CocoImage, joint_map: JointMap, spec: InferenceSpec) -> Poses:
    """Decode the perfect maps of one image.

    Everyone with labelled keypoints is drawn, with a standard deviation of 7 network pixels.

    Returns:
        Poses in image pixels.
    """
    skeleton = joint_map.skeleton
    to_network, (height, width) = network_affine(image.height, image.width, spec)
    people = [person.keypoints for person in image.persons if person.num_keypoints > 0]
    if not people:
        return Poses.empty(skeleton)
    triples = np.stack(people)
    points, labelled = joint_map.keypoints(triples[..., :2], triples[..., 2] > 0)
    heatmaps, pafs = render_targets(
        torch.tensor(to_network.apply(points), dtype=torch.float32)[None],
        torch.tensor(labelled)[None],
        skeleton,
        height,
        width,
    )
    poses = decode(Maps(heatmaps[0].numpy(), pafs[0].numpy()), skeleton)
    return poses.moved(to_network.inverse())


def measure(arguments: argparse.Namespace) -> harness.Figures:
    """Decode the perfect maps of all images, write the results and measure their AP."""
    torch.set_num_threads(1)  # the maps of one image are small
    images = load_coco(arguments.annotations, COCO_JOINTS)
    images = images[: _QUICK_IMAGES if arguments.quick else arguments.limit]
    skeleton = load_skeleton(DEFAULT_POSE_CONFIGURATION)
    spec = InferenceSpec(
        input_shape=tuple(arguments.input_shape), keep_aspect_ratio_mode=arguments.mode
    )
    joint_map = skeleton.joints_from(COCO_JOINTS)
    results = []
    for image in track(images, "oracle"):
        results += find_people(image, joint_map, spec).to_coco(image.image_id, COCO_JOINTS)
    if arguments.results is not None:
        write_json(arguments.results, results, indent=None)
    outcome = evaluate_poses(results, images, COCO_JOINTS, skeleton)
    print(*outcome.table(), sep="\n")
    return {"ap": outcome.ap}


def _flags() -> argparse.ArgumentParser:
    flags = harness.parser("oracle", __doc__)
    flags.add_argument("--annotations", type=Path, required=True, help="COCO keypoint JSON")
    flags.add_argument(
        "--input-shape", type=int, nargs=2, default=(288, 384), metavar=("H", "W"),
        help="of the network input",
    )  # fmt: skip
    flags.add_argument(
        "--mode", choices=("pad_image_input", "adjust_network_input"), default="pad_image_input"
    )
    flags.add_argument("--results", type=Path, help="write the poses there, as COCO results")
    flags.add_argument("--limit", type=int, help="only the first so many images")
    return flags


if __name__ == "__main__":
    harness.run("oracle", _flags(), measure)
