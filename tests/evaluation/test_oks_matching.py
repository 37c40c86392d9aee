"""Matching of poses with people, and metrics of images with weights."""

import numpy as np
import pytest

from bodyposenet.evaluation import evaluate_poses
from bodyposenet.evaluation.analysis import analyze
from bodyposenet.evaluation.image_poses import ImagePoses, arrange_images
from bodyposenet.evaluation.keypoint_ap import MAX_DETECTIONS
from bodyposenet.evaluation.oks_matching import evaluate_variants, joint_variants, match_people
from bodyposenet.evaluation.oks_scores import coco_scores
from bodyposenet.skeleton import COCO_JOINTS, oks_sigmas
from bodyposenet.specs.dataset import COCO_FLAGS

from .scenes import COCO, annotate, dataset, random_people, random_scene, read, result

SIGMAS = np.array(oks_sigmas(COCO_JOINTS))


def arrange(annotations, results) -> list[ImagePoses]:
    images = arrange_images(read(annotations), results, 17, COCO_FLAGS.labeled())
    return [image.best_poses(MAX_DETECTIONS) for image in images]


@pytest.mark.parametrize("seed", range(3))
def test_the_metrics_are_those_of_coco(seed):
    annotations, results = random_scene(np.random.default_rng(seed), 30)
    annotations["images"].reverse()
    for one in results:
        one["score"] = round(one["score"], 1)  # poses of different images have equal scores
    expected = evaluate_poses(results, read(annotations), COCO_JOINTS, COCO).kpis()
    assert coco_scores(arrange(annotations, results), SIGMAS).metrics() == pytest.approx(expected)


def test_a_weight_has_the_effect_of_repeated_images():
    annotations, results = random_scene(np.random.default_rng(1), 20)
    images = arrange(annotations, results)
    weights = np.random.default_rng(2).integers(0, 3, len(images))
    repeated = [image for image, count in zip(images, weights, strict=True) for _ in range(count)]
    weighted = coco_scores(images, SIGMAS).metrics(weights.astype(float))
    assert weighted == pytest.approx(coco_scores(repeated, SIGMAS).metrics())


def test_without_people_all_metrics_are_minus_1():
    pose = result(1, random_people(np.random.default_rng(0), 90))
    scores = coco_scores(arrange(dataset(1, []), [pose]), SIGMAS)
    assert set(scores.metrics().values()) == {-1}


def match(oks, ignored=(), crowds=(), threshold=0.5):
    """Return the person of each pose."""
    people = np.arange(np.shape(oks)[1])
    return match_people(
        np.array([oks], float), np.isin(people, ignored)[None], np.isin(people, crowds),
        np.array([threshold]),
    )[0, 0].tolist()  # fmt: skip


@pytest.mark.parametrize(
    ("oks", "options", "expected"),
    [
        ([[0.6, 0.8]], {}, [1]),
        ([[0.8, 0.4], [0.9, 0.3]], {}, [0, -1]),  # the pose with the higher score was first
        ([[0.6, 0.9]], {"ignored": [1]}, [0]),  # people who count have priority
        ([[0.4, 0.9]], {"ignored": [1]}, [1]),
        ([[0.9], [0.9]], {"ignored": [0]}, [0, -1]),
        ([[0.9], [0.9]], {"ignored": [0], "crowds": [0]}, [0, 0]),
        ([[0.5]], {}, [0]),
        ([[0.49]], {}, [-1]),
    ],
)
def test_poses_are_matched_with_people(oks, options, expected):
    assert match(oks, **options) == expected


def test_the_ap_of_a_joint_depends_on_this_joint_only():
    person = random_people(np.random.default_rng(3), 200, labeled=1.0)
    unlabeled = random_people(np.random.default_rng(4), 200, labeled=1.0)
    unlabeled[9] = 0
    pose = person.copy()
    pose[7, :2] += 500  # left elbow
    pose[8, 2] = 0  # right elbow
    images = arrange(
        dataset(2, [annotate(1, 1, person), annotate(2, 2, unlabeled)]),
        [result(1, pose, score=0.3), result(2, unlabeled)],
    )
    matched = evaluate_variants(images, [joint_variants(image, SIGMAS) for image in images])
    ap = dict(zip(COCO_JOINTS, (one.ap for one in matched), strict=True))
    assert ap["nose"] == pytest.approx(1)
    assert ap["left_elbow"] == pytest.approx(0.5, abs=0.01)
    assert ap["right_elbow"] == pytest.approx(0.5, abs=0.01)
    assert matched[9].people.tolist() == [1, 0]
    assert ap["left_wrist"] == pytest.approx(1)  # the pose of the person without a label is ignored


def test_analysis_of_sizes_people_and_images():
    rng = np.random.default_rng(5)
    people = [random_people(rng, size, labeled=1.0) for size in (20, 60, 300, 300)]
    areas = (20.0**2, 60.0**2, 200.0**2, 200.0**2)
    annotations = dataset(
        4, [annotate(n, n, person, area=areas[n - 1]) for n, person in enumerate(people, 1)]
    )
    false_positive = result(2, random_people(rng, 80) + np.array([900, 0, 0]), score=0.5)
    results = [*(result(n, person) for n, person in enumerate(people[:3], 1)), false_positive]
    analysis = analyze(arrange(annotations, results), COCO_JOINTS, SIGMAS, COCO.mirrored)
    assert [(one.size, one.people) for one in analysis.sizes] == [
        ("all", 4), ("small", 1), ("medium", 1), ("large", 2),
    ]  # fmt: skip
    assert [one.ar for one in analysis.sizes] == pytest.approx([0.75, 1, 1, 0.5])
    assert analysis.person_oks.tolist() == pytest.approx([1, 1, 1, 0])
    counts, without_pose = analysis.oks_histogram()
    assert (counts[-1], counts.sum(), without_pose) == (3, 3, 1)
    assert analysis.image_qualities.tolist() == pytest.approx([1, 1 / 1.5, 1, 0])


def test_the_quality_of_an_image_without_people_and_poses_is_undefined():
    analysis = analyze(arrange(dataset(1, []), []), COCO_JOINTS, SIGMAS, COCO.mirrored)
    assert np.isnan(analysis.image_qualities).all()
    assert np.isnan(list(analysis.errors.shares().values())).all()
