"""The subset of a dataset that stands for all of it."""

import json
from collections import Counter

import pytest

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.exporting.photos import select_images

JOINTS = 17


def person(number, image_id, labelled):
    keypoints = [10.0, 10.0, 2] * labelled + [0, 0, 0] * (JOINTS - labelled)
    return {
        "id": number, "image_id": image_id, "category_id": 1, "bbox": [1, 1, 20, 20], "iscrowd": 0,
        "keypoints": keypoints, "num_keypoints": labelled, "area": 400,
    }  # fmt: skip


@pytest.fixture
def dataset(tmp_path):
    """60 images of one person all of whose joints are seen, 20 of three with few, 20 of nobody."""
    people, images = [], []
    (tmp_path / "images" / "sub").mkdir(parents=True)
    for image_id in range(100):
        name = f"sub/{image_id}.jpg"
        (tmp_path / "images" / name).write_bytes(str(image_id).encode())
        images.append({"id": image_id, "file_name": name, "height": 50, "width": 50})
        number, labelled = (1, JOINTS) if image_id < 60 else (3, 4) if image_id < 80 else (0, 0)
        people += [person(100 * image_id + k, image_id, labelled) for k in range(number)]
    (tmp_path / "coco.json").write_text(json.dumps({"images": images, "annotations": people}))
    return tmp_path


def select(dataset, count, name="out", seed=0):
    return select_images(
        dataset / "coco.json", dataset / "images", dataset / name, count, seed
    ).copies


def test_every_kind_has_its_share(dataset):
    copies = select(dataset, 8)
    ids = [int(copy.read_text()) for copy in copies]
    assert Counter(each < 60 for each in ids) == {True: 6, False: 2}
    assert all(each < 80 for each in ids)
    assert sorted(copies) == sorted((dataset / "out").iterdir())


def test_the_others_are_those_with_people_that_are_not_selected(dataset):
    selection = select_images(dataset / "coco.json", dataset / "images", dataset / "out", 8)
    selected, others = (
        [int(path.read_text()) for path in paths] for paths in (selection.copies, selection.others)
    )
    assert sorted(selected + others) == list(range(80))
    assert others != sorted(others)


def test_the_same_seed_selects_the_same(dataset):
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


def test_other_images_may_not_mix_in(dataset):
    (dataset / "out").mkdir()
    (dataset / "out" / "old.jpg").touch()
    with pytest.raises(BodyPoseNetError, match="out"):
        select(dataset, 5)
