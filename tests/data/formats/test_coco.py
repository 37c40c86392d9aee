"""COCO's results and annotations."""

import json

import numpy as np

from bodyposenet.data.formats import coco
from bodyposenet.data.formats.predictions import ImagePredictions, PredictedImage
from bodyposenet.skeleton import COCO_JOINTS, Skeleton
from bodyposenet.types import Poses

from ...media.walkers import SKELETON
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
    dataset = COCO(str(tmp_path / "predictions.json"))
    assert len(dataset.loadRes(str(tmp_path / "results.json")).anns) == 3


def test_annotations_describe_images_and_people(tmp_path):
    coco.OUTPUT_FORMAT.write_images(tmp_path, images())
    document = json.loads((tmp_path / "predictions.json").read_text())
    assert [image["file_name"] for image in document["images"]] == [
        "a.jpg", "more/b.jpg", "empty.jpg",
    ]  # fmt: skip
    assert document["categories"][0]["keypoints"] == list(COCO_JOINTS)
    first = document["annotations"][0]
    assert (first["num_keypoints"], first["keypoints"][:3]) == (15, [0, 0, 0])
    flags = first["keypoints"][2::3]
    assert (flags[9], flags[16], flags[5]) == (1, 0, 2)
    assert [entry["id"] for entry in document["annotations"]] == [1, 2, 3]


def test_addresses_of_images(tmp_path):
    image = PredictedImage("a.jpg", "a", 1, 320, 240, poses(), address="http://host/a.jpg")
    coco.OUTPUT_FORMAT.write_images(tmp_path, ImagePredictions([image], SKELETON, "test"))
    document = json.loads((tmp_path / "predictions.json").read_text())
    assert document["images"][0]["coco_url"] == "http://host/a.jpg"


def test_other_skeletons_keep_their_joints(tmp_path):
    skeleton = Skeleton("hand", ("wrist", "thumb"), ((0, 1),))
    people = Poses(np.ones((1, 2, 2)) * [[[5], [9]]], np.ones((1, 2)), np.ones(1), skeleton)
    image = PredictedImage("a.jpg", "a", 1, 100, 100, people)
    coco.OUTPUT_FORMAT.write_images(tmp_path, ImagePredictions([image], skeleton, "test"))
    category = json.loads((tmp_path / "predictions.json").read_text())["categories"][0]
    assert (category["keypoints"], category["skeleton"]) == (["wrist", "thumb"], [[1, 2]])
