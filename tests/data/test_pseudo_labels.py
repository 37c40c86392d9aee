"""From found people to labels and masked regions: formats, images, overlap, errors."""

import json

import numpy as np
import pytest

from bodyposenet.data.coco import read_coco
from bodyposenet.data.conversion import choose_anchor_persons
from bodyposenet.data.masks import MaskRegions, draw_mask
from bodyposenet.data.pseudo_labels import (
    ImageDetections,
    PseudoLabelOptions,
    add_pseudo_labels,
    read_detections,
)
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.specs.dataset import DatasetSpec

from .coco_files import BOX, JOINTS, image, person, unlabelled, write_annotations, write_spec

ELSEWHERE = [90.0, 10.0, 40.0, 80.0]

CROWD = {"iscrowd": 1, "segmentation": [[60, 0, 160, 0, 160, 120, 60, 120]]}


def points(bbox=BOX, missing=()):
    """The keypoints of a person of `coco_files`, as they are found."""
    keypoints = np.array(person(bbox=bbox)["keypoints"]).reshape(3, 3)[:, :2]
    keypoints[list(missing)] = 0
    return keypoints


def entry(path="0001.jpg", people=(BOX,), scores=None, **changes):
    """An image of a detections.json."""
    return {
        "full_image_path": path,
        "keypoints": [points(bbox).tolist() for bbox in people],
        "scores": scores or [0.95] * len(people),
    } | changes


def document(*entries, joints=JOINTS):
    return {"keypoint_names": list(joints), "images": list(entries)}


def result(image_id=1, bbox=BOX, score=0.95, third=1, **changes):
    """A person in COCO's result format."""
    triples = np.column_stack([points(bbox), np.full(3, third)])
    keypoints = triples.ravel().tolist()
    return {
        "image_id": image_id,
        "category_id": 1,
        "keypoints": keypoints,
        "score": score,
    } | changes


@pytest.fixture
def read(tmp_path):
    """Read found people: `read(content, *images)` -> detections."""

    def run(content, *images):
        path = write_annotations(tmp_path / "annotations.json", images or [image()], [])
        (tmp_path / "found.json").write_text(json.dumps(content))
        return read_detections(tmp_path / "found.json", read_coco(path, JOINTS).images, JOINTS)

    return run


@pytest.fixture
def add(tmp_path):
    """Add found people to image 1: `add(annotations, (box, score), ...)` -> image, counts."""

    def run(annotations, *found, high=0.9, low=0.5):
        path = write_annotations(tmp_path / "annotations.json", [image()], annotations)
        keypoints = np.stack([points(bbox) for bbox, _ in found])
        people = ImageDetections(keypoints, np.array([score for _, score in found]))
        labelling = PseudoLabelOptions(high, low, flag=2)
        images, done, skipped = add_pseudo_labels(
            read_coco(path, JOINTS).images, {1: people}, labelling
        )
        assert done.total() + skipped.total() == len(found)
        return images[0], +done, +skipped

    return run


def test_joints_are_taken_by_name(read):
    # As the 18 joints of a model, in its order, the neck among them; TAO's list has a background.
    moved = points()[[2, 0, 1]]
    keypoints = [np.insert(moved, 1, [5, 5], axis=0).tolist()]
    own = document(entry(keypoints=keypoints), joints=("foot", "neck", "head", "hand"))
    names = [*own["keypoint_names"], "background"]
    tao = {"categories": [{"keypoints": names}], "images": own["images"]}
    for content in (own, tao):
        people = read(content).by_image[1]
        np.testing.assert_array_equal(people.keypoints, [points()])
        np.testing.assert_array_equal(people.scores, [0.95])


def test_joints_that_the_model_lacks_stay_unlabelled(read, caplog):
    content = document(entry(keypoints=[points()[:2].tolist()]), joints=JOINTS[:2])
    people = read(content).by_image[1]
    np.testing.assert_array_equal(np.isnan(people.keypoints[0, :, 0]), [False, False, True])
    assert "has no foot" in caplog.text


