"""PCK and PCKh on constructed poses."""

import numpy as np
import pytest

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.evaluation.image_poses import ImagePoses
from bodyposenet.evaluation.pck import pck_scores

JOINTS = ("head_top", "neck", "left_shoulder", "right_hip", "left_hand")
PERSON = np.array([[50, 0], [50, 20], [60, 30], [0, 110], [80, 60]], float)
"""A box of 80 x 200 pixels, a torso of 100 and a head of 20."""
BOX = (0.0, 0.0, 80.0, 200.0)


def image_of(people, poses) -> ImagePoses:
    people, poses = (np.array(one, float).reshape(-1, 5, 2) for one in (people, poses))
    return ImagePoses(
        image_id=1,
        truth=people,
        annotated=np.ones(people.shape[:2], bool),
        labeled=np.ones(people.shape[:2], bool),
        areas=np.full(len(people), 16e3),
        boxes=np.array([(*person[0] - [50, 0], *BOX[2:]) for person in people]).reshape(-1, 4),
        crowds=np.zeros(len(people), bool),
        poses=poses,
        detected=np.ones(poses.shape[:2], bool),
        scores=np.linspace(0.9, 0.5, len(poses)),
    )


def pck(reference, *images) -> dict[str, float]:
    return pck_scores(images, JOINTS, reference).metrics()


def test_thresholds_are_fractions_of_the_reference_length():
    pose = PERSON + np.array([[0, 0], [11, 0], [0, 15], [0, 25], [50, 0]])
    image = image_of([PERSON], [pose])
    box = {"PCK_0.05": 1 / 5, "PCK_0.1": 3 / 5, "PCK_0.2": 4 / 5}  # 10, 20 and 40 pixels
    torso = {"PCK_0.05": 1 / 5, "PCK_0.1": 1 / 5, "PCK_0.2": 3 / 5}  # 5, 10 and 20 pixels
    head = {"PCKh_0.1": 1 / 5, "PCKh_0.5": 1 / 5}  # 2 and 10 pixels
    for reference, expected in (("box", box), ("torso", torso), ("head", head)):
        assert pck(reference, image) == pytest.approx(expected)


def test_pck_of_each_joint():
    pose = PERSON + np.array([[0, 0], [0, 0], [0, 0], [0, 0], [100, 0]])
    scores = pck_scores([image_of([PERSON], [pose]), image_of([PERSON], [])], JOINTS, "box")
    assert scores.joint_pck(0.2) == dict(zip(JOINTS, [0.5, 0.5, 0.5, 0.5, 0.0], strict=True))


def test_each_pose_belongs_to_the_person_with_the_most_correct_keypoints():
    other = PERSON + np.array(
        [30, 0]
    )  # all keypoints are within 0.2 of the longer side of both boxes
    image = image_of([PERSON, other], [other, PERSON])
    assert pck("torso", image)["PCK_0.05"] == 1
    assert pck("torso", image_of([PERSON, other], [other]))["PCK_0.05"] == 0.5


def test_undetected_keypoints_are_wrong_and_unlabeled_ones_do_not_count():
    image = image_of([PERSON], [PERSON])
    image.detected[0, :2] = False
    image.labeled[0, 4] = False
    assert pck("box", image)["PCK_0.2"] == pytest.approx(2 / 4)


def test_people_without_the_reference_length_do_not_count():
    image = image_of([PERSON, PERSON + 500], [PERSON])
    image.annotated[1, 1] = image.labeled[1, 1] = False
    scores = pck_scores([image], JOINTS, "head")
    assert scores.skipped_people == 1
    assert scores.metrics()["PCKh_0.5"] == 1


def test_the_model_need_not_have_the_joints_of_the_reference_length():
    image = image_of([PERSON], [PERSON]).with_joints(np.array([False, True, True, True, True]))
    scores = pck_scores([image], JOINTS, "head")
    assert scores.metrics()["PCKh_0.5"] == 1
    assert "head_top" not in scores.joint_pck(0.5)


def test_weights_of_images():
    images = [image_of([PERSON], [PERSON]), image_of([PERSON], [])]
    scores = pck_scores(images, JOINTS, "box")
    assert scores.metrics(np.array([3.0, 1.0]))["PCK_0.2"] == pytest.approx(3 / 4)


def test_without_people_the_pck_is_minus_1():
    assert set(pck("box", image_of([], [PERSON])).values()) == {-1}


def test_a_dataset_without_the_joints_of_the_reference_length_is_an_error():
    with pytest.raises(BodyPoseNetError, match="head"):
        pck_scores([image_of([PERSON], [])], ("a", "b", "c", "d", "e"), "head")
