"""Limbs between the joints of a dataset."""

import pytest

from bodyposenet.data.coco import read_coco
from bodyposenet.data.dataset_skeleton import dataset_skeleton
from bodyposenet.skeleton import COCO_JOINTS
from bodyposenet.specs.pose import KeypointCategory
from tests.data.standing_people import standing_people, write_document


def limb_names(joints, images=(), **values):
    category = KeypointCategory(num_joints=len(joints), keypoints=joints, **values)
    skeleton = dataset_skeleton("test", category, images, {1, 2})
    assert skeleton.joints == tuple(joints)
    return {frozenset(skeleton.joints[joint] for joint in limb) for limb in skeleton.limbs}


@pytest.mark.parametrize(
    "given",
    [{"skeleton": ((1, 3),)}, {"skeleton_edge_names": (("a", "c"), ("a", "other"))}],
    ids=lambda given: next(iter(given)),
)
def test_limbs_of_the_dataset_spec_are_used(given):
    assert limb_names(("a", "b", "c"), **given) == {frozenset("ac")}


def test_limbs_of_the_body_are_known_in_any_notation():
    limbs = limb_names(COCO_JOINTS)
    assert len(limbs) == 19
    assert frozenset(("left_shoulder", "left_hip")) in limbs
    assert limb_names(("LHip", "LKnee", "RHip")) == {
        frozenset(("LHip", "LKnee")), frozenset(("LHip", "RHip")),
    }  # fmt: skip


def test_other_joints_are_connected():
    joints = ("left_shoulder", "right_shoulder", "neck", "head_top")
    assert frozenset(("neck", "head_top")) in limb_names(joints)
    assert limb_names(("nose",)) == set()


def test_joints_with_unknown_names_are_connected_too(tmp_path):
    document = standing_people(count=40)
    names = [f"k{number}" for number in range(len(COCO_JOINTS))]
    document["categories"][0]["keypoints"] = names
    images = read_coco(write_document(tmp_path, document), tuple(names)).images
    limbs = limb_names(tuple(names), images)
    assert set().union(*limbs) == set(names)
