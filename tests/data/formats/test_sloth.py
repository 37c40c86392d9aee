"""Sloth: label files in JSON."""

import json

import numpy as np
import pytest

from bodyposenet.data.coco import read_coco
from bodyposenet.data.formats import describe_annotations
from bodyposenet.errors import BodyPoseNetError

from ...media.jpegs import encode, exif_segment
from .people import ANNE, BERT, IMAGES, JOINTS, ImageLabels, assert_equal, write_images
from .sloth_file import box, entry, points


@pytest.fixture
def read(tmp_path):
    write_images(tmp_path / "images")

    def run(entries, **options):
        path = tmp_path / "labels.json"
        path.write_text(json.dumps(entries, indent=4))
        return read_coco(path, JOINTS, images_folder=tmp_path / "images", **options)

    return run


def test_people_are_boxes_with_the_points_in_them(read, tmp_path):
    assert_equal(read([entry(image) for image in IMAGES]), flags=False)
    assert_equal(read([entry(IMAGES[0])], annotation_format="sloth"), IMAGES[:1], flags=False)
    found = describe_annotations(tmp_path / "labels.json", tmp_path / "images")
    assert (found.format, found.categories[0].people) == ("sloth", 2)
    assert found.categories[0].keypoints == JOINTS


def test_sizes_are_those_of_the_stored_images(read, tmp_path):
    """Sloth ignores the EXIF orientation."""
    for image in IMAGES:
        pixels = np.zeros((image.height, image.width, 3), np.uint8)
        (tmp_path / "images" / image.name).write_bytes(encode(pixels, exif_segment(6)))
    assert_equal(read([entry(image) for image in IMAGES]), flags=False)


def test_shapes_with_the_same_id_are_one_person(read):
    labels = []
    for name, person in (("Anne", ANNE), (7, ANNE)):
        labels += [box(person, id=name), *points(person, id=name)]
    twice = ImageLabels("first.jpg", 120, 160, (ANNE, ANNE))
    assert_equal(read([entry(twice, labels)]), [twice], flags=False)
    without_boxes = [*points(ANNE, id="a"), *points(BERT, id="b")]
    assert_equal(read([entry(IMAGES[0], without_boxes)]), IMAGES[:1], flags=False, boxes=False)


def test_ids_that_nothing_shares_do_not_group(read):
    labels = [box(ANNE), *points(ANNE)]
    labels = [label | {"id": number} for number, label in enumerate(labels)]
    one = ImageLabels("first.jpg", 120, 160, (ANNE,))
    assert_equal(read([entry(one, labels)]), [one], flags=False)


@pytest.mark.parametrize(("shape", "name"), [("class", "type"), ("type", "class")])
def test_the_class_can_be_the_shape(read, shape, name):
    labels = [
        {k: v for k, v in label.items() if k != "class"}
        | {shape: "rect" if "width" in label else "point", name: label["class"]}
        for label in (box(ANNE), *points(ANNE))
    ]
    one = ImageLabels("first.jpg", 120, 160, (ANNE,))
    assert_equal(read([entry(one, labels)]), [one], flags=False)


def test_other_labels_are_skipped_and_counted(read):
    polygon = {"class": "polygon", "xn": "1;2;3", "yn": "4;5;6"}
    labels = [box(ANNE), *points(ANNE), polygon, {"class": "point", "x": 1, "y": 2}]
    one = ImageLabels("first.jpg", 120, 160, (ANNE,))
    unlabeled = entry(IMAGES[1], [], unlabeled=True)
    dataset = read([entry(one, labels), unlabeled])
    assert_equal(dataset, [one], flags=False)
    assert sorted(dataset.skipped.values()) == [1, 1, 1]


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        ({"annotations": None}, ("annotations", "None")),
        ({"annotations": [1]}, ("annotations",)),
        ({"annotations": [{"class": "head", "x": "a", "y": 1}]}, ("x", "'a'")),
        ({"annotations": [box(ANNE, width=None)]}, ("width", "None")),
        ({"annotations": 2 * points(ANNE, id=1) + [box(ANNE, id=1)]}, ("'head'",)),
        ({"filename": "gone.jpg"}, ("gone.jpg", "does not exist")),
        ({"frames": []}, ("video",)),
    ],
)
def test_invalid_entries_are_errors_with_image_and_value(read, change, facts):
    with pytest.raises(BodyPoseNetError) as caught:
        read([entry(IMAGES[0]) | change])
    place = change.get("filename", "first.jpg")
    assert all(fact in caught.value.what for fact in ("labels.json", place, *facts))
