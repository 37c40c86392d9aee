"""Oracle evaluation: keypoint AP of perfect maps, the upper bound for any network.

The target maps of annotated images are decoded as if a network had predicted them, so that only the
targets, the resolution and the decoder limit the result.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from bodyposenet.data.coco import CocoImage
from bodyposenet.decoding import DecodingOptions, decode
from bodyposenet.evaluation import KeypointAP, evaluate_poses
from bodyposenet.inference.predictor import network_affine
from bodyposenet.model.targets import TargetOptions, render_targets
from bodyposenet.skeleton import JointMap, Skeleton
from bodyposenet.specs.dataset import COCO_FLAGS
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.types import Maps, Poses


def evaluate_perfect_maps(
    images: Sequence[CocoImage],
    joints: Sequence[str],
    skeleton: Skeleton,
    spec: InferenceSpec,
    options: TargetOptions = TargetOptions(),
) -> KeypointAP:
    """Decode the target maps of annotated images, and measure their keypoint AP.

    Only the annotations are read, not the image files.

    Args:
        images: The images. Every person with labeled keypoints (by COCO's flags) is rendered.
        joints: Names of the annotated keypoints.
        skeleton: Joints and limbs of the maps.
        spec: Inference spec: input size and decoding options.
        options: Options of the targets.
    """
    joint_map = skeleton.joints_from(joints)
    results = []
    for image in images:
        poses = decode_perfect_maps(image, joint_map, spec, options)
        results += poses.to_coco(image.image_id, tuple(joints))
    return evaluate_poses(results, images, joints, skeleton)


def decode_perfect_maps(
    image: CocoImage, joint_map: JointMap, spec: InferenceSpec, options: TargetOptions
) -> Poses:
    """Decode the target maps of one image.

    Args:
        image: The image and its people.
        joint_map: Mapping from the annotated keypoints to the skeleton's joints.
        spec: Inference spec: input size and decoding options.
        options: Options of the targets.

    Returns:
        The poses, in image pixels.
    """
    skeleton = joint_map.skeleton
    people = [person.keypoints for person in image.persons if person.num_keypoints > 0]
    if not people:
        return Poses.empty(skeleton)
    to_network, (height, width) = network_affine(image.height, image.width, spec)
    triples = np.stack(people)
    is_labeled = np.isin(triples[..., 2], list(COCO_FLAGS.labeled()))
    points, labeled = joint_map.keypoints(triples[..., :2], is_labeled)
    keypoints = torch.tensor(to_network.apply(points), dtype=torch.float32)[None]
    heatmaps, pafs = render_targets(
        keypoints, torch.tensor(labeled)[None], skeleton, height, width, options
    )
    maps = Maps(heatmaps[0].numpy(), pafs[0].numpy(), options.stride, options.heatmap_sigma)
    poses = decode(maps, skeleton, DecodingOptions.from_spec(spec))
    return poses.transform(to_network.inverse())
