"""Poses: shapes, indexing, joints by name, and conversions to and from other formats."""

import json
import math
import pickle
import sys
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.geometry import Affine
from bodyposenet.media.draw import draw
from bodyposenet.person_pose import PersonPose
from bodyposenet.poses import Poses
from bodyposenet.skeleton import COCO_JOINTS, Skeleton
from bodyposenet.specs.pose import load_skeleton

SKELETON = Skeleton("toy", ("head", "neck", "foot"), ((0, 1), (1, 2)))
TAO = load_skeleton("bpnet_18joints.json")
COCO = load_skeleton("coco_17joints.json")


@pytest.fixture
def poses() -> Poses:
    """Two people; the second has no neck."""
    keypoints = np.array(
        [[[1.1, 2], [3, 4], [5, 6]], [[10, 20], [np.nan, np.nan], [50, 60]]], np.float32
    )
    keypoint_scores = np.array([[0.9, 0.8, 0.7], [0.6, 0, 0.5]], np.float32)
    return Poses(keypoints, keypoint_scores, np.array([0.75, 0.5], np.float32), SKELETON)


def some_people(seed: int, people: int, skeleton: Skeleton, **fields) -> Poses:
    """Return random people with a third of the joints missing; rounding in JSON is exact."""
    rng = np.random.default_rng(seed)
    shape = (people, len(skeleton.joints))
    keypoints = rng.integers(1, 4000, (*shape, 2)) / np.float32(8)
    scores = rng.integers(1, 33, shape) / np.float32(32)
    missing = rng.random(shape) < 1 / 3
    keypoints[missing], scores[missing] = np.nan, 0
    return Poses(keypoints, scores, rng.integers(1, 33, people) / 32, skeleton, **fields)


def assert_same(first: Poses, second: Poses) -> None:
    assert first.skeleton == second.skeleton
    for name in ("keypoints", "keypoint_scores", "scores", "track_ids", "inferred"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)
        assert getattr(first, name) is None or (
            getattr(first, name).dtype == getattr(second, name).dtype
        )


# Shapes


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"keypoints": np.zeros((2, 3, 3))}, ("keypoints", "(2, 3, 2)", "(2, 3, 3)")),
        ({"keypoints": np.zeros((2, 4, 2))}, ("keypoints", "(2, 3, 2)", "toy")),
        ({"keypoints": np.zeros((1, 3, 2))}, ("keypoints", "2 people")),
        ({"keypoint_scores": np.zeros(2)}, ("keypoint_scores", "(2, 3)", "(2,)")),
        ({"scores": np.zeros((2, 1))}, ("scores", "(2,)", "(2, 1)")),
        ({"scores": np.float32(1)}, ("scores", "()")),
        ({"track_ids": np.array([1])}, ("track_ids", "(2,)", "(1,)")),
        ({"inferred": np.zeros((2, 4), bool)}, ("inferred", "(2, 3)", "(2, 4)")),
        ({"keypoints": [[[1, 2], [3]]]}, ("keypoints",)),
        ({"scores": ["high", "low"]}, ("scores",)),
    ],
)
def test_wrong_shapes_are_errors(poses, fields, named):
    with pytest.raises(BodyPoseNetError) as error:
        replace(poses, **fields)
    assert all(part in error.value.what for part in named)


def test_lists_and_other_dtypes_are_converted():
    poses = Poses([[[1, 2]] * 3], [[1, 0.5, 0]], [0.5], SKELETON, [4], [[0, 1, 0]])
    assert [
        values.dtype.name
        for values in (poses.keypoints, poses.keypoint_scores, poses.scores, poses.track_ids)
    ] == ["float32", "float32", "float32", "int64"]
    assert poses.inferred.tolist() == [[False, True, False]]


def test_arrays_of_the_right_dtype_are_not_copied(poses):
    again = Poses(poses.keypoints, poses.keypoint_scores, poses.scores, SKELETON)
    assert again.keypoints is poses.keypoints
    assert again.scores is poses.scores


def test_pickling(poses):
    assert_same(pickle.loads(pickle.dumps(poses)), poses)


# People


def test_indexing_people(poses):
    assert len(poses) == 2
    assert len(poses[[0]]) == len(poses[-1:]) == 1
    assert len(poses[poses.scores > 0.6]) == 1
    assert len(poses[:0]) == 0
    np.testing.assert_array_equal(poses[[1, 0]].scores, [0.5, 0.75])


