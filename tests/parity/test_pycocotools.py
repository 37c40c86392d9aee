"""Keypoint AP, and that of CrowdPose, equals that of pycocotools to nine digits."""

import contextlib
import copy
import io
import json

import numpy as np
import pytest
from pycocotools import coco, cocoeval

from bodyposenet.data.coco import load_coco
from bodyposenet.evaluation import evaluate_poses
from bodyposenet.evaluation.crowdpose import BOX_AREA_SHARE, crowdpose_scores
from bodyposenet.evaluation.image_poses import arrange_images
from bodyposenet.skeleton import COCO_JOINTS, oks_sigmas
from bodyposenet.specs.pose import load_skeleton

from ..evaluation.scenes import COCO, random_scene, read


def reference_evaluation(annotations, results, image_ids=None):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = copy.deepcopy(annotations)
        truth.createIndex()
        found = truth.loadRes(copy.deepcopy(results))
        evaluation = cocoeval.COCOeval(truth, found, "keypoints")
        if image_ids is not None:
            evaluation.params.imgIds = image_ids
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


@pytest.mark.parametrize("seed", range(5))
def test_metrics_and_curves_are_the_same(seed):
    annotations, results = random_scene(np.random.default_rng(seed), 40)
    assert any(one["iscrowd"] for one in annotations["annotations"])
    assert any(one["num_keypoints"] == 0 for one in annotations["annotations"])
    outcome = evaluate_poses(results, read(annotations), COCO_JOINTS, COCO)
    expected = reference_evaluation(annotations, results)
    np.testing.assert_allclose(outcome.values, expected.stats, rtol=0, atol=1e-9)
    precision = expected.eval["precision"][:, :, 0, 0, 0]
    np.testing.assert_allclose(outcome.precision, precision, rtol=0, atol=1e-9)
    assert 0.05 < outcome.ap < 0.95


def test_metrics_of_a_subset_are_the_same():
    annotations, results = random_scene(np.random.default_rng(9), 40)
    chosen = list(range(1, 19))
    results = [one for one in results if one["image_id"] in chosen]
    outcome = evaluate_poses(results, read(annotations)[:18], COCO_JOINTS, COCO)
    expected = reference_evaluation(annotations, results, chosen).stats
    np.testing.assert_allclose(outcome.values, expected, rtol=0, atol=1e-9)


def test_metrics_of_crowdpose_are_those_of_the_images_of_each_level():
    annotations, results = random_scene(np.random.default_rng(3), 40)
    images = read(annotations)
    arranged = [
        image.with_box_areas(BOX_AREA_SHARE).best_poses(20)
        for image in arrange_images(images, results, 17, [1, 2])
    ]
    crowding = np.random.default_rng(0).random(len(images))
    sigmas = np.array(oks_sigmas(COCO_JOINTS))
    metrics = list(crowdpose_scores(arranged, sigmas, crowding).metrics().values())
    for one in annotations["annotations"]:
        one["area"] = BOX_AREA_SHARE * one["bbox"][2] * one["bbox"][3]
    everyone = reference_evaluation(annotations, results).stats
    np.testing.assert_allclose(metrics[:6], everyone[[0, 1, 2, 5, 6, 7]], rtol=0, atol=1e-9)
    levels = np.digitize(crowding, [0.2, 0.8])
    for level, ap in enumerate(metrics[6:]):
        ids = [image.image_id for image, own in zip(images, levels, strict=True) if own == level]
        expected = reference_evaluation(annotations, results, ids).stats[0]
        assert ap == pytest.approx(expected, abs=1e-9)


@pytest.mark.shared_data
def test_metrics_on_coco_annotations_are_the_same(shared):
    path = shared / "data/coco-person/annotations/person_keypoints_val.json"
    annotations = json.loads(path.read_text())
    rng = np.random.default_rng(0)
    results = []
    for person in annotations["annotations"]:
        keypoints = np.array(person["keypoints"], float).reshape(17, 3)
        keypoints[:, :2] += rng.normal(0, 0.05 * person["area"] ** 0.5, (17, 2))
        score = float(rng.random())
        one = {"image_id": person["image_id"], "category_id": 1, "score": score}
        results.append(one | {"keypoints": keypoints.ravel().tolist()})
    skeleton = load_skeleton("bpnet_18joints.json")
    outcome = evaluate_poses(results, load_coco(path, COCO_JOINTS), COCO_JOINTS, skeleton)
    expected = reference_evaluation(annotations, results).stats
    np.testing.assert_allclose(outcome.values, expected, rtol=0, atol=1e-9)
