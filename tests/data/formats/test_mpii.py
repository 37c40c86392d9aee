"""MPII: annotations in the JSON files of HRNet and MMPose."""

import json

import numpy as np
import pytest

from bodyposenet.data.coco import read_coco
from bodyposenet.data.formats import describe_annotations
from bodyposenet.data.formats.mpii import JOINTS
from bodyposenet.errors import BodyPoseNetError

from .people import IMAGES, write_images

ENTRY = {
    "joints_vis": [0, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
    "joints": [[-1.0, -1.0], *[[10.0 + n, 20.5 + 2 * n] for n in range(1, 16)]],
    "image": "first.jpg",
    "scale": 0.4,
    "center": [21.0, 41.0],
}


@pytest.fixture
def read(tmp_path):
    write_images(tmp_path / "images")

    def run(entries, **options):
        path = tmp_path / "train.json"
        path.write_text(json.dumps(entries))
        return read_coco(path, JOINTS, images_folder=tmp_path / "images", **options)

    return run


def test_people_are_grouped_by_image_and_pixels_counted_from_zero(read, tmp_path):
    entries = [ENTRY, ENTRY | {"image": IMAGES[1].name}, ENTRY]
    dataset = read(entries)
    assert [(image.file_name, len(image.persons)) for image in dataset.images] == [
        ("first.jpg", 2), ("second photo.jpg", 1),
    ]  # fmt: skip
    person = dataset.images[0].persons[0]
    expected = np.array([[9 + n, 19.5 + 2 * n, 2] for n in range(16)])
    expected[[0, 5]] = 0
    np.testing.assert_array_equal(person.keypoints, expected)
    assert person.box == (10, 21.5, 14, 28)
    assert read([ENTRY], annotation_format="mpii").images[0].persons[0].num_keypoints == 14
    found = describe_annotations(tmp_path / "train.json", tmp_path / "images")
    (category,) = found.categories
    assert (found.format, category.keypoints, len(category.limbs)) == ("mpii", JOINTS, 15)
    assert (JOINTS.index("upper_neck"), JOINTS.index("head_top")) in category.limbs


def test_a_person_without_joints_has_the_box_of_center_and_scale(read):
    test_entry = {key: ENTRY[key] for key in ("image", "scale", "center")}
    for entry in (test_entry, ENTRY | {"joints_vis": [0] * 16}):
        (person,) = read([entry]).images[0].persons
        assert person.box == (-20, 0, 80, 80)
        assert person.num_keypoints == 0


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        ({"joints": [[1, 2]]}, ("joints", "16", "1")),
        ({"joints_vis": None}, ("joints_vis", "None")),
        ({"joints": [1] * 16}, ("right_knee", "1")),
        ({"joints": [[1, "a"]] * 16}, ("right_knee", "'a'")),
        ({"joints_vis": [0] * 16, "center": 3}, ("center", "3")),
        ({"joints_vis": [0] * 16, "scale": "x"}, ("scale", "'x'")),
        ({"image": "gone.jpg"}, ("gone.jpg",)),
        ({"image": 3}, ("image",)),
    ],
)
def test_invalid_entries_are_errors_with_number_and_value(read, change, facts):
    with pytest.raises(BodyPoseNetError) as caught:
        read([ENTRY, ENTRY | change])
    assert all(fact in caught.value.what for fact in ("train.json", "entry 2", *facts))