def test_integers_and_iteration_give_persons(poses):
    assert isinstance(poses[0], PersonPose)
    assert [person.score for person in poses] == [0.75, 0.5]
    assert poses[-1].score == poses[np.int64(1)].score == 0.5
    assert list(Poses.empty(SKELETON)) == []
    for index in (2, -3):
        with pytest.raises(IndexError):
            poses[index]


def test_joints_of_a_person_by_name(poses):
    first, second = poses
    assert first["neck"] == (3, 4, pytest.approx(0.8))
    assert (first["foot"].x, first["foot"].y, first["foot"].visible) == (5, 6, True)
    assert math.isnan(second["neck"].x) and math.isnan(second["neck"].y)
    assert (second["neck"].score, second["neck"].visible) == (0, False)
    assert list(first) == list(SKELETON.joints)
    assert "tail" not in first and first.get("tail") is None
    assert first["Neck"] == first["neck"] and "NECK" in first
    assert [name for name, joint in second.items() if joint.visible] == ["head", "foot"]


def test_unknown_joint_suggests_a_similar_one(poses):
    with pytest.raises(BodyPoseNetError) as error:
        poses[0]["nekc"]
    assert "nekc" in error.value.what and "'neck'" in error.value.remedy
    with pytest.raises(KeyError) as error:
        poses[0]["tail"]
    assert all(joint in error.value.remedy for joint in SKELETON.joints)


def test_equal_poses_have_equal_values(poses):
    assert np.isnan(poses.keypoints).any()
    again = pickle.loads(pickle.dumps(poses))
    assert again == poses
    assert again[0] == poses[0] and again[1] == poses[1] and again[0] != poses[1]
    others = (
        replace(poses, scores=poses.scores - 0.1),
        replace(poses, track_ids=[1, 2]),
        replace(poses, inferred=np.zeros((2, 3), bool)),
        replace(poses, skeleton=Skeleton("other", SKELETON.joints, SKELETON.limbs)),
        poses[:1],
        poses[[1, 0]],
    )
    for other in others:
        assert other != poses and poses != other
    assert replace(poses, track_ids=[1, 2]) == replace(poses, track_ids=np.array([1, 2]))
    assert poses != 7 and poses[0] != dict(poses[0])
    for value in (poses, poses[0]):
        with pytest.raises(TypeError, match="hash"):
            hash(value)


def test_person_has_the_attributes_of_poses(poses):
    inferred = np.array([[False] * 3, [False, False, True]])
    person = replace(poses, track_ids=[7, 9], inferred=inferred)[1]
    np.testing.assert_array_equal(person.keypoints, poses.keypoints[1])
    np.testing.assert_array_equal(person.keypoint_scores, poses.keypoint_scores[1])
    np.testing.assert_array_equal(person.visible, [True, False, True])
    np.testing.assert_array_equal(person.inferred, inferred[1])
    np.testing.assert_array_equal(person.box, [10, 20, 50, 60])
    assert person.track_id == 9
    assert poses[1].track_id is None and poses[1].inferred is None
    assert "9" in repr(person) and "2 of 3" in repr(person)


def test_boxes_surround_the_visible_joints(poses):
    np.testing.assert_allclose(poses.boxes, [[1.1, 2, 5, 6], [10, 20, 50, 60]], rtol=1e-6)
    nowhere = replace(poses, keypoints=np.full((2, 3, 2), np.nan))
    assert np.isnan(nowhere.boxes).all()
    assert poses[:0].boxes.shape == (0, 4)
    assert poses.boxes.dtype == np.float32


def test_visible_joints(poses):
    np.testing.assert_array_equal(poses.visible, [[True] * 3, [True, False, True]])
    assert poses[:0].visible.shape == (0, 3)


def test_the_repr_is_one_line(poses):
    assert repr(poses) == "Poses(2 people, toy: 0.75 with 3 joints, 0.50 with 2 joints)"
    assert repr(poses[[1]]) == "Poses(1 person, toy: 0.50 with 2 joints)"
    assert repr(Poses.empty(SKELETON)) == "Poses(0 people, toy)"
    crowd = poses[[0, 1] * 50]
    assert repr(crowd).startswith("Poses(100 people, toy: ") and len(repr(crowd)) < 120
    assert repr(crowd).endswith(", ...)")


def test_inferred_joints_and_track_ids_are_kept(poses):
    inferred = np.array([[False] * 3, [False, False, True]])
    completed = replace(poses, inferred=inferred, track_ids=np.array([7, 9]))
    np.testing.assert_array_equal(completed[[1]].inferred, [[False, False, True]])
    np.testing.assert_array_equal(completed[[1]].track_ids, [9])
    np.testing.assert_array_equal(completed.transform(Affine.scaling(1)).track_ids, [7, 9])


