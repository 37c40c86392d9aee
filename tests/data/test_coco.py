"""Annotation files in COCO's format: people, categories, repairs, skipped entries, errors."""

import math
import tracemalloc

import numpy as np
import pytest

from bodyposenet.data.coco import load_coco, read_coco
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.media.image_header import MAX_PIXELS_VARIABLE
from bodyposenet.skeleton import COCO_JOINTS

from .coco_files import (
    BOX,
    JOINTS,
    image,
    person,
    unlabeled,
    write_annotations,
)


@pytest.fixture
def read(tmp_path):
    """Read a file of these images and annotations."""

    def run(images, annotations):
        return read_coco(write_annotations(tmp_path / "a.json", images, annotations), JOINTS)

    return run


def test_people_come_with_their_images_in_the_order_of_the_file(read):
    dataset = read([image(7), image(3)], [person(1, 3), person(2, 7), person(5, 3)])
    assert [found.image_id for found in dataset.images] == [7, 3]
    assert [p.annotation_id for p in dataset.images[1].persons] == [1, 5]
    first = dataset.images[1].persons[0]
    assert first.box == tuple(BOX)
    assert first.center == (30.0, 60.0)
    assert first.keypoints.shape == (3, 3)
    np.testing.assert_array_equal(first.keypoints[:, 2], 2)
    assert (first.area, first.is_crowd, first.num_keypoints) == (3200.0, False, 3)
    assert dataset.images[0].mask_name == "0007.png"


def test_optional_keys(read):
    sparse = {"id": 1, "image_id": 1, "bbox": BOX}
    counted = {key: value for key, value in person(2).items() if key != "num_keypoints"}
    emptied = unlabeled(3) | {"keypoints": []}
    (only,) = read([image()], [sparse, counted, emptied]).images
    bare, other, empty = only.persons
    for found in (bare, empty):
        assert found.keypoints.shape == (3, 3)
        assert not found.keypoints.any()
        assert (found.num_keypoints, found.is_crowd, found.area) == (0, False, 3200.0)
    assert bare.segmentation is None
    assert other.num_keypoints == 3


def test_annotations_need_no_ids(read):
    dataset = read([image()], [person(None), person(None), person(3)])
    assert [p.annotation_id for p in dataset.images[0].persons] == [-1, -2, 3]
    assert list(dataset.repairs.values()) == [2]


def test_generated_ids_do_not_repeat_those_of_the_file(read):
    dataset = read([image()], [person(None), person(-1), person(None), person(-3)])
    ids = [found.annotation_id for found in dataset.images[0].persons]
    assert (ids[1], ids[3]) == (-1, -3)
    assert len(set(ids)) == 4


def test_a_person_with_an_area_of_zero_is_read_and_counted(read):
    dataset = read([image()], [person(bbox=[5, 5, 0, 0])])
    assert dataset.images[0].persons[0].area == 0
    assert any("OKS" in kind for kind in dataset.repairs)


def test_valid_annotations_need_no_repairs(read):
    assert not read([image()], [person(1), unlabeled(2), person(3, iscrowd=1)]).repairs


def test_the_crowd_index_of_crowdpose_is_read(read):
    dataset = read([image(1), image(2) | {"crowdIndex": 0.25}], [person()])
    assert [found.crowd_index for found in dataset.images] == [None, 0.25]
    with pytest.raises(BodyPoseNetError, match="image 1: crowdIndex"):
        read([image() | {"crowdIndex": 2}], [])


def test_other_categories_and_unknown_images_are_skipped_and_counted(read, caplog, tmp_path):
    dog = unlabeled(2) | {"category_id": 18}
    dataset = read([image()], [person(1), dog, person(3, image_id=99)])
    assert list(dataset.skipped.values()) == [1, 1]
    assert [p.annotation_id for p in dataset.images[0].persons] == [1]
    images = load_coco(tmp_path / "a.json", JOINTS)
    assert len(images) == 1
    assert "1 annotations of other categories" in caplog.text


