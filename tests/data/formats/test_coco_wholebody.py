"""COCO-WholeBody: body, feet, face and hands."""

import json

import numpy as np
import pytest

from bodyposenet.data.coco import read_coco
from bodyposenet.data.formats import describe_annotations
from bodyposenet.data.formats.coco_wholebody import JOINTS
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.skeleton import COCO_JOINTS

from ..coco_files import BOX, image

SIZES = {
    "keypoints": 17,
    "foot_kpts": 6,
    "face_kpts": 68,
    "lefthand_kpts": 21,
    "righthand_kpts": 21,
}


def triples(start, count):
    return [value for n in range(start, start + count) for value in (n, n + 0.5, 1 + n % 2)]


def annotation(**changes):
    parts, start = {}, 1
    for key, count in SIZES.items():
        parts[key] = triples(start, count)
        start += count
    valid = {f"{part}_valid": True for part in ("foot", "face", "lefthand", "righthand")}
    entry = {"id": 1, "image_id": 1, "category_id": 1, "bbox": BOX, "area": 9.0, "iscrowd": 0}
    return entry | {"num_keypoints": 17, "face_box": [0, 0, 1, 1]} | valid | parts | changes


@pytest.fixture
def read(tmp_path):
    def run(annotations, joints=JOINTS, **options):
        category = {"id": 1, "name": "person", "keypoints": COCO_JOINTS, "skeleton": [[16, 14]]}
        path = tmp_path / "coco_wholebody_val_v1.0.json"
        content = {"images": [image()], "annotations": annotations, "categories": [category]}
        path.write_text(json.dumps(content))
        return read_coco(path, joints, **options)

    return run


def test_all_parts_are_joined_by_name(read, tmp_path):
    assert len(set(JOINTS)) == 133
    dataset = read([annotation()])
    expected = np.array(triples(1, 133)).reshape(133, 3)
    np.testing.assert_array_equal(dataset.images[0].persons[0].keypoints, expected)
    assert not dataset.repairs
    found = describe_annotations(tmp_path / "coco_wholebody_val_v1.0.json")
    assert (found.format, found.categories[0].keypoints) == ("coco_wholebody", JOINTS)
    joints = ("right_heel", "nose", "left_hand_root", "face_67", "right_pinky_finger4")
    (person,) = read([annotation()], joints).images[0].persons
    assert person.keypoints[:, 0].tolist() == [23, 1, 92, 91, 133]
    assert read([annotation()], COCO_JOINTS, annotation_format="coco").images[0].persons


def test_missing_parts_are_unlabeled(read):
    (person,) = read([annotation(foot_kpts=[]), annotation(id=2)]).images[0].persons[:1]
    assert person.num_keypoints == 133 - 6


def test_fractions_as_visibility_mean_labeled(read):
    face = [value for n in range(68) for value in (n, n, (0.0, 0.3, 1.0, 2.0)[n % 4])]
    (person,) = read([annotation(face_kpts=face)]).images[0].persons
    first = JOINTS.index("face-0")
    assert person.keypoints[first : first + 4, 2].tolist() == [0, 2, 1, 2]
    assert person.num_keypoints == 133 - 17


def test_a_part_of_another_size_is_an_error(read):
    with pytest.raises(BodyPoseNetError, match="annotation 1: keypoints: expected 399"):
        read([annotation(face_kpts=[1, 2, 3])])
