"""Annotation files in COCO's format: people, categories, repairs, skipped entries, errors."""

import json
import math
import tracemalloc

import numpy as np
import pytest

from bodyposenet.data.coco import load_coco, read_coco, read_dataset
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.media.image_header import MAX_PIXELS_VARIABLE
from bodyposenet.skeleton import COCO_JOINTS
from bodyposenet.specs.dataset import DatasetSpec

from .coco_files import (
    BOX,
    JOINTS,
    content,
    image,
    person,
    unlabelled,
    write_annotations,
    write_spec,
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
    emptied = unlabelled(3) | {"keypoints": []}
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
    assert not read([image()], [person(1), unlabelled(2), person(3, iscrowd=1)]).repairs


def test_other_categories_and_unknown_images_are_skipped_and_counted(read, caplog, tmp_path):
    dog = unlabelled(2) | {"category_id": 18}
    dataset = read([image()], [person(1), dog, person(3, image_id=99)])
    assert list(dataset.skipped.values()) == [1, 1]
    assert [p.annotation_id for p in dataset.images[0].persons] == [1]
    images = load_coco(tmp_path / "a.json", JOINTS)
    assert len(images) == 1
    assert "1 annotations of other categories" in caplog.text


DOG = {"id": 1, "name": "dog"}
HORSE = {"id": 5, "name": "Horse", "keypoints": JOINTS}


@pytest.fixture
def people_of(tmp_path):
    """`people_of(categories, ids)` -> ids of the people; annotation ids equal category ids."""

    def run(categories, ids=(1, 5), **wanted):
        path = tmp_path / "a.json"
        annotations = [person(number) | {"category_id": number} for number in ids]
        file = content([image()], annotations) | {"categories": categories}
        path.write_text(json.dumps(file))
        (only,) = read_coco(path, JOINTS, **wanted).images
        return [found.annotation_id for found in only.persons]

    return run


@pytest.mark.parametrize("name", ["person", "Person", " PERSON"])
def test_the_category_is_selected_by_name_in_any_case(people_of, name):
    assert people_of([DOG, {"id": 5, "name": name}]) == [5]
    assert people_of([DOG, {"id": "5", "name": name}]) == [5]


def test_the_category_can_have_another_name_or_be_selected_by_id(people_of):
    both = [DOG | {"keypoints": JOINTS}, HORSE]
    assert people_of(both, category="horse") == [5]
    assert people_of(both, category="horse", category_id=1) == [5]
    assert people_of(both, category=None, category_id=5) == [5]
    assert people_of([DOG, HORSE], category=None, category_id=1) == [1]


@pytest.mark.parametrize(("wanted", "name"), [(1, "pessoa"), (5, "Horse")])
def test_without_a_category_of_the_name_the_id_decides(people_of, caplog, wanted, name):
    both = [{"id": 1, "name": "pessoa", "keypoints": JOINTS}, HORSE]
    assert people_of(both, category_id=wanted) == [wanted]
    assert name in caplog.text


@pytest.mark.parametrize("keypoints", [None, [], ["head", "hand", "tail"]])
def test_a_category_of_the_id_with_other_keypoints_is_not_used(people_of, keypoints, caplog):
    dog = DOG | {"keypoints": keypoints}
    if keypoints:
        with pytest.raises(BodyPoseNetError, match=r"'dog' \(id 1\), 'Horse' \(id 5\)"):
            people_of([dog, HORSE], category_id=1)
    else:
        assert people_of([dog, HORSE], category_id=1) == [5]
        assert "Horse" in caplog.text


def test_otherwise_the_only_category_with_keypoints_is_used(people_of, caplog):
    assert people_of([DOG, HORSE]) == [5]
    assert "Horse" in caplog.text


@pytest.mark.parametrize(
    "categories", [[DOG], [DOG, HORSE | {"keypoints": []}], [DOG | {"keypoints": JOINTS}, HORSE]]
)
def test_an_ambiguous_category_is_an_error_that_lists_the_categories(people_of, categories):
    with pytest.raises(BodyPoseNetError) as caught:
        people_of(categories)
    assert all(repr(entry["name"]) in caught.value.what for entry in categories)
    assert "categories" in caught.value.remedy


def test_without_a_list_of_categories_all_annotations_must_have_the_same_one(people_of):
    assert people_of([], ids=(5,)) == [5]
    assert people_of([], category_id=5) == [5]
    with pytest.raises(BodyPoseNetError, match="1, 5"):
        people_of([])


def test_annotations_need_a_category_id_only_if_there_are_several_categories(read, tmp_path):
    nothing = person() | {"category_id": None}
    assert len(read([image()], [nothing]).images[0].persons) == 1
    file = content([image()], [nothing])
    file["categories"].append({"id": 2, "name": "dog"})
    (tmp_path / "a.json").write_text(json.dumps(file))
    with pytest.raises(BodyPoseNetError, match="category_id"):
        read_coco(tmp_path / "a.json", JOINTS)


def test_the_dataset_spec_selects_the_category(tmp_path):
    path = write_spec(tmp_path, [image()], [person(1), person(2) | {"category_id": 2}])
    file = json.loads((tmp_path / "annotations.json").read_text())
    file["categories"] = [{"id": n, "name": f"kind {n}", "keypoints": JOINTS} for n in (1, 2)]
    (tmp_path / "annotations.json").write_text(json.dumps(file))
    spec = json.loads(path.read_text())
    for named in (
        {"name": "Kind 2"}, {"id": 2}, {"name": "kind 2", "id": 1}, {"name": "person", "id": 2},
    ):  # fmt: skip
        spec["categories"] = [{"num_joints": 3, "keypoints": JOINTS} | named]
        path.write_text(json.dumps(spec))
        (only,) = read_dataset(DatasetSpec.load(path), "train").images
        assert [found.annotation_id for found in only.persons] == [2]


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


def test_keypoints_are_reordered_by_name(tmp_path):
    path = write_annotations(tmp_path / "a.json", [image()], [person(flags=(2, 0, 1))])
    (as_written,), (reordered,) = (
        read_coco(path, joints).images for joints in (JOINTS, ("foot", "HEAD", "hand"))
    )
    np.testing.assert_array_equal(
        reordered.persons[0].keypoints, as_written.persons[0].keypoints[[2, 0, 1]]
    )


def test_other_keypoints_are_an_error_that_lists_the_differences(tmp_path):
    path = write_annotations(tmp_path / "a.json", [image()], [person()])
    with pytest.raises(BodyPoseNetError) as caught:
        read_coco(path, ("head", "hand", "tail"))
    assert all(f"{word}" in caught.value.what for word in ("tail", "foot"))
    assert "head" not in caught.value.what


@pytest.mark.parametrize("names", [None, []])
def test_a_file_without_keypoint_names_is_read_with_a_warning(tmp_path, caplog, names):
    file = content([image()], [person()])
    file["categories"][0]["keypoints"] = names
    (tmp_path / "a.json").write_text(json.dumps(file))
    read_coco(tmp_path / "a.json", ("tail", "ear", "paw"))
    assert "tail, ear, paw" in caplog.text


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
        ("[]", "list `images`"),
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
