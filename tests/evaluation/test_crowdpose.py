"""The protocol of CrowdPose."""

from dataclasses import replace

import numpy as np
import pytest

from bodyposenet.evaluation.crowdpose import (
    BOX_AREA_SHARE,
    compute_crowd_index,
    crowd_indices,
    crowdpose_scores,
)
from bodyposenet.evaluation.image_poses import arrange_images
from bodyposenet.skeleton import oks_sigmas
from bodyposenet.specs.dataset import COCO_FLAGS

from .scenes import annotate, dataset, random_scene, read

JOINTS = (
    "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
    "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "head", "neck",
)  # fmt: skip
LABELED = COCO_FLAGS.labeled()


def test_the_metrics_are_those_of_crowdpose_api():
    annotations, results = random_scene(np.random.default_rng(0), 60)
    rng = np.random.default_rng(0)
    for image in annotations["images"]:
        image["crowdIndex"] = float(rng.random())
    for one in annotations["annotations"]:
        one.update(keypoints=one["keypoints"][:42], iscrowd=0)
    results = [one | {"keypoints": one["keypoints"][:42]} for one in results]
    images = read(annotations, JOINTS)
    arranged = [
        image.with_box_areas(BOX_AREA_SHARE).best_poses(20)
        for image in arrange_images(images, results, 14, LABELED)
    ]
    indices = crowd_indices(images, LABELED)
    metrics = crowdpose_scores(arranged, np.array(oks_sigmas(JOINTS)), indices).metrics()
    # Printed by xtcocotools 1.14.3 (`keypoints_crowd`), which rounds the last three.
    assert list(metrics.values()) == pytest.approx(
        [0.0793723, 0.16775327, 0.05575201, 0.39537037, 0.63888889, 0.36111111,
         0.1277, 0.0756, 0.093], abs=6e-5,
    )  # fmt: skip
    assert list(metrics)[6:] == [
        f"AP_0.50:0.95_crowd_{name}" for name in ("easy", "medium", "hard")
    ]


@pytest.fixture
def image():
    """Two people: the box of the first one contains 2 of the 3 keypoints of the other one."""
    first = np.zeros((14, 3))
    first[:4] = [[10, 10, 2], [40, 10, 2], [10, 40, 1], [40, 40, 2]]
    second = np.zeros((14, 3))
    second[:3] = [[30, 20, 2], [35, 30, 2], [90, 30, 2]]
    boxes = ([10, 10, 30, 30], [30, 20, 60, 10])
    annotations = [
        annotate(number, 1, person, bbox=box)
        for number, (person, box) in enumerate(zip((first, second), boxes, strict=True), 1)
    ]
    return read(dataset(1, annotations), JOINTS)[0]


def test_the_crowd_index_counts_the_keypoints_of_others(image):
    assert compute_crowd_index(image, LABELED) == pytest.approx((2 / 4 + 0 / 3) / 2)


def test_the_crowd_index_of_the_file_has_priority(image):
    images = [image, replace(image, crowd_index=0.9), replace(image, persons=())]
    assert crowd_indices(images, LABELED).tolist() == pytest.approx([0.25, 0.9, 0])
