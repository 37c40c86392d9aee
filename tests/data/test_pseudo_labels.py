"""Pseudo labels: labels and masked regions made from detections, and their overlap with people."""

import numpy as np
import pytest

from bodyposenet.data.coco import read_coco
from bodyposenet.data.conversion import choose_anchor_persons
from bodyposenet.data.detections import ImageDetections
from bodyposenet.data.masks import MaskRegions, draw_mask
from bodyposenet.data.pseudo_labels import PseudoLabelOptions, add_pseudo_labels
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.specs.dataset import DatasetSpec

from .coco_files import (
    BOX,
    JOINTS,
    image,
    person,
    points,
    unlabeled,
    write_annotations,
    write_spec,
)

ELSEWHERE = [90.0, 10.0, 40.0, 80.0]

CROWD = {"iscrowd": 1, "segmentation": [[60, 0, 160, 0, 160, 120, 60, 120]]}


@pytest.fixture
def add(tmp_path):
    """`add(annotations, (box, score), ...)` -> image, counts of added and of skipped detections."""

    def run(annotations, *detected):
        path = write_annotations(tmp_path / "annotations.json", [image()], annotations)
        keypoints = np.stack([points(bbox) for bbox, _ in detected])
        detections = ImageDetections(keypoints, np.array([score for _, score in detected]))
        options = PseudoLabelOptions(0.9, 0.5, visibility_flag=2)
        images, added, skipped = add_pseudo_labels(
            read_coco(path, JOINTS).images, {1: detections}, options
        )
        assert added.total() + skipped.total() == len(detected)
        return images[0], +added, +skipped

    return run


def count_of(counts, fragment):
    """Return the sum of the counts whose description contains a text."""
    return sum(number for description, number in counts.items() if fragment in description)


def test_the_score_decides_between_label_and_masked_region(add):
    alone = [(BOX, 0.9), (ELSEWHERE, 0.5), ([60.0, 5.0, 20.0, 30.0], 0.49)]
    found, added, skipped = add([], *alone)
    assert list(added.values()) == [1, 1]
    assert count_of(skipped, "--pseudo_score_low") == 1
    label, region = found.persons
    assert label.is_pseudo and region.is_pseudo
    assert (label.annotation_id, region.annotation_id) == (-1, -2)
    assert (label.num_keypoints, label.is_crowd) == (3, False)
    assert (region.num_keypoints, region.is_crowd) == (0, True)
    np.testing.assert_array_equal(label.keypoints, np.column_stack([points(), [2, 2, 2]]))
    # 40 x 80 pixels, with a margin of a tenth of 80 on each side.
    assert label.box == (2, 12, 56, 96)
    assert label.area == 56 * 96
    mask = draw_mask(MaskRegions.from_image(found))
    assert (mask == 0).sum() == 56 * 96
    assert (mask[2:98, 82:138] == 0).all()


def test_keypoints_outside_of_the_image_are_dropped(add):
    found, added, _ = add([], ([130.0, 30.0, 40.0, 80.0], 0.95))
    assert count_of(added, "labels") == added.total() == 1
    np.testing.assert_array_equal(found.persons[0].keypoints[:, 2], [2, 2, 0])
    assert found.persons[0].num_keypoints == 2
    x, _, width, _ = found.persons[0].box
    assert x + width <= 160
    _, added, skipped = add([], ([155.0, 30.0, 40.0, 80.0], 0.95))
    assert not added
    assert count_of(skipped, "keypoints") == 1


@pytest.mark.parametrize("score", [0.95, 0.6])
@pytest.mark.parametrize(
    ("annotation", "overlaps"),
    [
        (person(bbox=BOX), True),
        (person(bbox=[12.0, 25.0, 40.0, 80.0]), True),
        (person(bbox=[0.0, 0.0, 60.0, 110.0]), True),
        (person(bbox=[0.0, 0.0, 160.0, 120.0]), True),  # inside, and a quarter of its size
        (person(bbox=[40.0, 20.0, 40.0, 80.0]), False),
        (person(bbox=ELSEWHERE), False),
        (person(flags=(2, 0, 0)) | {"bbox": [24.0, 15.0, 12.0, 12.0]}, True),  # its head only
        (
            person(bbox=[30.0, 20.0, 40.0, 80.0], flags=(2, 0, 0))
            | {"bbox": [44.0, 15.0, 12.0, 12.0]},
            False,
        ),
        (unlabeled(1, bbox=[0.0, 0.0, 100.0, 120.0]), True),
        (unlabeled(1, bbox=[70.0, 0.0, 90.0, 120.0], **CROWD), False),
        (unlabeled(1, bbox=[0.0, 0.0, 160.0, 120.0], **CROWD), False),  # outside of its polygon
        (unlabeled(1, bbox=[0.0, 0.0, 90.0, 120.0], iscrowd=1, segmentation=None), True),
    ],
)
def test_detections_of_annotated_people_are_skipped(add, annotation, overlaps, score):
    found, added, skipped = add([annotation], (BOX, score))
    assert len(found.persons) == (1 if overlaps else 2)
    assert not found.persons[0].is_pseudo
    assert added.total() == (0 if overlaps else 1)
    assert skipped.total() == (1 if overlaps else 0)


