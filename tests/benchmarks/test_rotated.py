"""Tests of the evaluation on rotated images: exact rotation of pixels and annotations."""

import json

import cv2
import numpy as np
import pytest

from benchmarks.rotated import ANGLES, evaluate_rotated, rotate_annotations, rotate_pixels
from bodyposenet.data.coco import CocoImage
from bodyposenet.evaluation import evaluate_poses
from bodyposenet.evaluation.evaluator import load_test_images
from bodyposenet.inference.predictor import Predictor
from bodyposenet.specs.dataset import DatasetSpec
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.types import Person
from tests.inference.stick_figures import STICK, UPRIGHT, UprightEngine, draw_people

HEIGHT, WIDTH = 201, 304


def make_image():
    random = np.random.default_rng(0)
    persons = []
    for number in range(4):
        points = random.uniform((0, 0), (WIDTH - 1, HEIGHT - 1), (4, 2)).round(2)
        low, high = points.min(axis=0), points.max(axis=0)
        keypoints = np.column_stack([points, [2, 1, 2, 2]])
        box = (*low.tolist(), *(high - low).tolist())
        area = float((high - low).prod())
        persons.append(Person(keypoints, box, area, False, None, 4, number))
    return CocoImage(1, "a.png", HEIGHT, WIDTH, tuple(persons))


def results(image):
    return [
        {
            "image_id": 1,
            "category_id": 1,
            "keypoints": np.column_stack([p.keypoints[:, :2], np.ones(4)]).ravel().tolist(),
            "score": 0.9,
        }
        for p in image.persons
    ]


def test_four_quarter_turns_change_nothing():
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    image = make_image()
    turned, turned_image = pixels, image
    for _ in range(4):
        turned, turned_image = rotate_pixels(turned, 90), rotate_annotations(turned_image, 90)
    np.testing.assert_array_equal(turned, pixels)
    assert (turned_image.height, turned_image.width) == (HEIGHT, WIDTH)
    for before, after in zip(image.persons, turned_image.persons, strict=True):
        np.testing.assert_allclose(after.keypoints, before.keypoints, atol=1e-9)
        np.testing.assert_allclose(after.box, before.box, atol=1e-9)
        assert after.area == before.area


@pytest.mark.parametrize("degrees", ANGLES)
def test_keypoints_and_boxes_stay_on_their_pixels(degrees):
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[30:71, 40:55, 0] = 255  # the box (40, 30, 15, 41)
    pixels[33, 44, 1] = 255
    keypoints = np.array([[44.0, 33.0, 2.0]])
    marked = Person(keypoints, (40.0, 30.0, 15.0, 41.0), 615.0, False, None, 1, 1)
    image = rotate_annotations(CocoImage(1, "a.png", HEIGHT, WIDTH, (marked,)), degrees)
    turned = rotate_pixels(pixels, degrees)
    assert turned.shape[:2] == (image.height, image.width)
    (person,) = image.persons
    x, y = person.keypoints[0, :2].astype(int)
    assert turned[y, x, 1] == 255
    assert person.keypoints[0, 2] == 2
    left, top, width, height = (int(side) for side in person.box)
    inside = np.zeros(turned.shape[:2], bool)
    inside[top : top + height, left : left + width] = True
    np.testing.assert_array_equal(turned[..., 0] == 255, inside)


@pytest.mark.parametrize("degrees", ANGLES)
def test_rotated_detections_match_rotated_annotations(degrees):
    image = rotate_annotations(make_image(), degrees)
    assert evaluate_poses(results(image), [image], STICK.joints, STICK).ap == pytest.approx(1)
    assert evaluate_poses(results(make_image()), [image], STICK.joints, STICK).ap < 0.5


@pytest.fixture
def dataset(tmp_path):
    """Two images of the same upright people, one of them reduced after it was annotated."""
    people = [UPRIGHT * 110 + (90, 95), UPRIGHT * 120 + (210, 100)]
    (tmp_path / "images").mkdir()
    drawn = draw_people(HEIGHT, WIDTH, people)[..., ::-1]
    cv2.imwrite(str(tmp_path / "images" / "1.png"), drawn)
    smaller = cv2.resize(drawn, None, fx=0.75, fy=0.75, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(tmp_path / "images" / "2.png"), smaller)
    annotations = [
        {
            "id": 2 * image_id + number,
            "image_id": image_id,
            "category_id": 1,
            "keypoints": np.column_stack([points, np.full(4, 2)]).ravel().tolist(),
            "bbox": [*(points.min(axis=0) - 20).tolist(), 46, 160],
            "area": 6000,
        }
        for image_id in (1, 2)
        for number, points in enumerate(people)
    ]
    images = [
        {"id": number, "file_name": f"{number}.png", "height": HEIGHT, "width": WIDTH}
        for number in (1, 2)
    ]
    content = {"images": images, "annotations": annotations}
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    split = {
        "images_root_dir_path": "images",
        "mask_root_dir_path": "masks",
        "annotation_root_dir_path": "annotations.json",
    }
    spec = {
        "dataset": "sticks",
        "root_directory_path": str(tmp_path),
        "train_data": split,
        "test_data": split,
        "categories": [
            {
                "supercategory": "person",
                "id": 1,
                "name": "person",
                "num_joints": 4,
                "keypoints": list(STICK.joints),
            }
        ],
    }
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    return DatasetSpec.load(tmp_path / "spec.json")


def ap(dataset, degrees, rotation_test):
    spec = InferenceSpec(input_shape=(320, 320), rotation_test=rotation_test)
    predictor = Predictor(UprightEngine(), spec)
    return evaluate_rotated(predictor, dataset, load_test_images(dataset), degrees).ap


@pytest.mark.parametrize("degrees", ANGLES)
def test_a_network_for_upright_people_needs_the_rotation_test(dataset, degrees):
    assert ap(dataset, 0, rotation_test=False) == pytest.approx(1)
    assert ap(dataset, degrees, rotation_test=False) == 0
    expected = 0 if degrees == 180 else 1
    assert ap(dataset, degrees, rotation_test=True) == pytest.approx(expected)
