"""Annotation files: what is read, what is an error, what is left out and counted."""

import json
import math

import numpy as np
import pytest

from bodyposenet.data.coco import load_coco, read_coco
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.skeleton import COCO_JOINTS

from .coco_files import BOX, JOINTS, content, image, person, unlabelled, write_annotations


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


def test_what_a_file_may_leave_out(read):
    sparse = {"id": 1, "image_id": 1, "bbox": BOX}
    counted = {key: value for key, value in person(2).items() if key != "num_keypoints"}
    emptied = unlabelled(3) | {"keypoints": []}
    (only,) = read([image()], [sparse, counted, emptied]).images
    bare, other, empty = only.persons
    for found in (bare, empty):
        assert found.keypoints.shape == (3, 3)
        assert not found.keypoints.any()
        assert (found.num_keypoints, found.is_crowd, found.area) == (0, False, 3200.0)
    assert bare.segmentation is None
    assert other.num_keypoints == 3


def test_an_empty_box_is_read(read):
    (only,) = read([image()], [person(bbox=[5, 5, 0, 0])]).images
    assert only.persons[0].area == 0


def test_other_categories_and_unknown_images_are_left_out_and_counted(read, caplog, tmp_path):
    dog = unlabelled(2) | {"category_id": 18}
    dataset = read([image()], [person(1), dog, person(3, image_id=99)])
    assert dict(dataset.left_out) == {
        "annotations of other categories": 1,
        "annotations of an image that the file does not list": 1,
    }
    assert [p.annotation_id for p in dataset.images[0].persons] == [1]
    images = load_coco(tmp_path / "a.json", JOINTS)
    assert len(images) == 1
    assert "1 annotations of other categories" in caplog.text


def test_without_a_category_named_person_all_annotations_are_people(tmp_path):
    path = tmp_path / "horses.json"
    file = content([image()], [person(1), person(2) | {"category_id": 5}])
    file["categories"] = [{"id": 1, "name": "foal"}, {"id": 5, "name": "horse"}]
    path.write_text(json.dumps(file))
    assert len(load_coco(path, JOINTS)[0].persons) == 2


def test_images_with_annotations_are_told_apart(read):
    dataset = read([image(1), image(2)], [person(1)])
    assert [found.image_id for found in dataset.annotated_images()] == [1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keypoints": [1.0] * 6}, "annotation 4: keypoints holds 6 numbers, not 9"),
        ({"keypoints": [math.nan] + [1.0] * 8}, "annotation 4: keypoints holds a value that is no"),
        ({"keypoints": [math.inf] + [1.0] * 8}, "annotation 4: keypoints holds a value that is no"),
        ({"keypoints": ["x"] * 9}, "annotation 4: keypoints holds something that is no number"),
        ({"keypoints": [[1, 2, 3]] * 9}, "annotation 4: keypoints holds something that is no"),
        ({"keypoints": [True] * 9}, "annotation 4: keypoints holds something that is no number"),
        ({"keypoints": [1.0] * 8 + [10**400]}, "annotation 4: int too large"),
        ({"keypoints": []}, "annotation 4: keypoints holds 0 numbers, not 9"),
        ({"keypoints": None}, "annotation 4: keypoints is missing"),
        ({"bbox": [1, 2, 3]}, "annotation 4: bbox holds 3 numbers, not 4"),
        ({"bbox": [1, 2, 3, math.nan]}, "annotation 4: bbox holds a value that is no finite"),
        ({"bbox": [1, 2, 3, "4"]}, "annotation 4: bbox holds something that is no number"),
        ({"bbox": None}, "annotation 4: bbox is missing"),
        ({"area": "large"}, "annotation 4: area is no finite number"),
        ({"area": True}, "annotation 4: area is no finite number"),
        ({"num_keypoints": 4}, "annotation 4: num_keypoints is 4, of 3 keypoints"),
        ({"num_keypoints": -1}, "annotation 4: num_keypoints is -1, of 3 keypoints"),
        ({"num_keypoints": "3"}, "annotation 4: num_keypoints must be a whole number"),
        ({"area": 10**400}, "annotation 4: int too large"),
        ({"iscrowd": 7}, "annotation 4: iscrowd must be 0 or 1, not 7"),
        ({"image_id": "one"}, "annotation 4: image_id must be a whole number, not 'one'"),
        ({"id": None}, "annotation None: id must be a whole number"),
        ({"id": 3}, "annotation 3: the id is given twice"),
    ],
)
def test_flawed_annotations_are_named(read, changes, message):
    with pytest.raises(BodyPoseNetError, match="1 entries cannot be used") as caught:
        read([image()], [person(3), person(4) | changes])
    assert message in caught.value.what


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": "a.jpg"}, "image 'a.jpg': id must be a whole number"),
        ({"id": 2**63}, "id must be a whole number"),
        ({"id": 1}, "image 1: the id is given twice"),
        ({"height": 0}, "image 2: an image cannot be 160 x 0 pixels"),
        ({"width": 10**9}, "image 2: an image cannot be"),
        ({"height": None}, "image 2: height must be a whole number"),
        ({"file_name": ""}, "image 2: file_name is no name of a file"),
        ({"file_name": "."}, "image 2: file_name is no name of a file"),
        ({"file_name": "a/"}, "image 2: file_name is no name of a file"),
        ({"file_name": "a/."}, "image 2: file_name is no name of a file"),
        ({"file_name": "a\\"}, "image 2: file_name is no name of a file"),
        ({"file_name": "a\0.jpg"}, "image 2: file_name is no name of a file"),
        ({"file_name": "../b.jpg"}, "image 2: file_name must lie within the folder"),
        ({"file_name": "/tmp/b.jpg"}, "image 2: file_name must lie within the folder"),
        ({"file_name": "C:\\b.jpg"}, "image 2: file_name must lie within the folder"),
    ],
)
def test_flawed_images_are_named(read, changes, message):
    with pytest.raises(BodyPoseNetError) as caught:
        read([image(1), image(2) | changes], [])
    assert message in caught.value.what


def test_many_flaws_are_told_in_one_error(read):
    with pytest.raises(BodyPoseNetError) as caught:
        read([image()], [person(n) | {"bbox": []} for n in range(25)])
    assert "25 entries cannot be used" in caught.value.what
    assert "and 15 more" in caught.value.what
    assert caught.value.what.count("bbox holds") == 10


def test_keypoints_in_another_order_than_the_spec_are_an_error(tmp_path):
    path = write_annotations(tmp_path / "a.json", [image()], [person()])
    with pytest.raises(BodyPoseNetError, match="another order"):
        read_coco(path, ("hand", "head", "foot"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [],\n "annotations": [', r"a\.json:2: not valid JSON"),
        ("[]", "has no list `images`"),
        ('{"images": []}', "has no list `annotations`"),
        ('{"images": {}, "annotations": []}', "has no list `images`"),
        ("[" * 100_000, "nested too deeply"),
        ('{"images": [3], "annotations": ["x"]}', "2 entries cannot be used"),
    ],
)
def test_broken_files_are_errors(tmp_path, text, message):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(BodyPoseNetError, match=message):
        read_coco(path, JOINTS)


def test_a_file_that_is_no_text_or_is_missing_is_an_error(tmp_path):
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
