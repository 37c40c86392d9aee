"""Conversion of annotated images to records: anchor persons, content, order, files."""

from itertools import chain
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bodyposenet.data.coco import read_coco
from bodyposenet.data.conversion import (
    check_images_exist,
    check_mask_folder,
    check_mask_names,
    choose_anchor_persons,
    distribute,
    find_anchors,
    make_record,
    shard_path,
    write_shards,
)
from bodyposenet.data.records import RecordSet
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.specs.dataset import DatasetSpec, Split

from .coco_files import JOINTS, image, person, unlabeled, write_spec


@pytest.fixture
def load(tmp_path):
    """Spec and images of a toy dataset: `load(images, annotations, **spec changes)`."""

    def run(images, annotations, **changes):
        spec = DatasetSpec.load(write_spec(tmp_path, images, annotations, **changes))
        return spec, read_coco(spec.annotations("train"), JOINTS).images

    return run


def beside(x, width=40, height=80):
    """Return a box whose center is x pixels to the right of the first one's."""
    return [10.0 + x, 20.0, width, height]


@pytest.fixture
def choose(load):
    """`choose(*annotations)` -> annotation ids of the anchor persons, other people by reason."""

    def run(*annotations):
        spec, images = load([image(height=400, width=400)], list(annotations))
        persons = images[0].persons
        anchors, skipped = choose_anchor_persons(persons, spec.data_filtering_params)
        return [persons[index].annotation_id for index in anchors], skipped

    return run


def test_people_need_enough_keypoints(choose):
    anchors, skipped = choose(
        person(1, flags=(2, 0, 0)), person(2, flags=(2, 1, 0)), unlabeled(3, bbox=beside(200))
    )
    assert anchors == [2]
    assert list(skipped.values()) == [2]


def test_the_product_of_minimum_height_and_width_limits_the_segmentation_area(choose):
    narrow = person(1, bbox=beside(0, width=4, height=80), area=100.0)
    small = person(2, bbox=beside(200), area=99.9)
    anchors, skipped = choose(narrow, small)
    assert anchors == [1]
    ((reason, number),) = skipped.items()
    assert number == 1
    assert "100" in reason and "min_acceptable_height" in reason


def test_people_with_an_empty_box_are_not_anchor_persons(choose):
    keypoints = [5, 5, 2] * len(JOINTS)  # at one point: no box around them
    empty = person(1, bbox=[5, 5, 0, 80], area=5000, keypoints=keypoints, segmentation=[])
    anchors, skipped = choose(empty, person(2))
    assert anchors == [2]
    assert list(skipped.values()) == [1]


def test_the_minimum_distance_is_relative_to_the_accepted_person(choose):
    # 0.3 x 80 = 24 pixels around the first person; the last person's size does not matter.
    anchors, skipped = choose(
        person(1), person(2, bbox=beside(23)), person(3, bbox=beside(24)),
        person(4, bbox=[0.0, 0.0, 380.0, 380.0]),
    )  # fmt: skip
    assert anchors == [1, 3, 4]
    assert skipped.total() == 1


def test_people_who_are_not_anchor_persons_do_not_exclude_others(choose):
    anchors, _ = choose(person(1, flags=(2, 0, 0)), person(2, bbox=beside(1)))
    assert anchors == [2]


def test_there_is_one_record_per_anchor_person(load):
    spec, images = load(
        [image(1, height=400, width=400), image(2)],
        [person(1), person(2, bbox=beside(100)), person(3, image_id=2, flags=(2, 0, 0))],
    )
    anchors, skipped = find_anchors(images, spec)
    assert [(anchor.image.image_id, anchor.person_index) for anchor in anchors] == [(1, 0), (1, 1)]
    assert skipped["images without an anchor person"] == 1


def test_without_duplication_each_image_with_a_labeled_person_has_one_record(load):
    spec, images = load(
        [image(1, height=400, width=400), image(2), image(3)],
        [
            person(1), person(2, bbox=beside(100)),
            unlabeled(3, 2), person(4, 2, flags=(2, 0, 0)),
            unlabeled(5, 3),
        ],
        duplicate_data_with_each_person_as_center=False,
    )  # fmt: skip
    anchors, skipped = find_anchors(images, spec)
    assert [(anchor.image.image_id, anchor.person_index) for anchor in anchors] == [(1, 0), (2, 1)]
    assert skipped["anchor persons after the first one of their image"] == 1
    assert skipped["images without an anchor person"] == 1


def test_a_record_has_the_anchor_person_first_and_then_all_other_labeled_people(load):
    boxes = [beside(0), beside(50, 30, 60), beside(90, 20, 50), beside(110)]
    spec, images = load(
        [image(12, "a/b.c.jpeg", 300, 400)],
        [
            person(1, 12, boxes[0], (1, 2, 0)), unlabeled(2, 12, boxes[1]),
            person(3, 12, boxes[2]), person(4, 12, boxes[3], (2, 0, 0)),
        ],
    )  # fmt: skip
    anchors, _ = find_anchors(images, spec)
    record = make_record(anchors[1], spec.dataset, spec.train_data)
    assert (record.image_id, record.height, record.width) == (12, 300, 400)
    assert (record.image_path, record.mask_path) == ("images/a/b.c.jpeg", "masks/a/b.c.png")
    assert (record.dataset, record.person_index) == ("toy", 2)
    np.testing.assert_array_equal(record.scales, [50, 80, 80])
    np.testing.assert_array_equal(record.centers, [[110, 45], [30, 60], [140, 60]])
    assert record.joints.shape == (3, 3, 3)
    np.testing.assert_array_equal(record.joints[:, :, 2], [[2, 2, 2], [1, 2, 0], [2, 0, 0]])
    np.testing.assert_array_equal(record.joints[1, 0], [30, 20, 1])