def test_missing_joints(read):
    own = document(entry(keypoints=[points(missing=[1]).tolist()], keypoint_scores=[[0.5, 0.5, 0]]))
    coco = result()
    coco["keypoints"][3:5], coco["keypoints"][8] = [0, 0], 0
    for content in (own, [coco]):
        people = read(content).by_image[1]
        np.testing.assert_array_equal(np.isnan(people.keypoints[0, :, 0]), [False, True, True])


def test_results_of_coco_are_gathered_by_image(read):
    found = read([result(2), result(1), result(2, ELSEWHERE, 0.5), result(9)], image(1), image(2))
    assert {image_id: len(people.scores) for image_id, people in found.by_image.items()} == {
        1: 1, 2: 2,
    }  # fmt: skip
    np.testing.assert_array_equal(found.by_image[2].keypoints, [points(), points(ELSEWHERE)])
    assert found.skipped["found people of images that the annotations do not list"] == 1


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([{"full_image_path": "/x/a/1.jpg"}], [1]),
        ([{"full_image_path": "C:\\x\\b\\1.jpg"}], [2]),
        ([{"full_image_path": "./b/1.jpg"}, {"full_image_path": "a/1.jpg"}], [2, 1]),
        ([{"full_image_path": "/other/1.jpg"}], []),  # two images have that base name
        ([{"full_image_path": "/other/3.jpg"}], [3]),
        ([{"full_image_path": "/other/3.jpg"}, {"full_image_path": "/more/3.jpg"}], []),
        ([{"full_image_path": "/other/3.jpg"}, {"full_image_path": "/x/c/3.jpg"}], [3]),
        ([{"full_image_path": "/other/1.jpg", "image_id": 2}], [2]),
        ([{"full_image_path": "/other/3.jpg", "image_id": 1}], [3]),  # another dataset's number
        ([{"full_image_path": "/other/3.jpg", "image_id": True}], [3]),
        ([{"full_image_path": "/other/4.jpg", "image_id": 2}], []),
        ([{"image_id": 2}], [2]),
        ([{"file_name": "a/1.jpg"}], [1]),
    ],
)
def test_entries_find_their_image(read, entries, expected):
    images = [image(1, "a/1.jpg"), image(2, "b/1.jpg"), image(3, "c/3.jpg"), image(5, "d/5.jpg")]
    rest = entry("d/5.jpg", people=())
    people = [{key: entry()[key] for key in ("keypoints", "scores")} | named for named in entries]
    found = read(document(rest, *people), *images)
    assert list(found.by_image) == [5, *expected]


def test_images_that_the_model_could_not_read_are_counted(read):
    failed = {"full_image_path": "0001.jpg", "error": "cut off"}
    found = read(document(failed))
    assert len(found.by_image[1].scores) == 0
    assert found.skipped["images that the model could not read"] == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "is no file of found people"),
        (3, "is no file of found people"),
        ({"images": [], "categories": []}, "has neither `keypoint_names` nor"),
        (
            document(entry(), joints=("knee", "hip", "toe")),
            r"joints \(knee, hip, toe\) are none of",
        ),
        (document(), "nobody was found in any image"),
        ([], "nobody was found in any image"),
        (document(entry("x.jpg")), r"begins with x\.jpg, they with 0001\.jpg \(id 1\)"),
        ([result(7)], r"begins with image_id 7, they with 0001\.jpg \(id 1\)"),
        (document(entry(), 5), r"entry 1 \(counted from 0\) cannot be used: is no object: 5"),
        (document({"full_image_path": "0001.jpg"}), "scores must be a list"),
        (document(entry(scores=[0.5, 0.5])), "keypoints must be 2 x 3 x 2 numbers"),
        (document(entry(scores=["0.5"])), "scores must be 1 numbers"),
        (document(entry(keypoints=[[[1, 2], [3], [4, 5]]])), "keypoints must be 1 x 3 x 2 numbers"),
        (document(entry(scores=[float("nan")])), "scores holds a value that is no finite number"),
        (
            document(entry(), entry("/y/0001.jpg")),
            "entry 1 .* an earlier entry is of the image 0001",
        ),
        ([result("1")], "image_id must be a whole number, not '1'"),
        ([{"image_id": 1, "bbox": BOX, "score": 0.5}], "keypoints must be 9 numbers"),
        ([result(score=None)], "score must be a number"),
    ],
)
def test_what_cannot_be_used_is_an_error(read, content, message):
    with pytest.raises(BodyPoseNetError, match=message) as caught:
        read(content)
    assert "found.json" in caught.value.what
    assert caught.value.remedy


