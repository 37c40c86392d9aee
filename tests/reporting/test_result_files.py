"""write_result_files: tables, results.json and plots of an evaluation."""

import csv
import json

import cv2
import numpy as np
import pytest

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.evaluation import evaluate_poses
from bodyposenet.evaluation.error_types import ErrorType
from bodyposenet.reporting.plots import plot_keypoint_errors
from bodyposenet.reporting.result_files import write_result_files
from bodyposenet.skeleton import COCO_JOINTS, Skeleton

from ..evaluation.scenes import annotate, dataset, read
from .drawn_evaluation import draw_evaluation


@pytest.fixture(scope="module")
def details(tmp_path_factory):
    return draw_evaluation(tmp_path_factory.mktemp("images"), is_compared=True)


@pytest.fixture(scope="module")
def files(tmp_path_factory, details):
    """The files by name."""
    folder = tmp_path_factory.mktemp("results") / "new" / "folder"
    return {path.name: path for path in write_result_files(folder, details)}


def read_csv(path) -> list[list[str]]:
    with open(path) as file:
        return list(csv.reader(file))


def read_values(path):
    return json.loads(path.read_text(), parse_constant=pytest.fail)


def test_the_csv_has_the_layout_of_tao(files, details):
    rows = read_csv(files["results.csv"])
    assert rows[0] == ["", "metric", "IoU", "area", "maxDets", "score"]
    assert rows[1][:5] == ["0", "AP", "0.50:0.95", "all", "20"]
    assert rows[10][:5] == ["9", "AR", "0.50:0.95", "large", "20"]
    assert [float(row[5]) for row in rows[1:]] == list(details.result.accuracy.values)


def test_the_table_of_images_begins_with_the_worst_one(files, details):
    rows = read_csv(files["images.csv"])
    assert rows[0] == ["file_name", "image_id", "people", "poses", "quality"]
    assert rows[1] == ["broken.png", "3", "1", "0", "0.0"]
    assert rows[-1] == ["large.png", "1", "0", "0", ""]
    qualities = [float(row[4]) for row in rows[1:-1]]
    assert qualities == sorted(qualities)


def test_the_json_is_complete_and_without_nan(files, details):
    values, accuracy = read_values(files["results.json"]), details.result.accuracy
    assert values["protocol"] == "coco"
    assert values["kpi"] == {
        name: value if value >= 0 else None for name, value in accuracy.kpis().items()
    }
    assert values["people"] == accuracy.people
    assert list(values["keypoints"]) == list(COCO_JOINTS)
    assert values["keypoints"]["nose"]["ap"] == details.analysis.joint_ap["nose"]
    assert values["sizes"]["large"] == {"people": 0, "ap": None, "ar": None}
    histogram = values["oks_histogram"]
    assert sum(histogram["counts"]) + histogram["people_without_pose"] == accuracy.people
    errors = values["errors"]
    assert list(errors["types"]) == [kind.label for kind in ErrorType]
    assert errors["types_by_keypoint"]["left_ear"].keys() == errors["types"].keys()
    assert errors["false_negatives"] == 1
    (comparison,) = values["comparisons"]
    assert comparison["compared_with"] == "earlier<run>"
    low, high = comparison["metrics"]["AP_0.50:0.95_all"]["interval"]
    assert low <= high


def test_pck_has_values_for_each_keypoint(tmp_path):
    details = draw_evaluation(tmp_path, protocol="pck")
    table, _, values, *_ = write_result_files(tmp_path, details)
    assert read_csv(table)[1][1:4] == ["PCK", "0.05", "box"]
    pck = read_values(values)["pck"]
    assert (pck["reference"], pck["people_without_reference"]) == ("box", 0)
    assert 0 < pck["keypoints"]["PCK_0.1"]["nose"] < 1


def test_the_plots_are_reproducible(tmp_path, files, details):
    again = write_result_files(tmp_path, details)[-3:]
    assert [path.name for path in again] == [
        "pr_curve.png", "keypoint_errors.png", "error_types.png",
    ]  # fmt: skip
    for path in again:
        assert cv2.imread(str(path)).std() > 10
        assert path.read_bytes() == files[path.name].read_bytes()


def test_joint_names_are_not_rendered_as_formulas():
    joints = ("$x^{", "cost$5$", "hip")
    annotation = annotate(1, 1, np.array([[10, 10, 2], [40, 50, 2], [90, 80, 2]]))
    images = read(dataset(1, [annotation]), joints)
    accuracy = evaluate_poses([], images, joints, Skeleton("own", joints, ((0, 1), (1, 2))))
    figure = plot_keypoint_errors(accuracy)
    figure.draw_without_rendering()
    labels = figure.axes[0].get_yticklabels()
    assert [label.get_text() for label in labels] == list(joints)


def test_an_evaluation_without_people_has_result_files(tmp_path):
    details = draw_evaluation(tmp_path, [("missing.png", None, (100, 120), 0)])
    paths = write_result_files(tmp_path, details)
    assert all(path.stat().st_size for path in paths)
    values = read_values(paths[2])
    assert values["kpi"]["AP_0.50:0.95_all"] is None
    assert values["errors"]["types"]["good"] is None


def test_a_folder_that_is_a_file_is_an_error(tmp_path, details):
    (tmp_path / "file").touch()
    with pytest.raises(BodyPoseNetError, match=r"file"):
        write_result_files(tmp_path / "file", details)
