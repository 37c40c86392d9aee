"""Whether the test data of a dataset are a copy of the training data."""

import json
import shutil

import pytest
import yaml

from bodyposenet.data.dataset_check import is_copy_of_training_data
from bodyposenet.specs.dataset import DatasetSpec

from .formats.people import IMAGES, write_images
from .formats.yolo_pose_dataset import DATA, row


@pytest.fixture
def spec_of(tmp_path):
    """`spec_of(train, test)` -> spec; each part is an annotation file and an image folder."""

    def run(train, test):
        spec = {
            "dataset": "toy",
            "root_directory_path": str(tmp_path),
            "categories": [{"num_joints": 4, "keypoints": list("abcd")}],
        }
        for name, (annotations, images) in (("train_data", train), ("test_data", test)):
            spec[name] = {
                "images_root_dir_path": images,
                "mask_root_dir_path": "masks",
                "annotation_root_dir_path": annotations,
            }
        path = tmp_path / "spec.json"
        path.write_text(json.dumps(spec))
        return DatasetSpec.load(path)

    return run


def test_files_with_the_same_content_are_copies(spec_of, tmp_path):
    for name, text in (("a.json", "{}"), ("b.json", "{}"), ("c.json", "{ }")):
        (tmp_path / name).write_text(text)
    assert is_copy_of_training_data(spec_of(("a.json", "train"), ("b.json", "test")))
    assert not is_copy_of_training_data(spec_of(("a.json", "train"), ("c.json", "test")))


def test_parts_of_a_yolo_dataset_have_the_same_file(spec_of, tmp_path):
    write_images(tmp_path / "images" / "train")
    for image in IMAGES:
        path = (tmp_path / "labels" / "train" / image.name).with_suffix(".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(row(image, person) for person in image.people))
    for folder in ("images", "labels"):
        shutil.copytree(tmp_path / folder / "train", tmp_path / folder / "val")
    names = {"kpt_names": [list("abcd")]}
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(DATA | names))
    train, test = ("data.yaml", "images/train"), ("data.yaml", "images/val")
    assert not is_copy_of_training_data(spec_of(train, test))
    assert is_copy_of_training_data(spec_of(train, train))
    lists = {"train": "train.txt", "val": "val.txt", "path": "."}
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(DATA | names | lists))
    for image, name in zip(IMAGES, ("train.txt", "val.txt"), strict=True):
        (tmp_path / name).write_text(f"images/train/{image.name}\n")
    assert not is_copy_of_training_data(spec_of(train, train))
