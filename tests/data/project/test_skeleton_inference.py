"""Skeletons inferred from the names of joints, the limbs of a file, and annotated people."""

import numpy as np
import pytest

from bodyposenet.data.project.skeleton_inference import (
    Certainty,
    JointPositions,
    infer_skeleton,
)
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.skeleton import COCO_JOINTS, Skeleton
from bodyposenet.specs.pose import PoseConfiguration, load_skeleton

MPII = (
    "r_ankle", "r_knee", "r_hip", "l_hip", "l_knee", "l_ankle", "pelvis", "thorax", "upper_neck",
    "head_top", "r_wrist", "r_elbow", "r_shoulder", "l_shoulder", "l_elbow", "l_wrist",
)  # fmt: skip
ANIMAL = (
    "left_eye", "right_eye", "nose", "neck", "root_of_tail", "left_shoulder", "left_elbow",
    "left_front_paw", "right_shoulder", "right_elbow", "right_front_paw", "left_hip", "left_knee",
    "left_back_paw", "right_hip", "right_knee", "right_back_paw",
)  # fmt: skip
GERMAN = ("Kopf", "Hals", "Schulter", "Knie")


def named_limbs(skeleton: Skeleton) -> set[frozenset[str]]:
    return {frozenset(skeleton.joints[joint] for joint in limb) for limb in skeleton.limbs}


def is_connected(skeleton: Skeleton) -> bool:
    reached, size = {0}, 0
    while len(reached) > size:
        size = len(reached)
        reached |= {joint for limb in skeleton.limbs if reached & {*limb} for joint in limb}
    return size == len(skeleton.joints)


def certainties(inferred) -> dict[str, Certainty]:
    return {inference.topic: inference.certainty for inference in inferred.inferences}


def test_coco_joints_have_the_limbs_of_the_default_model():
    default = load_skeleton("bpnet_18joints.json")
    inferred = infer_skeleton("coco", COCO_JOINTS, [("left_hip", "right_hip")])
    assert inferred.skeleton.joints == (*COCO_JOINTS, "neck")
    assert named_limbs(inferred.skeleton) == named_limbs(default)
    assert set(certainties(inferred).values()) == {Certainty.SURE}
    assert inferred.is_mirrorable


@pytest.mark.parametrize(
    "joints",
    [
        ("nose", "left_shoulder", "right_shoulder", "left_hip", "right_hip"),
        ("Nose", "LShoulder", "RShoulder", "LHip", "RHip"),
        ("nose", "shoulder-l", "shoulder-r", "hip-l", "hip-r"),
        ("nose", "lshoulder", "rshoulder", "lhip", "rhip"),
    ],
)
def test_names_in_other_notations_have_the_same_limbs(joints):
    inferred = infer_skeleton("own", joints)
    skeleton = inferred.skeleton
    assert skeleton.joints == (*joints, "neck")
    assert skeleton.derived == {"neck": (joints[1], joints[2])}
    assert named_limbs(skeleton) == {frozenset({"neck", joint}) for joint in joints}
    assert skeleton.mirrored == (0, 2, 1, 4, 3, 5)
    assert inferred.is_mirrorable


def test_mpii_joints_are_connected_by_anatomy():
    inferred = infer_skeleton("mpii", MPII)
    limbs = named_limbs(inferred.skeleton)
    assert inferred.skeleton.joints == MPII  # the thorax is between the shoulders already
    assert is_connected(inferred.skeleton)
    for limb in (("r_hip", "r_knee"), ("pelvis", "l_hip"), ("thorax", "pelvis"),
                 ("upper_neck", "head_top"), ("thorax", "upper_neck")):  # fmt: skip
        assert frozenset(limb) in limbs
    assert certainties(inferred)["limbs"] is Certainty.LIKELY


