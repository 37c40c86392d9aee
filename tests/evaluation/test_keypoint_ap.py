"""evaluate_poses: metrics, edge cases and the summary table."""

import json
from dataclasses import replace

import numpy as np
import pytest

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.evaluation import METRICS, evaluate_poses
from bodyposenet.skeleton import COCO_JOINTS, Skeleton
from bodyposenet.specs.dataset import VisibilityFlags

from .scenes import COCO, annotate, dataset, random_people, read, result


def evaluate(results, annotations, skeleton=COCO, **options):
    return evaluate_poses(results, read(annotations), COCO_JOINTS, skeleton, **options)


@pytest.fixture
def people():
    """Three people on three images, a large one, a medium one and a small one."""
    rng = np.random.default_rng(0)
    return [random_people(rng, size) for size in (300, 70, 20)]


@pytest.fixture
def annotations(people):
    areas = (200.0**2, 60.0**2, 10.0**2)
    return dataset(
        4,  # the fourth image is empty
        [
            annotate(number + 1, number + 1, person, area=area)
            for number, (person, area) in enumerate(zip(people, areas, strict=True))
        ],
    )


@pytest.fixture
def perfect(people):
    return [result(number + 1, person) for number, person in enumerate(people)]


def test_perfect_results_have_ap_1(perfect, annotations):
    accuracy = evaluate(perfect, annotations)
    assert accuracy.values == pytest.approx([1.0] * 10)
    assert accuracy.ap == accuracy.values[0]
    assert (accuracy.images, accuracy.people, accuracy.poses) == (4, 3, 3)


def test_no_results_have_ap_0(annotations):
    accuracy = evaluate([], annotations)
    assert accuracy.values == (0.0,) * 10
    assert not any(error.labeled for error in accuracy.joint_errors)


def test_a_third_of_the_people_is_a_third_of_the_recall(people, perfect, annotations):
    assert evaluate(perfect[:1], annotations).values[5] == pytest.approx(1 / 3)


def test_a_false_positive_lowers_the_precision(perfect, annotations):
    false_positive = result(4, random_people(np.random.default_rng(1), 100), score=1.0)
    assert 0.5 < evaluate([false_positive, *perfect], annotations).ap < 1


@pytest.mark.parametrize("images", [0, 1])
def test_without_ground_truth_all_metrics_are_minus_1(images):
    pose = result(1, random_people(np.random.default_rng(0), 90))
    accuracy = evaluate([pose] * images, dataset(images, []))
    assert accuracy.values == (-1.0,) * 10
    assert accuracy.precision.shape == (10, 101)
    assert "no ground truth" in accuracy.table()[-1]


def test_metrics_of_a_size_without_people_are_minus_1(perfect, annotations):
    del annotations["annotations"][1]
    accuracy = evaluate(perfect, annotations)
    assert dict(zip(METRICS, accuracy.values, strict=True))[METRICS[3]] == -1
    medium = [line for line in accuracy.table() if "medium" in line]
    assert all("-1.000" in line and "no ground truth" in line for line in medium)
    assert accuracy.kpis()["AP_0.50:0.95_large"] >= 0


def test_joints_that_the_skeleton_lacks_do_not_count_and_are_listed(people, annotations):
    faceless = Skeleton("faceless", COCO_JOINTS[5:], ((0, 1),))
    results = []
    for number, person in enumerate(people):
        without_face = person.copy()
        without_face[:5] = 0
        results.append(result(number + 1, without_face))
    assert evaluate(results, annotations).ap < 1
    accuracy = evaluate(results, annotations, skeleton=faceless)
    assert accuracy.ap == pytest.approx(1)
    assert accuracy.not_evaluated == COCO_JOINTS[:5]
    assert "nose, left_eye" in accuracy.table()[-1]
    assert accuracy.joint_errors[0].labeled == 0
    assert np.isnan(accuracy.joint_errors[0].median)


def test_a_person_with_nothing_but_joints_that_the_skeleton_lacks_is_ignored(people, annotations):
    people[0][5:] = 0
    annotations["annotations"][0] = annotate(1, 1, people[0], area=9e4)
    faceless = Skeleton("faceless", COCO_JOINTS[5:], ((0, 1),))
    assert evaluate([], annotations, skeleton=faceless).people == 2


