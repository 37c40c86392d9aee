"""Detections of a model: file formats, joints, matching to images, errors."""

import json

import numpy as np
import pytest

from bodyposenet.data.coco import read_coco
from bodyposenet.data.detections import read_detections
from bodyposenet.errors import BodyPoseNetError

from .coco_files import BOX, JOINTS, image, points, write_annotations

ELSEWHERE = [90.0, 10.0, 40.0, 80.0]


def entry(path="0001.jpg", people=(BOX,), scores=None, **changes):
    """Return the entry of an image in a detections.json."""
    return {
        "full_image_path": path,
        "keypoints": [points(bbox).tolist() for bbox in people],
        "scores": scores or [0.95] * len(people),
    } | changes


def document(*entries, joints=JOINTS):
    return {"keypoint_names": list(joints), "images": list(entries)}


def result(image_id=1, bbox=BOX, score=0.95, third=1, **changes):
    """Return a person in COCO's result format."""
    triples = np.column_stack([points(bbox), np.full(3, third)])
    keypoints = triples.ravel().tolist()
    return {
        "image_id": image_id,
        "category_id": 1,
        "keypoints": keypoints,
        "score": score,
    } | changes


@pytest.fixture
def read(tmp_path):
    """`read(content, *images)` -> detections."""

    def run(content, *images):
        path = write_annotations(tmp_path / "annotations.json", images or [image()], [])
        (tmp_path / "detections.json").write_text(json.dumps(content))
        return read_detections(tmp_path / "detections.json", read_coco(path, JOINTS).images, JOINTS)

    return run


def test_joints_are_matched_by_name(read):
    # A model has other joints (neck) in another order; TAO's list ends with a background.
    moved = points()[[2, 0, 1]]
    keypoints = [np.insert(moved, 1, [5, 5], axis=0).tolist()]
    own = document(entry(keypoints=keypoints), joints=("foot", "neck", "head", "hand"))
    names = [*own["keypoint_names"], "background"]
    tao = {"categories": [{"keypoints": names}], "images": own["images"]}
    for content in (own, tao):
        people = read(content).by_image[1]
        np.testing.assert_array_equal(people.keypoints, [points()])
        np.testing.assert_array_equal(people.scores, [0.95])


def test_joints_that_the_model_does_not_have_are_missing(read, caplog):
    content = document(entry(keypoints=[points()[:2].tolist()]), joints=JOINTS[:2])
    people = read(content).by_image[1]
    np.testing.assert_array_equal(np.isnan(people.keypoints[0, :, 0]), [False, False, True])
    assert "foot" in caplog.messages[-1].split()


def test_missing_joints(read):
    own = document(entry(keypoints=[points(missing=[1]).tolist()], keypoint_scores=[[0.5, 0.5, 0]]))
    coco = result()
    coco["keypoints"][3:5], coco["keypoints"][8] = [0, 0], 0
    for content in (own, [coco]):
        people = read(content).by_image[1]
        np.testing.assert_array_equal(np.isnan(people.keypoints[0, :, 0]), [False, True, True])


def test_coco_results_are_grouped_by_image(read):
    found = read([result(2), result(1), result(2, ELSEWHERE, 0.5), result(9)], image(1), image(2))
    assert {image_id: len(people.scores) for image_id, people in found.by_image.items()} == {
        1: 1, 2: 2,
    }  # fmt: skip
    np.testing.assert_array_equal(found.by_image[2].keypoints, [points(), points(ELSEWHERE)])
    assert sum(found.skipped.values()) == 1


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([{"full_image_path": "/x/a/1.jpg"}], [1]),
        ([{"full_image_path": "C:\\x\\b\\1.jpg"}], [2]),
        ([{"full_image_path": "./b/1.jpg"}, {"full_image_path": "a/1.jpg"}], [2, 1]),
        ([{"full_image_path": "/other/1.jpg"}], []),  # two images have that base name
        ([{"full_image_path": "/other/3.jpg"}], [3]),
        ([{"full_image_path": "/other/3.jpg"}, {"full_image_path": "/more/3.jpg"}], []),
        ([{"full_image_path": "/other/3.jpg"}, {"full_image_path": "/x/c/3.jpg"}], [3]),
        ([{"full_image_path": "/other/1.jpg", "image_id": 2}], [2]),
        ([{"full_image_path": "/other/3.jpg", "image_id": 1}], [3]),  # the id of another dataset
        ([{"full_image_path": "/other/3.jpg", "image_id": True}], [3]),
        ([{"full_image_path": "/other/4.jpg", "image_id": 2}], []),
        ([{"image_id": 2}], [2]),
        ([{"file_name": "a/1.jpg"}], [1]),
    ],
)
def test_entries_are_matched_to_images(read, entries, expected):
    images = [image(1, "a/1.jpg"), image(2, "b/1.jpg"), image(3, "c/3.jpg"), image(5, "d/5.jpg")]
    rest = entry("d/5.jpg", people=())
    people = [{key: entry()[key] for key in ("keypoints", "scores")} | named for named in entries]
    found = read(document(rest, *people), *images)
    assert list(found.by_image) == [5, *expected]


def test_images_that_the_model_could_not_read_are_counted(read):
    failed = {"full_image_path": "0001.jpg", "error": "truncated"}
    found = read(document(failed))
    assert len(found.by_image[1].scores) == 0
    assert found.skipped["images that the model could not read"] == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "not a file of detections"),
        (3, "not a file of detections"),
        ({"images": [], "categories": []}, "keypoint_names"),
        (
            document(entry(), joints=("knee", "hip", "toe")),
            r"joints \(knee, hip, toe\)",
        ),
        (document(), "no detections"),
        ([], "no detections"),
        (document(entry("x.jpg")), r"x\.jpg.*0001\.jpg \(id 1\)"),
        ([result(7)], r"image_id 7.*0001\.jpg \(id 1\)"),
        (document(entry(), 5), r"entry 1 \(counted from 0\).*object.* 5"),
        (document({"full_image_path": "0001.jpg"}), "scores must be a list"),
        (document(entry(scores=[0.5, 0.5])), "keypoints must be 2 x 3 x 2 numbers"),
        (document(entry(scores=["0.5"])), "scores must be 1 numbers"),
        (document(entry(keypoints=[[[1, 2], [3], [4, 5]]])), "keypoints must be 1 x 3 x 2 numbers"),
        (document(entry(scores=[float("nan")])), "scores .*not finite"),
        (
            document(entry(), entry("/y/0001.jpg")),
            "entry 1 .*repeated image 0001",
        ),
        ([result("1")], "image_id .*'1'"),
        ([{"image_id": 1, "bbox": BOX, "score": 0.5}], "keypoints must be 9 numbers"),
        ([result(score=None)], "score must be a number"),
    ],
)
def test_invalid_files_are_errors_with_file_name_and_remedy(read, content, message):
    with pytest.raises(BodyPoseNetError, match=message) as caught:
        read(content)
    assert "detections.json" in caught.value.what
    assert caught.value.remedy