def test_legs_of_animals_are_not_mixed_up():
    skeleton = infer_skeleton("animal", ANIMAL).skeleton
    limbs = named_limbs(skeleton)
    assert is_connected(skeleton)
    for limb in (("left_front_paw", "left_elbow"), ("left_back_paw", "left_knee"),
                 ("right_front_paw", "right_elbow"), ("neck", "root_of_tail")):  # fmt: skip
        assert frozenset(limb) in limbs
    assert len(limbs) == len(ANIMAL) - 1


def test_limbs_of_the_file_are_used_for_unknown_joints():
    limbs = [("nose", "Horn"), ("Horn", "Tip"), ("nose", "left_eye"), ("Tip", "not a joint")]
    skeleton = infer_skeleton("own", ("nose", "left_eye", "right_eye", "Horn", "Tip"), limbs)
    assert named_limbs(skeleton.skeleton) == {
        frozenset({"nose", "left_eye"}), frozenset({"nose", "right_eye"}),
        frozenset({"nose", "Horn"}), frozenset({"Horn", "Tip"}),
    }  # fmt: skip
    assert certainties(skeleton)["limbs"] is Certainty.SURE


def test_unknown_names_are_connected_by_the_distances_of_people():
    """A chain head - neck - shoulder - knee, whose joints are listed in another order."""
    generator = np.random.default_rng(0)
    offsets = np.array([[0, 0], [0, 20], [10, 5], [0, 60]], np.float64)
    turns = generator.normal(0, 0.4, (50, 4)).cumsum(axis=1)
    cos, sin = np.cos(turns), np.sin(turns)
    rotation = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
    chain = np.einsum("pjab,jb->pja", rotation, offsets).cumsum(axis=1)
    order = [2, 0, 3, 1]
    positions = JointPositions(chain[:, order], np.full(50, 85.0))
    joints = tuple(GERMAN[joint] for joint in order)
    inferred = infer_skeleton("own", joints, (), positions)
    chained = {("Kopf", "Hals"), ("Hals", "Schulter"), ("Schulter", "Knie")}
    assert named_limbs(inferred.skeleton) == {frozenset(limb) for limb in chained}
    assert certainties(inferred)["limbs"] is Certainty.LIKELY


def test_without_known_names_and_people_the_order_is_used():
    inferred = infer_skeleton("own", GERMAN)
    assert inferred.skeleton.limbs == ((0, 1), (1, 2), (2, 3))
    assert certainties(inferred)["limbs"] is Certainty.UNSURE
    assert certainties(inferred)["sides"] is Certainty.UNSURE
    assert not inferred.is_mirrorable


def test_both_sides_are_connected_alike():
    skeleton = infer_skeleton("own", ("nose", "left_hip", "right_hip")).skeleton
    assert skeleton.limbs == ((0, 1), (0, 2))


@pytest.mark.parametrize(
    ("joints", "sigmas"),
    [
        (("left_hand", "right_foot", "nose"), (0.062, 0.089, 0.026)),
        (("tail", "left_hip"), (0.079, 0.107)),
    ],
)
def test_sigmas_come_from_names(joints, sigmas):
    inferred = infer_skeleton("own", joints)
    assert inferred.skeleton.sigmas == sigmas
    assert certainties(inferred)["sigmas"] is not Certainty.SURE


def test_joints_of_one_side_only_are_not_mirrored():
    inferred = infer_skeleton("own", ("left_hip", "left_knee", "right_hip"))
    assert not inferred.is_mirrorable


@pytest.mark.parametrize(
    "joints", [(), ("nose",), ("nose", "nose"), ("nose", ""), tuple(map(str, range(513)))]
)
def test_joints_that_no_skeleton_can_have_are_an_error(joints):
    with pytest.raises(BodyPoseNetError):
        infer_skeleton("own", joints)


def test_inferred_skeletons_are_valid_pose_configurations():
    for joints in (COCO_JOINTS, MPII, ANIMAL, GERMAN):
        skeleton = infer_skeleton("own", joints).skeleton
        PoseConfiguration.model_validate(skeleton.to_pose_configuration(), strict=False)
