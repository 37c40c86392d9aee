"""decode: maps in, people out, by either decoder; and what only the original's does."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.original.peaks import upsample
from bodyposenet.decoding import DecodingOptions, decode
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.pose import load_skeleton
from bodyposenet.types import Maps

from .original import people_of
from .people import perfect_maps, random_people, random_skeleton

TAO = load_skeleton("bpnet_18joints.json")
TAO_MODE = DecodingOptions("tao")
either_mode = pytest.mark.parametrize("mode", ["accurate", "tao"])
TOY = Skeleton("toy", ("head", "hand", "belly", "knee", "foot"), ((2, 0), (2, 1), (2, 3), (3, 4)))


def from_left_to_right(poses):
    return poses[np.argsort(np.nanmin(poses.keypoints[:, :, 0], axis=1))]


def two_people(skeleton: Skeleton = TAO, seed: int = 0):
    people = random_people(np.random.default_rng(seed), len(skeleton.joints), 2)
    return people, perfect_maps(people, skeleton)


@either_mode
@given(seed=st.integers(0, 2**32 - 1), joints=st.integers(3, 30), count=st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_perfect_maps_of_random_people_give_them_back(mode, seed, joints, count):
    rng = np.random.default_rng(seed)
    skeleton = random_skeleton(rng, joints)
    people = random_people(rng, joints, count)
    poses = from_left_to_right(
        decode(perfect_maps(people, skeleton), skeleton, DecodingOptions(mode))
    )
    assert len(poses) == count
    assert np.abs(poses.keypoints - people).max() <= 1
    assert poses.keypoint_scores.min() > 0.7
    assert poses.keypoint_scores.max() <= 1


@either_mode
@pytest.mark.parametrize("name", ["bpnet_18joints.json", "coco_17joints.json"])
def test_the_shipped_skeletons_come_back(mode, name):
    skeleton = load_skeleton(name)
    people, maps = two_people(skeleton)
    poses = from_left_to_right(decode(maps, skeleton, DecodingOptions(mode)))
    assert np.abs(poses.keypoints - people).max() <= 1


@pytest.mark.parametrize("seed", range(3))
def test_it_equals_the_original_on_disturbed_maps(seed):
    rng = np.random.default_rng(seed)
    _, maps = two_people(seed=seed)
    noisy = [
        (values * rng.uniform(0.6, 1, values.shape) + rng.normal(0, 0.03, values.shape)).astype(
            "f4"
        )
        for values in (maps.heatmaps, maps.pafs)
    ]
    poses = decode(Maps(*noisy), TAO, DecodingOptions("tao", upsampling=(2, 2)))
    large = [np.stack([upsample(channel, (2, 2)) for channel in values]) for values in noisy]
    expected = people_of(*large, TAO)
    assert len(poses) == len(expected) > 0
    for pose, score, (points, total) in zip(poses.keypoints, poses.scores, expected, strict=True):
        np.testing.assert_allclose(pose, (points + 0.5) * 4 - 0.5)
        assert score == pytest.approx(total)


@either_mode
def test_a_missing_joint_is_nan_with_score_0(mode):
    people = random_people(np.random.default_rng(0), 5, 1)
    labelled = np.ones((1, 5), bool)
    labelled[0, 1] = False
    poses = decode(perfect_maps(people, TOY, labelled), TOY, DecodingOptions(mode))
    assert np.isnan(poses.keypoints[0]).all(axis=1).tolist() == [False, True, False, False, False]
    assert poses.keypoint_scores[0, 1] == 0


def test_the_person_score_is_1_minus_1_over_the_total():
    _, maps = two_people(TOY)
    poses = decode(maps, TOY, TAO_MODE)
    most = 1 - 1 / (5 + 4)  # all peaks and connections 1
    assert (poses.scores > 1 - 1 / (0.9 * 9)).all()
    assert (poses.scores <= most + 0.01).all()


@pytest.mark.parametrize("upsampling", [(8, 8), (4, 4), (4, 8), (3, 5)])
def test_upsampling_factors_differ_by_axis_and_keep_the_place(upsampling):
    people, maps = two_people(TOY)
    poses = from_left_to_right(decode(maps, TOY, DecodingOptions("tao", upsampling=upsampling)))
    assert np.abs(poses.keypoints - people).max() <= 1 + 4 / min(upsampling)


def test_without_upsampling_a_keypoint_lies_on_a_cell_center():
    _, maps = two_people(TOY)
    poses = decode(maps, TOY, DecodingOptions("tao", upsampling=(1, 1)))
    assert ((poses.keypoints - 3.5) % 8 == 0).all()


@either_mode
def test_the_thresholds_are_honored(mode):
    _, maps = two_people(TOY)
    faint = Maps(maps.heatmaps * 0.5, maps.pafs * 0.5)
    assert len(decode(faint, TOY, DecodingOptions(mode))) == 2
    assert len(decode(faint, TOY, DecodingOptions(mode, heatmap_threshold=0.6))) == 0
    assert len(decode(faint, TOY, DecodingOptions(mode, paf_threshold=0.6))) == 0


@either_mode
def test_maps_of_nobody_and_maps_without_cells_give_no_poses(mode):
    for shape in ((12, 9), (0, 9), (0, 0)):
        nobody = Maps(np.zeros((6, *shape), np.float32), np.zeros((8, *shape), np.float32))
        poses = decode(nobody, TOY, DecodingOptions(mode))
        assert len(poses) == 0
        assert poses.keypoints.shape == (0, 5, 2)


@either_mode
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_broken_values_are_no_peaks_and_harm_nobody_else(value, mode):
    people, maps = two_people(TOY)
    heatmaps, pafs = maps.heatmaps.copy(), maps.pafs.copy()
    heatmaps[:, :, -1] = value
    pafs[:, -1] = value
    poses = from_left_to_right(decode(Maps(heatmaps, pafs), TOY, DecodingOptions(mode)))
    assert np.abs(poses.keypoints - people).max() <= 1
    broken = Maps(np.full_like(heatmaps, value), np.full_like(pafs, value))
    assert len(decode(broken, TOY, DecodingOptions(mode))) == 0


@either_mode
def test_noise_ends_without_an_explosion(mode):
    rng = np.random.default_rng(0)
    noise = Maps(
        rng.random((6, 20, 20), np.float32), rng.uniform(-1, 1, (8, 20, 20)).astype(np.float32)
    )
    assert np.isfinite(decode(noise, TOY, DecodingOptions(mode)).scores).all()


@either_mode
def test_the_maps_are_left_as_they_were(mode):
    _, maps = two_people(TOY)
    maps.heatmaps.flags.writeable = maps.pafs.flags.writeable = False
    decode(maps, TOY, DecodingOptions(mode))


@either_mode
def test_whole_numbers_are_thresholds_too(mode):
    options = DecodingOptions(mode, heatmap_threshold=0, paf_threshold=0)
    assert [type(threshold) for threshold in options.thresholds] == [float, float]


def test_maps_of_another_skeleton_are_an_error():
    _, maps = two_people(TOY)
    with pytest.raises(BodyPoseNetError, match="6 heatmaps and 8 PAF channels"):
        decode(maps, TAO)
    with pytest.raises(BodyPoseNetError, match="cells large"):
        decode(replace(maps, pafs=maps.pafs[:, ::2]), TOY)
