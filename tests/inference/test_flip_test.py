"""The flip test's channels: which become which, and which cannot."""

import numpy as np
import pytest

from bodyposenet.inference.test_time_augmentation import FlipTest
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.pose import load_skeleton
from bodyposenet.types import Maps

JOINTS = ("nose", "left_hand", "right_hand", "left_hip", "right_hip", "left_tail")
ODD = Skeleton(
    "odd", JOINTS,
    ((0, 1), (2, 0), (3, 4), (1, 3), (0, 3), (0, 5)),
)  # fmt: skip
"""Arms in opposite directions, hips joined across, one-sided limbs and a one-sided joint."""


def see(skeleton: Skeleton, points: np.ndarray, size: tuple[int, int]) -> Maps:
    """What a perfect network sees of one person: points on the cells, constant fields."""
    heatmaps = np.zeros((skeleton.heatmap_channels, *size), np.float32)
    for joint, (x, y) in enumerate(points):
        heatmaps[joint, y, x] = 1
    heatmaps[-1] = 1 - heatmaps[:-1].max(axis=0)
    units = [points[end] - points[start] for start, end in skeleton.limbs]
    fields = [unit / max(np.hypot(*unit), 1) for unit in units]
    pafs = np.ones((len(fields), 2, *size)) * np.array(fields)[:, :, None, None]
    return Maps(heatmaps, pafs.reshape(-1, *size).astype(np.float32))


@pytest.mark.parametrize("name", ["bpnet_18joints.json", "coco_17joints.json"])
def test_a_perfect_network_sees_the_same_in_the_mirror(name):
    skeleton = load_skeleton(name)
    height, width = 12, 17
    points = np.random.default_rng(1).integers(0, 12, (len(skeleton.joints), 2))
    mirrored = np.stack([width - 1 - points[:, 0], points[:, 1]], axis=1)
    plain = see(skeleton, points, (height, width))
    seen = see(skeleton, mirrored[list(skeleton.mirrored)], (height, width))
    mean = FlipTest(skeleton).average(plain, seen)
    np.testing.assert_array_equal(mean.heatmaps, plain.heatmaps)
    np.testing.assert_allclose(mean.pafs, plain.pafs, atol=1e-6)


def test_reversed_limbs_are_turned_round_and_one_sided_ones_stay():
    height, width = 9, 11
    points = np.array([[5, 1], [2, 4], [9, 3], [3, 7], [8, 6], [1, 8]])
    mirrored = np.stack([width - 1 - points[:, 0], points[:, 1]], axis=1)
    plain = see(ODD, points, (height, width))
    seen = see(ODD, mirrored[list(ODD.mirrored)], (height, width))
    for nonsense in (seen.heatmaps[5], seen.pafs[6:]):  # no partners: must not be looked at
        nonsense[:] = 99
    mean = FlipTest(ODD).average(plain, seen)
    np.testing.assert_array_equal(mean.heatmaps, plain.heatmaps)
    np.testing.assert_allclose(mean.pafs, plain.pafs, atol=1e-6)


def test_both_images_count_the_same():
    shape = (4, 6)
    plain = Maps(np.zeros((7, *shape), np.float32), np.zeros((12, *shape), np.float32))
    seen = Maps(np.ones((7, *shape), np.float32), np.ones((12, *shape), np.float32))
    mean = FlipTest(ODD).average(plain, seen)
    assert mean.heatmaps.mean(axis=(1, 2)).tolist() == [0.5] * 5 + [0, 0.5]
    # Arms turn round and mirror: x stays, y turns; hips likewise; the others stay zero.
    assert mean.pafs.mean(axis=(1, 2)).tolist() == [0.5, -0.5] * 3 + [0] * 6
    assert not plain.heatmaps.any() and not plain.pafs.any()


def test_a_skeleton_without_limbs():
    lone = Skeleton("lone", ("head",), ())
    maps = Maps(np.ones((2, 3, 4), np.float32), np.zeros((0, 3, 4), np.float32))
    mean = FlipTest(lone).average(maps, maps)
    assert mean.heatmaps.shape == (2, 3, 4) and mean.pafs.shape == (0, 3, 4)
