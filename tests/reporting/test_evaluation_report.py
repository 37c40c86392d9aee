"""write_evaluation_report: the HTML report of an evaluation."""

import numpy as np
import pytest

from bodyposenet.reporting.evaluation_report import select_sample_images, write_evaluation_report
from bodyposenet.skeleton import COCO_JOINTS, Skeleton
from bodyposenet.specs.inference import InferenceSpec

from ..evaluation.scenes import COCO
from .drawn_evaluation import GRAY, draw_evaluation, entry, random_poses
from .html_page import HtmlPage

PLOTS = [
    "Precision and recall", "Similarity of poses and people", "Error types by keypoint",
    "Error by keypoint",
]  # fmt: skip


def write(folder, details):
    return write_evaluation_report(
        folder, details, model="model.tlt", skeleton=COCO, spec=InferenceSpec(input_shape=(64, 96))
    )


@pytest.fixture(scope="module")
def details(tmp_path_factory):
    return draw_evaluation(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def path(tmp_path_factory, details):
    return write(tmp_path_factory.mktemp("results"), details)


@pytest.fixture(scope="module")
def page(path):
    return HtmlPage(path)


def test_the_page_has_metrics_settings_keypoints_and_problems(path, page, details):
    assert path.name == "report.html"
    assert f"{details.result.accuracy.ap:.3f}" in page.text
    assert "model.tlt" in page.text
    assert "input_shape: [64, 96]" in page.text
    assert "left shoulder" in page.text
    assert "1 could not be read" in page.text
    assert r"\udcff.png: no <image>" in page.text
    assert "a.png: is 240 x 200" in page.text
    assert page.plots == PLOTS


def test_text_from_files_is_escaped(page):
    assert "Evaluation on a<i>set" in page.text
    assert "a<b>.png: 1 person" in page.text


def test_pictures_are_downscaled_with_the_poses_in_place(page, details):
    large, drawn, _ = page.pictures[-3:]  # the sample images
    assert large.shape == (300, 480, 3)
    assert large.std() < 5  # no poses
    assert drawn.shape == (100, 120, 3)
    found = details.result.images[1]["keypoints"][0]
    x, y = np.round(found[0]).astype(int)
    assert np.abs(drawn[y, x].astype(int) - GRAY).max() > 20


def test_worst_and_best_images_show_truth_and_poses(page):
    cropped = page.pictures[0]
    assert "far.png: quality" in page.text
    assert cropped.shape[1] == 480  # the corner with the people is enlarged
    assert (cropped > 200).all(axis=2).sum() > 20
    assert (np.ptp(cropped.astype(int), axis=2) > 60).sum() > 20


def test_error_types_and_the_ap_of_keypoints_and_sizes(page, details):
    analysis = details.analysis
    for ap in (*analysis.errors.corrected_ap.values(), analysis.joint_ap["nose"]):
        assert f"{ap:.3f}" in page.text
    assert "false negatives" in page.text
    assert "1 person" in page.text
    assert [one.people for one in analysis.sizes] == [7, 0, 7, 0]


def test_the_same_result_gives_the_same_bytes_and_a_missing_image_is_logged(
    tmp_path, details, path, caplog
):
    assert write(tmp_path, details).read_bytes() == path.read_bytes()
    assert "report.html" in caplog.text
    assert "missing.png" in caplog.text


def test_an_evaluation_without_people_has_a_page(tmp_path):
    details = draw_evaluation(
        tmp_path, [("missing.png", None, (100, 120), 0)],
        skeleton=Skeleton("noseless", COCO_JOINTS[1:], ()),
    )  # fmt: skip
    page = HtmlPage(write(tmp_path, details))
    assert "no AP" in page.text
    assert ": nose." in page.text


@pytest.mark.parametrize(("protocol", "plots"), [("crowdpose", 4), ("pck", 5)])
def test_other_protocols_have_their_metrics_and_plots(tmp_path, protocol, plots):
    details = draw_evaluation(tmp_path, protocol=protocol)
    page = HtmlPage(write(tmp_path, details))
    assert len(page.plots) == plots
    for name, value in details.metrics.items():
        assert value < 0 or f"{value:.3f}" in page.text, name


def test_a_comparison_shows_both_evaluations(tmp_path):
    details = draw_evaluation(tmp_path, is_compared=True)
    page = HtmlPage(write(tmp_path, details))
    (comparison,) = details.comparisons
    ap = comparison.differences[0]
    assert "Comparison with earlier<run>" in page.text
    assert f"{ap.value - ap.earlier:+.3f}" in page.text
    assert "17 keypoints" in page.text
    pair = page.pictures[0]
    assert pair.shape[1] > 2 * 100  # both side by side


def test_sample_images_are_spread_and_include_the_most_crowded(tmp_path):
    images = [entry(tmp_path / f"{k}.jpg", random_poses(1)) for k in range(100)]
    images[37] = entry(tmp_path / "crowd.jpg", random_poses(9))
    images[99] = entry(tmp_path / "broken.jpg", "no image")
    selected = select_sample_images(images)
    assert len(selected) == len(set(selected)) == 12
    assert selected == sorted(selected)
    assert 37 in selected
    assert 99 not in selected
    assert selected[-1] == 98


@pytest.mark.parametrize("count", [0, 1, 4, 5, 12])
def test_all_of_a_few_images_are_shown(tmp_path, count):
    images = [entry(tmp_path / f"{k}.jpg", random_poses(k % 3)) for k in range(count)]
    assert select_sample_images(images) == list(range(count))