def test_a_crowd_with_keypoints_is_not_an_anchor_person(load):
    crowd = person(2, bbox=beside(100), iscrowd=1)
    spec, images = load([image(1, height=400, width=400), image(2)], [person(1), crowd])
    (anchor,), skipped = find_anchors(images, spec)
    assert anchor.person_index == 0
    assert [n for reason, n in skipped.items() if "crowd" in reason] == [1]
    assert len(make_record(anchor, spec.dataset, spec.train_data).scales) == 1


def test_a_crowd_alone_has_no_record_without_duplication(load):
    crowd = person(1, iscrowd=1)
    spec, images = load([image()], [crowd], duplicate_data_with_each_person_as_center=False)
    assert find_anchors(images, spec)[0] == []


def test_at_least_one_image_must_exist(load, tmp_path):
    too_long = "n" * 300 + ".jpg"  # too long for the file system
    _, images = load([image(1), image(2, "deep/b.jpg"), image(3, too_long)], [])
    with pytest.raises(BodyPoseNetError) as caught:
        check_images_exist(images, tmp_path / "images")
    assert str(tmp_path / "images") in caught.value.what
    assert "0001.jpg" in caught.value.what
    (tmp_path / "images" / "deep").mkdir(parents=True)
    (tmp_path / "images" / "deep" / "b.jpg").touch()
    check_images_exist(images, tmp_path / "images")


@pytest.mark.parametrize("names", [("a.jpg", "a.png"), ("a.jpg", "a.jpg"), ("d/a.x", "d/./a.y")])
def test_images_with_the_same_mask_name_are_an_error(load, names):
    _, images = load([image(1, names[0]), image(2, names[1])], [])
    with pytest.raises(BodyPoseNetError) as caught:
        check_mask_names(images)
    assert all(name in caught.value.what for name in names)


@pytest.mark.parametrize("images_exist", [False, True])
@pytest.mark.parametrize("masks", ["images", "./images/", "images/../images", "link"])
def test_masks_must_not_be_in_the_image_folder(tmp_path, images_exist, masks):
    if images_exist:
        (tmp_path / "images").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "images")
    split = Split(
        images_root_dir_path="images",
        mask_root_dir_path=masks,
        annotation_root_dir_path="annotations.json",
    )
    with pytest.raises(BodyPoseNetError, match=r"overwrite"):
        check_mask_folder(tmp_path, split)
    check_mask_folder(tmp_path, split.model_copy(update={"mask_root_dir_path": "images/masks"}))


@given(st.integers(0, 50), st.integers(0, 4), st.integers(0, 4))
def test_distribute_keeps_each_item_once(count, partitions, shards):
    distributed = distribute(range(count), partitions, shards)
    assert len(distributed) == max(partitions, 1)
    assert all(len(pieces) == max(shards, 1) for pieces in distributed)
    for number, pieces in enumerate(distributed):
        assert sorted(chain(*pieces)) == list(range(number, count, max(partitions, 1)))
        sizes = [len(piece) for piece in pieces]
        assert sizes[:-1] == [sum(sizes) // len(sizes)] * (len(sizes) - 1)


def test_the_order_is_that_of_pythons_old_shuffle():
    # One generator shuffles all partitions in turn, as random.shuffle(items, random) did.
    random = Random(42)
    expected = []
    for number in range(2):
        items = list(range(number, 20, 2))
        for i in reversed(range(1, len(items))):
            j = int(random.random() * (i + 1))
            items[i], items[j] = items[j], items[i]
        expected.append([items])
    assert distribute(range(20), 2, 0) == expected
    # By hand: 0.639, 0.025, 0.275, 0.223, 0.736, ... are what the seed 42 gives.
    assert distribute("abcdefgh", 1, 0) == [[list("gedchbaf")]]


@pytest.mark.parametrize(
    ("counts", "name"),
    [
        ((0, 1, 0, 0), "train-fold-000-of-001"),
        ((1, 3, 2, 16), "train-fold-001-of-003-shard-00002-of-00016"),
        ((0, 0, 0, 0), "train"),
        ((0, 0, 1, 2), "train-shard-00001-of-00002"),
    ],
)
def test_names_of_the_files(counts, name):
    assert shard_path(Path("out/train"), *counts) == Path("out") / name


def test_shards_are_written_and_counted(load, tmp_path):
    spec, images = load([image(n) for n in range(1, 6)], [person(n, n) for n in range(1, 6)])
    anchors, _ = find_anchors(images, spec)
    output = tmp_path / "out" / "toy"
    counts = write_shards(output, anchors, spec, spec.train_data, partitions=2, shards=2)
    assert counts == {"people in records": 5, "TFRecord files": 4}
    paths = sorted((tmp_path / "out").iterdir())
    assert [len(RecordSet([path])) for path in paths] == [1, 2, 1, 1]
    assert {record.image_id for record in RecordSet(paths)} == set(range(1, 6))
