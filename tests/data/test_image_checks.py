"""Comparison of image files with annotated sizes, and with each other."""

import cv2
import numpy as np
import pytest

from bodyposenet.data.coco import read_coco
from bodyposenet.data.image_checks import correct_image_sizes, find_copies

from ..media.jpegs import encode, exif_segment, segment
from .coco_files import JOINTS, image, person, unlabeled, write_annotations

RUN_LENGTHS = {"counts": [120 * 160]}


@pytest.fixture
def match(tmp_path):
    """`match(people, height, width)` -> corrected dataset of an image annotated as 160 x 120."""

    def run(people, height, width):
        cv2.imwrite(str(tmp_path / "a.png"), np.zeros((height, width, 3), np.uint8))
        path = write_annotations(tmp_path / "a.json", [image(1, "a.png")], people)
        return correct_image_sizes(read_coco(path, JOINTS), tmp_path)

    return run


def size_of(dataset):
    (only,) = dataset.images
    return only.height, only.width


@pytest.mark.parametrize(
    "people",
    [
        [],
        [person(bbox=[10, 60, 40, 90])],
        [person(bbox=[10, 20, 40, 80])],  # fits into both
        [person(bbox=[10, 20, 110.4, 140.4])],  # rounded beyond the border
        [person(1, bbox=[110, 20, 40, 80]), *(person(n, bbox=[9, 60, 40, 90]) for n in (2, 3))],
        [unlabeled(1, iscrowd=1, segmentation=RUN_LENGTHS | {"size": [160, 120]})],
    ],
)
def test_swapped_height_and_width_are_corrected_if_people_fit(match, people):
    dataset = match(people, height=160, width=120)
    assert size_of(dataset) == (160, 120)
    assert list(dataset.repairs.values()) == [1]


@pytest.mark.parametrize(
    "people",
    [
        [person(bbox=[110, 20, 40, 80])],
        [unlabeled(1, bbox=[110, 20, 40, 80])],
        [unlabeled(1, iscrowd=1, segmentation=RUN_LENGTHS | {"size": [120, 160]})],
    ],
)
def test_the_size_stays_if_the_image_was_rotated_after_the_annotation(match, people, caplog):
    dataset = match(people, height=160, width=120)
    assert size_of(dataset) == (120, 160)
    assert not dataset.repairs
    assert "a.png" in caplog.text


@pytest.mark.parametrize(("height", "width", "is_logged"), [(120, 160, False), (60, 80, True)])
def test_other_sizes_stay_and_are_logged(match, caplog, height, width, is_logged):
    assert size_of(match([person()], height, width)) == (120, 160)
    assert ("a.png" in caplog.text) == is_logged


@pytest.mark.parametrize("preview", [0, 20_000, 4 * 60_000])
def test_the_size_of_a_rotated_photo_can_be_far_into_the_file(tmp_path, caplog, preview):
    parts = [60_000] * (preview // 60_000) + [preview % 60_000]
    segments = exif_segment(6) + b"".join(segment(0xE2, bytes(part)) for part in parts)
    (tmp_path / "0001.jpg").write_bytes(encode(np.zeros((160, 120, 3), np.uint8), segments))
    path = write_annotations(tmp_path / "a.json", [image()], [person()])
    dataset = correct_image_sizes(read_coco(path, JOINTS), tmp_path)
    assert size_of(dataset) == (120, 160)
    assert "0001.jpg" not in caplog.text
    path = write_annotations(tmp_path / "a.json", [image(height=80)], [person()])
    correct_image_sizes(read_coco(path, JOINTS), tmp_path)
    assert "0001.jpg" in caplog.text


@pytest.mark.parametrize("content", [None, b"", b"text", b"\xff\xd8\xff\xe1"])
def test_files_that_cannot_be_read_are_ignored(tmp_path, content, caplog):
    if content is not None:
        (tmp_path / "0001.jpg").write_bytes(content)
    path = write_annotations(tmp_path / "a.json", [image()], [person()])
    assert size_of(correct_image_sizes(read_coco(path, JOINTS), tmp_path)) == (120, 160)
    assert "0001.jpg" not in caplog.text


def test_copies_are_found_by_content(tmp_path):
    names = [f"{number}.jpg" for number in range(1, 5)]
    listed = [image(number, name) for number, name in enumerate(names)]
    images = read_coco(write_annotations(tmp_path / "a.json", listed, []), JOINTS).images
    train, test = tmp_path / "train", tmp_path / "test"
    contents = {
        train / "1.jpg": b"one", train / "2.jpg": b"two", train / "3.jpg": b"two",
        test / "1.jpg": b"six", test / "2.jpg": b"one", test / "4.jpg": b"four",
    }  # fmt: skip
    for path, content in contents.items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    findings = find_copies(images, train, images, test)
    assert {(finding.kind, finding.file_name) for finding in findings} == {
        ("shared_images", "1.jpg"),
        ("repeated_images", "2.jpg"),
    }
    assert find_copies(images, tmp_path / "none") == []
    same = find_copies(images[:1], test, images[:1], test)
    assert [(finding.kind, finding.file_name) for finding in same] == [("shared_images", "1.jpg")]


def test_data_that_is_contained_in_the_other_data_is_one_finding(tmp_path):
    names = ["1.jpg", "2.jpg"]
    listed = [image(number, name) for number, name in enumerate(names)]
    images = read_coco(write_annotations(tmp_path / "a.json", listed, []), JOINTS).images
    (finding,) = find_copies(images, tmp_path, images, tmp_path)
    assert (finding.kind, finding.file_name) == ("shared_images", None)
    assert "2 images" in finding.message
