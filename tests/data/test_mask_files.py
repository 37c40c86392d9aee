"""Mask files read back: which are known without decoding, which are none."""

import cv2
import numpy as np
import pytest

from bodyposenet.data.masks import encode_png, encode_valid_mask, read_mask
from bodyposenet.errors import BodyPoseNetError


@pytest.mark.parametrize("level", [0, 9])
def test_all_valid_masks_are_read_alike_whoever_wrote_them(tmp_path, level):
    (tmp_path / "ours.png").write_bytes(encode_valid_mask(30, 40))
    valid = np.full((30, 40), 255, np.uint8)
    cv2.imwrite(str(tmp_path / "others.png"), valid, [cv2.IMWRITE_PNG_COMPRESSION, level])
    assert read_mask(tmp_path / "ours.png", 30, 40) is None
    np.testing.assert_array_equal(read_mask(tmp_path / "others.png", 30, 40), valid)


def test_a_mask_comes_back_as_it_was_written(tmp_path):
    mask = np.where(np.random.default_rng(0).random((30, 40)) < 0.5, 0, 255).astype(np.uint8)
    (tmp_path / "mask.png").write_bytes(encode_png(mask))
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png", 30, 40), mask)


@pytest.mark.parametrize("content", [b"", b"no picture", encode_valid_mask(40, 30)])
def test_what_is_no_mask_of_that_size_is_an_error(tmp_path, content):
    (tmp_path / "mask.png").write_bytes(content)
    with pytest.raises(BodyPoseNetError, match=r"mask\.png: no mask of 40 x 30 pixels"):
        read_mask(tmp_path / "mask.png", 30, 40)


@pytest.mark.parametrize("name", ["nowhere.png", "a\0b.png", "folder", "file/mask.png"])
def test_where_there_is_no_file(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError):
        read_mask(tmp_path / name, 30, 40)
