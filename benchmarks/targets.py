"""Training targets per second: in batches, and with TAO's loops over joints and people.

python -m benchmarks.targets [--device cpu|cuda] [--quick] [--json FILE]

Batches of 32 at 256 x 256. TAO's method (`original`) renders one image at a time; batches are
padded to the largest number of people, as in training.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from bodyposenet import Skeleton
from bodyposenet.model.targets import render_targets
from bodyposenet.specs.pose import DEFAULT_POSE_CONFIGURATION, load_skeleton

from . import harness
from .original.targets import loop_targets

_SIZE = 256

_COCO_LIKE = (1,) * 12 + (2,) * 7 + (3,) * 4 + (4,) * 3 + (5,) * 2 + (6, 8, 11, 12)
"""People per image of a batch: 3 on average."""

_CROWDED = (20,) * 32

_BATCHES = 5
"""COCO-like batches per timed call, so that a call is long enough to be timed."""

_HEIGHTS = (0.15, 0.9)
"""Heights of people, as shares of the image."""

_LABELED_SHARE = 0.7

People = list[tuple[NDArray[np.float32], NDArray[np.bool_]]]
"""Keypoints (P, K, 2) and labels (P, K) of each image."""


def measure(arguments: argparse.Namespace) -> harness.Figures:
    """Time both kinds of batches with both methods, with one thread and PyTorch's default."""
    turns = 7 if arguments.quick else 31
    skeleton = load_skeleton(DEFAULT_POSE_CONFIGURATION)
    coco_like = [_random_people(_COCO_LIKE, skeleton, seed) for seed in range(_BATCHES)]
    crowded = [_random_people(_CROWDED, skeleton, _BATCHES)]
    cases = {
        "batched": _batched(coco_like, skeleton),
        "batched, crowded": _batched(crowded, skeleton),
        "original": _original(coco_like, skeleton),
        "original, crowded": _original(crowded, skeleton),
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    one = harness.time_alternately(cases, turns)
    torch.set_num_threads(threads)
    usual = harness.time_alternately(cases, turns)
    images = _BATCHES * len(_COCO_LIKE)
    figures = {
        "over_original": one["original"] / one["batched"],
        "over_original_crowded": one["original, crowded"] / one["batched, crowded"],
        "over_original_torch_threads": usual["original"] / usual["batched"],
        "over_original_crowded_torch_threads": (
            usual["original, crowded"] / usual["batched, crowded"]
        ),
        "images_per_s": images / one["batched"],
        "images_per_s_crowded": len(_CROWDED) / one["batched, crowded"],
        "images_per_s_original": images / one["original"],
    }
    if arguments.device != "cpu":
        on_device = {
            "coco-like": _batched(coco_like, skeleton, arguments.device),
            "crowded": _batched(crowded, skeleton, arguments.device),
        }
        seconds = harness.time_alternately(on_device, turns)
        figures["images_per_s_gpu"] = images / seconds["coco-like"]
        figures["images_per_s_gpu_crowded"] = len(_CROWDED) / seconds["crowded"]
    return figures


def _random_people(counts: Sequence[int], skeleton: Skeleton, seed: int) -> People:
    random = np.random.default_rng(seed)
    joints, images = len(skeleton.joints), []
    for count in counts:
        heights = random.uniform(*_HEIGHTS, (count, 1, 1)) * _SIZE
        centers = random.uniform(0, _SIZE, (count, 1, 2))
        keypoints = centers + random.normal(0, 0.25, (count, joints, 2)) * heights
        labeled = random.random((count, joints)) < _LABELED_SHARE
        images.append((keypoints.astype(np.float32), labeled))
    return images


def _batched(
    batches: Sequence[People], skeleton: Skeleton, device: str = "cpu"
) -> Callable[[], object]:
    padded = [[tensor.to(device) for tensor in _pad(images)] for images in batches]

    def render() -> None:
        for keypoints, labeled in padded:
            render_targets(keypoints, labeled, skeleton, _SIZE, _SIZE)
        if device != "cpu":
            torch.cuda.synchronize()

    return render


def _pad(images: People) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad images to the largest number of people; return (B, P, K, 2) and (B, P, K)."""
    people, joints = max(len(labeled) for _, labeled in images), images[0][1].shape[1]
    keypoints = torch.zeros(len(images), people, joints, 2)
    labeled = torch.zeros(len(images), people, joints, dtype=torch.bool)
    for row, (points, flags) in enumerate(images):
        keypoints[row, : len(points)] = torch.from_numpy(points)
        labeled[row, : len(flags)] = torch.from_numpy(flags)
    return keypoints, labeled


def _original(batches: Sequence[People], skeleton: Skeleton) -> Callable[[], object]:
    return lambda: [
        loop_targets(*people, skeleton, _SIZE, _SIZE) for images in batches for people in images
    ]


def _flags() -> argparse.ArgumentParser:
    flags = harness.parser("targets", __doc__)
    flags.add_argument(
        "--device",
        choices=("cpu", "cuda"),
        default="cuda" if torch.cuda.is_available() else "cpu",
        help="also measure on this device; default: cuda if available",
    )
    return flags


if __name__ == "__main__":
    harness.run("targets", _flags(), measure)
