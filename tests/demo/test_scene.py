"""Synthetic scenes: annotations match the pixels, the seed determines the result."""

import cv2
import numpy as np
import pytest
from faster_coco_eval.core import mask as coco_mask

from bodyposenet.demo import draw_scene
from bodyposenet.demo.pose import posed_body, random_pose


def scenes(count: int, size: int = 96, **options):
    return [draw_scene(np.random.default_rng(i), size, size, **options) for i in range(count)]


def people(scenes):
    return [person for _, persons in scenes for person in persons]


def test_the_same_seed_gives_the_same_scene():
    (image, persons), (again, same) = (
        draw_scene(np.random.default_rng(5), 96, 128) for _ in range(2)
    )
    assert image.shape == (96, 128, 3) and image.dtype == np.uint8
    np.testing.assert_array_equal(image, again)
    for person, twin in zip(persons, same, strict=True):
        np.testing.assert_array_equal(person.keypoints, twin.keypoints)


def test_keypoints_are_in_the_image_and_match_their_flags():
    drawn = people(scenes(60))
    keypoints = np.concatenate([person.keypoints for person in drawn])
    labeled = keypoints[:, 2] > 0
    assert set(keypoints[:, 2]) == {0, 1, 2}
    assert (keypoints[~labeled] == 0).all()
    assert keypoints[:, :2].min() >= -0.5 and keypoints[:, :2].max() <= 95.5
    for person in drawn:
        assert person.num_keypoints == (person.keypoints[:, 2] > 0).sum()


def test_visible_keypoints_box_and_area_match_the_silhouette():
    hits = []
    for _, persons in scenes(30):
        for person in persons:
            runs = coco_mask.frPyObjects(person.segmentation, 96, 96)
            silhouette = coco_mask.decode(coco_mask.merge(runs) if isinstance(runs, list) else runs)
            x, y, width, height = (int(length) for length in person.box)
            assert silhouette[y : y + height, x : x + width].sum() == silhouette.sum()
            # A polygon through the centers of the border pixels loses about half of them.
            lost = abs(int(silhouette.sum()) - person.area)
            assert lost <= 0.5 * (width + height) + 0.2 * person.area
            around = cv2.dilate(silhouette, np.ones((3, 3), np.uint8))
            visible = person.keypoints[person.keypoints[:, 2] == 2, :2].round().astype(int)
            hits += around[visible[:, 1], visible[:, 0]].tolist()
    assert np.mean(hits) > 0.98


def test_there_are_unlabeled_people_and_crowds():
    drawn = people(scenes(80))
    assert any(person.is_crowd for person in drawn)
    assert any(not person.is_crowd and person.num_keypoints == 0 for person in drawn)
    assert all(person.num_keypoints == 0 for person in drawn if person.is_crowd)


def test_most_people_are_tall():
    drawn = people(scenes(60, people=(1.0,)))
    heights = np.array([person.box[3] / 96 for person in drawn if not person.is_crowd])
    assert np.mean(heights > 0.5) > 0.6


def test_people_who_face_the_viewer_have_their_left_on_the_right_of_the_image():
    rng = np.random.default_rng(0)
    for _ in range(50):
        body = posed_body(random_pose(rng), camera_tilt=0)
        across = body.points["left_shoulder"][0] - body.points["right_shoulder"][0]
        facing = body.torso[2, 2]
        assert abs(facing) < 0.2 or across * facing > 0


def test_joints_can_be_any_points_of_the_body():
    joints = ("crown", "left_hand", "right_hand", "left_ankle", "right_ankle")
    keypoints = np.concatenate([person.keypoints for person in people(scenes(10, joints=joints))])
    assert keypoints.shape[1:] == (3,) and len(keypoints) % 5 == 0
    with pytest.raises(KeyError):
        scenes(1, joints=("tail",))
