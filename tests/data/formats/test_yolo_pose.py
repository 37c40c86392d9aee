"""Ultralytics YOLO: datasets for pose estimation."""

import json

import numpy as np
import pytest
import yaml

from bodyposenet.data.coco import read_coco
from bodyposenet.data.formats import describe_annotations
from bodyposenet.errors import BodyPoseNetError

from ...media.jpegs import encode, exif_segment
from .people import IMAGES, JOINTS, ImageLabels, assert_equal, write_images
from .yolo_pose_dataset import DATA, row


@pytest.fixture
def write(tmp_path):
    """Write a dataset; returns data.yaml."""

    def run(images=IMAGES, dimensions=3, folder="images/train", labels="labels/train", **changes):
        write_images(tmp_path / folder, images)
        (tmp_path / labels).mkdir(parents=True, exist_ok=True)
        for image in images:
            rows = "".join(row(image, person, dimensions) for person in image.people)
            (tmp_path / labels / image.name).with_suffix(".txt").write_text(rows)
        path = tmp_path / "data.yaml"
        path.write_text(yaml.safe_dump(DATA | {"kpt_shape": [4, dimensions]} | changes))
        return path

    return run


@pytest.fixture
def read(tmp_path):
    def run(path=tmp_path / "data.yaml", folder="images/train", joints=JOINTS, **options):
        return read_coco(path, joints, images_folder=tmp_path / folder, **options)

    return run


def test_people_are_the_rows_of_label_files(write, read, tmp_path):
    path = write()
    assert_equal(read())
    assert_equal(read(annotation_format="yolo_pose"))
    assert_equal(read(tmp_path))  # the folder of data.yaml
    found = describe_annotations(path, tmp_path / "images/train")
    (category,) = found.categories
    assert (found.format, category.people, category.name) == ("yolo_pose", 4, "person")
    assert (category.keypoints, category.flip_indices) == (JOINTS, (0, 2, 1, 3))


def test_without_flags_keypoints_that_are_not_zero_are_labeled(write, read):
    write(dimensions=2)
    assert_equal(read(), flags=False)


@pytest.mark.parametrize(
    ("folder", "labels"),
    [("train/images", "train/labels"), ("images/a/b", "labels/a/b"), ("photos", "photos")],
)
def test_label_files_are_in_labels_or_beside_the_images(write, read, folder, labels):
    write(folder=folder, labels=labels)
    assert_equal(read(folder=folder))


def test_sizes_are_those_of_the_displayed_images(write, read, tmp_path):
    """Ultralytics applies the EXIF orientation as well."""
    write()
    for image in IMAGES:
        pixels = np.zeros((image.width, image.height, 3), np.uint8)  # rotated by 90 degrees
        content = encode(pixels, exif_segment(6))
        (tmp_path / "images" / "train" / image.name).write_bytes(content)
    assert_equal(read())


def test_an_image_without_a_label_file_has_no_people(write, read, tmp_path):
    write()
    background = ImageLabels("third.png", 20, 30)
    write_images(tmp_path / "images" / "train", [background])
    assert_equal(read(), [*IMAGES, background])


@pytest.mark.parametrize(
    ("names", "keypoint_names"),
    [
        (["person"], [list(JOINTS)]),
        (["person"], list(JOINTS)),
        ({"0": "person"}, {0: list(JOINTS)}),
    ],
)
def test_names_can_be_lists(write, read, names, keypoint_names):
    write(names=names, kpt_names=keypoint_names)
    assert_equal(read())


def test_names_of_keypoints_are_optional(write, read, tmp_path, caplog):
    path = write(kpt_names=None, flip_idx=None)
    assert_equal(read())
    assert ", ".join(JOINTS) in caplog.text
    with pytest.raises(BodyPoseNetError, match="expected 9 numbers"):
        read(joints=JOINTS[:3])
    (category,) = describe_annotations(path, tmp_path / "images/train").categories
    assert (category.keypoints, category.num_keypoints, category.flip_indices) == ((), 4, ())


def test_keypoints_are_matched_by_name(write, read):
    write()
    (found, _) = read(joints=JOINTS[::-1]).images
    assert found.persons[0].keypoints[0, 0] == pytest.approx(35.9, abs=0.01)


