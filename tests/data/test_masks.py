"""Masks: ignored regions, rasterizing as in COCO, files, invalid segmentations."""

import dataclasses
import shutil

import cv2
import numpy as np
import pytest
from faster_coco_eval.core import mask as coco_mask

from bodyposenet.data.coco import load_coco, read_coco
from bodyposenet.data.masks import (
    MaskRegions,
    draw_mask,
    encode_png,
    encode_valid_mask,
    read_mask,
    write_masks,
)
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.skeleton import COCO_JOINTS

from .coco_files import JOINTS, image, person, unlabeled, write_annotations

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


def test_labeled_people_are_not_masked(read):
    assert ignored_columns(read(person(1, bbox=LEFT))) == []


def test_unlabeled_people_are_masked_even_if_they_overlap_labeled_ones(read):
    found = read(unlabeled(1, bbox=LEFT), person(2, bbox=MIDDLE))
    assert ignored_columns(found) == columns(0, 10)


def test_crowds_are_masked_except_for_labeled_people(read):
    found = read(unlabeled(1, bbox=MIDDLE, iscrowd=1), person(2, bbox=LEFT))
    assert ignored_columns(found) == columns(10, 25)


def test_unlabeled_people_in_a_crowd_are_masked(read):
    found = read(
        unlabeled(1, bbox=MIDDLE, iscrowd=1), person(2, bbox=LEFT), unlabeled(3, bbox=LEFT)
    )
    assert ignored_columns(found) == columns(0, 25)


@pytest.mark.parametrize("segmentation", [None, [], [[1, 2, 3, 4]], [[]], {}])
def test_people_without_a_segmentation_are_masked_by_their_box(read, segmentation):
    found = read(unlabeled(1, bbox=RIGHT, segmentation=segmentation))
    assert ignored_columns(found) == columns(20, 30)
    assert MaskRegions.from_image(found).num_boxes == 1


def test_polygons_and_both_kinds_of_rle_give_the_same_mask(read):
    outline = [0, 0, 10, 0, 10, 20, 0, 20]
    (encoded,) = coco_mask.frPyObjects([[float(v) for v in outline]], 20, 30)
    compressed = {"size": [20, 30], "counts": encoded["counts"].decode()}
    plain = {"size": [20, 30], "counts": [0, 200, 400]}
    for segmentation in ([outline], compressed, plain):
        found = read(unlabeled(1, segmentation=segmentation))
        assert ignored_columns(found) == columns(0, 10)


def test_a_person_with_two_polygons_is_masked_in_both(read):
    polygons = [[0, 0, 5, 0, 5, 20, 0, 20], [20, 0, 25, 0, 25, 20, 20, 20]]
    found = read(unlabeled(1, segmentation=polygons))
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
def test_an_invalid_segmentation_is_an_error_with_the_annotation_id(read, tmp_path, segmentation):
    found = read(unlabeled(44, segmentation=segmentation))
    with pytest.raises(BodyPoseNetError, match=r"0001\.png: annotation 44: .*segmentation"):
        write_masks(tmp_path / "masks", [found], processes=1)


def test_a_box_far_outside_of_the_image_is_an_error(read, tmp_path):
    found = read(unlabeled(44, segmentation=None))
    far = dataclasses.replace(found.persons[0], box=(9000.0, 0.0, 5.0, 5.0))
    found = dataclasses.replace(found, persons=(far,))
    with pytest.raises(BodyPoseNetError, match=r"annotation 44: .*box"):
        write_masks(tmp_path / "masks", [found], processes=1)


def test_masks_are_written_as_png_by_one_process_or_several(tmp_path):
    images = [image(n, f"deep/{n:03d}.jpg", 20, 30 + n % 3) for n in range(1, 101)]
    crowds = [unlabeled(n, n, RIGHT, iscrowd=1) for n in range(1, 101, 7)]
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
def test_opencv_decodes_the_png_files(shape):
    gray = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    decoded = cv2.imdecode(np.frombuffer(encode_png(gray), np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(decoded, gray)


@pytest.mark.shared_data
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_masks_of_real_people_equal_pycocotools(shared):
    pycocotools = pytest.importorskip("pycocotools.mask")
    folder = shared / "data" / "coco-smoke" / "annotations"
    for found in load_coco(folder / "person_keypoints_smoke.json", COCO_JOINTS):
        regions = {"crowd": 0, "unlabeled": 0, "labeled": 0}
        for p in found.persons:
            rle = pycocotools.frPyObjects(p.segmentation, found.height, found.width)
            rle = pycocotools.merge(rle) if isinstance(rle, list) else rle
            kind = "crowd" if p.is_crowd else "labeled" if p.num_keypoints else "unlabeled"
            regions[kind] = regions[kind] | pycocotools.decode(rle).astype(int)
        ignored = regions["crowd"] & ~regions["labeled"] | regions["unlabeled"]
        expected = np.where(ignored, 0, 255) * np.ones((found.height, found.width))
        np.testing.assert_array_equal(draw_mask(MaskRegions.from_image(found)), expected)


def test_a_mask_folder_that_is_removed_while_writing_is_an_error(read, tmp_path, monkeypatch):
    """Otherwise the run would seem complete without the masks written before."""

    def removing(items, *_):
        yield next(items)
        shutil.rmtree(tmp_path / "masks")
        yield from items

    monkeypatch.setattr("bodyposenet.data.masks.progress", removing)
    images = [dataclasses.replace(read(person()), file_name=f"{number}.jpg") for number in range(3)]
    with pytest.raises(BodyPoseNetError, match=r"1\.png: cannot be written"):
        write_masks(tmp_path / "masks", images, processes=1)


@pytest.mark.parametrize("level", [0, 9])
def test_valid_masks_of_any_writer_are_read(tmp_path, level):
    (tmp_path / "ours.png").write_bytes(encode_valid_mask(30, 40))
    valid = np.full((30, 40), 255, np.uint8)
    cv2.imwrite(str(tmp_path / "others.png"), valid, [cv2.IMWRITE_PNG_COMPRESSION, level])
    assert read_mask(tmp_path / "ours.png", 30, 40) is None
    np.testing.assert_array_equal(read_mask(tmp_path / "others.png", 30, 40), valid)


def test_a_mask_is_read_as_written(tmp_path):
    mask = np.where(np.random.default_rng(0).random((30, 40)) < 0.5, 0, 255).astype(np.uint8)
    (tmp_path / "mask.png").write_bytes(encode_png(mask))
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png", 30, 40), mask)


@pytest.mark.parametrize("content", [b"", b"not an image", encode_valid_mask(40, 30)])
def test_a_file_that_is_not_a_mask_of_the_size_is_an_error(tmp_path, content):
    (tmp_path / "mask.png").write_bytes(content)
    with pytest.raises(BodyPoseNetError, match=r"mask\.png: .*40 x 30"):
        read_mask(tmp_path / "mask.png", 30, 40)


@pytest.mark.parametrize("name", ["nowhere.png", "a\0b.png", "folder", "file/mask.png"])
def test_a_missing_mask_raises_file_not_found_error(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError):
        read_mask(tmp_path / name, 30, 40)
