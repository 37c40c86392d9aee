"""The gallery of a dataset."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from bodyposenet.data.coco import read_coco
from bodyposenet.data.dataset_skeleton import dataset_skeleton
from bodyposenet.data.findings import Finding
from bodyposenet.data.label_checks import check_labels
from bodyposenet.data.label_statistics import label_statistics
from bodyposenet.reporting.browse_page import BrowsePage, select_findings, write_browse_page
from bodyposenet.reporting.label_pictures import LabelPainter, SamplePicture
from bodyposenet.skeleton import COCO_JOINTS
from bodyposenet.specs.dataset import COCO_FLAGS
from bodyposenet.specs.pose import KeypointCategory
from tests.data.standing_people import (
    HEIGHT,
    WIDTH,
    keypoints_of,
    set_keypoints,
    standing_people,
    write_document,
)
from tests.reporting.html_page import HtmlPage

CATEGORY = KeypointCategory(num_joints=17, keypoints=COCO_JOINTS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with 5 images, of which the last one is missing."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(1, 5):
        pixels = np.full((HEIGHT, WIDTH, 3), 40 * number, np.uint8)
        cv2.imwrite(str(folder / f"{number}.jpg"), pixels)
    return folder


@pytest.fixture(scope="module")
def document():
    """Ten people: a wrist outside of the image, an occluded nose, and people without labels."""
    document = standing_people(count=10)
    keypoints = keypoints_of(document)
    keypoints[COCO_JOINTS.index("left_wrist"), :2] = WIDTH + 60, 100
    keypoints[COCO_JOINTS.index("nose"), 2] = 1
    set_keypoints(document, keypoints)
    document["annotations"][3]["keypoints"] = [0] * 51
    document["images"][1]["file_name"] = "2.jpg"
    return document


def make_page(folder, document, **values):
    dataset = read_coco(write_document(folder, document), COCO_JOINTS)
    skeleton = dataset_skeleton("test", CATEGORY)
    page = BrowsePage(
        "a<b>", "train", dataset.images,
        label_statistics(dataset.images, skeleton, COCO_FLAGS.labeled()),
        check_labels(dataset, skeleton, COCO_FLAGS.classes()),
    )  # fmt: skip
    painter = LabelPainter(folder, skeleton, COCO_FLAGS.classes())
    return replace(page, **values), painter


@pytest.fixture(scope="module")
def path(folder, document, tmp_path_factory):
    page, painter = make_page(folder, document)
    return write_browse_page(tmp_path_factory.mktemp("page") / "p.html", page, painter, 20)


def test_the_page_shows_findings_statistics_and_photos(path):
    page = HtmlPage(path)
    assert "a<b>, train data" in page.text
    assert "Joints outside of the image: 1" in page.text
    assert "1.jpg, annotation 1" in page.text
    assert "4 of 5 images" in page.text and "1 could not be shown" in page.text
    assert "Labeled joints" in page.plots and "Limb lengths" in page.plots
    assert page.shapes["suspect"] == 1
    assert page.shapes["mask"] == 1
    assert page.shapes["occluded"] == 2
    assert len(page.pictures) == 1 + 4


def test_suspicious_people_are_shown_with_joints_outside_of_the_image(path):
    first = HtmlPage(path).pictures[0]
    gray = np.abs(first.astype(int) - 128).max(axis=2) < 3
    assert gray[:, -5:].all() and not gray[:, :5].any()


def test_the_same_dataset_gives_the_same_bytes(path, folder, document, tmp_path, caplog):
    page, painter = make_page(folder, document)
    again = write_browse_page(tmp_path / "p.html", page, painter, 20)
    assert again.read_bytes() == path.read_bytes()
    assert "5.jpg" in caplog.text


def test_the_number_of_pictures_is_limited(folder, document, tmp_path):
    page, painter = make_page(folder, document)
    path = write_browse_page(tmp_path / "p.html", page, painter, 3)
    assert len(HtmlPage(path).pictures) <= 3


def test_training_samples_have_maps(folder, document, tmp_path):
    image = np.zeros((64, 64, 3), np.uint8)
    keypoints = np.full((2, 17, 2), 30, np.float32)
    keypoints[1] = 90
    labeled = np.ones((2, 17), bool)
    sample = SamplePicture("sample 1", image, image[..., 0], keypoints, labeled, image, image)
    skeleton = dataset_skeleton("test", CATEGORY)
    page, painter = make_page(folder, document, samples=[sample], network_skeleton=skeleton)
    shown = HtmlPage(write_browse_page(tmp_path / "p.html", page, painter, 1))
    assert "sample 1" in shown.text and "1 person with labels" in shown.text
    assert [picture.shape[:2] for picture in shown.pictures].count((64, 64)) == 3


def test_a_mistake_of_the_dataset_is_at_the_top(folder, document, tmp_path):
    page, painter = make_page(folder, document, findings=[Finding("no_labels", "Nobody.")])
    shown = HtmlPage(write_browse_page(tmp_path / "p.html", page, painter, 2))
    assert "No labeled keypoints" in shown.text and "Nobody." in shown.text
    assert "None found." in shown.text


def test_an_empty_dataset_has_a_page(folder, document, tmp_path):
    empty = document | {"images": [], "annotations": []}
    page, painter = make_page(folder, empty)
    shown = HtmlPage(write_browse_page(tmp_path / "p.html", page, painter, 5))
    assert "0 of 0 images" in shown.text
    assert not shown.plots


def test_findings_of_every_kind_are_selected():
    findings = [Finding("long_limb", "", str(k)) for k in range(9)]
    findings += [Finding("tiny_person", "", str(k)) for k in range(2)]
    selected = select_findings(findings, 5)
    assert selected == [*findings[:3], *findings[9:]]
    assert select_findings(findings, 0) == []
