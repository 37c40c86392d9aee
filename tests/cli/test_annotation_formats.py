"""`bpnet dataset_convert` on annotations in every format: the same records."""

import json

import cv2
import numpy as np
import pytest

from bodyposenet.data.formats.reading import FORMATS
from bodyposenet.data.records import RecordSet

from ..data.formats.exports import EXPORTS
from ..data.formats.people import IMAGES, JOINTS, write_images


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_converted_to_the_same_records(run_bpnet, tmp_path, name):
    write, joints = EXPORTS[name]
    write_images(tmp_path / "images")
    split = {
        "images_root_dir_path": "images",
        "mask_root_dir_path": "masks",
        "annotation_root_dir_path": write(tmp_path).name,
    }
    spec = {
        "dataset": "people",
        "root_directory_path": str(tmp_path),
        "train_data": split,
        "categories": [{"num_joints": len(joints), "keypoints": joints}],
        "data_filtering_params": {
            "min_acceptable_height": 1,
            "min_acceptable_width": 1,
            "min_acceptable_kpts": 2,
            "min_acceptable_interperson_dist_ratio": 0,
        },
    }
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(spec))
    flags = ("--generate_masks", "--check_files", "--num_processes", 1)
    result = run_bpnet("dataset_convert", "-d", path, "-o", tmp_path / "out" / "r", *flags)
    assert result.code == 0, result.err
    assert FORMATS[name].title in result.err
    records = RecordSet(sorted((tmp_path / "out").glob("r-*")))
    people = [person for image in IMAGES for person in image.people if person.keypoints]
    expected = [
        [person.keypoints.get(joint, (0, 0, 0))[:2] for joint in JOINTS] for person in people
    ]
    anchors = [record.joints[0, :, :2].tolist() for record in records]
    np.testing.assert_allclose(sorted(anchors), sorted(expected), atol=0.01)
    mask = cv2.imread(str(tmp_path / "masks" / "second photo.png"), cv2.IMREAD_UNCHANGED)
    assert (mask == 0).any() == any(not person.keypoints for person in IMAGES[1].people)
