"""Tests of photos for calibration: samples of a folder, and subsets of a dataset."""

import json
from collections import Counter

import cv2
import numpy as np
import pytest

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.exporting.photos import (
    batched,
    file_digest,
    read_folder,
    read_photos,
    sample_digest,
    sample_photos,
    select_images,
    split_photos,
)

JOINTS = 17


@pytest.fixture
def folder(tmp_path):
    """Eight gray images of different brightness, and one in a subfolder."""
    (tmp_path / "deeper").mkdir()
    for number in range(8):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((8, 12, 3), 10 * number, np.uint8))
    cv2.imwrite(str(tmp_path / "deeper" / "9.png"), np.full((8, 12, 3), 90, np.uint8))
    return tmp_path


def shades(images):
    return [int(image[0, 0, 0]) for image in images]


def sample(folder, count, **options):
    split = split_photos(folder, count, **options)
    return shades(photo.pixels for photo in sample_photos(folder, split, count))


def test_sampling_is_without_replacement_and_deterministic(folder):
    sampled = sample(folder, 8)
    assert sorted(sampled) == [0, 10, 20, 30, 40, 50, 60, 70]
    assert sample(folder, 5) == sampled[:5]
    assert sample(folder, 8, seed=1) != sampled


def test_unreadable_photos_are_replaced(folder, caplog):
    (folder / "3.png").write_bytes(b"no image")
    assert sorted(sample(folder, 7)) == [0, 10, 20, 40, 50, 60, 70]
    assert "3.png" in caplog.text
    with pytest.raises(BodyPoseNetError, match=r"1 of 8 images .* 7 of the 8"):
        sample(folder, 8)


def test_too_few_images_are_an_error_before_any_is_read(folder):
    with pytest.raises(BodyPoseNetError, match=r"8 images.* 20 "):
        split_photos(folder, 20)


@pytest.mark.parametrize(
    ("available", "count", "held_back"),
    [
        (7, 7, 0),  # too few to hold any back
        (7, 2, 4),
        (8, 8, 4),
        (40, 40, 4),
        (100, 100, 10),  # a tenth
        (101, 101, 11),
        (100, 10, 32),
        (100, 60, 20),  # half of the others; the rest replaces unreadable photos
    ],
)
def test_a_tenth_of_the_photos_is_held_back(tmp_path, available, count, held_back):
    for number in range(available):
        (tmp_path / f"{number}.png").touch()
    split = split_photos(tmp_path, count, hold_back=True)
    assert len(split.comparison) == held_back
    assert len({*split.calibration, *split.comparison}) == available
    everything = split_photos(tmp_path, count)
    assert everything.comparison == []
    assert everything.calibration == [*split.calibration, *split.comparison[::-1]]


def test_held_back_photos_are_never_sampled(folder):
    split = split_photos(folder, 8, hold_back=True)
    held_back = shades(read_photos(split.comparison))
    assert sorted([*sample(folder, 8, hold_back=True), *held_back]) == list(range(0, 80, 10))
    assert sample(folder, 8, hold_back=True) == sample(folder, 4)
    split.calibration[0].write_bytes(b"no image")
    with pytest.raises(BodyPoseNetError, match="3 of the 4"):
        sample(folder, 8, hold_back=True)


def test_calibrated_photos_are_not_compared_on(folder, caplog):
    names = sorted(folder.glob("*.png"))
    calibrated = {file_digest(path) for path in names[:3]}
    (folder / "8.png").write_bytes(names[0].read_bytes())  # the same photo by another name
    (folder / "9.png").write_bytes(b"no image")
    paths = sorted(folder.glob("*.png"))
    assert shades(read_photos(paths, calibrated)) == [30, 40, 50, 60, 70]
    assert len(read_photos(paths, calibrated, 2)) == 2
    (folder / "9.png").unlink()
    assert shades(read_folder(folder, calibrated)) == [30, 40, 50, 60, 70]
    assert "skipped 4 photos" in caplog.text
    with pytest.raises(BodyPoseNetError, match="--verify_images"):
        read_folder(folder, {file_digest(path) for path in names})


