"""Synthetic datasets: format, and reproducible files."""

import json
from pathlib import Path

import cv2

from bodyposenet.demo import write_drawn_dataset
from bodyposenet.skeleton import COCO_JOINTS
from bodyposenet.specs.dataset import DatasetSpec


def test_the_dataset_is_in_cocos_format_and_reproducible(tmp_path: Path):
    specs = [
        write_drawn_dataset(tmp_path / name, train_images=3, test_images=2, size=(64, 80), seed=3)
        for name in ("one", "two")
    ]
    spec = DatasetSpec.load(specs[0])
    assert spec.person.keypoints == COCO_JOINTS
    content = json.loads(spec.annotations("test").read_text())
    assert [image["height"] for image in content["images"]] == [64, 64]
    for image in content["images"]:
        assert cv2.imread(str(tmp_path / "one" / "test" / image["file_name"])).shape == (64, 80, 3)
    for path in (tmp_path / "one").rglob("*.j*"):
        if path.name != "dataset.json":
            twin = tmp_path / "two" / path.relative_to(tmp_path / "one")
            assert path.read_bytes() == twin.read_bytes()


def test_train_and_test_images_differ(drawn_dataset):
    first = [
        (drawn_dataset.folder / name / "000000.jpg").read_bytes() for name in ("train", "test")
    ]
    assert first[0] != first[1]
