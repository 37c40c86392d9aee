"""Skeletons: properties derived from joint names, validation, and mapping of joints."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.skeleton import COCO_JOINTS, Skeleton, oks_sigmas, other_side, part_of, side_of
from bodyposenet.specs.pose import load_skeleton

TAO = load_skeleton("bpnet_18joints.json")
COCO = load_skeleton("coco_17joints.json")
LINKED = load_skeleton("bpnet_18joints_22limbs.json")


@st.composite
def skeletons(draw) -> Skeleton:
    """Skeletons of 1 to 30 joints in any order, whose limbs are a tree."""
    parts = draw(st.lists(st.sampled_from("abcdefghijkmnop"), unique=True, min_size=1, max_size=15))
    names = [
        name
        for part in parts
        for name in draw(st.sampled_from([[part], [f"left_{part}", f"right_{part}"]]))
    ]
    joints = tuple(draw(st.permutations(names)))
    count = len(joints)
    limbs = [(draw(st.integers(0, end - 1)), end) for end in range(1, count)]
    return Skeleton("any", joints, tuple(limbs))


def test_channels_of_the_shipped_skeletons():
    assert (TAO.heatmap_channels, TAO.paf_channels) == (19, 38)
    assert (COCO.heatmap_channels, COCO.paf_channels) == (18, 38)
    assert COCO.joints == COCO_JOINTS
    assert (LINKED.heatmap_channels, LINKED.paf_channels) == (19, 44)


def test_22_limbs_are_those_of_tao_and_three_of_the_trunk():
    assert LINKED.joints == TAO.joints
    assert LINKED.limbs[:19] == TAO.limbs
    assert [tuple(LINKED.joints[joint] for joint in limb) for limb in LINKED.limbs[19:]] == [
        ("right_hip", "left_hip"), ("right_shoulder", "right_hip"), ("left_shoulder", "left_hip"),
    ]  # fmt: skip


@pytest.mark.parametrize("skeleton", [TAO, COCO, LINKED], ids=["tao", "coco", "22 limbs"])
def test_limbs_from_shoulder_to_ear_are_auxiliary(skeleton):
    ends = [{skeleton.joints[joint] for joint in skeleton.limbs[k]} for k in skeleton.auxiliary]
    assert {"right_shoulder", "right_ear"} in ends
    assert {"left_shoulder", "left_ear"} in ends
    assert len(ends) == 2


def test_auxiliary_limbs_can_be_changed_or_empty():
    for auxiliary in ((), (0, 3)):
        skeleton = Skeleton("own", TAO.joints, TAO.limbs, auxiliary=auxiliary)
        assert skeleton.auxiliary == auxiliary
        configuration = skeleton.to_pose_configuration()
        assert Skeleton.from_pose_configuration(configuration) == skeleton


@pytest.mark.parametrize("key", ["auxiliary_limbs", "completing_limbs"])
def test_an_auxiliary_limb_must_be_a_limb(key, tmp_path):
    configuration = TAO.to_pose_configuration()
    del configuration["categories"][0]["auxiliary_limbs"]
    configuration["categories"][0][key] = [["nose", "left_ankle"]]
    path = tmp_path / "pose.json"
    path.write_text(json.dumps(configuration))
    with pytest.raises(BodyPoseNetError, match=r"auxiliary_limbs: .*'nose', 'left_ankle'"):
        load_skeleton(path)


def test_old_key_of_auxiliary_limbs_is_accepted(tmp_path, caplog):
    caplog.set_level("INFO")
    skeleton = Skeleton("own", TAO.joints, TAO.limbs, auxiliary=(0, 3))
    configuration = skeleton.to_pose_configuration()
    (category,) = configuration["categories"]
    category["completing_limbs"] = category.pop("auxiliary_limbs")
    path = tmp_path / "pose.json"
    path.write_text(json.dumps(configuration, indent=1))
    assert Skeleton.from_pose_configuration(configuration) == skeleton
    assert "deprecated" not in caplog.text
    assert load_skeleton(path) == load_skeleton(path) == skeleton
    (line,) = [record.getMessage() for record in caplog.records]
    assert "pose.json" in line and "auxiliary_limbs" in line
    with pytest.warns(DeprecationWarning, match="auxiliary"):
        assert skeleton.completing == (0, 3)


def test_both_keys_of_auxiliary_limbs_are_an_error(tmp_path):
    configuration = TAO.to_pose_configuration()
    configuration["categories"][0]["completing_limbs"] = []
    path = tmp_path / "pose.json"
    path.write_text(json.dumps(configuration))
    with pytest.raises(BodyPoseNetError, match="completing_limbs"):
        load_skeleton(path)


def test_mirror_pairs_of_tao_skeleton():
    expected = {5: 2, 6: 3, 7: 4, 11: 8, 12: 9, 13: 10, 15: 14, 17: 16, 0: 0, 1: 1}
    for left, right in expected.items():
        assert TAO.mirrored[left] == right
        assert TAO.mirrored[right] == left


def test_mirror_pairs_are_matched_by_name():
    skeleton = Skeleton("odd", ("right_b", "left_a", "right_a", "left_b", "left_c"), ())
    assert skeleton.mirrored == (3, 2, 1, 0, 4)


@given(skeletons())
def test_mirroring_twice_is_the_identity(skeleton):
    mirrored = np.array(skeleton.mirrored)
    np.testing.assert_array_equal(mirrored[mirrored], np.arange(len(skeleton.joints)))
    for joint, other in zip(skeleton.joints, mirrored, strict=True):
        sides = {side_of(joint), side_of(skeleton.joints[other])}
        assert sides in ({""}, {"left", "right"})


@given(skeletons())
def test_pose_configurations_contain_the_whole_skeleton(skeleton):
    assert Skeleton.from_pose_configuration(skeleton.to_pose_configuration()) == skeleton


def test_round_trip_keeps_sigmas_and_derived_joints():
    skeleton = Skeleton(
        "own", ("a", "b", "middle"), ((0, 2),),
        sigmas=(0.1, 0.2, 0.3), derived={"middle": ("a", "b")},
    )  # fmt: skip
    assert Skeleton.from_pose_configuration(skeleton.to_pose_configuration()) == skeleton


@given(skeletons())
def test_colors_are_bytes(skeleton):
    assert len(skeleton.colors) == len(skeleton.limbs)
    assert all(0 <= value <= 255 for color in skeleton.colors for value in color)


@pytest.mark.parametrize("skeleton", [TAO, COCO], ids=["tao", "coco"])
def test_colors_differ_by_limb_and_side(skeleton):
    assert len(set(skeleton.colors)) == len(skeleton.limbs)
    for (start, end), (red, _, blue) in zip(skeleton.limbs, skeleton.colors, strict=True):
        sides = {side_of(skeleton.joints[start]), side_of(skeleton.joints[end])} - {""}
        if sides == {"right"}:
            assert red > blue
        elif sides == {"left"}:
            assert blue > red


@pytest.mark.parametrize(
    ("joint", "side", "other"),
    [
        ("left_hip", "left", "right_hip"),
        ("hip_right", "right", "hip_left"),
        ("Left_Hip", "left", "Right_Hip"),
        ("left-hip", "left", "right-hip"),
        ("LeftHand", "left", "RightHand"),
        ("rightFoot", "right", "leftFoot"),
        ("left hand", "left", "right hand"),
        ("L_hand", "left", "R_hand"),
        ("hand-r", "right", "hand-l"),
        ("LHand", "left", "RHand"),
        ("LEFT_HAND", "left", "RIGHT_HAND"),
        ("left_l", "left", "right_l"),
        ("leftFinger2", "left", "rightFinger2"),
        ("nose", "", "nose"),
        ("L5", "", "L5"),
        ("lip", "", "lip"),
        ("leftover", "", "leftover"),
        ("leftear", "left", "rightear"),
        ("lknee", "left", "rknee"),
        ("rhand_2", "right", "lhand_2"),
        ("rear", "", "rear"),
    ],
)
def test_sides(joint, side, other):
    assert side_of(joint) == side
    assert other_side(joint) == other


@pytest.mark.parametrize("skeleton", [TAO, COCO, LINKED], ids=["tao", "coco", "22 limbs"])
def test_equal_skeletons_have_equal_hashes(skeleton):
    again = Skeleton.from_pose_configuration(skeleton.to_pose_configuration())
    assert hash(again) == hash(skeleton)
    assert {skeleton: "found"}[again] == "found"
    assert len({TAO, COCO, LINKED, skeleton}) == 3


def test_skeleton_of_lists_is_hashable():
    skeleton = Skeleton("own", ["a", "b"], [[0, 1]], sigmas=[0.1, 0.2], auxiliary=[])
    assert skeleton == Skeleton("own", ("a", "b"), ((0, 1),), sigmas=(0.1, 0.2), auxiliary=())
    assert hash(skeleton)


@pytest.mark.parametrize(
    ("joint", "index"),
    [
        ("left_ear", 0),
        ("LEar", 0),
        ("ear-l", 0),
        ("EAR_RIGHT", 1),
        ("Nose", 2),
        ("left_big_toe", 3),
        ("toe_big_left", 3),
        ("left_toe", None),
        ("ear", None),
        ("right_big_toe", None),
    ],
)
def test_joints_match_by_side_and_words(joint, index):
    skeleton = Skeleton("own", ("left_ear", "right_ear", "nose", "left_big_toe"), ())
    assert skeleton.match([joint]) == (index,)


def test_ambiguous_names_match_exactly_or_not_at_all():
    doubled = Skeleton("own", ("left_ear", "LEar"), ())
    assert doubled.match(["left_ear", "LEar"]) == (0, 1)
    assert doubled.match(["EarLeft"]) == (None,)
    assert Skeleton("own", ("left_ear",), ()).match(["LEar", "EarLeft"]) == (None, None)
    assert TAO.match(COCO_JOINTS) == tuple(TAO.joints.index(joint) for joint in COCO_JOINTS)


@given(st.text("lLrRef tT_-1", max_size=12))
def test_other_side_twice_is_the_identity(joint):
    assert other_side(other_side(joint)) == joint


@pytest.mark.parametrize("joint", ["right_ear", "ear_right", "RightEar", "right ear", "ear-R"])
def test_part_of_is_the_name_without_its_side(joint):
    assert part_of(joint) == "ear"
    assert oks_sigmas((joint,)) == (0.035,)


def test_unpaired_joints():
    joints = ("LeftHand", "RightHand", "leftFoot", "right_foot", "tail", "left_horn")
    skeleton = Skeleton("odd", joints, ())
    assert skeleton.mirrored == (1, 0, 2, 3, 4, 5)
    assert skeleton.unpaired == ("leftFoot", "right_foot", "left_horn")
    assert not TAO.unpaired


def test_sigmas_by_name():
    assert oks_sigmas(("left_hip", "nose", "neck", "tail")) == (0.107, 0.026, 0.079, 0.079)
    assert COCO.sigmas == (
        0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062,
        0.107, 0.107, 0.087, 0.087, 0.089, 0.089,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((("a", "a"), ()), "names occur twice: \\['a'\\]"),
        ((("a", "b"), ((0, 0),)), "limb \\(0, 0\\) does not connect two of its 2 joints"),
        ((("a", "b"), ((0, 2),)), "limb \\(0, 2\\)"),
        ((("a", "b"), ((-1, 0),)), "limb \\(-1, 0\\)"),
        ((("a", "b"), ((0, 1),), (0.1,)), "expected 2 sigmas.*got 1"),
        ((("a", "b"), ((0, 1),), (), {}, (1,)), r"auxiliary \(1,\)"),
    ],
)
def test_invalid_skeletons_are_errors(arguments, message):
    with pytest.raises(BodyPoseNetError, match=message):
        Skeleton("bad", *arguments)


def people(*labeled_shoulders: tuple[bool, bool]) -> tuple[np.ndarray, np.ndarray]:
    """Return COCO people with joint d at (d, 10 d); all joints but the shoulders are labeled."""
    d = np.arange(17.0)
    points = np.tile(np.stack([d, 10 * d], axis=1), (len(labeled_shoulders), 1, 1))
    labeled = np.ones((len(labeled_shoulders), 17), bool)
    labeled[:, 5:7] = labeled_shoulders
    return points, labeled


def test_a_neck_needs_both_shoulders():
    mapping = TAO.joints_from(COCO_JOINTS)
    points, labeled = people((True, True), (True, False), (False, True), (False, False))
    mapped, found = mapping.keypoints(points, labeled)
    np.testing.assert_array_equal(found[:, 1], [True, False, False, False])
    np.testing.assert_array_equal(mapped[0, 1], (5.5, 55))
    np.testing.assert_array_equal(mapped[1:, 1], np.zeros((3, 2)))


def test_joints_are_mapped_by_name():
    points, labeled = people((True, True))
    mapped, found = TAO.joints_from(COCO_JOINTS).keypoints(points, labeled)
    assert found.all()
    for joint, place in zip(TAO.joints, mapped[0], strict=True):
        if joint != "neck":
            assert place[0] == COCO_JOINTS.index(joint)


def test_annotated_neck_is_not_derived():
    mapping = TAO.joints_from(("neck", "left_shoulder", "right_shoulder"))
    points = np.array([[[7.0, 7.0], [0, 0], [2, 2]]])
    mapped, found = mapping.keypoints(points, np.array([[True, False, False]]))
    np.testing.assert_array_equal(mapped[0, 1], (7, 7))
    assert found[0].sum() == 1


def test_known_joints():
    joints = tuple(j for j in COCO_JOINTS if j not in ("nose", "left_ear"))
    known = TAO.joints_from(joints).known
    assert [j for j, is_known in zip(TAO.joints, known, strict=True) if not is_known] == [
        "nose",
        "left_ear",
    ]
    assert TAO.joints_from(("LShoulder", "shoulder right")).known[1]
    one_shoulder = tuple(j for j in COCO_JOINTS if j != "left_shoulder")
    assert not TAO.joints_from(one_shoulder).known[1]


def test_mapping_of_no_people_is_empty():
    mapped, found = TAO.joints_from(COCO_JOINTS).keypoints(
        np.zeros((0, 17, 2)), np.zeros((0, 17), bool)
    )
    assert mapped.shape == (0, 18, 2)
    assert found.shape == (0, 18)
