"""COCO's results and annotations."""

import json

import numpy as np

from bodyposenet.data.formats import coco
from bodyposenet.data.formats.predictions import ImagePredictions, PredictedImage
from bodyposenet.skeleton import COCO_JOINTS, Skeleton
from bodyposenet.types import Poses

from .predicted import images, poses


def test_results_are_coco(tmp_path):
    coco.OUTPUT_FORMAT.write_images(tmp_path, images())
    results = json.loads((tmp_path / "results.json").read_text())
    assert [result["image_id"] for result in results] == [7, 7, 9]
    found = Poses.from_coco(results[:2], poses().skeleton)
    np.testing.assert_allclose(found.keypoints, poses().keypoints, atol=0.01)


def test_pycocotools_reads_both_files(tmp_path):
    from pycocotools.coco import COCO

    coco.OUTPUT_FORMAT.write_images(tmp_path, images())
    dataset = COCO(str(tmp_path / "annotations.json"))
    assert len(dataset.loadRes(str(tmp_path / "results.json")).anns) == 3


def test_annotations_describe_images_and_people(tmp_path):
    coco.OUTPUT_FORMAT.write_images(tmp_path, images())
    document = json.loads((tmp_path / "annotations.json").read_text())
    assert [image["file_name"] for image in document["images"]] == [
        "a.jpg", "more/b.jpg", "empty.jpg",
    ]  # fmt: skip
    assert document["categories"][0]["keypoints"] == list(COCO_JOINTS)
    first = document["annotations"][0]
    assert (first["num_keypoints"], first["keypoints"][:3]) == (15, [0, 0, 0])
    flags = first["keypoints"][2::3]
    assert (flags[9], flags[16], flags[5]) == (1, 0, 2)
    assert [entry["id"] for entry in document["annotations"]] == [1, 2, 3]


def test_coco_joints_of_a_larger_skeleton(tmp_path):
    joints = ("neck", *reversed(COCO_JOINTS))
    skeleton = Skeleton("larger", joints, ((0, 1), (1, 2)))
    points = np.arange(36, dtype=np.float32).reshape(1, 18, 2) + 1
    people = Poses(points, np.ones((1, 18), np.float32), np.ones(1), skeleton)
    image = PredictedImage("a.jpg", "a", 1, 100, 100, people, address="http://host/a.jpg")
    coco.OUTPUT_FORMAT.write_images(tmp_path, ImagePredictions([image], skeleton, "test"))
    document = json.loads((tmp_path / "annotations.json").read_text())
    assert document["images"][0]["coco_url"] == "http://host/a.jpg"
    assert document["categories"][0]["keypoints"] == list(COCO_JOINTS)
    assert document["categories"][0]["skeleton"] == [[17, 16]]
    expected = points[0, :0:-1]
    for found in (
        document["annotations"][0],
        json.loads((tmp_path / "results.json").read_text())[0],
    ):
        triples = np.array(found["keypoints"]).reshape(-1, 3)
        np.testing.assert_array_equal(triples[:, :2], expected)


def test_other_skeletons_keep_their_joints(tmp_path):
    skeleton = Skeleton("hand", ("wrist", "thumb"), ((0, 1),))
    people = Poses(np.ones((1, 2, 2)) * [[[5], [9]]], np.ones((1, 2)), np.ones(1), skeleton)
    image = PredictedImage("a.jpg", "a", 1, 100, 100, people)
    coco.OUTPUT_FORMAT.write_images(tmp_path, ImagePredictions([image], skeleton, "test"))
    category = json.loads((tmp_path / "annotations.json").read_text())["categories"][0]
    assert (category["keypoints"], category["skeleton"]) == (["wrist", "thumb"], [[1, 2]])
