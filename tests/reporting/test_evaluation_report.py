"""write_evaluation_report: the HTML report of an evaluation."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from bodyposenet.evaluation import evaluate_poses
from bodyposenet.evaluation.evaluator import DatasetResult
from bodyposenet.inference.detections import describe_image
from bodyposenet.reporting.evaluation_report import select_sample_images, write_evaluation_report
from bodyposenet.skeleton import COCO_JOINTS
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.types import Poses

from ..evaluation.scenes import COCO, random_scene, read
from .html_page import HtmlPage


def poses(count: int) -> Poses:
    points = np.random.default_rng(count).uniform(10, 90, (count, 17, 2)).astype(np.float32)
    scores = np.ones((count, 17), np.float32)
    points[:, 3], scores[:, 3] = np.nan, 0
    return Poses(points, scores, np.ones(count, np.float32), COCO)


def entry(path, poses, size=(100, 120)):
    meta = {"file_name": path.name, "height": size[0], "width": size[1]}
    return describe_image(path, poses, {"image_id": 1, "image_meta": meta})


@pytest.fixture(scope="module")
def accuracy():
    annotations, results = random_scene(np.random.default_rng(0), 20)
    return evaluate_poses(results, read(annotations), COCO_JOINTS, COCO)


@pytest.fixture(scope="module")
def result(tmp_path_factory, accuracy):
    """Four images: one large, one twice its annotated size, one broken, one missing."""
    folder = tmp_path_factory.mktemp("images")
    sizes = {
        "large.png": (600, 960),
        "a<b>.png": (200, 240),
        "broken.png": None,
        "missing.png": None,
    }
    entries = []
    for count, (name, size) in enumerate(sizes.items()):
        if size is not None:
            cv2.imwrite(str(folder / name), np.full((*size, 3), 90, np.uint8))
        predicted = "no image" if name == "broken.png" else poses(count)
        annotated = (600, 960) if name == "large.png" else (100, 120)
        entries.append(entry(folder / name, predicted, annotated))
    return DatasetResult(accuracy, [], entries, ["broken.png: no <image>"], ["a.png: is 240 x 200"])


def write(folder, result):
    return write_evaluation_report(
        folder, result, dataset="a<i>set", model="model.tlt", skeleton=COCO,
        spec=InferenceSpec(input_shape=(64, 96)),
    )  # fmt: skip


@pytest.fixture(scope="module")
def path(tmp_path_factory, result):
    return write(tmp_path_factory.mktemp("results"), result)


@pytest.fixture(scope="module")
def page(path):
    return HtmlPage(path)


def test_the_page_has_metrics_settings_keypoints_and_problems(path, page, accuracy):
    assert path.name == "report.html"
    assert f"{accuracy.ap:.3f}" in page.text
    assert "model.tlt" in page.text
    assert "input_shape: [64, 96]" in page.text
    assert "left shoulder" in page.text
    assert "1 could not be read" in page.text
    assert "broken.png: no <image>" in page.text
    assert "a.png: is 240 x 200" in page.text
    assert page.plots == ["Precision and recall", "Error by keypoint"]


def test_text_from_files_is_escaped(page):
    assert "Evaluation on a<i>set" in page.text
    assert "a<b>.png: 1 person" in page.text


def test_pictures_are_downscaled_with_the_poses_in_place(page, result):
    large, drawn = page.pictures
    assert large.shape == (300, 480, 3)
    assert large.std() < 5  # no poses
    assert drawn.shape == (100, 120, 3)
    found = result.images[1]["keypoints"][0]
    x, y = np.round(found[0]).astype(int)
    assert np.abs(drawn[y, x].astype(int) - 90).max() > 20


def test_the_same_result_gives_the_same_bytes_and_a_missing_image_is_logged(
    tmp_path, result, path, caplog
):
    assert write(tmp_path, result).read_bytes() == path.read_bytes()
    assert "report.html" in caplog.text
    assert "missing.png" in caplog.text


def test_an_empty_evaluation_has_a_page(tmp_path):
    empty = evaluate_poses([], [], COCO_JOINTS, COCO)
    no_text = "\udcff.jpg: no image"  # file names need not be valid Unicode
    without_nose = replace(empty, not_evaluated=("nose",))
    page = HtmlPage(write(tmp_path, DatasetResult(without_nose, [], [], [no_text], [])))
    assert "no AP" in page.text
    assert ": nose." in page.text
    assert r"\udcff.jpg" in page.text


def test_sample_images_are_spread_and_include_the_most_crowded(tmp_path):
    images = [entry(tmp_path / f"{k}.jpg", poses(1)) for k in range(100)]
    images[37] = entry(tmp_path / "crowd.jpg", poses(9))
    images[99] = entry(tmp_path / "broken.jpg", "no image")
    selected = select_sample_images(images)
    assert len(selected) == len(set(selected)) == 12
    assert selected == sorted(selected)
    assert 37 in selected
    assert 99 not in selected
    assert selected[-1] == 98


@pytest.mark.parametrize("count", [0, 1, 4, 5, 12])
def test_all_of_a_few_images_are_shown(tmp_path, count):
    images = [entry(tmp_path / f"{k}.jpg", poses(k % 3)) for k in range(count)]
    assert select_sample_images(images) == list(range(count))
