"""Images decoded at a reduced size: reduction, size and pixel values."""

import cv2
import numpy as np
import pytest

from bodyposenet.data.reduced_images import ReducedImageReader, reduced_size, reduction_for
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.geometry import Affine

from ..media.jpegs import encode, exif_segment


@pytest.mark.parametrize(
    ("scale", "reduction"),
    [(2.0, 1), (0.51, 1), (0.5, 2), (0.26, 2), (0.25, 4), (0.126, 4), (0.125, 8), (0.01, 8)],
)
@pytest.mark.parametrize("degrees", [0.0, 37.0])
def test_the_reduction_is_never_larger_than_that_of_the_map(scale, reduction, degrees):
    assert reduction_for(Affine.rotation(degrees).then(Affine.scaling(-scale, scale))) == reduction


def test_the_reduction_depends_on_the_direction_that_shrinks_least():
    assert reduction_for(Affine.rotation(45.0).then(Affine.scaling(0.9, 0.1))) == 1
    assert reduction_for(Affine.scaling(0.1, 0.4)) == 2


@pytest.mark.parametrize("name", ["photo.jpg", "photo.png", "turned.jpg"])
@pytest.mark.parametrize("size", [(64, 96), (61, 83), (5, 3)])
@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
def test_pixels_are_means_of_blocks(tmp_path, name, size, reduction):
    rows, columns = np.mgrid[: size[0], : size[1]]
    image = np.stack([rows * 3, columns * 2, 200 - rows - columns], axis=2).astype(np.uint8)
    path = tmp_path / name
    if name == "turned.jpg":
        path.write_bytes(encode(image, exif_segment(1)))
    else:
        cv2.imwrite(str(path), image[..., ::-1])
    found = ReducedImageReader().read(path, *size, reduction)
    assert found.shape == (*reduced_size(*size, reduction), 3)
    whole = size[0] // reduction, size[1] // reduction
    full = (
        ReducedImageReader()
        .read(path, *size)[: whole[0] * reduction, : whole[1] * reduction]
        .astype(float)
    )
    expected = full.reshape(whole[0], reduction, whole[1], reduction, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(found[: whole[0], : whole[1]], expected, atol=4)


@pytest.mark.parametrize("name", ["photo.jpg", "photo.png"])
def test_the_size_is_checked_before_the_reduction(tmp_path, name):
    cv2.imwrite(str(tmp_path / name), np.zeros((40, 60, 3), np.uint8))
    with pytest.raises(BodyPoseNetError, match=r"60 x 40.*59 x 40"):
        ReducedImageReader().read(tmp_path / name, 40, 59, 4)


def test_an_invalid_file_name_is_an_error(tmp_path):
    with pytest.raises(BodyPoseNetError, match="cannot be read"):
        ReducedImageReader().read(tmp_path / "a\0b.jpg", 4, 4)


def test_photos_of_different_sizes_share_the_buffer(tmp_path):
    sizes, reader = [(16, 24), (64, 48), (8, 8)], ReducedImageReader()
    for number, (height, width) in enumerate(sizes):
        path = tmp_path / f"{number}.jpg"
        cv2.imwrite(str(path), np.full((height, width, 3), 60 * number + 30, np.uint8))
        found = reader.read(path, height, width)
        assert found.shape == (height, width, 3)
        assert np.abs(found.astype(int) - 60 * number - 30).max() <= 2
