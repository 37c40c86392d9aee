"""Poses: choosing people, and their forms as JSON."""

import json
from dataclasses import replace

import numpy as np
import pytest

from bodyposenet.geometry import Affine
from bodyposenet.skeleton import Skeleton
from bodyposenet.types import Person, Poses, Visibility

SKELETON = Skeleton("toy", ("head", "neck", "foot"), ((0, 1), (1, 2)))


@pytest.fixture
def poses() -> Poses:
    """Two people; the second has no neck."""
    keypoints = np.array(
        [[[1.1, 2], [3, 4], [5, 6]], [[10, 20], [np.nan, np.nan], [50, 60]]], np.float32
    )
    keypoint_scores = np.array([[0.9, 0.8, 0.7], [0.6, 0, 0.5]], np.float32)
    return Poses(keypoints, keypoint_scores, np.array([0.75, 0.5], np.float32), SKELETON)


def test_choosing_people(poses):
    assert len(poses) == 2
    assert len(poses[0]) == len(poses[np.int64(0)]) == len(poses[-1]) == 1
    assert poses[-1].scores[0] == 0.5
    assert len(poses[poses.scores > 0.6]) == 1
    assert len(poses[:0]) == 0
    np.testing.assert_array_equal(poses[[1, 0]].scores, [0.5, 0.75])


def test_a_loop_over_people_ends(poses):
    assert [float(person.scores[0]) for person in poses] == [0.75, 0.5]
    assert all(isinstance(person, Poses) and len(person) == 1 for person in poses)
    assert list(Poses.empty(SKELETON)) == []
    with pytest.raises(IndexError):
        poses[2]


def test_which_joints_are_there(poses):
    np.testing.assert_array_equal(poses.found, [[True] * 3, [True, False, True]])
    assert poses[:0].found.shape == (0, 3)


def test_a_line_tells_what_was_found(poses):
    assert repr(poses) == "Poses(2 people, toy: 0.75 with 3 joints, 0.50 with 2 joints)"
    assert repr(poses[1]) == "Poses(1 person, toy: 0.50 with 2 joints)"
    assert repr(Poses.empty(SKELETON)) == "Poses(nobody, toy)"
    crowd = poses[[0, 1] * 50]
    assert repr(crowd).startswith("Poses(100 people, toy: ") and len(repr(crowd)) < 120
    assert repr(crowd).endswith(", ...)")


def test_inferred_joints_go_along(poses):
    inferred = np.array([[False] * 3, [False, False, True]])
    completed = replace(poses, inferred=inferred)
    np.testing.assert_array_equal(completed[1].inferred, [[False, False, True]])
    assert completed.to_dict()["inferred"] == inferred.tolist()
    json.dumps(completed.to_dict())


def test_track_ids_go_along(poses):
    tracked = Poses(
        poses.keypoints, poses.keypoint_scores, poses.scores, SKELETON, np.array([7, 9])
    )
    np.testing.assert_array_equal(tracked[1].track_ids, [9])
    assert tracked.to_dict()["track_ids"] == [7, 9]
    np.testing.assert_array_equal(tracked.moved(Affine.scaling(1)).track_ids, [7, 9])


def test_nobody():
    nobody = Poses.empty(SKELETON)
    assert nobody.to_dict() == {"keypoints": [], "scores": [], "keypoint_scores": []}
    assert nobody.to_coco(1, SKELETON.joints) == []
    assert len(nobody.moved(Affine.scaling(1))) == 0


def test_moving_keeps_missing_joints_missing(poses):
    moved = poses.moved(Affine.translation(1, 1))
    np.testing.assert_allclose(moved.keypoints[0, 0], (2.1, 3), rtol=1e-6)
    assert np.isnan(moved.keypoints[1, 1]).all()
    assert moved.keypoints.dtype == np.float32


def test_named_joints(poses):
    assert poses[1].named() == poses.named(1)
    assert list(poses.named(1)) == ["head", "foot"]
    assert poses.named(1)["foot"] == (50, 60, 0.5)


def test_lists_for_json(poses):
    content = json.loads(json.dumps(poses.to_dict()))
    assert content["keypoints"][1] == [[10, 20], [0, 0], [50, 60]]
    assert content["keypoints"][0][0] == [1.1, 2]
    assert content["keypoint_scores"] == [[0.9, 0.8, 0.7], [0.6, 0, 0.5]]
    assert content["scores"] == [0.75, 0.5]


def test_coco_results_by_name(poses):
    results = poses.to_coco(42, ("foot", "tail", "neck"))
    assert [result["keypoints"] for result in results] == [
        [5, 6, 1, 0, 0, 0, 3, 4, 1],
        [50, 60, 1, 0, 0, 0, 0, 0, 0],
    ]
    assert {result["image_id"] for result in results} == {42}
    json.dumps(results)


def test_labelled_classes():
    assert [v.name for v in Visibility if v.is_labelled] == ["VISIBLE", "ANNOTATABLE", "OCCLUDED"]


def test_center_of_a_person():
    person = Person(np.zeros((3, 3)), (10, 20, 4, 6), 24.0, False, None, 0, 1)
    assert person.center == (12, 23)