def test_the_score_decides_what_becomes_of_a_person(add):
    alone = [(BOX, 0.9), (ELSEWHERE, 0.5), ([60.0, 5.0, 20.0, 30.0], 0.49)]
    found, done, skipped = add([], *alone)
    assert done == {"found people made labels": 1, "found people made masked regions": 1}
    assert skipped == {"found people of a score below --pseudo_score_low": 1}
    label, region = found.persons
    assert label.is_pseudo and region.is_pseudo
    assert (label.annotation_id, region.annotation_id) == (-1, -2)
    assert (label.num_keypoints, label.is_crowd) == (3, False)
    assert (region.num_keypoints, region.is_crowd) == (0, True)
    np.testing.assert_array_equal(label.keypoints, np.column_stack([points(), [2, 2, 2]]))
    # 40 x 80 pixels, and a tenth of 80 on each side.
    assert label.box == (2, 12, 56, 96)
    assert label.area == 56 * 96
    mask = draw_mask(MaskRegions.from_image(found))
    assert (mask == 0).sum() == 56 * 96
    assert (mask[2:98, 82:138] == 0).all()


def test_a_person_over_the_border_keeps_what_lies_inside(add):
    found, done, _ = add([], ([130.0, 30.0, 40.0, 80.0], 0.95))
    assert done == {"found people made labels": 1}
    np.testing.assert_array_equal(found.persons[0].keypoints[:, 2], [2, 2, 0])
    assert found.persons[0].num_keypoints == 2
    x, _, width, _ = found.persons[0].box
    assert x + width <= 160
    _, done, skipped = add([], ([155.0, 30.0, 40.0, 80.0], 0.95))
    assert not done
    assert skipped == {"found people without two keypoints in their image": 1}


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
        (unlabelled(1, bbox=[0.0, 0.0, 100.0, 120.0]), True),
        (unlabelled(1, bbox=[70.0, 0.0, 90.0, 120.0], **CROWD), False),
        (unlabelled(1, bbox=[0.0, 0.0, 160.0, 120.0], **CROWD), False),  # outside of its polygon
        (unlabelled(1, bbox=[0.0, 0.0, 90.0, 120.0], iscrowd=1, segmentation=None), True),
    ],
)
def test_people_that_are_annotated_stay_as_they_are(add, annotation, overlaps, score):
    found, done, skipped = add([annotation], (BOX, score))
    assert len(found.persons) == (1 if overlaps else 2)
    assert not found.persons[0].is_pseudo
    assert done.total() == (0 if overlaps else 1)
    assert skipped.total() == (1 if overlaps else 0)


def test_a_small_person_before_a_large_one_is_somebody_else(add):
    large = person(bbox=[0.0, 0.0, 150.0, 120.0])
    found, done, _ = add([large], ([60.0, 50.0, 10.0, 20.0], 0.95))
    assert done == {"found people made labels": 1}
    assert [p.is_pseudo for p in found.persons] == [False, True]


def test_a_person_that_was_found_twice_counts_once(add):
    again = [12.0, 22.0, 40.0, 80.0]
    for score in (0.93, 0.6):
        found, done, skipped = add([], (again, score), (BOX, 0.95))
        assert done == {"found people made labels": 1}
        assert skipped == {"found people that annotated or surer found ones overlap": 1}
        np.testing.assert_array_equal(found.persons[0].keypoints[:, :2], points())


