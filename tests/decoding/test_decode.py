"""Tests of decode in both modes."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bodyposenet.decoding import DecodingOptions, decode
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.pose import load_skeleton
from bodyposenet.types import Maps

from .people import left_to_right, perfect_maps, random_people, random_skeleton

TAO = load_skeleton("bpnet_18joints.json")
either_mode = pytest.mark.parametrize("mode", ["accurate", "tao"])
TOY = Skeleton("toy", ("head", "hand", "belly", "knee", "foot"), ((2, 0), (2, 1), (2, 3), (3, 4)))


def two_people(skeleton: Skeleton = TAO, seed: int = 0):
    people = random_people(np.random.default_rng(seed), len(skeleton.joints), 2)
    return people, perfect_maps(people, skeleton)


@either_mode
@given(seed=st.integers(0, 2**32 - 1), joints=st.integers(3, 30), count=st.integers(1, 3))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_random_people_are_recovered_from_perfect_maps(mode, seed, joints, count):
    rng = np.random.default_rng(seed)
    skeleton = random_skeleton(rng, joints)
    people = random_people(rng, joints, count)
    poses = left_to_right(decode(perfect_maps(people, skeleton), skeleton, DecodingOptions(mode)))
    assert len(poses) == count
    assert np.abs(poses.keypoints - people).max() <= 1
    assert poses.keypoint_scores.min() > 0.7
    assert poses.keypoint_scores.max() <= 1


@either_mode
@pytest.mark.parametrize("name", ["bpnet_18joints.json", "coco_17joints.json"])
def test_people_of_the_packaged_skeletons_are_recovered(mode, name):
    skeleton = load_skeleton(name)
    people, maps = two_people(skeleton)
    poses = left_to_right(decode(maps, skeleton, DecodingOptions(mode)))
    assert np.abs(poses.keypoints - people).max() <= 1


@either_mode
def test_a_missing_joint_is_nan_with_score_0(mode):
    people = random_people(np.random.default_rng(0), 5, 1)
    labeled = np.ones((1, 5), bool)
    labeled[0, 1] = False
    poses = decode(perfect_maps(people, TOY, labeled), TOY, DecodingOptions(mode))
    assert np.isnan(poses.keypoints[0]).all(axis=1).tolist() == [False, True, False, False, False]
    assert poses.keypoint_scores[0, 1] == 0


@either_mode
def test_the_thresholds_are_honored(mode):
    _, maps = two_people(TOY)
    faint = Maps(maps.heatmaps * 0.5, maps.pafs * 0.5)
    assert len(decode(faint, TOY, DecodingOptions(mode))) == 2
    assert len(decode(faint, TOY, DecodingOptions(mode, heatmap_threshold=0.6))) == 0
    assert len(decode(faint, TOY, DecodingOptions(mode, paf_threshold=0.6))) == 0


@either_mode
def test_empty_maps_give_no_poses(mode):
    for shape in ((12, 9), (0, 9), (0, 0)):
        empty = Maps(np.zeros((6, *shape), np.float32), np.zeros((8, *shape), np.float32))
        poses = decode(empty, TOY, DecodingOptions(mode))
        assert len(poses) == 0
        assert poses.keypoints.shape == (0, 5, 2)


@either_mode
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_broken_values_are_treated_as_zero(value, mode):
    people, maps = two_people(TOY)
    heatmaps, pafs = maps.heatmaps.copy(), maps.pafs.copy()
    heatmaps[:, :, -1] = value
    pafs[:, -1] = value
    poses = left_to_right(decode(Maps(heatmaps, pafs), TOY, DecodingOptions(mode)))
    assert np.abs(poses.keypoints - people).max() <= 1
    broken = Maps(np.full_like(heatmaps, value), np.full_like(pafs, value))
    assert len(decode(broken, TOY, DecodingOptions(mode))) == 0


@either_mode
def test_noise_gives_finite_scores(mode):
    rng = np.random.default_rng(0)
    noise = Maps(
        rng.random((6, 20, 20), np.float32), rng.uniform(-1, 1, (8, 20, 20)).astype(np.float32)
    )
    assert np.isfinite(decode(noise, TOY, DecodingOptions(mode)).scores).all()


@either_mode
def test_read_only_maps_are_accepted(mode):
    _, maps = two_people(TOY)
    maps.heatmaps.flags.writeable = maps.pafs.flags.writeable = False
    decode(maps, TOY, DecodingOptions(mode))


@either_mode
def test_integer_thresholds_become_floats(mode):
    options = DecodingOptions(mode, heatmap_threshold=0, paf_threshold=0)
    assert [type(threshold) for threshold in options.thresholds] == [float, float]


def test_maps_of_another_skeleton_are_an_error():
    _, maps = two_people(TOY)
    with pytest.raises(BodyPoseNetError, match="6 heatmaps and 8 PAF channels"):
        decode(maps, TAO)
    with pytest.raises(BodyPoseNetError, match="size"):
        decode(replace(maps, pafs=maps.pafs[:, ::2]), TOY)
