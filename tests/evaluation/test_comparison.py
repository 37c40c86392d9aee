"""Comparison with earlier evaluations."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.evaluation.comparison import compare_runs, compare_scores, read_run
from bodyposenet.evaluation.protocols import EvaluationProtocol
from bodyposenet.inference.detections import describe_image
from bodyposenet.poses import Poses
from bodyposenet.skeleton import COCO_JOINTS, Skeleton
from bodyposenet.specs.dataset import DatasetSpec

from .scenes import COCO, random_scene, read

FACELESS = Skeleton("faceless", COCO_JOINTS[5:], ((0, 1),))
CATEGORY = {"name": "person", "num_joints": 17, "keypoints": list(COCO_JOINTS)}
SPLIT = {"images_root_dir_path": "", "mask_root_dir_path": "", "annotation_root_dir_path": ""}
SPEC = {
    "dataset": "coco",
    "root_directory_path": ".",
    "train_data": SPLIT,
    "categories": [CATEGORY],
}


@pytest.fixture(scope="module")
def scene():
    annotations, results = random_scene(np.random.default_rng(0), 20)
    return read(annotations), results


@pytest.fixture(scope="module")
def images(scene):
    return scene[0]


@pytest.fixture(scope="module")
def results(scene):
    return scene[1]


@pytest.fixture
def protocol(images, tmp_path):
    (tmp_path / "spec.json").write_text(json.dumps(SPEC))
    return EvaluationProtocol("coco", DatasetSpec.load(tmp_path / "spec.json"), images)


def write_run(folder: Path, images, results, skeleton=COCO) -> Path:
    """Write the files of an evaluation that `read_run` needs."""
    folder.mkdir(exist_ok=True)
    entries = []
    for image in images:
        found = [one for one in results if one["image_id"] == image.image_id]
        poses = Poses.from_coco(found, skeleton)
        meta = {"file_name": image.file_name, "height": image.height, "width": image.width}
        fields = {"image_id": image.image_id, "image_meta": meta}
        entries.append(describe_image(f"images/{image.file_name}", poses, fields))
    document = {"keypoint_names": list(skeleton.joints), "images": entries}
    (folder / "detections.json").write_text(json.dumps(document))
    lacking = [joint for joint in COCO_JOINTS if joint not in skeleton.joints]
    (folder / "results.json").write_text(json.dumps({"keypoints_not_evaluated": lacking}))
    return folder


def test_the_poses_of_an_earlier_run_are_read(tmp_path, images, results):
    run = read_run(write_run(tmp_path, images, results), images, COCO_JOINTS)
    assert run.joints == COCO_JOINTS
    for key in ("image_id", "score"):
        expected = [one[key] for one in results]
        assert [one[key] for one in run.results] == pytest.approx(expected, abs=1e-4)
    detected = np.reshape(results[0]["keypoints"], (17, 3))
    read_again = np.reshape(run.results[0]["keypoints"], (17, 3))
    np.testing.assert_allclose(read_again, detected, atol=0.01)


def test_a_run_does_not_differ_from_itself(protocol, results, tmp_path, images):
    earlier = read_run(write_run(tmp_path, images, results), images, COCO_JOINTS)
    (comparison,) = compare_runs(protocol, results, COCO_JOINTS, [earlier])
    assert len(comparison.differences) == 10
    for one in comparison.differences:
        assert one.value == pytest.approx(one.earlier, abs=0.01)  # rounded coordinates and scores
        assert not one.is_significant
    assert np.abs(comparison.quality_changes).max() < 0.01


def test_better_poses_are_better_in_images_and_metrics(protocol, results, tmp_path, images):
    worse = [one | {"keypoints": [value + 40 for value in one["keypoints"]]} for one in results]
    for one in worse:
        one["keypoints"][2::3] = [1.0] * 17
    earlier = read_run(write_run(tmp_path, images, worse), images, COCO_JOINTS)
    (comparison,) = compare_runs(protocol, results, COCO_JOINTS, [earlier])
    ap = comparison.differences[0]
    assert ap.value > ap.earlier
    assert ap.low <= ap.value - ap.earlier <= ap.high
    assert comparison.quality_changes.max() > 0.1
    assert f"{ap.value - ap.earlier:+.3f}" in comparison.table()[1]


def test_different_skeletons_are_compared_by_their_common_joints(
    protocol, results, tmp_path, images
):
    faceless = read_run(
        write_run(tmp_path / "faceless", images, results, FACELESS), images, COCO_JOINTS
    )
    same = read_run(write_run(tmp_path / "same", images, results), images, COCO_JOINTS)
    assert faceless.joints == FACELESS.joints
    comparisons = compare_runs(protocol, results, COCO_JOINTS, [faceless, same])
    for comparison in comparisons:
        assert comparison.joints == FACELESS.joints
        ap = comparison.differences[0]
        assert ap.value == pytest.approx(ap.earlier, abs=0.01)
        assert comparison.analysis.joint_ap["nose"] == -1


def test_models_without_common_joints_are_an_error(protocol, results, tmp_path, images):
    faceless = read_run(write_run(tmp_path, images, results, FACELESS), images, COCO_JOINTS)
    with pytest.raises(BodyPoseNetError, match="in common"):
        compare_runs(protocol, results, COCO_JOINTS[:5], [faceless])


def test_a_run_on_fewer_images_is_an_error(tmp_path, images, results):
    folder = write_run(tmp_path, images[1:], results)
    with pytest.raises(BodyPoseNetError, match=images[0].file_name):
        read_run(folder, images, COCO_JOINTS)


@pytest.mark.parametrize("content", [None, "[]", "{}", "{"])
def test_a_folder_without_results_is_an_error(tmp_path, images, results, content):
    folder = write_run(tmp_path, images, results)
    if content is None:
        (folder / "results.json").unlink()
    else:
        (folder / "results.json").write_text(content)
    with pytest.raises(BodyPoseNetError, match=r"results\.json"):
        read_run(folder, images, COCO_JOINTS)


class Coins:
    """Scores of a model that is right in some of the images."""

    def __init__(self, right):
        self.right = np.asarray(right, float)

    def metrics(self, weights=None):
        weights = np.ones(len(self.right)) if weights is None else weights
        return {"rate": float(self.right @ weights / weights.sum()), "unmeasured": -1.0}


def test_intervals_show_which_differences_may_be_chance():
    rng = np.random.default_rng(0)
    coin = rng.random(400) < 0.5
    for other, is_significant in (
        (rng.random(400) < 0.5, False),
        (coin & (rng.random(400) < 0.7), True),
    ):
        rate, unmeasured = compare_scores(Coins(coin), Coins(other), 400)
        assert rate.is_significant == is_significant
        assert 0.05 < rate.high - rate.low < 0.2
        assert np.isnan(unmeasured.low) and not unmeasured.is_significant


@pytest.mark.parametrize("name", ["crowdpose", "pck"])
def test_other_protocols_are_compared_too(protocol, results, tmp_path, images, name):
    earlier = read_run(write_run(tmp_path, images, results), images, COCO_JOINTS)
    (comparison,) = compare_runs(replace(protocol, name=name), results, COCO_JOINTS, [earlier])
    names = [one.metric for one in comparison.differences]
    assert ("AP_0.50:0.95_crowd_hard" if name == "crowdpose" else "PCK_0.2") in names