def test_the_class_is_selected_by_name(write, read):
    write(names=["dog", "person"], kpt_names=[list(JOINTS)] * 2)
    dataset = read(category="dog")
    assert sum(len(image.persons) for image in dataset.images) == 4
    dataset = read()
    assert dataset.skipped.total() == 4


def test_lists_of_images_select_the_part(write, read, tmp_path):
    path = write(train="train.txt", val=["val.txt"], path=None)
    first, second = IMAGES
    (tmp_path / "train.txt").write_text(f"./images/train/{first.name}\n./images/gone.jpg\n")
    (tmp_path / "val.txt").write_text(f"/elsewhere/images/train/{second.name}\n")
    dataset = read(mode="train")
    assert_equal(dataset, [first])
    assert dataset.skipped.total() == 1
    assert_equal(read(mode="test"), [second])
    assert_equal(read())
    path.write_text(path.read_text().replace("val.txt", "gone.txt"))
    with pytest.raises(BodyPoseNetError, match=r"data\.yaml: val: .*gone\.txt"):
        read(mode="test")


def test_a_byte_order_mark_and_windows_line_ends_are_ignored(write, read, tmp_path):
    write()
    for path in (tmp_path / "labels").rglob("*.txt"):
        text = path.read_text().replace("\n", "\r\n")
        path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert_equal(read())


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("0 0.5 0.5", ("expected 17", "got 3")),
        ("1 0.5 0.5 0.1 0.1", ("class 1",)),
        ("x 0.5 0.5 0.1 0.1", ("'x'",)),
        ("0 0.5 0.5 0.1 nan", ("'nan'",)),
        ("0 .5 .5 .1 .1" + " .5 .5 0.87" * 4, ("0.87", "predictions")),
        ("0 .5 .5 .1 .1" + " 80 60 2" * 4, ("far",)),
        ("0 é", ("not a text file",)),
    ],
)
def test_invalid_rows_are_errors_with_file_line_and_value(write, read, tmp_path, text, facts):
    write()
    (tmp_path / "labels" / "train" / "first.txt").write_text(f"\n{text}\n", encoding="utf-8")
    with pytest.raises(BodyPoseNetError) as caught:
        read()
    place = "first.txt:2" if "text file" not in facts[0] else "first.txt"
    assert all(fact in caught.value.what for fact in (place, *facts))


@pytest.mark.parametrize(
    ("changes", "fact"),
    [
        ({"kpt_shape": None}, "kpt_shape"),
        ({"kpt_shape": [4, 4]}, "[4, 4]"),
        ({"kpt_shape": [10**9, 2]}, "1000000000"),
        ({"names": None}, "names"),
        ({"names": {1: "person"}}, "names"),
        ({"kpt_names": [["a"]]}, "kpt_names"),
        ({"kpt_names": {0: ["a"] * 4}}, "kpt_names"),
        ({"flip_idx": [0, 1]}, "flip_idx"),
        ({"flip_idx": "x"}, "flip_idx"),
    ],
)
def test_invalid_descriptions_are_errors_with_file_and_key(write, read, changes, fact):
    write(**changes)
    with pytest.raises(BodyPoseNetError) as caught:
        read()
    assert all(text in caught.value.what for text in ("data.yaml", fact))


def test_missing_folders_and_labels_are_errors(write, read, tmp_path):
    path = write()
    with pytest.raises(BodyPoseNetError, match="nowhere"):
        read(folder="nowhere")
    with pytest.raises(BodyPoseNetError, match="image files"):
        read_coco(path, JOINTS)
    for file in (tmp_path / "labels").rglob("*.txt"):
        file.unlink()
    with pytest.raises(BodyPoseNetError, match="no label files for the 2 images"):
        read()


def test_a_folder_must_have_one_annotation_file(write, read, tmp_path):
    write()
    (tmp_path / "other.json").write_text(json.dumps({}))
    with pytest.raises(BodyPoseNetError, match=r"data\.yaml"):
        read(tmp_path)
    with pytest.raises(BodyPoseNetError, match="found 0"):
        read(tmp_path / "images")
