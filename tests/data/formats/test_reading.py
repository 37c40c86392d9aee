"""Detection of annotation formats, and summaries of annotation files."""

import json
from typing import get_args

import pytest

from bodyposenet.data.coco import read_coco
from bodyposenet.data.formats import describe_annotations
from bodyposenet.data.formats.reading import FORMATS
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.specs.dataset import FormatName

from ..coco_files import JOINTS, content, image, person, write_annotations


def test_the_spec_names_all_formats():
    assert set(get_args(FormatName)) == {"auto", *FORMATS}


@pytest.mark.parametrize("text", ["[]", "[1]", '[{"a": 1}]', "1", ""])
@pytest.mark.parametrize("name", get_args(FormatName))
def test_files_of_no_format_are_errors(tmp_path, text, name):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(BodyPoseNetError, match=r"a\.json"):
        read_coco(path, JOINTS, annotation_format=name)


def test_summary_of_a_coco_file(tmp_path):
    file = content([image(7), image(3)], [person(1, 3), person(2, 7), person(3, 7)])
    file["categories"][0]["skeleton"] = [[1, 2], [2, 3]]
    file["categories"].insert(0, {"id": 5, "name": "dog"})
    file["images"].append({"id": 8, "file_name": "a.jpg"})
    path = tmp_path / "a.json"
    path.write_text(json.dumps(file))
    summary = describe_annotations(path)
    assert summary.format == "coco"
    people, dogs = summary.categories
    assert (people.id, people.name, people.keypoints) == (1, "person", JOINTS)
    assert people.people == 3
    assert people.limbs == ((0, 1), (1, 2))
    assert (dogs.id, dogs.keypoints, dogs.num_keypoints, dogs.people) == (5, (), 0, 0)


def test_the_number_of_keypoints_is_known_without_names(tmp_path):
    file = content([image()], [person()])
    del file["categories"][0]["keypoints"]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(file))
    (category,) = describe_annotations(path).categories
    assert (category.keypoints, category.num_keypoints) == ((), 3)


def test_the_format_and_counts_are_logged(tmp_path, caplog):
    caplog.set_level("INFO")
    read_coco(write_annotations(tmp_path / "a.json", [image()], [person()]), JOINTS)
    assert "format COCO, 1 images, 1 people, 3 joints" in caplog.text


@pytest.mark.parametrize("limb", [[9, 1], [1], "x", None])
def test_limbs_of_other_keypoints_are_ignored(tmp_path, limb):
    """As in CrowdPose, which contains the limbs of COCO."""
    file = content([image()], [person()])
    file["categories"][0]["skeleton"] = [[1, 2], limb]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(file))
    assert describe_annotations(path).categories[0].limbs == ()
