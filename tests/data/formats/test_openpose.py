"""OpenPose's JSON."""

import json

import numpy as np
import pytest

from bodyposenet.data.formats import openpose
from bodyposenet.data.formats.predictions import ImagePredictions, PredictedImage
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.pose import bundled_pose_configuration, load_skeleton
from bodyposenet.types import Poses

from .predicted import images, poses, video

BODY_25 = (
    "Nose", "Neck", "RShoulder", "RElbow", "RWrist", "LShoulder", "LElbow", "LWrist", "MidHip",
    "RHip", "RKnee", "RAnkle", "LHip", "LKnee", "LAnkle", "REye", "LEye", "REar", "LEar",
    "LBigToe", "LSmallToe", "LHeel", "RBigToe", "RSmallToe", "RHeel",
)  # fmt: skip


def read(path) -> np.ndarray:
    """Return (N, K, 3) x, y and score of the people in a file."""
    document = json.loads(path.read_text())
    assert document["version"] == 1.3
    people = [person["pose_keypoints_2d"] for person in document["people"]]
    return np.array(people).reshape(len(people), len(people[0]) // 3 if people else 0, 3)


def test_one_file_per_image(tmp_path):
    openpose.OUTPUT_FORMAT.write_images(tmp_path, images())
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "a_keypoints.json", "b_keypoints.json", "empty_keypoints.json",
    ]  # fmt: skip
    found, expected = read(tmp_path / "a_keypoints.json"), poses()
    np.testing.assert_allclose(found[..., :2], np.nan_to_num(expected.keypoints), atol=0.01)
    np.testing.assert_allclose(found[..., 2], expected.keypoint_scores, atol=1e-4)
    assert found[0, 0].tolist() == [0, 0, 0]
    assert len(read(tmp_path / "empty_keypoints.json")) == 0


def test_one_file_per_frame_with_track_ids(tmp_path):
    openpose.OUTPUT_FORMAT.write_video(tmp_path, video())
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == [f"dance_{index:012}_keypoints.json" for index in range(3)]
    people = [json.loads((tmp_path / name).read_text())["people"] for name in names]
    assert [[person["person_id"] for person in found] for found in people] == [
        [[1]], [[4], [1]], [[-1]],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("joints", "order"),
    [
        (("tail", *reversed(BODY_25)), [25 - k for k in range(25)]),
        (("tail", "head"), [0, 1]),
    ],
)
def test_the_order_is_that_of_openpose_if_possible(tmp_path, joints, order):
    skeleton = Skeleton("test", tuple(joints), ())
    points = np.arange(2 * len(joints), dtype=np.float32).reshape(1, -1, 2) + 1
    people = Poses(points, np.ones(points.shape[:2], np.float32), np.ones(1), skeleton)
    image = PredictedImage("a.jpg", "a", 1, 100, 100, people)
    openpose.OUTPUT_FORMAT.write_images(tmp_path, ImagePredictions([image], skeleton, "test"))
    found = read(tmp_path / "a_keypoints.json")
    np.testing.assert_array_equal(found[0, :, :2], points[0, order])


def test_the_default_skeleton_has_the_order_of_openposes_coco_model():
    skeleton = load_skeleton(bundled_pose_configuration("bpnet_18joints.json"))
    names = [name for name in BODY_25[:19] if name != "MidHip"]
    assert skeleton.match(names) == tuple(range(18))