def test_transforming_keeps_missing_joints_missing(poses):
    moved = poses.transform(Affine.translation(1, 1))
    np.testing.assert_allclose(moved.keypoints[0, 0], (2.1, 3), rtol=1e-6)
    assert np.isnan(moved.keypoints[1, 1]).all()
    assert moved.keypoints.dtype == np.float32
    assert len(Poses.empty(SKELETON).transform(Affine.scaling(1))) == 0


def test_named_joints(poses):
    assert poses[[1]].to_named() == poses.to_named(1)
    assert list(poses.to_named(1)) == ["head", "foot"]
    assert poses.to_named(1)["foot"] == (50, 60, 0.5)


def test_concatenating_people(poses):
    joined = Poses.concat([poses[[1]], Poses.empty(SKELETON), poses])
    np.testing.assert_array_equal(joined.scores, [0.5, 0.75, 0.5])
    assert joined.track_ids is None and joined.inferred is None
    tracked = replace(poses, track_ids=[3, 4])
    assert Poses.concat([tracked, poses]).track_ids.tolist() == [3, 4, -1, -1]
    assert Poses.concat([tracked, Poses.empty(SKELETON)]).track_ids.tolist() == [3, 4]
    completed = replace(poses, inferred=np.ones((2, 3), bool))
    assert Poses.concat([poses, completed]).inferred.sum() == 6
    assert Poses.concat([poses, completed[:0]]).inferred is None
    assert_same(Poses.concat([Poses.empty(SKELETON)]), Poses.empty(SKELETON))
    with pytest.raises(BodyPoseNetError):
        Poses.concat([])
    with pytest.raises(BodyPoseNetError) as error:
        Poses.concat([poses, Poses.empty(COCO)])
    assert "toy" in error.value.what and COCO.name in error.value.what


@pytest.mark.parametrize(
    ("use", "new"),
    [
        (lambda poses: poses.found, lambda poses: poses.visible),
        (lambda poses: poses.named(1), lambda poses: poses.to_named(1)),
        (
            lambda poses: poses.moved(Affine.scaling(2)).scores,
            lambda poses: poses.transform(Affine.scaling(2)).scores,
        ),
    ],
    ids=["found", "named", "moved"],
)
def test_old_names_still_work_and_warn(poses, use, new):
    with pytest.warns(DeprecationWarning, match="deprecated") as caught:
        old = use(poses)
    np.testing.assert_equal(old, new(poses))
    assert caught[0].filename == __file__


def test_drawing(poses):
    image = np.full((80, 80, 3), 90, np.uint8)
    np.testing.assert_array_equal(poses.draw(image), draw(image, poses))
    all_people = draw(image, poses, score_threshold=0)
    np.testing.assert_array_equal(poses.draw(image, score_threshold=0), all_people)
    assert (image == 90).all() and not np.array_equal(all_people, poses.draw(image))


# JSON


def test_conversion_to_dict(poses):
    content = json.loads(json.dumps(poses.to_dict()))
    assert content["keypoints"][1] == [[10, 20], [0, 0], [50, 60]]
    assert content["keypoints"][0][0] == [1.1, 2]
    assert content["keypoint_scores"] == [[0.9, 0.8, 0.7], [0.6, 0, 0.5]]
    assert content["scores"] == [0.75, 0.5]
    tracked = replace(poses, track_ids=[7, 9], inferred=np.ones((2, 3), bool)).to_dict()
    assert tracked["track_ids"] == [7, 9] and tracked["inferred"] == [[True] * 3] * 2
    empty = Poses.empty(SKELETON).to_dict()
    assert empty == {"keypoints": [], "scores": [], "keypoint_scores": []}


