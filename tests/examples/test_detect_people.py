"""Tests of examples/default_model/detect_people.py, with fakes for both networks."""

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from bodyposenet.data.coco import CocoImage
from bodyposenet.data.detections import read_detections
from bodyposenet.data.pseudo_labels import PseudoLabelOptions, add_pseudo_labels
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.inference.models import DEFAULT_MODEL_FOLDER, INT8_FILE
from bodyposenet.skeleton import COCO_JOINTS
from bodyposenet.specs.pose import load_skeleton
from bodyposenet.types import Poses
from examples.default_model import detect_people

SKELETON = load_skeleton("bpnet_18joints.json")
OURS = [SKELETON.joints.index(joint) for joint in COCO_JOINTS]
IMAGE = np.zeros((240, 480, 3), np.uint8)
HIGH, LOW = 0.65, 0.2
"""The scores of examples/default_model/README.md."""

BODY = np.array(
    [
        (0, -50), (2, -52), (-2, -52), (5, -50), (-5, -50), (12, -35), (-12, -35), (18, -15),
        (-18, -15), (20, 0), (-20, 0), (8, 5), (-8, 5), (9, 30), (-9, 30), (10, 55), (-10, 55),
    ],
    np.float64,
)  # fmt: skip
"""COCO's 17 joints of a standing person around (0, 0)."""


def points_at(center):
    return BODY + np.array(center)


def people_at(*centers, score=0.9):
    keypoints = np.full((len(centers), len(SKELETON.joints), 2), np.nan, np.float32)
    for person, center in enumerate(centers):
        keypoints[person, OURS] = points_at(center)
    scores = np.where(np.isnan(keypoints[..., 0]), 0, 0.7).astype(np.float32)
    return Poses(keypoints, scores, np.full(len(centers), score, np.float32), SKELETON)


class SecondNetwork:
    """Fake network that returns given poses.

    Args:
        monkeypatch: Records the transform of each crop.
        poses: (17, 3) for each call: x and y in the image, and score.
    """

    def __init__(self, monkeypatch, *poses):
        self.poses = list(poses)
        self.calls = 0
        crop_affine = detect_people.crop_affine

        def record(points):
            self.to_crop = crop_affine(points)
            return self.to_crop

        monkeypatch.setattr(detect_people, "crop_affine", record)

    def __call__(self, crop):
        assert crop.shape == (256, 256, 3)
        pose = self.poses[self.calls]
        self.calls += 1
        return np.column_stack([self.to_crop.apply(pose[:, :2]), pose[:, 2]])


def body_at(center, score=0.9):
    return np.column_stack([points_at(center), np.full(len(BODY), score)])


def test_a_confirmed_person_gets_confident_keypoints(monkeypatch):
    poses = people_at((100, 100))
    missing, unsure, far = (COCO_JOINTS.index(f"left_{part}") for part in ("ear", "hip", "wrist"))
    poses.keypoints[0, OURS[missing]] = np.nan
    poses.keypoint_scores[0, OURS[missing]] = 0
    second = body_at((102, 100))
    second[unsure, 2] = 0.3
    second[far, :2] += 60
    refined = detect_people.refine(poses, IMAGE, SecondNetwork(monkeypatch, second))
    assert HIGH < refined.scores[0] <= poses.scores[0]
    expected = points_at((101, 100))
    expected[unsure] = points_at((100, 100))[unsure]
    expected[far] = second[far, :2]
    expected[missing] = second[missing, :2]
    np.testing.assert_allclose(refined.keypoints[0, OURS], expected, atol=0.01)
    assert refined.keypoint_scores[0, OURS[missing]] == pytest.approx(0.9)
    assert refined.keypoint_scores[0, OURS[unsure]] == pytest.approx(0.7)


def test_a_person_with_two_different_estimates_is_masked(monkeypatch):
    poses = people_at((100, 100))
    neighbor = SecondNetwork(monkeypatch, body_at((190, 100)))
    refined = detect_people.refine(poses, IMAGE, neighbor)
    assert LOW < refined.scores[0] < HIGH
    np.testing.assert_array_equal(refined.keypoints, poses.keypoints)


def test_crowds_are_masked_without_a_second_estimate(monkeypatch):
    crowd = (100, 100), (110, 102), (118, 98)
    poses = people_at(*crowd, (300, 100))
    second = SecondNetwork(monkeypatch, body_at((300, 100)))
    refined = detect_people.refine(poses, IMAGE, second)
    assert second.calls == 1
    assert ((refined.scores > LOW) & (refined.scores < HIGH)).tolist() == [True] * 3 + [False]
    assert refined.scores[3] > HIGH
    np.testing.assert_array_equal(refined.keypoints[:3], poses.keypoints[:3])
    np.testing.assert_array_equal(detect_people.lower_crowds(poses).scores[:3], refined.scores[:3])
    assert detect_people.lower_crowds(poses).scores[3] == poses.scores[3]


def test_two_people_side_by_side_are_not_a_crowd(monkeypatch):
    pair = (100, 100), (115, 100)
    second = SecondNetwork(monkeypatch, *map(body_at, pair))
    assert (detect_people.refine(people_at(*pair), IMAGE, second).scores > HIGH).all()


