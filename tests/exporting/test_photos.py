"""Tests of photos for calibration: samples of a folder, and subsets of a dataset."""

import json
import re
from collections import Counter

import cv2
import numpy as np
import pytest

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.exporting.photos import (
    batched,
    held_out_photos,
    read_held_out,
    read_photos,
    sample_digest,
    sample_images,
    select_images,
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


def held_out(folder, sampled):
    return shades(read_photos(held_out_photos(folder, sampled), 9))


def test_sampling_is_without_replacement_and_deterministic(folder):
    sampled = shades(sample_images(folder, 8))
    assert sorted(sampled) == [0, 10, 20, 30, 40, 50, 60, 70]
    assert shades(sample_images(folder, 5)) == sampled[:5]
    assert shades(sample_images(folder, 8, seed=1)) != sampled


def test_unreadable_photos_are_replaced(folder, caplog):
    (folder / "3.png").write_bytes(b"no image")
    assert sorted(shades(sample_images(folder, 7))) == [0, 10, 20, 40, 50, 60, 70]
    assert "3.png" in caplog.text
    with pytest.raises(BodyPoseNetError, match=r"1 of 8 images .* 7 of the 8"):
        list(sample_images(folder, 8))


def test_too_few_images_are_an_error_before_any_is_read(folder):
    with pytest.raises(BodyPoseNetError, match=r"8 images.* 20 "):
        sample_images(folder, 20)


def test_held_out_photos_are_those_that_are_not_sampled(folder, caplog):
    sampled, others = shades(sample_images(folder, 5)), held_out(folder, 5)
    assert sorted([*sampled, *others]) == [0, 10, 20, 30, 40, 50, 60, 70]
    assert len(read_photos(held_out_photos(folder, 5), 2)) == 2
    assert held_out_photos(folder, 8) == []
    (folder / f"{others[0] // 10}.png").write_bytes(b"no image")
    assert held_out(folder, 5) == others[1:]
    assert f"{others[0] // 10}.png" in caplog.text


def test_held_out_photos_do_not_include_replacements_of_unreadable_ones(folder):
    first = shades(sample_images(folder, 1))[0]
    (folder / f"{first // 10}.png").write_bytes(b"no image")
    sampled, others = shades(sample_images(folder, 3)), held_out(folder, 3)[:4]
    assert not {*sampled} & {*others}


def test_held_out_photos_are_compared_on_if_there_are_enough(folder, caplog):
    others = held_out_photos(folder, 4)
    assert shades(read_held_out(others, folder)) == shades(read_photos(others))
    assert "WARNING" not in caplog.text
    for too_few in (others[:3], None):
        assert len(read_held_out(too_few, folder)) == 8
        assert str(folder) in caplog.text
        assert "WARNING" in caplog.text
        assert "--verify_images" in caplog.text
        caplog.clear()


def test_a_folder_without_a_readable_photo_is_an_error(tmp_path):
    (tmp_path / "b.png").write_text("no image")
    with pytest.raises(BodyPoseNetError, match=re.escape(str(tmp_path))) as caught:
        read_held_out(None, tmp_path)
    assert "--verify_images" in caught.value.remedy


def test_digest_of_a_sample_changes_with_its_photos(folder):
    digests = {sample_digest(folder, count) for count in (4, 5)}
    (folder / "deeper" / "9.png").rename(folder / "9.png")
    assert sample_digest(folder, 4) not in digests
    (folder / "9.png").unlink()
    assert sample_digest(folder, 4) in digests


def test_missing_folder_is_an_error(tmp_path):
    with pytest.raises(BodyPoseNetError, match="photos"):
        sample_images(tmp_path / "photos", 1)


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
    ).copies


def test_selection_is_stratified(dataset):
    copies = select(dataset, 8)
    ids = [int(copy.read_text()) for copy in copies]
    assert Counter(each < 60 for each in ids) == {True: 6, False: 2}
    assert all(each < 80 for each in ids)
    assert sorted(copies) == sorted((dataset / "out").iterdir())


def test_others_are_the_images_with_people_that_are_not_selected(dataset):
    selection = select_images(dataset / "coco.json", dataset / "images", dataset / "out", 8)
    selected, others = (
        [int(path.read_text()) for path in paths] for paths in (selection.copies, selection.others)
    )
    assert sorted(selected + others) == list(range(80))
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
