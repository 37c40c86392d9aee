"""Records of COCO photos equal an independent computation from the annotation file."""

import json
import math

import numpy as np
import pytest

from bodyposenet.data.records import RecordSet
from bodyposenet.skeleton import COCO_JOINTS

pytestmark = pytest.mark.shared_data

MIN_KEYPOINTS, MIN_AREA, MIN_DISTANCE = 5, 32 * 32, 0.3


def write_spec(shared, tmp_path):
    split = {
        "images_root_dir_path": "images",
        "mask_root_dir_path": str(tmp_path / "masks"),
        "annotation_root_dir_path": "annotations/person_keypoints_smoke.json",
    }
    category = {"name": "person", "num_joints": 17, "keypoints": list(COCO_JOINTS)}
    spec = {
        "dataset": "coco",
        "root_directory_path": str(shared / "data" / "coco-smoke"),
        "train_data": split,
        "categories": [category],
    }
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(spec))
    return path


def anchor_persons(people):
    chosen = []
    for index, person in enumerate(people):
        x, y, w, h = person["bbox"]
        far = all(
            math.hypot(x + w / 2 - (a + c / 2), y + h / 2 - (b + d / 2)) >= MIN_DISTANCE * max(c, d)
            for a, b, c, d in (people[other]["bbox"] for other in chosen)
        )
        if person["num_keypoints"] >= MIN_KEYPOINTS and person["area"] >= MIN_AREA and far:
            chosen.append(index)
    return chosen


def test_records_of_coco_photos(shared, tmp_path, run_bpnet):
    spec = write_spec(shared, tmp_path)
    result = run_bpnet("dataset_convert", "-d", spec, "-o", tmp_path / "out" / "smoke")
    assert result.code == 0, result.err
    records = {
        (record.image_id, record.person_index): record
        for record in RecordSet([tmp_path / "out" / "smoke-fold-000-of-001"])
    }
    annotations = shared / "data/coco-smoke/annotations/person_keypoints_smoke.json"
    content = json.loads(annotations.read_text())
    expected = set()
    for image in content["images"]:
        people = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        for anchor in anchor_persons(people):
            expected.add((image["id"], anchor))
            others = [p for i, p in enumerate(people) if i != anchor and p["num_keypoints"]]
            order = [people[anchor], *others]
            record = records[image["id"], anchor]
            boxes = np.array([person["bbox"] for person in order])
            joints = np.array([person["keypoints"] for person in order], float).reshape(-1, 17, 3)
            np.testing.assert_array_equal(record.joints, joints)
            np.testing.assert_array_equal(record.scales, boxes[:, 3])
            np.testing.assert_array_equal(record.centers, boxes[:, :2] + boxes[:, 2:] / 2)
            assert record.image_path == f"images/{image['file_name']}"
            assert (record.height, record.width) == (image["height"], image["width"])
    assert set(records) == expected
    assert len(expected) > 12