def test_an_annotated_person_without_keypoints_takes_over_found_ones(add):
    outline = [[10, 20, 50, 20, 50, 100]]
    nobody = unlabelled(7, bbox=[11.0, 21.0, 42.0, 82.0], area=999.0, segmentation=outline)
    found, done, skipped = add([nobody], (BOX, 0.95), ([14.0, 20.0, 40.0, 80.0], 0.92))
    assert done == {"annotated people labelled by found keypoints": 1}
    assert skipped.total() == 1
    (labelled,) = found.persons
    assert (labelled.annotation_id, labelled.num_keypoints) == (7, 3)
    assert labelled.area == 999.0
    np.testing.assert_array_equal(labelled.segmentation, outline)
    assert labelled.is_pseudo
    np.testing.assert_array_equal(labelled.keypoints[:, :2], points())
    assert (draw_mask(MaskRegions.from_image(found)) == 255).all()
    unsure, done, _ = add([nobody], (BOX, 0.8))
    assert unsure.persons[0].num_keypoints == 0
    assert not done


def test_found_keypoints_never_go_to_the_neighbor_of_a_labelled_person(add):
    both = [person(1), unlabelled(2, bbox=[14.0, 22.0, 40.0, 80.0])]
    found, done, _ = add(both, (BOX, 0.95))
    assert not done
    assert found.persons[1].num_keypoints == 0


def test_annotated_people_are_taken_out_of_masked_regions_but_found_ones_are_not(add):
    right = [55.0, 20.0, 40.0, 80.0]  # its box reaches 3 pixels over the first one's
    found, done, _ = add([person()], (right, 0.6))
    assert done == {"found people made masked regions": 1}
    mask = draw_mask(MaskRegions.from_image(found))
    assert (mask[20:100, 10:50] == 255).all()
    assert (mask[20:100, 50:100] == 0).all()
    mask = draw_mask(MaskRegions.from_image(add([], (BOX, 0.95), (right, 0.6))[0]))
    assert (mask[20:100, 47:100] == 0).all()


def test_fresh_annotation_ids_are_in_nobodys_use(add):
    found, _, _ = add([person(-5, bbox=ELSEWHERE)], (BOX, 0.95))
    assert [p.annotation_id for p in found.persons] == [-5, -6]


def test_the_filters_of_main_persons_hold_for_found_ones_too(add, tmp_path):
    found, _, _ = add([], (ELSEWHERE, 0.95), ([20.0, 10.0, 4.0, 4.0], 0.94))
    spec = DatasetSpec.load(write_spec(tmp_path, [], []))
    mains, skipped = choose_anchor_persons(found.persons, spec.data_filtering_params)
    assert mains == [0]
    assert sum(count for reason, count in skipped.items() if "smaller than 100" in reason) == 1


def test_the_flag_is_the_datasets_own(tmp_path):
    flags = {
        "value": {"seen": 7, "hidden": 3, "none": 0},
        "mapping": {"seen": "visible", "hidden": "occluded", "none": "not_labeled"},
    }
    spec = DatasetSpec.load(write_spec(tmp_path, [], [], visibility_flags=flags))
    assert PseudoLabelOptions.from_spec(spec, 0.9, 0.5) == PseudoLabelOptions(0.9, 0.5, flag=7)
    flags["mapping"] = {"seen": "truncated", "hidden": "occluded", "none": "not_labeled"}
    spec = DatasetSpec.load(write_spec(tmp_path, [], [], visibility_flags=flags))
    assert PseudoLabelOptions.from_spec(spec, 0.9, 0.5).flag == 3
    flags["mapping"]["hidden"] = "not_labeled"
    spec = DatasetSpec.load(write_spec(tmp_path, [], [], visibility_flags=flags))
    with pytest.raises(BodyPoseNetError, match="visibility_flags: no flag is mapped to visible"):
        PseudoLabelOptions.from_spec(spec, 0.9, 0.5)