@given(
    st.integers(0, 5),
    st.integers(0, 2**32 - 1),
    st.sampled_from([SKELETON, TAO, COCO]),
    st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_conversion_from_dict(people, seed, skeleton, is_video):
    more = {}
    if is_video:
        more = {
            "track_ids": np.arange(people),
            "inferred": np.full((people, len(skeleton.joints)), True),
        }
    poses = some_people(seed, people, skeleton, **more)
    assert_same(Poses.from_dict(json.loads(json.dumps(poses.to_dict())), skeleton), poses)


def test_joint_at_the_origin_and_inferred_joint_without_score_are_visible():
    keypoints = [[[0, 0], [9, 9], [0, 0]]]
    poses = Poses(keypoints, [[0.5, 0, 0]], [1], SKELETON)
    again = Poses.from_dict(poses.to_dict(), SKELETON)
    assert again.visible.tolist() == [[True, True, False]]


def test_files_contain_the_skeleton(poses, tmp_path):
    path = tmp_path / "new" / "poses.json"
    poses.save(path)
    assert_same(Poses.load(path), poses)
    content = json.loads(path.read_text())
    assert content["skeleton"]["pose_config_type"] == "toy"
    assert {key: content[key] for key in poses.to_dict()} == poses.to_dict()
    assert_same(Poses.from_dict(content), poses)
    empty = Poses.empty(TAO)
    empty.save(path)
    assert_same(Poses.load(str(path)), empty)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"scores": [], "keypoints": []}, "keypoint_scores"),
        ({"scores": [1.0], "keypoints": [[[1, 2]]], "keypoint_scores": [[1]]}, "(1, 3, 2)"),
        ({"scores": [1.0], "keypoints": [], "keypoint_scores": []}, "(1, 3, 2)"),
        ({"scores": [1.0], "keypoints": [[1, [2]]], "keypoint_scores": [[1]]}, "from_dict"),
        ([1, 2], "expected a dict, got list"),
    ],
)
def test_invalid_dicts_are_errors(values, named):
    with pytest.raises(BodyPoseNetError) as error:
        Poses.from_dict(values, SKELETON)
    assert named in error.value.what


def test_dicts_without_skeleton_are_errors(poses, tmp_path):
    with pytest.raises(BodyPoseNetError) as error:
        Poses.from_dict(poses.to_dict())
    assert "skeleton" in error.value.what and "model.skeleton" in error.value.remedy
    path = tmp_path / "poses.json"
    path.write_text(json.dumps({**poses.to_dict(), "skeleton": "toy"}))
    with pytest.raises(BodyPoseNetError) as error:
        Poses.load(path)
    assert str(path) in error.value.what
    assert_same(Poses.load(path, SKELETON), poses)
    path.write_text("{")
    with pytest.raises(BodyPoseNetError) as error:
        Poses.load(path)
    assert str(path) in error.value.what


# COCO


def test_coco_results_match_joints_by_name(poses):
    results = poses.to_coco(42, ("foot", "tail", "neck"))
    assert [result["keypoints"] for result in results] == [
        [5, 6, 1, 0, 0, 0, 3, 4, 1],
        [50, 60, 1, 0, 0, 0, 0, 0, 0],
    ]
    assert {result["image_id"] for result in results} == {42}
    json.dumps(results)
    assert Poses.empty(SKELETON).to_coco(1, SKELETON.joints) == []


def test_coco_joints_are_the_default():
    poses = some_people(0, 3, TAO)
    assert poses.to_coco(7) == poses.to_coco(7, COCO_JOINTS)
    first = np.reshape(poses.to_coco(7)[0]["keypoints"], (17, 3))
    assert first[:, 2].sum() == poses.visible[0, [TAO.joints.index(j) for j in COCO_JOINTS]].sum()


def test_joints_in_another_notation_match_coco():
    spelled = tuple(
        "".join(word.capitalize() for word in joint.replace("left", "L").split("_"))
        for joint in TAO.joints
    )
    assert "LShoulder" in spelled and "RightAnkle" in spelled
    poses = some_people(1, 3, TAO)
    renamed = replace(poses, skeleton=Skeleton("spelled", spelled, TAO.limbs))
    assert renamed.to_coco(7) == poses.to_coco(7)