def test_other_joints_and_sigmas(perfect, annotations):
    triples = [np.array(one["keypoints"]).reshape(17, 3)[:4] for one in annotations["annotations"]]
    names = ("tip", "root", "left_leaf", "right_leaf")
    plant = Skeleton("plant", names, ((0, 1),))
    small = dataset(3, [annotate(n, n, t, area=3600.0) for n, t in enumerate(triples, 1)])
    images = read(small, names)
    shifted = [result(n, t + (t[:, 2:] > 0) * [6, 0, 0]) for n, t in enumerate(triples, 1)]
    wide = evaluate_poses(shifted, images, names, plant, sigmas=[0.5] * 4)
    narrow = evaluate_poses(shifted, images, names, plant, sigmas=[0.02] * 4)
    assert wide.ap > 0.9
    assert narrow.ap < 0.1
    assert evaluate_poses(shifted, images, names, plant).ap > narrow.ap


def test_joint_errors_are_shares_of_the_persons_size(people, annotations):
    moved = [person.copy() for person in people]
    for person, size in zip(moved, (200, 60, 10), strict=True):
        person[6, 0] += 0.05 * size
        person[11, 2] = 0  # not detected
    results = [result(number + 1, person) for number, person in enumerate(moved)]
    errors = {error.joint: error for error in evaluate(results, annotations).joint_errors}
    assert errors["right_shoulder"].median == pytest.approx(0.05)
    assert errors["right_shoulder"].mean == pytest.approx(0.05)
    assert errors["left_hip"].detected == 0
    assert errors["nose"].detected == 1
    assert errors["nose"].median == 0


def test_it_prints_nothing_and_does_not_modify_its_input(capfd, perfect, annotations):
    before = json.dumps([perfect, annotations])
    evaluate(perfect, annotations)
    assert json.dumps([perfect, annotations]) == before
    assert capfd.readouterr() == ("", "")


def test_negative_scores_are_ranked_like_others(people, perfect, annotations):
    lower = [one | {"score": -0.2 - one["image_id"]} for one in perfect]
    assert evaluate(lower, annotations).ap == pytest.approx(1)
    false_positive = result(4, random_people(np.random.default_rng(1), 100), score=-9.0)
    assert evaluate([false_positive, *lower], annotations).ap == pytest.approx(1)


def test_annotation_id_0_is_valid(perfect, annotations):
    annotations["annotations"][0]["id"] = 0
    assert evaluate(perfect, annotations).ap == pytest.approx(1)


def test_flags_of_another_dataset(perfect, annotations):
    for annotation in annotations["annotations"]:
        flags = annotation["keypoints"][2::3]
        annotation["keypoints"][2::3] = [7 if flag else 9 for flag in flags]
    flags = VisibilityFlags(
        value={"seen": 7, "none": 9}, mapping={"seen": "visible", "none": "not_labeled"}
    )
    images = read(annotations, flags=flags)
    assert evaluate_poses(perfect, images, COCO_JOINTS, COCO).people == 0  # COCO has 1 and 2
    accuracy = evaluate_poses(perfect, images, COCO_JOINTS, COCO, labeled_flags=[7])
    assert accuracy.ap == pytest.approx(1)
    assert accuracy.joint_errors[-1].detected == 1
    assert accuracy.people == 3


def test_results_of_an_unknown_image_are_an_error(perfect, annotations):
    with pytest.raises(BodyPoseNetError, match="77"):
        evaluate([*perfect, perfect[0] | {"image_id": 77}], annotations)


def test_the_kpis_have_the_names_of_tao(perfect, annotations):
    names = ("0.50:0.95_all", "0.5", "0.75", "0.50:0.95_medium", "0.50:0.95_large")
    assert list(evaluate(perfect, annotations).kpis()) == [
        f"{kind}_{name}" for kind in ("AP", "AR") for name in names
    ]


def test_the_table_has_a_line_per_figure_and_one_of_counts(perfect, annotations):
    accuracy = evaluate(perfect, annotations)
    lines = replace(accuracy, images=5000).table()
    assert len(lines) == 11
    assert lines[0] == (
        " Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets= 20 ] = 1.000"
    )
    assert all(fact in lines[-1] for fact in ("5,000 images", "3 people", "3 predicted poses"))


def test_people_without_labeled_keypoints_are_ignored(perfect, annotations):
    bare = {"id": 9, "image_id": 1, "category_id": 1, "bbox": [500, 400, 9, 9]}
    annotations["annotations"].append(bare)
    accuracy = evaluate(perfect, annotations)
    assert accuracy.ap == pytest.approx(1)
    assert accuracy.people == 3
