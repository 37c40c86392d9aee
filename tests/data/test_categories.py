"""Category of people in annotation files: selection by name and id, keypoints by name."""

import json

import numpy as np
import pytest

from bodyposenet.data.coco import read_coco, read_dataset
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.specs.dataset import DatasetSpec

from .coco_files import JOINTS, content, image, person, write_annotations, write_spec

DOG = {"id": 1, "name": "dog"}
HORSE = {"id": 5, "name": "Horse", "keypoints": JOINTS}


@pytest.fixture
def people_of(tmp_path):
    """`people_of(categories, ids)` -> ids of the people; annotation ids equal category ids."""

    def run(categories, ids=(1, 5), **query):
        path = tmp_path / "a.json"
        annotations = [person(number) | {"category_id": number} for number in ids]
        file = content([image()], annotations) | {"categories": categories}
        path.write_text(json.dumps(file))
        (only,) = read_coco(path, JOINTS, **query).images
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


@pytest.mark.parametrize(("category_id", "name"), [(1, "pessoa"), (5, "Horse")])
def test_without_a_category_of_the_name_the_id_decides(people_of, caplog, category_id, name):
    both = [{"id": 1, "name": "pessoa", "keypoints": JOINTS}, HORSE]
    assert people_of(both, category_id=category_id) == [category_id]
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


def test_annotations_need_a_category_id_only_if_there_are_several_categories(tmp_path):
    without_id = person() | {"category_id": None}
    path = write_annotations(tmp_path / "a.json", [image()], [without_id])
    assert len(read_coco(path, JOINTS).images[0].persons) == 1
    file = content([image()], [without_id])
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


def test_keypoints_that_the_spec_does_not_have_are_ignored(tmp_path, caplog):
    path = write_annotations(tmp_path / "a.json", [image()], [person()])
    (everything,), (some,) = (read_coco(path, names).images for names in (JOINTS, ("foot", "head")))
    np.testing.assert_array_equal(
        some.persons[0].keypoints, everything.persons[0].keypoints[[2, 0]]
    )
    assert "hand" in caplog.text
    assert not read_coco(path, ("foot", "head")).repairs


@pytest.mark.parametrize("names", [None, []])
def test_a_file_without_keypoint_names_is_read_with_a_warning(tmp_path, caplog, names):
    file = content([image()], [person()])
    file["categories"][0]["keypoints"] = names
    (tmp_path / "a.json").write_text(json.dumps(file))
    read_coco(tmp_path / "a.json", ("tail", "ear", "paw"))
    assert "tail, ear, paw" in caplog.text
