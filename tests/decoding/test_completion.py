"""Tests of `complete_pose`: the pose prior, merged fragments and inferred joints."""

import logging

import numpy as np
import pytest

from bodyposenet.decoding import DecodingOptions, decode
from bodyposenet.decoding.accurate.assembly import People
from bodyposenet.decoding.accurate.completion import infer_joints, merge_fragments
from bodyposenet.decoding.accurate.pose_prior import load_pose_prior
from bodyposenet.skeleton import COCO_JOINTS, Skeleton
from bodyposenet.specs.pose import load_skeleton

from .people import perfect_maps

TAO = load_skeleton("bpnet_18joints.json")
COMPLETE = DecodingOptions(complete_pose=True)


@pytest.fixture
def prior():
    found = load_pose_prior(TAO.joints)
    assert found is not None
    return found


def joints(*names: str) -> list[int]:
    return [TAO.joints.index(name) for name in names]


def typical_person(size: float, x: float, y: float) -> np.ndarray:
    """Return the (K, 2) joints of the mean pose of the prior, at a size and position."""
    prior = load_pose_prior(TAO.joints)
    assert prior is not None
    return prior.basis[:, :, 0] * size + (x, y)


def people_of(*points: np.ndarray) -> People:
    """Create people from their (K, 2) joints, with scores of 0.9."""
    scores = np.where(np.isnan(np.stack(points)[..., 0]), 0, 0.9)
    return People(np.stack(points), scores, scores.sum(axis=1))


def only(points: np.ndarray, kept: list[int]) -> np.ndarray:
    """Return the joints of a person with all but some set to NaN."""
    part = np.full_like(points, np.nan)
    part[kept] = points[kept]
    return part


def test_the_typical_person_is_estimated_from_some_of_its_joints(prior):
    person = typical_person(5, 20, 30)
    estimate = prior.estimate(only(person, joints("nose", "neck", "left_hip", "right_knee")))
    assert np.abs(estimate.points - person).max() < 0.5
    assert abs(estimate.size - 5) < 0.2
    shoulder, ankle = joints("left_shoulder", "left_ankle")
    assert 0 < estimate.deviations[shoulder] < estimate.deviations[ankle]


def test_estimates_scale_and_translate_with_the_person(prior):
    part = only(typical_person(5, 20, 30), joints("nose", "neck", "left_hip"))
    estimate, larger = prior.estimate(part), prior.estimate(part * 3 + 7)
    np.testing.assert_allclose(larger.points, estimate.points * 3 + 7)
    np.testing.assert_allclose(larger.deviations, estimate.deviations * 3)


def test_no_estimate_from_two_joints_or_upside_down(prior):
    person = typical_person(5, 20, 30)
    assert prior.estimate(only(person, joints("nose", "neck"))) is None
    assert prior.estimate(-person) is None


def test_the_mean_pose_is_symmetric(prior):
    person = typical_person(5, 0, 0)
    np.testing.assert_allclose(person[list(TAO.mirrored)] * (-1, 1), person)


def test_joints_are_matched_by_side_and_part():
    names = ("hip_l", "hip_r", "LeftAnkle", "tail", "Nose")
    prior = load_pose_prior(names)
    assert prior is not None
    assert prior.known.tolist() == [True, True, True, False, True]
    coco = load_pose_prior(COCO_JOINTS)
    assert coco is not None
    assert coco.known.all()


def test_head_and_legs_of_one_person_are_merged(prior):
    person = typical_person(5, 20, 30)
    head = only(person, joints("nose", "neck", "left_shoulder", "right_shoulder", "left_eye"))
    legs = only(person, joints("left_hip", "left_knee", "left_ankle"))
    far_away = legs + np.array([40, 0])
    merged = merge_fragments(people_of(legs, head, far_away), prior)
    assert sorted(merged.found.sum(axis=1).tolist()) == [3, 8]
    np.testing.assert_allclose(sorted(merged.totals), [3 * 0.9, 8 * 0.9])


def test_people_with_a_common_joint_are_not_merged(prior):
    person = typical_person(5, 20, 30)
    upper = only(person, joints("nose", "neck", "left_shoulder", "left_hip"))
    lower = only(person, joints("left_hip", "left_knee", "left_ankle"))
    assert len(merge_fragments(people_of(upper, lower), prior).totals) == 2


def test_a_missing_joint_is_placed_at_the_heatmap_maximum_or_the_most_probable_place(prior):
    person = typical_person(5, 20, 20)
    wrist, knee = joints("left_wrist", "left_knee")
    part = only(person, [k for k in range(18) if k not in (wrist, knee)])
    heatmaps = np.zeros((18, 45, 45), np.float32)
    row, column = np.rint(person[wrist, ::-1] + 1).astype(int)
    heatmaps[wrist, row, column] = 0.04
    complete = infer_joints(people_of(part), heatmaps, prior, 7 / 8)
    assert complete.points[0, wrist].tolist() == [column, row]
    assert complete.scores[0, wrist] == pytest.approx(0.04)
    assert np.abs(complete.points[0, knee] - person[knee]).max() < 1
    assert 0 < complete.scores[0, knee] <= 0.01


@pytest.mark.parametrize(("sigma", "reach"), [(7 / 8, 1), (3.5 / 8, 1), (14 / 8, 3)])
def test_no_joint_is_inferred_at_a_joint_of_another_person(prior, sigma, reach):
    person = typical_person(5, 20, 20)
    (wrist,) = joints("left_wrist")
    part = only(person, [k for k in range(18) if k != wrist])
    heatmaps = np.zeros((18, 45, 45), np.float32)
    row, column = np.rint(person[wrist, ::-1]).astype(int)
    around = slice(row - reach, row + reach + 1), slice(column - reach, column + reach + 1)
    heatmaps[wrist][around] = 0.9
    neighbor = only(person, [wrist])
    complete = infer_joints(people_of(part, neighbor), heatmaps, prior, sigma)
    assert complete.scores[0, wrist] <= 0.01


def test_inferred_joints_are_marked():
    people = typical_person(40, 80, 80)[None]
    (wrist,) = joints("left_wrist")
    labeled = np.ones((1, 18), bool)
    labeled[0, wrist] = False
    maps = perfect_maps(people, TAO, labeled)
    plain, complete = decode(maps, TAO), decode(maps, TAO, COMPLETE)
    assert plain.inferred is None
    assert complete.inferred is not None
    assert np.argwhere(complete.inferred).tolist() == [[0, wrist]]
    assert np.abs(complete.keypoints[0] - people[0]).max() < 10
    assert complete.keypoint_scores[0].min() > 0
    np.testing.assert_array_equal(complete.scores, plain.scores)


def test_a_skeleton_without_joints_of_the_prior_is_not_completed_with_one_warning(caplog):
    caplog.set_level(logging.WARNING, logger="bodyposenet")
    chain = Skeleton("chain", tuple("abcd"), ((0, 1), (1, 2), (2, 3)))
    people = np.array([[[20.0, 20], [60, 20], [100, 20], [140, 20]]])
    labeled = np.array([[True, True, True, False]])
    maps = perfect_maps(people, chain, labeled)
    for _ in range(2):
        poses = decode(maps, chain, COMPLETE)
        assert poses.inferred is None
        assert np.isnan(poses.keypoints[0, 3]).all()
    assert sum("complete_pose has no effect" in record.message for record in caplog.records) == 1
