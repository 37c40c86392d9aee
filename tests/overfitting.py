"""Overfit a tiny network to the test images of a synthetic dataset, in seconds."""

from pathlib import Path

import numpy as np
import torch

from bodyposenet.evaluation.evaluator import load_test_images
from bodyposenet.media.images import read_image
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.model.targets import render_targets
from bodyposenet.specs.dataset import DatasetSpec
from bodyposenet.specs.network import BackboneAttributes, ModelConfig
from bodyposenet.specs.pose import load_skeleton

STEPS = 100


def overfit(dataset_spec: Path) -> BodyPoseNetwork:
    """Train on all test images in one batch; they must have the same size."""
    torch.manual_seed(0)
    attributes = BackboneAttributes(
        architecture="lightweight_openpose", mtype="open_model_zoo", batch_norm=False, width=0.25
    )
    network = BodyPoseNetwork(
        load_skeleton("bpnet_18joints.json"), ModelConfig(stages=2, backbone_attributes=attributes)
    ).train()
    inputs, heatmaps, pafs = batch(network, DatasetSpec.load(dataset_spec))
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    for _ in range(STEPS):
        stages = zip(*network(inputs), strict=True)
        loss = sum((h - heatmaps).square().sum() + (p - pafs).square().sum() for h, p in stages)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def batch(network: BodyPoseNetwork, spec: DatasetSpec) -> tuple[torch.Tensor, ...]:
    """Return the normalized images, and their target heatmaps and PAFs."""
    entries = load_test_images(spec)
    folder = spec.images_folder("test")
    images = np.stack([read_image(folder / entry.file_name) for entry in entries])
    joint_map = network.skeleton.joints_from(spec.person.keypoints)
    targets = []
    for entry in entries:
        triples = np.stack([person.keypoints for person in entry.persons])
        points, labeled = joint_map.keypoints(triples[..., :2], triples[..., 2] > 0)
        people = torch.tensor(points, dtype=torch.float32)[None], torch.tensor(labeled)[None]
        targets.append(render_targets(*people, network.skeleton, *images.shape[1:3]))
    heatmaps, pafs = (torch.cat(maps) for maps in zip(*targets, strict=True))
    return network.normalize(torch.from_numpy(images)), heatmaps, pafs
