"""Suspicious labels: each planted mistake is found, and correct labels have no findings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bodyposenet.data.coco import read_coco
from bodyposenet.data.dataset_skeleton import dataset_skeleton
from bodyposenet.data.findings import (
    KINDS,
    Finding,
    Severity,
    group_findings,
    sort_findings,
)
from bodyposenet.data.label_checks import check_labels
from bodyposenet.skeleton import COCO_JOINTS
from bodyposenet.specs.dataset import COCO_FLAGS, VisibilityFlags
from bodyposenet.specs.pose import KeypointCategory
from tests.data.standing_people import (
    HEIGHT,
    WIDTH,
    keypoints_of,
    set_keypoints,
    standing_people,
    write_document,
)

BODY = tuple(joint for joint in COCO_JOINTS if "_" in joint and joint[-3:] not in ("eye", "ear"))


def index(joint: str) -> int:
    return COCO_JOINTS.index(joint)


def find(folder, document, joints=COCO_JOINTS, flags=COCO_FLAGS) -> list[Finding]:
    dataset = read_coco(write_document(folder, document), joints)
    category = KeypointCategory(num_joints=len(joints), keypoints=joints)
    skeleton = dataset_skeleton("test", category, dataset.images, flags.labeled())
    return check_labels(dataset, skeleton, flags.classes())


def every_person(change: Callable[[np.ndarray], Any]) -> Callable[[dict[str, Any]], None]:
    """Return a change of a document that changes the (D, 3) keypoints of every person in place."""

    def apply(document: dict[str, Any]) -> None:
        for number in range(len(document["annotations"])):
            keypoints = keypoints_of(document, number)
            change(keypoints)
            set_keypoints(document, keypoints, number)

    return apply


def one_person(change: Callable[[np.ndarray], Any]) -> Callable[[dict[str, Any]], None]:
    """Return a change of a document that changes the (D, 3) keypoints of the first person."""

    def apply(document: dict[str, Any]) -> None:
        keypoints = keypoints_of(document)
        change(keypoints)
        set_keypoints(document, keypoints)

    return apply


def exchange(*parts: str) -> Callable[[np.ndarray], None]:
    """Return a change that exchanges left and right of some parts of the body."""

    def apply(keypoints: np.ndarray) -> None:
        for part in parts:
            pair = [index(f"left_{part}"), index(f"right_{part}")]
            keypoints[pair] = keypoints[pair[::-1]]

    return apply


PAIRS = tuple(joint.removeprefix("left_") for joint in COCO_JOINTS if joint.startswith("left_"))


def to_corners(document: dict[str, Any]) -> None:
    for annotation in document["annotations"]:
        x, y, width, height = annotation["bbox"]
        annotation["bbox"] = [x, y, x + width, y + height]


def repeat_person(document: dict[str, Any]) -> None:
    document["annotations"].append(document["annotations"][0] | {"id": 999})


def shrink(document: dict[str, Any]) -> None:
    keypoints = keypoints_of(document)
    keypoints[:, :2] = 100 + (keypoints[:, :2] - keypoints[:, :2].mean(axis=0)) / 40
    set_keypoints(document, keypoints)
    document["annotations"][0]["bbox"] = [97, 97, 6, 6]


def text_ids(document: dict[str, Any]) -> None:
    for annotation in document["annotations"]:
        annotation["image_id"] = str(annotation["image_id"])


def set_flags(flag: int) -> Callable[[np.ndarray], None]:
    return lambda keypoints: keypoints[:, 2].fill(flag)


def put(joint: str, *values: float) -> Callable[[np.ndarray], None]:
    """Return a change that sets x, y and optionally the flag of a joint."""
    return lambda keypoints: keypoints[index(joint), : len(values)].__setitem__(..., values)


def normalize(keypoints: np.ndarray) -> None:
    keypoints[:, :2] /= (WIDTH, HEIGHT)


def move_knee(keypoints: np.ndarray) -> None:
    """Move a knee to the head, so that the shin is long."""
    keypoints[index("left_knee"), :2] = keypoints[0, :2]


PLANTED = {
    "no_labels": every_person(set_flags(0)),
    "corner_boxes": to_corners,
    "normalized_coordinates": every_person(normalize),
    "misaligned": every_person(lambda keypoints: keypoints[:, :2].__imul__(2)),
    "swapped_dataset": every_person(exchange(*PAIRS)),
    "never_labeled": every_person(put("nose", 0, 0, 0)),
    "unlabeled_coordinates": one_person(put("nose", 100, 50, 0)),
    "binary_visibility": every_person(set_flags(1)),
    "repaired": text_ids,
    "outside_image": one_person(put("left_wrist", WIDTH + 40, 100)),
    "outside_box": one_person(put("left_wrist", 600, 100)),
    "one_point": one_person(lambda keypoints: keypoints[:4, :2].fill(100)),
    "duplicate_people": repeat_person,
    "long_limb": one_person(lambda keypoints: move_knee(keypoints)),
    "tiny_person": shrink,
}

ABOUT_ONE_PERSON = {
    "outside_image", "outside_box", "one_point", "duplicate_people", "long_limb", "tiny_person",
}  # fmt: skip


def test_correct_labels_have_no_findings(tmp_path):
    assert find(tmp_path, standing_people()) == []


@pytest.mark.parametrize("kind", PLANTED)
def test_planted_mistakes_are_found(tmp_path, kind):
    document = standing_people()
    PLANTED[kind](document)
    (finding,) = group_findings(find(tmp_path, document))[kind]
    if kind in ABOUT_ONE_PERSON:
        assert finding.file_name == "1.jpg"
        assert 1 in finding.annotation_ids
    else:
        assert finding.file_name is None and not finding.annotation_ids


@pytest.mark.parametrize(
    "parts", [("shoulder",), ("hip",), PAIRS, ("eye",), ("elbow",)], ids="-".join
)
def test_exchanged_sides_of_one_person_are_found(tmp_path, parts):
    document = standing_people()
    one_person(exchange(*parts))(document)
    (finding,) = find(tmp_path, document)
    assert (finding.kind, finding.annotation_ids) == ("swapped_sides", (1,))
    assert {joint.split("_")[0] for joint in finding.joints} == {"left", "right"}


def test_little_more_than_half_of_the_people_are_not_a_mistake_of_the_dataset(tmp_path):
    document = standing_people()
    people = document["annotations"]
    every_person(exchange(*PAIRS))(document | {"annotations": people[: len(people) * 3 // 5]})
    assert {finding.kind for finding in find(tmp_path, document)} == {"swapped_sides"}


def test_turned_away_people_without_faces_are_a_suspicion(tmp_path):
    correct = standing_people(joints=BODY)
    assert find(tmp_path, correct, BODY) == []
    for annotation in correct["annotations"]:
        x, _, width, _ = annotation["bbox"]
        keypoints = np.array(annotation["keypoints"]).reshape(-1, 3)
        keypoints[:, 0] = 2 * x + width - keypoints[:, 0]
        annotation["keypoints"] = keypoints.ravel().tolist()
    (finding,) = find(tmp_path, correct, BODY)
    assert finding.kind == "from_behind" and finding.severity is Severity.WARNING


def test_a_mistake_of_the_dataset_is_not_repeated_for_each_person(tmp_path):
    for kind in ("corner_boxes", "misaligned", "swapped_dataset", "normalized_coordinates"):
        document = standing_people()
        PLANTED[kind](document)
        (finding,) = find(tmp_path, document)
        assert finding.kind == kind


def test_flag_1_can_mean_visible(tmp_path):
    document = standing_people()
    every_person(set_flags(1))(document)
    flags = VisibilityFlags(value={"seen": 1}, mapping={"seen": "visible"})
    assert find(tmp_path, document, flags=flags) == []


def test_skeletons_without_sides_and_empty_datasets_have_no_findings(tmp_path):
    joints = ("nose",)
    assert find(tmp_path, standing_people(joints=joints), joints) == []
    empty = standing_people() | {"annotations": []}
    assert find(tmp_path, empty) == []


def test_findings_are_sorted_by_severity_then_score():
    findings = [
        Finding("tiny_person", ""), Finding("long_limb", "", score=4),
        Finding("long_limb", "", score=5), Finding("corner_boxes", ""),
    ]  # fmt: skip
    assert sort_findings(findings) == [findings[3], findings[2], findings[1], findings[0]]
    assert all(KINDS[finding.kind].remedy == finding.remedy for finding in findings)


def test_one_misplaced_joint_is_reported_once(tmp_path):
    document = standing_people()
    one_person(put("left_wrist", WIDTH + 200, 100))(document)
    assert [finding.kind for finding in find(tmp_path, document)] == ["outside_image"]
