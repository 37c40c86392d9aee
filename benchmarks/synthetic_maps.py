"""Target maps of people in random everyday poses, optionally with noise: inputs for decoders."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from bodyposenet import Maps, Skeleton
from bodyposenet.demo.pose import posed_body, random_pose
from bodyposenet.model.targets import render_targets

_STRIDE = 8

_LABELED_SHARE = 0.85


def make_synthetic_maps(
    rng: np.random.Generator,
    skeleton: Skeleton,
    people: int,
    cells: tuple[int, int],
    noise: float = 0.0,
) -> Maps:
    """Render the target maps of random people; the more people, the smaller they are.

    Args:
        rng: Random generator.
        skeleton: The joints and limbs; see `bodyposenet.demo.pose.Body` for the possible joints.
        people: Number of people.
        cells: Height and width of the maps.
        noise: Standard deviation of the noise added to each cell.
    """
    height, width = cells[0] * _STRIDE, cells[1] * _STRIDE
    keypoints = np.zeros((people, len(skeleton.joints), 2), np.float32)
    for person in keypoints:
        person[:] = _random_person(rng, skeleton, height * min(0.8, 2 / (people + 1) ** 0.5))
        person += rng.uniform(0.15, 0.85, 2) * (width, height)
    labeled = rng.random(keypoints.shape[:2]) < _LABELED_SHARE
    heatmaps, pafs = render_targets(
        torch.from_numpy(keypoints)[None], torch.from_numpy(labeled)[None], skeleton, height, width
    )
    return Maps(_add_noise(rng, heatmaps[0], noise), _add_noise(rng, pafs[0], noise), _STRIDE)


def _random_person(
    rng: np.random.Generator, skeleton: Skeleton, tallest: float
) -> NDArray[np.float64]:
    """Return (K, 2) joints in pixels, relative to the pelvis."""
    body = posed_body(random_pose(rng), camera_tilt=rng.uniform(-4, 12))
    points = np.array([body.points[joint][:2] for joint in skeleton.joints])
    return points * (1, -1) * tallest * rng.uniform(0.4, 1)


def _add_noise(rng: np.random.Generator, maps: torch.Tensor, noise: float) -> NDArray[np.float32]:
    return (maps.numpy() + rng.normal(0, noise, maps.shape)).astype(np.float32)
