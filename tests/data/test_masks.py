"""Masks: which regions are ignored, COCO's rasterizing, files, and broken segmentations."""

import dataclasses
import shutil

import cv2
import numpy as np
import pytest
from faster_coco_eval.core import mask as coco_mask

from bodyposenet.data.coco import load_coco, read_coco
from bodyposenet.data.masks import MaskRegions, draw_mask, encode_png, write_masks
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.skeleton import COCO_JOINTS

from .coco_files import JOINTS, image, person, unlabelled, write_annotations

LEFT, RIGHT, MIDDLE = [0, 0, 10, 20], [20, 0, 10, 20], [5, 0, 20, 20]
"""Boxes that fill columns 0-9, 20-29 and 5-24 of an image 20 pixels high and 30 wide."""


@pytest.fixture
def read(tmp_path):
    def run(*annotations, **size):
        images = [image(height=20, width=30) | size]
        path = write_annotations(tmp_path / "a.json", images, annotations)
        return read_coco(path, JOINTS).images[0]

    return run


def ignored_columns(found):
    mask = draw_mask(MaskRegions.from_image(found))
    assert mask.shape == (20, 30)
    assert set(np.unique(mask)) <= {0, 255}
    assert (mask == mask[0]).all()
    return np.flatnonzero(mask[0] == 0).tolist()


def columns(start, stop):
    return list(range(start, stop))


def test_labelled_people_are_valid(read):
    assert ignored_columns(read(person(1, bbox=LEFT))) == []


def test_unlabelled_people_are_ignored_even_where_labelled_ones_are(read):
    found = read(unlabelled(1, bbox=LEFT), person(2, bbox=MIDDLE))
    assert ignored_columns(found) == columns(0, 10)


def test_crowds_are_ignored_but_for_labelled_people(read):
    found = read(unlabelled(1, bbox=MIDDLE, iscrowd=1), person(2, bbox=LEFT))
    assert ignored_columns(found) == columns(10, 25)


def test_unlabelled_people_in_a_crowd_stay_ignored(read):
    found = read(
        unlabelled(1, bbox=MIDDLE, iscrowd=1), person(2, bbox=LEFT), unlabelled(3, bbox=LEFT)
    )
    assert ignored_columns(found) == columns(0, 25)


@pytest.mark.parametrize("segmentation", [None, [], [[1, 2, 3, 4]], [[]], {}])
def test_without_a_segmentation_the_box_counts(read, segmentation):
    found = read(unlabelled(1, bbox=RIGHT, segmentation=segmentation))
    assert ignored_columns(found) == columns(20, 30)
    assert MaskRegions.from_image(found).boxes == 1


def test_polygons_and_both_kinds_of_rle_draw_the_same(read):
    outline = [0, 0, 10, 0, 10, 20, 0, 20]
    (encoded,) = coco_mask.frPyObjects([[float(v) for v in outline]], 20, 30)
    compressed = {"size": [20, 30], "counts": encoded["counts"].decode()}
    plain = {"size": [20, 30], "counts": [0, 200, 400]}
    for segmentation in ([outline], compressed, plain):
        found = read(unlabelled(1, segmentation=segmentation))
        assert ignored_columns(found) == columns(0, 10)


def test_a_person_of_two_polygons_is_ignored_in_both(read):
    polygons = [[0, 0, 5, 0, 5, 20, 0, 20], [20, 0, 25, 0, 25, 20, 20, 20]]
    found = read(unlabelled(1, segmentation=polygons))
    assert ignored_columns(found) == [*columns(0, 5), *columns(20, 25)]


@pytest.mark.parametrize(
    "segmentation",
    [
        [[1, 2, 3, 4, 5, 6, 7]],
        [[1, 2, 3, 4, 5, float("nan")]],
        [[1, 2, 3, 4, 5, 1e9]],
        [[1, 2, 3, 4, 5, "six"]],
        [[0, 0, 290, 290] * 4000],
        {"size": [30, 20], "counts": [0, 200, 400]},
        {"size": [20, 30], "counts": [0, 200, 900]},
        {"size": [20, 30], "counts": [0, 200]},
        {"size": [20, 30], "counts": [-5, 605]},
        {"size": [20, 30], "counts": "zzz~~~"},
        {"size": [20, 30], "counts": 5},
        {"size": [20, 30]},
        {"counts": [0, 600]},
        "polygon",
    ],
)
def test_broken_segmentations_are_errors_that_name_the_annotation(read, tmp_path, segmentation):
    found = read(unlabelled(44, segmentation=segmentation))
    with pytest.raises(BodyPoseNetError, match=r"0001\.png: annotation 44: its segmentation"):
        write_masks(tmp_path / "masks", [found], processes=1)


