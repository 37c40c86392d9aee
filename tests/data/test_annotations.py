"""Normalization of single annotations: forms of numbers, repaired values, errors."""

import math
from collections import Counter

import numpy as np
import pytest

from bodyposenet.data.annotations import KeypointFormat, PersonReader, parse_integer

from .coco_files import BOX, person, unlabeled

OUTLINE = [[10, 20, 50, 20, 50, 100, 10, 100]]
"""A segmentation whose box is `BOX`."""


def read(entry, **changes):
    """Read an annotation in an image of 160 x 120 pixels; returns the person and the repairs."""
    repairs = Counter()
    settings = {"annotated": 3, "labeled": frozenset({1, 2})} | changes
    reader = PersonReader(KeypointFormat(**settings), repairs)
    return reader.read(entry, entry["id"], height=120, width=160), repairs


@pytest.mark.parametrize("value", [12, 12.0, "12", "0012"])
def test_integers_in_all_forms(value):
    repairs = Counter()
    assert parse_integer({"id": value}, "id", repairs) == 12
    assert repairs.total() == (type(value) is not int)


@pytest.mark.parametrize("value", [12.5, "12.5", "", "1_2", "a", True, None, [], 2**63, 1e300])
def test_values_that_are_not_integers(value):
    with pytest.raises(ValueError, match="id"):
        parse_integer({"id": value}, "id", Counter())


@pytest.mark.parametrize("stated", [0, 17, -1, "many", None])
@pytest.mark.parametrize(("flags", "labeled"), [((2, 1, 0), 2), ((0, 0, 0), 0)])
def test_labeled_keypoints_are_counted(stated, flags, labeled):
    found, repairs = read(person(flags=flags, num_keypoints=stated))
    assert found.num_keypoints == labeled
    assert bool(repairs) == (stated is not None and stated != labeled)


def test_the_dataset_defines_which_flags_mean_labeled():
    flags = {"labeled": frozenset({0, 1}), "known": frozenset({0, 1, 2})}
    found, repairs = read(person(flags=(1, 2, 1), num_keypoints=3), **flags)
    assert found.num_keypoints == 2
    assert not repairs  # COCO's count (of nonzero flags) is accepted too
    nobody, _ = read(unlabeled(1, keypoints=None), **flags)
    assert nobody.num_keypoints == 0
    assert not set(nobody.keypoints[:, 2]) & {0, 1}
    with pytest.raises(ValueError, match=r"flag 3\b"):
        read(person(flags=(1, 3, 1)), **flags)


@pytest.mark.parametrize("coordinate", [None, math.nan, math.inf, 1e223, "7"])
def test_the_position_of_an_unlabeled_joint_does_not_matter(coordinate):
    entry = person(flags=(0, 2, 2))
    entry["keypoints"][:3] = [coordinate, coordinate, None if coordinate is None else 0]
    found, _ = read(entry)
    assert found.num_keypoints == 2
    assert np.isfinite(found.keypoints).all()
    assert np.abs(found.keypoints).max() < 200


BAD_BOXES = [None, [], [1, 2, 3], [1, 2, math.nan, 4], [0, 0, 0, 0], [5, 5, -3, 9], "box"]
BAD_BOXES += [[1e9, 0, 5, 5], [None] * 4]


@pytest.mark.parametrize("box", BAD_BOXES)
def test_a_missing_box_is_derived_from_the_segmentation_or_the_labeled_keypoints(box):
    outlined, repairs = read(person(segmentation=OUTLINE) | {"bbox": box})
    assert outlined.box == tuple(BOX)
    assert any("segmentation" in kind for kind in repairs)
    entry = person(segmentation=[], flags=(2, 2, 0)) | {"bbox": box}
    pointed, repairs = read(entry)
    assert pointed.box == (10, 20, 20, 40)  # head and hand, not the foot
    assert any("labeled keypoints" in kind for kind in repairs)


@pytest.mark.parametrize("flags", [(2, 0, 0), (2, 1, 0)])
def test_keypoints_on_a_line_do_not_replace_a_box(flags):
    """One keypoint, or two on a vertical line."""
    entry = person(flags=flags, segmentation=None) | {"area": 700}
    entry["keypoints"][3:5] = [30, 60]  # below the head
    stated, repairs = read(entry | {"bbox": [30, 20, 9, 0]})
    assert stated.box == (30, 20, 9, 0)
    assert not repairs
    missing, repairs = read(entry | {"bbox": None})
    assert missing.box[:2] == (30, 20)
    assert missing.num_keypoints == sum(flag > 0 for flag in flags)
    assert not repairs


def test_a_box_written_as_text_is_read():
    found, repairs = read(person() | {"bbox": ["10", "20", "40.0", 80]})
    assert found.box == tuple(BOX)
    assert repairs.total() == 1


@pytest.mark.parametrize("area", [None, 0, 0.0, -5, math.nan, "large", [], True])
def test_a_missing_area_is_derived_from_the_segmentation_or_the_box(area):
    triangle, repairs = read(person(segmentation=[[10, 20, 50, 20, 10, 100]], area=area))
    assert triangle.area == pytest.approx(1600, rel=0.03)
    assert any("segmentation" in kind for kind in repairs)
    boxed, repairs = read(person(segmentation=None, area=area))
    assert boxed.area == 3200
    assert any("box" in kind for kind in repairs)
    neither, _ = read(person(segmentation=None, area=area) | {"bbox": None})
    assert neither.area == 40 * 80  # of the box around the keypoints


def test_area_and_box_of_an_rle_segmentation():
    runs = [120 * 10 + 20, 30, 120 * 160 - 120 * 10 - 50]  # 30 rows of the column 10
    rle = {"size": [120, 160], "counts": runs}
    found, _ = read(unlabeled(1, segmentation=rle) | {"bbox": None, "area": None})
    assert (found.box, found.area) == ((10, 20, 1, 30), 30)


def test_an_invalid_segmentation_is_not_used_for_the_area():
    found, _ = read(person(segmentation=[[1, 2, 3, 4, 5, math.nan]], area=0))
    assert found.area == 3200


@pytest.mark.parametrize(
    ("value", "expected"), [(None, 0), (0.0, 0), ("1", 1), (True, 1), (False, 0), (1.0, 1)]
)
def test_iscrowd_in_all_forms(value, expected):
    assert read(person(iscrowd=value))[0].is_crowd == expected
