"""write_result_files: results.csv, results.json and plots of an evaluation."""

import csv
import json

import cv2
import numpy as np
import pytest

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.evaluation import evaluate_poses
from bodyposenet.reporting.plots import plot_keypoint_errors
from bodyposenet.reporting.result_files import write_result_files
from bodyposenet.skeleton import COCO_JOINTS, Skeleton

from ..evaluation.scenes import COCO, annotate, dataset, random_scene, read


@pytest.fixture(scope="module")
def accuracy():
    annotations, results = random_scene(np.random.default_rng(0), 20)
    return evaluate_poses(results, read(annotations), COCO_JOINTS, COCO)


def test_the_csv_has_the_layout_of_tao(tmp_path, accuracy):
    path, *_ = write_result_files(tmp_path, accuracy)
    with open(path) as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["", "metric", "IoU", "area", "maxDets", "score"]
    assert rows[1][:5] == ["0", "AP", "0.50:0.95", "all", "20"]
    assert rows[10][:5] == ["9", "AR", "0.50:0.95", "large", "20"]
    assert [float(row[5]) for row in rows[1:]] == list(accuracy.values)


def test_the_json_is_complete_and_without_nan(tmp_path, accuracy):
    _, path, *_ = write_result_files(tmp_path / "new" / "folder", accuracy)
    values = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert values["kpi"] == accuracy.kpis()
    assert values["people"] == accuracy.people
    assert list(values["keypoints"]) == list(COCO_JOINTS)


def test_the_plots_are_reproducible(tmp_path, accuracy):
    first = write_result_files(tmp_path / "a", accuracy)[2:]
    second = write_result_files(tmp_path / "b", accuracy)[2:]
    assert [path.name for path in first] == ["pr_curve.png", "keypoint_errors.png"]
    for one, other in zip(first, second, strict=True):
        assert cv2.imread(str(one)).std() > 10
        assert one.read_bytes() == other.read_bytes()


def test_joint_names_are_not_rendered_as_formulas(tmp_path):
    joints = ("$x^{", "cost$5$", "hip")
    annotation = annotate(1, 1, np.array([[10, 10, 2], [40, 50, 2], [90, 80, 2]]))
    images = read(dataset(1, [annotation]), joints)
    accuracy = evaluate_poses([], images, joints, Skeleton("own", joints, ((0, 1), (1, 2))))
    *_, picture = write_result_files(tmp_path, accuracy)
    assert cv2.imread(str(picture)).std() > 10
    labels = plot_keypoint_errors(accuracy).axes[0].get_yticklabels()
    assert [label.get_text() for label in labels] == list(joints)


def test_an_empty_evaluation_has_result_files(tmp_path):
    empty = evaluate_poses([], [], COCO_JOINTS, COCO)
    paths = write_result_files(tmp_path, empty)
    assert all(path.stat().st_size for path in paths)
    values = json.loads(paths[1].read_text(), parse_constant=pytest.fail)
    assert values["kpi"]["AP_0.50:0.95_all"] is None


def test_a_folder_that_is_a_file_is_an_error(tmp_path, accuracy):
    (tmp_path / "file").touch()
    with pytest.raises(BodyPoseNetError, match=r"file"):
        write_result_files(tmp_path / "file", accuracy)