def test_a_box_far_away_is_told_from_a_segmentation(read, tmp_path):
    found = read(unlabelled(44, segmentation=None))
    far = dataclasses.replace(found.persons[0], box=(9000.0, 0.0, 5.0, 5.0))
    found = dataclasses.replace(found, persons=(far,))
    with pytest.raises(BodyPoseNetError, match=r"annotation 44: its box is broken: it lies far"):
        write_masks(tmp_path / "masks", [found], processes=1)


def test_masks_are_written_as_png_by_one_process_or_several(tmp_path):
    images = [image(n, f"deep/{n:03d}.jpg", 20, 30 + n % 3) for n in range(1, 101)]
    crowds = [unlabelled(n, n, RIGHT, iscrowd=1) for n in range(1, 101, 7)]
    path = write_annotations(tmp_path / "a.json", images, crowds)
    found = load_coco(path, JOINTS)
    counts = write_masks(tmp_path / "one", found, processes=1)
    assert counts["masks"] == 100
    write_masks(tmp_path / "two", found, processes=2)
    for entry in found:
        one, two = tmp_path / "one" / entry.mask_name, tmp_path / "two" / entry.mask_name
        assert one.read_bytes() == two.read_bytes()
        mask = cv2.imread(str(one), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(mask, draw_mask(MaskRegions.from_image(entry)))


def test_a_folder_that_cannot_be_written_is_an_error(read, tmp_path):
    (tmp_path / "masks").write_text("a file, not a folder")
    with pytest.raises(BodyPoseNetError, match="masks: ") as caught:
        write_masks(tmp_path / "masks", [read(person())], processes=1)
    assert "mask_root_dir_path" in caught.value.remedy


@pytest.mark.parametrize("shape", [(1, 1), (7, 13), (300, 200)])
def test_png_files_are_what_opencv_reads(shape):
    gray = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    decoded = cv2.imdecode(np.frombuffer(encode_png(gray), np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(decoded, gray)


@pytest.mark.shared_data
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_masks_of_real_people_equal_pycocotools(shared):
    pycocotools = pytest.importorskip("pycocotools.mask")
    folder = shared / "data" / "coco-smoke" / "annotations"
    for found in load_coco(folder / "person_keypoints_smoke.json", COCO_JOINTS):
        regions = {"crowd": 0, "unlabelled": 0, "labelled": 0}
        for p in found.persons:
            rle = pycocotools.frPyObjects(p.segmentation, found.height, found.width)
            rle = pycocotools.merge(rle) if isinstance(rle, list) else rle
            kind = "crowd" if p.is_crowd else "labelled" if p.num_keypoints else "unlabelled"
            regions[kind] = regions[kind] | pycocotools.decode(rle).astype(int)
        ignored = regions["crowd"] & ~regions["labelled"] | regions["unlabelled"]
        expected = np.where(ignored, 0, 255) * np.ones((found.height, found.width))
        np.testing.assert_array_equal(draw_mask(MaskRegions.from_image(found)), expected)


def test_masks_whose_folder_is_removed_meanwhile_are_missed(read, tmp_path, monkeypatch):
    """Else the masks of before would be missing from what looks like a complete run."""

    def removing(items, *_):
        yield next(items)
        shutil.rmtree(tmp_path / "masks")
        yield from items

    monkeypatch.setattr("bodyposenet.data.masks.progress", removing)
    images = [dataclasses.replace(read(person()), file_name=f"{number}.jpg") for number in range(3)]
    with pytest.raises(BodyPoseNetError, match=r"1\.png: cannot be written"):
        write_masks(tmp_path / "masks", images, processes=1)