def test_a_small_person_in_front_of_a_large_one_is_added(add):
    large = person(bbox=[0.0, 0.0, 150.0, 120.0])
    found, added, _ = add([large], ([60.0, 50.0, 10.0, 20.0], 0.95))
    assert count_of(added, "labels") == added.total() == 1
    assert [p.is_pseudo for p in found.persons] == [False, True]


def test_a_repeated_detection_is_skipped(add):
    again = [12.0, 22.0, 40.0, 80.0]
    for score in (0.93, 0.6):
        found, added, skipped = add([], (again, score), (BOX, 0.95))
        assert count_of(added, "labels") == added.total() == 1
        assert skipped.total() == 1
        np.testing.assert_array_equal(found.persons[0].keypoints[:, :2], points())


def test_an_annotated_person_without_keypoints_gets_those_of_a_detection(add):
    outline = [[10, 20, 50, 20, 50, 100]]
    nobody = unlabeled(7, bbox=[11.0, 21.0, 42.0, 82.0], area=999.0, segmentation=outline)
    found, added, skipped = add([nobody], (BOX, 0.95), ([14.0, 20.0, 40.0, 80.0], 0.92))
    assert count_of(added, "annotated people") == added.total() == 1
    assert skipped.total() == 1
    (labeled,) = found.persons
    assert (labeled.annotation_id, labeled.num_keypoints) == (7, 3)
    assert labeled.area == 999.0
    np.testing.assert_array_equal(labeled.segmentation, outline)
    assert labeled.is_pseudo
    np.testing.assert_array_equal(labeled.keypoints[:, :2], points())
    assert (draw_mask(MaskRegions.from_image(found)) == 255).all()
    uncertain, added, _ = add([nobody], (BOX, 0.8))
    assert uncertain.persons[0].num_keypoints == 0
    assert not added


def test_the_neighbor_of_a_labeled_person_gets_no_keypoints(add):
    both = [person(1), unlabeled(2, bbox=[14.0, 22.0, 40.0, 80.0])]
    found, added, _ = add(both, (BOX, 0.95))
    assert not added
    assert found.persons[1].num_keypoints == 0


def test_masked_regions_spare_annotated_people_but_not_pseudo_labels(add):
    right = [55.0, 20.0, 40.0, 80.0]  # its box reaches 3 pixels over the first one's
    found, added, _ = add([person()], (right, 0.6))
    assert count_of(added, "masked regions") == added.total() == 1
    mask = draw_mask(MaskRegions.from_image(found))
    assert (mask[20:100, 10:50] == 255).all()
    assert (mask[20:100, 50:100] == 0).all()
    mask = draw_mask(MaskRegions.from_image(add([], (BOX, 0.95), (right, 0.6))[0]))
    assert (mask[20:100, 47:100] == 0).all()


def test_new_annotation_ids_are_not_in_use(add):
    found, _, _ = add([person(-5, bbox=ELSEWHERE)], (BOX, 0.95))
    assert [p.annotation_id for p in found.persons] == [-5, -6]


def test_the_filters_of_anchor_persons_apply_to_pseudo_labels(add, tmp_path):
    found, _, _ = add([], (ELSEWHERE, 0.95), ([20.0, 10.0, 4.0, 4.0], 0.94))
    spec = DatasetSpec.load(write_spec(tmp_path, [], []))
    anchors, skipped = choose_anchor_persons(found.persons, spec.data_filtering_params)
    assert anchors == [0]
    assert sum(count for reason, count in skipped.items() if "smaller than 100" in reason) == 1


def test_the_visibility_flag_is_one_of_the_dataset(tmp_path):
    flags = {
        "value": {"seen": 7, "hidden": 3, "none": 0},
        "mapping": {"seen": "visible", "hidden": "occluded", "none": "not_labeled"},
    }
    spec = DatasetSpec.load(write_spec(tmp_path, [], [], visibility_flags=flags))
    assert PseudoLabelOptions.from_spec(spec, 0.9, 0.5) == PseudoLabelOptions(
        0.9, 0.5, visibility_flag=7
    )
    flags["mapping"] = {"seen": "truncated", "hidden": "occluded", "none": "not_labeled"}
    spec = DatasetSpec.load(write_spec(tmp_path, [], [], visibility_flags=flags))
    assert PseudoLabelOptions.from_spec(spec, 0.9, 0.5).visibility_flag == 3
    flags["mapping"]["hidden"] = "not_labeled"
    spec = DatasetSpec.load(write_spec(tmp_path, [], [], visibility_flags=flags))
    with pytest.raises(BodyPoseNetError, match=r"visibility_flags: .*visible"):
        PseudoLabelOptions.from_spec(spec, 0.9, 0.5)
