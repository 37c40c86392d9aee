"""Predictions as annotations: joints in the image, visibility flags, boxes."""

import numpy as np
import pytest

from bodyposenet.data.formats.document import OCCLUDED, VISIBLE
from bodyposenet.data.formats.predictions import MISSING, PredictedImage, annotation_skeleton
from bodyposenet.skeleton import COCO_JOINTS, Skeleton
from bodyposenet.types import Poses

from ...media.walkers import SKELETON, as_poses, walker
from .predicted import HEIGHT, WIDTH, images, poses


def test_flags_tell_detected_inferred_and_missing_joints():
    labels = images().images[0].labels()
    flags = dict(zip(SKELETON.joints, labels.visibility[0], strict=True))
    assert flags["nose"] == flags["right_ankle"] == MISSING
    assert flags["left_wrist"] == OCCLUDED
    assert set(flags.values()) == {VISIBLE, OCCLUDED, MISSING}
    assert (labels.visibility[1] == VISIBLE).all()
    assert (labels.keypoints[labels.visibility == MISSING] == 0).all()
    assert (labels.keypoint_scores[labels.visibility == MISSING] == 0).all()


def test_boxes_contain_the_joints_with_a_margin():
    box = images().images[1].labels().boxes[0]
    low, high = poses().keypoints[1].min(0), poses().keypoints[1].max(0)
    margin = 0.1 * (high - low).max()
    np.testing.assert_allclose(box[:2], (low - margin).clip(0), atol=1e-3)
    np.testing.assert_allclose(box[2:], np.minimum(high + margin, (WIDTH, HEIGHT)), atol=1e-3)


def test_joints_of_the_first_and_last_pixel_are_in_the_image():
    points = walker(60, 40, 150, 0)[None]
    points[0, :4] = [(-0.5, 10), (-0.6, 10), (319.5, 10), (319.6, 10)]
    image = PredictedImage("a.jpg", "a", 1, WIDTH, HEIGHT, as_poses(points))
    labels = image.labels()
    assert labels.visibility[0, :4].tolist() == [VISIBLE, MISSING, VISIBLE, MISSING]
    assert labels.keypoints[0, 0].tolist() == [0, 10]


def test_people_with_one_joint_are_omitted():
    points = np.full((2, 17, 2), np.nan)
    points[:, 3] = points[1, 5] = 20
    points[1, 5] = 30
    image = PredictedImage("a.jpg", "a", 1, WIDTH, HEIGHT, as_poses(points))
    assert len(image.labels()) == 1


@pytest.mark.parametrize(
    ("joints", "is_coco"),
    [
        (COCO_JOINTS, True),
        (("neck", *reversed(COCO_JOINTS)), True),
        ((*COCO_JOINTS, "left_foot"), False),
        (COCO_JOINTS[:-1], False),
    ],
)
def test_annotations_have_cocos_joints_if_the_others_are_derived(joints, is_coco):
    skeleton = Skeleton("test", joints, ((0, 1),))
    chosen = annotation_skeleton(skeleton)
    assert chosen.joints == (COCO_JOINTS if is_coco else joints)
    points = np.arange(2.0 * len(joints)).reshape(1, -1, 2)
    people = Poses(points, np.ones((1, len(joints))), np.ones(1), skeleton)
    labels = PredictedImage("a.jpg", "a", 1, 99, 99, people).labels()
    expected = [points[0, joints.index(joint)] for joint in chosen.joints]
    np.testing.assert_array_equal(labels.keypoints[0], expected)
