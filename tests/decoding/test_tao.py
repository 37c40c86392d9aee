"""Tests of `mode: tao`: upsampling, direction of limbs, scores, and the reference decoder."""

import numpy as np
import pytest

from benchmarks.original.peaks import upsample
from bodyposenet.decoding import DecodingOptions, decode
from bodyposenet.decoding.tao.assembly import orient_limbs
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.pose import load_skeleton
from bodyposenet.types import Maps

from .people import left_to_right, perfect_maps, random_people
from .reference_decoder import people_of

TAO = load_skeleton("bpnet_18joints.json")
TAO_MODE = DecodingOptions("tao")
TOY = Skeleton("toy", ("head", "hand", "belly", "knee", "foot"), ((2, 0), (2, 1), (2, 3), (3, 4)))


def two_people(skeleton: Skeleton, seed: int = 0):
    people = random_people(np.random.default_rng(seed), len(skeleton.joints), 2)
    return people, perfect_maps(people, skeleton)


@pytest.mark.parametrize("seed", range(3))
def test_poses_equal_those_of_the_reference_decoder_on_noisy_maps(seed):
    rng = np.random.default_rng(seed)
    _, maps = two_people(TAO, seed)
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


def test_person_scores_are_1_minus_1_over_the_total():
    _, maps = two_people(TOY)
    poses = decode(maps, TOY, TAO_MODE)
    highest = 1 - 1 / (5 + 4)  # 5 peaks and 4 connections with a score of 1
    assert (poses.scores > 1 - 1 / (0.9 * 9)).all()
    assert (poses.scores <= highest + 0.01).all()


@pytest.mark.parametrize("upsampling", [(8, 8), (4, 4), (4, 8), (3, 5)])
def test_upsampling_factors_differ_by_axis_and_do_not_shift_keypoints(upsampling):
    people, maps = two_people(TOY)
    poses = left_to_right(decode(maps, TOY, DecodingOptions("tao", upsampling=upsampling)))
    assert np.abs(poses.keypoints - people).max() <= 1 + 4 / min(upsampling)


def test_without_upsampling_a_keypoint_lies_on_a_cell_center():
    _, maps = two_people(TOY)
    poses = decode(maps, TOY, DecodingOptions("tao", upsampling=(1, 1)))
    assert ((poses.keypoints - 3.5) % 8 == 0).all()


def test_only_limbs_from_eye_to_ear_cannot_start_a_person():
    restricted = [k for k, limb in enumerate(orient_limbs(TAO)) if not limb.starts_person]
    assert restricted == [17, 18]


def test_limbs_of_the_tao_skeleton_keep_their_order_and_direction():
    assert [(limb.start, limb.end) for limb in orient_limbs(TAO)] == list(TAO.limbs)
    assert not any(limb.is_reversed for limb in orient_limbs(TAO))
