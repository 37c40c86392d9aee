"""Error types on constructed poses: each type is planted in one joint."""

import numpy as np
import pytest

from bodyposenet.evaluation.error_types import ErrorType, find_errors, summarize_errors
from bodyposenet.evaluation.image_poses import ImagePoses

JOINTS = ("nose", "left_hand", "right_hand", "left_foot", "right_foot")
MIRRORED = (0, 2, 1, 4, 3)
SIGMAS = np.full(5, 0.05)
AREA = 10_000.0
PERSON = np.array([[100, 20], [150, 60], [50, 60], [120, 180], [80, 180]], float)
OTHER = PERSON + np.array([300, 0])
NOSE, LEFT_HAND, RIGHT_HAND = 0, 1, 2


def distance(similarity: float) -> float:
    """Distance in pixels with a keypoint similarity: exp(-d^2 / (2 area (2 sigma)^2))."""
    return float(np.sqrt(-2 * np.log(similarity) * AREA * 0.1**2))


def image_of(people, poses, *, detected=None, scores=None) -> ImagePoses:
    truth, poses = np.array(people, float), np.array(poses, float).reshape(-1, 5, 2)
    low, high = truth.min(axis=1), truth.max(axis=1)
    return ImagePoses(
        image_id=1,
        truth=truth,
        annotated=np.ones(truth.shape[:2], bool),
        labeled=np.ones(truth.shape[:2], bool),
        areas=np.full(len(truth), AREA),
        boxes=np.hstack([low, high - low]),
        crowds=np.zeros(len(truth), bool),
        poses=poses,
        detected=np.ones(poses.shape[:2], bool) if detected is None else detected,
        scores=np.linspace(0.9, 0.5, len(poses)) if scores is None else np.array(scores),
    )


def types_of(pose, **options) -> list[str]:
    errors = find_errors(image_of([PERSON, OTHER], [pose], **options), SIGMAS, MIRRORED)
    assert errors.people.tolist() == [0]
    return [ErrorType(kind).label for kind in errors.types[0]]


def moved(joint: int, place) -> np.ndarray:
    """The person with one joint somewhere else."""
    pose = PERSON.copy()
    pose[joint] = place
    return pose


@pytest.mark.parametrize(
    ("joint", "place", "expected"),
    [
        (NOSE, PERSON[NOSE], "good"),
        (NOSE, PERSON[NOSE] + [distance(0.86), 0], "good"),
        (NOSE, PERSON[NOSE] + [0, distance(0.84)], "jitter"),
        (NOSE, PERSON[NOSE] - [distance(0.51), 0], "jitter"),
        (NOSE, PERSON[NOSE] - [distance(0.49), 0], "miss"),
        (NOSE, [250, 400], "miss"),
        (LEFT_HAND, PERSON[RIGHT_HAND], "inversion"),
        (LEFT_HAND, PERSON[RIGHT_HAND] + [distance(0.6), 0], "inversion"),
        (LEFT_HAND, PERSON[RIGHT_HAND] + [distance(0.4), 0], "miss"),
        (LEFT_HAND, OTHER[LEFT_HAND], "swap"),
        (LEFT_HAND, OTHER[RIGHT_HAND] + [distance(0.7), 0], "swap"),
        (LEFT_HAND, PERSON[NOSE], "miss"),  # at another joint
    ],
)
def test_each_type_is_found(joint, place, expected):
    types = types_of(moved(joint, place))
    assert types.pop(joint) == expected
    assert set(types) == {"good"}


def test_joints_that_are_not_detected():
    detected = np.array([[False, True, True, True, True]])
    assert types_of(moved(NOSE, [0, 0]), detected=detected)[NOSE] == "undetected"


def test_joints_without_a_label_have_no_type():
    image = image_of([PERSON], [PERSON])
    image.labeled[0, NOSE] = False
    errors = find_errors(image, SIGMAS, MIRRORED)
    assert errors.types[0].tolist() == [-1, 0, 0, 0, 0]


def test_corrected_joints_have_the_similarities_of_the_paper():
    pose = PERSON.copy()
    pose[0] += [0, distance(0.6)]  # jitter
    pose[1] = PERSON[2] + [0, distance(0.7)]  # inversion
    pose[2] = [250, 400]  # miss
    errors = find_errors(image_of([PERSON, OTHER], [pose]), SIGMAS, MIRRORED)
    offsets = np.linalg.norm(errors.corrected[0] - PERSON, axis=1)
    expected = [distance(0.85), distance(0.7), distance(0.5), 0, 0]
    assert offsets.tolist() == pytest.approx(expected, abs=1e-6)


def summarize(*images):
    errors = [find_errors(image, SIGMAS, MIRRORED) for image in images]
    return summarize_errors(images, errors, JOINTS, SIGMAS)


def test_the_ap_is_that_without_the_errors_of_one_type():
    inverted = PERSON[list(MIRRORED)]  # OKS 1/5
    summary = summarize(
        image_of([PERSON], [inverted], scores=[0.3]), image_of([OTHER], [OTHER], scores=[0.8])
    )
    assert summary.counts.sum(axis=0).tolist() == [6, 0, 4, 0, 0, 0]
    assert summary.shares()["inversion"] == pytest.approx(0.4)
    assert summary.ap == pytest.approx(0.5, abs=0.01)
    assert summary.corrected_ap["inversion"] == pytest.approx(1)
    for name in ("jitter", "swap", "miss"):
        assert summary.corrected_ap[name] == pytest.approx(summary.ap)


def test_false_positives_and_false_negatives():
    nobody = PERSON + np.array([0, 900])
    summary = summarize(
        image_of([PERSON, OTHER], [nobody, PERSON]),  # the false positive has the highest score
        image_of([PERSON], []),
    )
    assert (summary.false_positives, summary.false_negatives) == (1, 2)
    assert summary.ap == pytest.approx(34 / 101 / 2)  # recall 1/3, precision 1/2
    assert summary.corrected_ap["false positives"] == pytest.approx(34 / 101)
    assert summary.corrected_ap["false negatives"] == pytest.approx(1 / 2)


def test_poses_on_people_who_do_not_count_are_no_errors():
    image = image_of([PERSON, OTHER], [PERSON, OTHER])
    image.crowds[1] = True
    summary = summarize(image)
    assert (summary.false_positives, summary.false_negatives) == (0, 0)
    assert summary.counts.sum() == 5