def test_digest_of_a_sample_changes_with_its_photos(folder):
    digests = {sample_digest(folder, count) for count in (4, 5)}
    (folder / "deeper" / "9.png").rename(folder / "9.png")
    assert sample_digest(folder, 4) not in digests
    (folder / "9.png").unlink()
    assert sample_digest(folder, 4) in digests


def test_missing_folder_is_an_error(tmp_path):
    with pytest.raises(BodyPoseNetError, match="photos"):
        split_photos(tmp_path / "photos", 1)


def test_batches():
    assert list(batched(range(5), 2)) == [[0, 1], [2, 3], [4]]


def person(number, image_id, labeled):
    keypoints = [10.0, 10.0, 2] * labeled + [0, 0, 0] * (JOINTS - labeled)
    return {
        "id": number, "image_id": image_id, "category_id": 1, "bbox": [1, 1, 20, 20], "iscrowd": 0,
        "keypoints": keypoints, "num_keypoints": labeled, "area": 400,
    }  # fmt: skip


@pytest.fixture
def dataset(tmp_path):
    """60 images of one person with all joints, 20 of three people with 4 joints, 20 of none."""
    people, images = [], []
    (tmp_path / "images" / "sub").mkdir(parents=True)
    for image_id in range(100):
        name = f"sub/{image_id}.jpg"
        (tmp_path / "images" / name).write_bytes(str(image_id).encode())
        images.append({"id": image_id, "file_name": name, "height": 50, "width": 50})
        number, labeled = (1, JOINTS) if image_id < 60 else (3, 4) if image_id < 80 else (0, 0)
        people += [person(100 * image_id + k, image_id, labeled) for k in range(number)]
    (tmp_path / "coco.json").write_text(json.dumps({"images": images, "annotations": people}))
    return tmp_path


def select(dataset, count, name="out", seed=0):
    return select_images(
        dataset / "coco.json", dataset / "images", dataset / name, count, seed
    ).calibration


def test_selection_is_stratified(dataset):
    copies = select(dataset, 8)
    ids = [int(copy.read_text()) for copy in copies]
    assert Counter(each < 60 for each in ids) == {True: 6, False: 2}
    assert all(each < 80 for each in ids)
    assert sorted(copies) == sorted((dataset / "out").iterdir())


@pytest.mark.parametrize(("count", "selected"), [(8, 8), (80, 72)])
def test_images_that_are_not_selected_are_held_back(dataset, count, selected):
    """80 images show people."""
    split = select_images(
        dataset / "coco.json", dataset / "images", dataset / "out", count, hold_back=True
    )
    copied, others = (
        [int(path.read_text()) for path in paths] for paths in (split.calibration, split.comparison)
    )
    assert len(copied) == selected
    assert sorted(copied + others) == list(range(80))
    assert others != sorted(others)


def test_selection_depends_on_the_seed_only(dataset):
    names = [copy.name for copy in select(dataset, 10)]
    assert [copy.name for copy in select(dataset, 10, "again")] == names
    assert [copy.name for copy in select(dataset, 10, "other", seed=1)] != names


def test_missing_images_are_counted_and_replaced(dataset, caplog):
    for image_id in range(50):
        (dataset / "images" / "sub" / f"{image_id}.jpg").unlink()
    assert len(select(dataset, 30)) == 30
    assert "50 images are missing" in caplog.text
    with pytest.raises(BodyPoseNetError, match=r"30 images.* 31 "):
        select(dataset, 31, "more")


def test_folder_for_the_selection_must_be_empty(dataset):
    (dataset / "out").mkdir()
    (dataset / "out" / "old.jpg").touch()
    with pytest.raises(BodyPoseNetError, match="out"):
        select(dataset, 5)