@given(st.integers(0, 5), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_conversion_from_coco(people, seed):
    poses = some_people(seed, people, COCO)
    poses = replace(poses, keypoint_scores=poses.visible)  # COCO's format has no scores of joints
    results = json.loads(json.dumps(poses.to_coco(7)))
    assert_same(Poses.from_coco(results, COCO), poses)


def test_a_neck_is_derived_from_coco_results():
    shoulders = {"image_id": 1, "score": 0.5, "keypoints": np.zeros((17, 3))}
    shoulders["keypoints"][5:7] = [[10, 20, 0.5], [30, 40, 0.75]]
    (person,) = Poses.from_coco([shoulders], TAO)
    assert person["neck"] == (20, 30, 0.625)
    assert person["left_shoulder"] == (10, 20, 0.5)
    assert person.visible.sum() == 3


def test_crowd_annotations_are_skipped():
    keypoints = [0] * 51
    keypoints[:3] = [4, 5, 2]
    annotations = [
        {"image_id": 1, "iscrowd": 0, "keypoints": keypoints},
        {"image_id": 1, "iscrowd": 1, "keypoints": [0] * 51},
    ]
    poses = Poses.from_coco(annotations, COCO)
    assert len(poses) == 1
    assert poses[0]["nose"] == (4, 5, 1) and poses[0].score == 1
    assert len(Poses.from_coco([], COCO)) == 0


@pytest.mark.parametrize(
    ("results", "named"),
    [
        ([{"keypoints": [0] * 48}], ("51", "48", "17")),
        ([{"score": 1.0}], ("keypoints",)),
        ("results.json", ("from_coco", "list of dicts")),
        ({"keypoints": [0] * 51}, ("from_coco", "list of dicts")),
        ([[0] * 51], ("from_coco", "list of dicts")),
        (7, ("from_coco", "list of dicts")),
        ([{"keypoints": ["a"] * 51}], ("keypoints",)),
        ([{"keypoints": [0] * 51, "score": "high"}], ("score", "high")),
        (
            [{"image_id": 1, "keypoints": [0] * 51}, {"image_id": 2, "keypoints": [0] * 51}],
            ("image_id", "1, 2"),
        ),
    ],
)
def test_invalid_coco_results_are_errors(results, named):
    with pytest.raises(BodyPoseNetError) as error:
        Poses.from_coco(results, COCO)
    assert all(part in str(error.value) for part in named)


# Other packages


def test_a_data_frame_has_a_row_per_joint(poses):
    pandas = pytest.importorskip("pandas")
    frame = poses.to_dataframe()
    assert list(frame.columns) == ["person", "joint", "x", "y", "score", "person_score"]
    assert len(frame) == 6
    necks = frame[frame.joint == "neck"]
    assert necks.x.isna().tolist() == [False, True]
    means = frame.groupby("person").x.mean()
    np.testing.assert_allclose(means, np.nanmean(poses.keypoints[..., 0], axis=1), rtol=1e-6)
    tracked = replace(poses, track_ids=[7, 9], inferred=np.zeros((2, 3), bool)).to_dataframe()
    assert tracked.groupby("track_id").person_score.first().to_dict() == {7: 0.75, 9: 0.5}
    assert tracked.inferred.dtype == bool
    empty = Poses.empty(SKELETON).to_dataframe()
    assert list(empty.columns) == list(frame.columns) and not len(empty)
    assert isinstance(empty, pandas.DataFrame)


@dataclass
class KeyPoints:
    """A fake of supervision's class, with its fields."""

    xy: np.ndarray
    class_id: np.ndarray | None = None
    keypoint_confidence: np.ndarray | None = None
    detection_confidence: np.ndarray | None = None
    visible: np.ndarray | None = None
    data: dict = field(default_factory=dict)


def test_conversion_to_supervision(poses, monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(KeyPoints=KeyPoints))
    points = replace(poses, track_ids=[7, 9]).to_supervision()
    np.testing.assert_array_equal(points.xy[1], [[10, 20], [0, 0], [50, 60]])
    np.testing.assert_array_equal(points.visible, poses.visible)
    np.testing.assert_array_equal(points.keypoint_confidence, poses.keypoint_scores)
    np.testing.assert_array_equal(points.detection_confidence, poses.scores)
    assert points.class_id.tolist() == [0, 0]
    assert points.data["tracker_id"].tolist() == [7, 9]
    assert Poses.empty(SKELETON).to_supervision().xy.shape == (0, 3, 2)


@pytest.mark.filterwarnings("ignore")  # warnings of supervision
def test_supervision_draws_key_points(poses):
    supervision = pytest.importorskip("supervision")
    points = poses.to_supervision()
    assert len(points) == 2 and len(points[points.detection_confidence > 0.6]) == 1
    edges = [(start + 1, end + 1) for start, end in SKELETON.limbs]
    image = np.zeros((80, 80, 3), np.uint8)
    drawn = supervision.EdgeAnnotator(edges=edges).annotate(image.copy(), points)
    assert drawn.any()
    assert not drawn[30:].any()  # the second person has no neck, and so no limbs


@pytest.mark.parametrize(
    ("package", "convert"),
    [("pandas", Poses.to_dataframe), ("supervision", Poses.to_supervision)],
)
def test_a_package_that_is_not_installed_is_named(poses, monkeypatch, package, convert):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(BodyPoseNetError) as error:
        convert(poses)
    assert package in error.value.what and f"pip install {package}" in error.value.remedy