def test_annotated_images(read):
    dataset = read([image(1), image(2)], [person(1)])
    assert [found.image_id for found in dataset.annotated_images()] == [1]


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({"keypoints": [1.0] * 6}, ("keypoints", "6", "9")),
        ({"keypoints": [math.nan, 1, 2] + [1.0] * 6}, ("keypoints", "finite")),
        ({"keypoints": [1, 1e223, 2] + [1.0] * 6}, ("keypoints", "far")),
        ({"keypoints": ["x"] * 9}, ("keypoints", "'x'")),
        ({"keypoints": [[1, 2, 3]] * 9}, ("keypoints", "[1, 2, 3]")),
        ({"keypoints": [True] * 9}, ("keypoints", "True")),
        ({"keypoints": [1.0] * 8 + [10**400]}, ("keypoints", "too large")),
        ({"keypoints": {}}, ("keypoints",)),
        ({"bbox": None, "segmentation": None, "keypoints": None}, ("bbox",)),
        ({"bbox": [1, 2, 3], "segmentation": None, "keypoints": None}, ("bbox", "3", "4")),
        ({"bbox": [1, 2, 3, 1e9], "segmentation": [], "keypoints": []}, ("bbox", "far")),
        ({"iscrowd": 7}, ("iscrowd", "7")),
        ({"iscrowd": "many"}, ("iscrowd", "'many'")),
        ({"image_id": "one"}, ("image_id", "'one'")),
        ({"image_id": 1.5}, ("image_id", "1.5")),
        ({"image_id": True}, ("image_id", "True")),
        ({"id": 3}, ("id",)),
    ],
)
def test_invalid_annotations_are_errors_with_key_and_value(read, changes, facts):
    with pytest.raises(BodyPoseNetError) as caught:
        read([image()], [person(3), person(4) | changes])
    assert "1 invalid" in caught.value.what
    line = caught.value.what.splitlines()[1]
    assert f"annotation {changes.get('id', 4)}" in line
    assert all(fact in line for fact in facts)


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({"id": "a.jpg"}, "image 'a.jpg': id"),
        ({"id": 2**63}, "id"),
        ({"id": 1}, "image 1: repeated id"),
        ({"height": 0}, "160 x 0"),
        ({"width": 10**9}, "image 2: 0002.jpg: 1000000000 x 120 pixels"),
        ({"width": 20_000, "height": 20_000}, MAX_PIXELS_VARIABLE),
        ({"height": None}, "image 2: height"),
        ({"height": 120.5}, "image 2: height"),
        ({"file_name": ""}, "image 2: file_name"),
        ({"file_name": "."}, "image 2: file_name"),
        ({"file_name": "a/"}, "image 2: file_name"),
        ({"file_name": "a/."}, "image 2: file_name"),
        ({"file_name": "a\\"}, "image 2: file_name"),
        ({"file_name": "a\0.jpg"}, "image 2: file_name"),
        ({"file_name": "../b.jpg"}, "image 2: file_name"),
        ({"file_name": "/tmp/b.jpg"}, "image 2: file_name"),
        ({"file_name": "C:\\b.jpg"}, "image 2: file_name"),
    ],
)
def test_invalid_images_are_errors_with_id_and_key(read, changes, facts):
    with pytest.raises(BodyPoseNetError) as caught:
        read([image(1), image(2) | changes], [])
    assert facts in caught.value.what


def test_an_error_lists_the_first_ten_invalid_entries_and_their_number(read):
    with pytest.raises(BodyPoseNetError) as caught:
        read([image()], [person(n) | {"iscrowd": 2} for n in range(25)])
    assert "25 invalid" in caught.value.what
    assert "15 more" in caught.value.what
    assert caught.value.what.count("iscrowd") == 10


def test_a_file_with_other_content_is_rejected_with_little_memory(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"images": [' + ",".join(["0"] * 500_000) + '], "annotations": []}')
    tracemalloc.start()
    try:
        with pytest.raises(BodyPoseNetError, match="10000 invalid"):
            read_coco(path, JOINTS)
        assert tracemalloc.get_traced_memory()[1] < 5 * path.stat().st_size
    finally:
        tracemalloc.stop()


def test_file_names_with_backslashes_must_exist(tmp_path):
    path = write_annotations(tmp_path / "a.json", [image(1, "deep\\a.jpg")], [person()])
    assert load_coco(path, JOINTS)[0].file_name == "deep/a.jpg"
    with pytest.raises(BodyPoseNetError, match=r"deep.a\.jpg"):
        read_coco(path, JOINTS, images_folder=tmp_path)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.jpg").touch()
    dataset = read_coco(path, JOINTS, images_folder=tmp_path)
    assert dataset.images[0].mask_name == "deep/a.png"
    assert dataset.repairs.total() == 1
    too_long = write_annotations(tmp_path / "b.json", [image(1, f"deep\\{300 * 'n'}.jpg")], [])
    with pytest.raises(BodyPoseNetError, match=r"deep.nnn"):
        read_coco(too_long, JOINTS, images_folder=tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [],\n "annotations": [', r"a\.json:2: not valid JSON"),
        ("[]", "unknown annotation format"),
        ('{"images": []}', "list `annotations`"),
        ('{"images": {}, "annotations": []}', "list `images`"),
        ("[" * 100_000, "nested too deeply"),
        ('{"images": [3], "annotations": ["x"]}', "2 invalid"),
    ],
)
def test_invalid_files_are_errors(tmp_path, text, message):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(BodyPoseNetError, match=message):
        read_coco(path, JOINTS)


def test_a_binary_or_missing_file_is_an_error(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"\xff\xfe\x00garbage\x80")
    with pytest.raises(BodyPoseNetError, match="not a text file"):
        read_coco(path, JOINTS)
    with pytest.raises(BodyPoseNetError, match=r"absent\.json: cannot be read"):
        read_coco(tmp_path / "absent.json", JOINTS)


@pytest.mark.shared_data
def test_real_annotations_are_read(shared):
    folder = shared / "data" / "coco-smoke" / "annotations"
    images = load_coco(folder / "person_keypoints_smoke.json", COCO_JOINTS)
    people = [person for found in images for person in found.persons]
    assert (len(images), len(people)) == (12, 49)
    assert sum(person.num_keypoints > 0 for person in people) == 42
    assert sum(person.is_crowd for person in people) == 1
