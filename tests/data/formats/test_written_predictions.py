"""Predictions that are written for annotation tools, and read again as annotations."""

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import cv2
import numpy as np
import pytest
import yaml

from bodyposenet.data.coco import read_coco
from bodyposenet.data.formats import describe_annotations
from bodyposenet.data.formats.output import write_predictions
from bodyposenet.data.formats.predictions import ImagePredictions, PredictedImage
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.skeleton import COCO_JOINTS, Skeleton
from bodyposenet.types import Poses

from .predicted import HEIGHT, MODEL, WIDTH, images, poses

FILES = {
    "coco": "predictions.json",
    "label_studio": "predictions.json",
    "cvat": "predictions.xml",
    "yolo_pose": "data.yaml",
}


@pytest.fixture
def photos(tmp_path):
    """Folder `images` of YOLO's dataset, which all formats use."""
    for image in images().images:
        path = tmp_path / "yolo_pose" / "images" / image.name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    return tmp_path / "yolo_pose" / "images"


def accept(path):
    """Turn the predictions in Label Studio's tasks into annotations, as an annotator does."""
    tasks = json.loads(path.read_text())
    for task in tasks:
        task["annotations"] = [{"result": task.pop("predictions")[0]["result"]}]
    path.write_text(json.dumps(tasks))


def write(name, folder, predictions):
    """Write predictions, and return the file of annotations."""
    path = folder / "written" / name / FILES[name]
    write_predictions([name], folder / "written", predictions)
    if name == "label_studio":
        accept(path)
    if name == "yolo_pose":  # beside the images
        for file in (folder / "written" / name).iterdir():
            file.rename(folder / name / file.name)
        path = folder / name / FILES[name]
    return path


@pytest.mark.parametrize("name", FILES)
def test_written_people_are_read_again(name, tmp_path, photos):
    path = write(name, tmp_path, images())
    dataset = read_coco(path, COCO_JOINTS, images_folder=photos)
    assert describe_annotations(path, photos).format == name
    found = {image.file_name: image for image in dataset.images}
    for image in images().images:
        if image.name == "empty.jpg" and name == "label_studio":
            continue
        read, labels = found[image.name], image.labels()
        assert (read.height, read.width, len(read.persons)) == (HEIGHT, WIDTH, len(labels))
        for number, person in enumerate(read.persons):
            expected = labels.keypoints[number], labels.visibility[number][:, None]
            np.testing.assert_allclose(person.keypoints, np.hstack(expected), atol=0.01)
            if name != "cvat":  # skeletons have no boxes
                left, top, right, bottom = labels.boxes[number]
                box = (left, top, right - left, bottom - top)
                np.testing.assert_allclose(person.box, box, atol=0.02)


@pytest.mark.parametrize("name", FILES)
def test_joint_names_with_special_characters(name, tmp_path):
    skeleton = Skeleton("odd", ('a "tail" & <end>', "left paw", "right paw"), ((0, 1), (0, 2)))
    points = np.array([[[10, 20], [30.5, 40.25], [50, 60]]])
    people = Poses(points, np.ones((1, 3)), np.ones(1), skeleton)
    image = PredictedImage("a&b.jpg", "a&b", 1, 100, 100, people)
    folder = tmp_path / "yolo_pose" / "images"
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / image.name), np.zeros((100, 100, 3), np.uint8))
    path = write(name, tmp_path, ImagePredictions([image], skeleton, MODEL))
    (read,) = read_coco(path, skeleton.joints, images_folder=folder).images
    assert read.file_name == image.name
    np.testing.assert_allclose(read.persons[0].keypoints[:, :2], points[0], atol=0.01)


@pytest.mark.parametrize("name", FILES)
def test_file_names_that_are_not_valid_text(name, tmp_path):
    image = replace(images().images[0], name="a\udcff\x01.jpg")
    write_predictions([name], tmp_path, replace(images(), images=[image]))
    assert (tmp_path / name / FILES[name]).stat().st_size