def test_no_people_and_people_with_few_keypoints_are_not_estimated_again(monkeypatch):
    second = SecondNetwork(monkeypatch)
    assert len(detect_people.refine(Poses.empty(SKELETON), IMAGE, second)) == 0
    poses = people_at((100, 100))
    poses.keypoints[0, OURS[2:]] = np.nan
    assert detect_people.refine(poses, IMAGE, second).scores[0] < HIGH
    assert second.calls == 0


def test_the_crop_is_a_square_around_the_person():
    points = points_at((100, 80))
    to_crop = detect_people.crop_affine(points)
    middle = (points.min(0) + points.max(0)) / 2
    np.testing.assert_allclose(to_crop.apply(middle), [127.5, 127.5])
    longer = np.ptp(points, axis=0).max()
    assert np.ptp(to_crop.apply(points), axis=0).max() == pytest.approx(256 / 1.4)
    assert to_crop.scale == pytest.approx(256 / (1.4 * longer))


def write_thunder(path, poses):
    """An ONNX model that returns the same (17, 3) of y, x and score for every crop."""
    answer = helper.make_tensor("answer", TensorProto.FLOAT, (1, 1, 17, 3), poses.ravel())
    graph = helper.make_graph(
        [helper.make_node("Constant", [], ["poses"], value=answer)],
        "thunder",
        [helper.make_tensor_value_info("input", TensorProto.UINT8, (1, 256, 256, 3))],
        [helper.make_tensor_value_info("poses", TensorProto.FLOAT, (1, 1, 17, 3))],
    )
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)


def test_thunder_returns_pixels_of_the_crop(tmp_path):
    answer = np.tile(np.float32([0.25, 0.5, 0.9]), (17, 1))
    write_thunder(tmp_path / "thunder.onnx", answer)
    found = detect_people.Thunder(tmp_path / "thunder.onnx")(np.zeros((256, 256, 3), np.uint8))
    np.testing.assert_allclose(found, np.tile([127.5, 63.5, 0.9], (17, 1)), rtol=1e-6)


def test_another_network_is_not_accepted_as_thunder():
    with pytest.raises(BodyPoseNetError, match=INT8_FILE):
        detect_people.Thunder(DEFAULT_MODEL_FOLDER / INT8_FILE)


def test_a_missing_or_broken_file_of_thunder_is_an_error(tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    for name in ("missing.onnx", "broken.onnx"):
        with pytest.raises(BodyPoseNetError, match=name):
            detect_people.Thunder(tmp_path / name)


@pytest.mark.parametrize("refine", [True, False])
def test_the_detections_become_labels_and_masks(refine, tmp_path, monkeypatch, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("alone.png", "broken.png", "crowd.png"):
        cv2.imwrite(str(photos / name), IMAGE)
    (photos / "broken.png").write_bytes(b"")
    found = {1: people_at((100, 100)), 3: people_at((100, 100), (110, 102), (118, 98))}
    poses = iter(found.values())
    opened = []

    def open_engine(spec, model, *options):
        opened.append(model)
        return SimpleNamespace(skeleton=SKELETON)

    def make_predictor(engine, spec):
        class FakePredictor:
            def __call__(self, image):
                return next(poses)

        FakePredictor.spec = spec
        return FakePredictor()

    monkeypatch.setattr(detect_people, "open_engine", open_engine)
    monkeypatch.setattr(detect_people, "Predictor", make_predictor)
    output = tmp_path / "people.json"
    flags = ["--images", str(photos), "-o", str(output), "-m", "model.onnx"]
    if refine:
        to_crop = detect_people.crop_affine(points_at((100, 100)))
        answer = body_at((100, 100))
        answer[:, :2] = (to_crop.apply(answer[:, :2]) + 0.5)[:, ::-1] / 256
        write_thunder(tmp_path / "thunder.onnx", answer.astype(np.float32))
        flags += ["--refine", str(tmp_path / "thunder.onnx")]
    monkeypatch.setattr(sys, "argv", ["detect_people.py", *flags])
    detect_people.main()
    assert opened == ["model.onnx"]
    assert "4 people in 3 photos" in capsys.readouterr().out

    images = [
        CocoImage(number, f"{name}.png", 240, 480, ())
        for number, name in enumerate(("alone", "broken", "crowd"), 1)
    ]
    detections = read_detections(output, images, COCO_JOINTS)
    assert detections.skipped["images that the model could not read"] == 1
    added = add_pseudo_labels(
        images, detections.by_image, PseudoLabelOptions(HIGH, LOW, visibility_flag=2)
    )
    alone, broken, crowd = (image.persons for image in added.images)
    assert [person.num_keypoints for person in alone] == [17]
    np.testing.assert_allclose(alone[0].keypoints[:, :2], points_at((100, 100)), atol=0.01)
    assert broken == ()
    assert crowd
    assert all(person.is_crowd for person in crowd)


@pytest.mark.parametrize(
    ("flags", "message"),
    [("-m missing.onnx", "missing.onnx"), ("--refine thunder.onnx", "thunder.onnx")],
)
def test_missing_files_end_with_an_error(flags, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("photo.png", IMAGE)
    argv = ["detect_people.py", "--images", ".", "-o", "people.json", *flags.split()]
    monkeypatch.setattr(sys, "argv", argv)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(Path(detect_people.__file__)), run_name="__main__")
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