def test_label_studio_tasks(tmp_path, caplog):
    caplog.set_level("INFO")
    predictions = replace(images(), folder=tmp_path / "photos")
    write_predictions(["label_studio"], tmp_path, predictions)
    tasks = json.loads((tmp_path / "label_studio" / "predictions.json").read_text())
    addresses = [task["data"]["image"] for task in tasks]
    assert addresses[:2] == [
        "/data/local-files/?d=photos/a.jpg", "/data/local-files/?d=photos/more/b.jpg",
    ]  # fmt: skip
    assert f"DOCUMENT_ROOT={tmp_path}" in caplog.text
    (prediction,) = tasks[0]["predictions"]
    assert prediction["model_version"] == MODEL
    results = prediction["result"]
    config = ET.parse(tmp_path / "label_studio" / "config.xml").getroot()
    controls = {control.get("name"): control for control in config}
    for region in results:
        control = controls[region["from_name"]]
        assert control.tag.lower() == region["type"]
        (label,) = region["value"][region["type"]]
        assert label in [child.get("value") for child in control]
        assert region["to_name"] == control.get("toName") == "image"
        assert 0 <= region["value"]["x"] <= 100
    boxes = [region["id"] for region in results if region["type"] == "rectanglelabels"]
    points = [region for region in results if region["type"] == "keypointlabels"]
    assert len(boxes) == 2
    assert {point["parentID"] for point in points} == set(boxes)
    assert len({point["id"] for point in points}) == len(points) == 15 + 17
    assert points[0]["score"] == pytest.approx(poses().keypoint_scores[0, 1], abs=1e-5)


def test_cvat_labels_match_the_annotations(tmp_path):
    write_predictions(["cvat"], tmp_path, images())
    (label,) = json.loads((tmp_path / "cvat" / "labels.json").read_text())
    assert (label["name"], label["type"]) == ("person", "skeleton")
    assert [part["name"] for part in label["sublabels"]] == list(COCO_JOINTS)
    drawing = ET.fromstring(f"<svg>{label['svg']}</svg>")
    circles, lines = drawing.findall("circle"), drawing.findall("line")
    assert [circle.get("data-label-name") for circle in circles] == list(COCO_JOINTS)
    assert [circle.get("data-node-id") for circle in circles] == [str(k) for k in range(1, 18)]
    assert lines
    centers = np.array([[float(circle.get(key)) for key in ("cx", "cy")] for circle in circles])
    assert ((centers >= 0) & (centers <= 100)).all()
    assert centers[0, 1] < centers[16, 1]  # the nose is above the ankles
    root = ET.parse(tmp_path / "cvat" / "predictions.xml").getroot()
    first = root.find("image")
    assert (first.get("id"), first.get("name")) == ("0", "a.jpg")
    for points in first.iter("points"):
        assert re.fullmatch(r"[\d.]+,[\d.]+", points.get("points"))
    outside = [
        points.get("label") for points in first.iter("points") if points.get("outside") == "1"
    ]
    assert outside == ["nose", "right_ankle"]


def test_cvat_draws_a_skeleton_without_people(tmp_path):
    skeleton = images().skeleton
    write_predictions(["cvat"], tmp_path, ImagePredictions([], skeleton, MODEL))
    (label,) = json.loads((tmp_path / "cvat" / "labels.json").read_text())
    assert len(set(re.findall(r'<circle r="1" cx="[\d.]+" cy="[\d.]+"', label["svg"]))) == 17


def test_yolo_describes_the_keypoints(tmp_path):
    write_predictions(["yolo_pose"], tmp_path, images())
    data = yaml.safe_load((tmp_path / "yolo_pose" / "data.yaml").read_text())
    assert data["kpt_shape"] == [17, 3]
    assert [COCO_JOINTS[k] for k in data["flip_idx"][:3]] == ["nose", "right_eye", "left_eye"]
    assert (tmp_path / "yolo_pose" / "labels" / "empty.txt").read_text() == ""
    rows = (tmp_path / "yolo_pose" / "labels" / "more" / "b.txt").read_text().splitlines()
    values = np.array([row.split() for row in rows], float)
    assert values.shape == (1, 5 + 3 * 17)
    assert ((values[:, 1:5] >= 0) & (values[:, 1:5] <= 1)).all()


def test_yolo_needs_different_names_of_images(tmp_path):
    image = images().images[0]
    predictions = replace(images(), images=[image, replace(image, name="a.png")])
    with pytest.raises(BodyPoseNetError, match=r"a\.jpg and a\.png"):
        write_predictions(["yolo_pose"], tmp_path, predictions)
