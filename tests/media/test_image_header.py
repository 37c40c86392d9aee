"""Size, orientation and completeness of image files, and readers that check them."""

import io
import logging
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps, features

from bodyposenet.data.image_checks import image_problem
from bodyposenet.data.masks import read_mask
from bodyposenet.data.reduced_images import ReducedImageReader
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.media.image_header import MAX_PIXELS_VARIABLE, Orientation, image_size, orientation
from bodyposenet.media.images import read_image, restore_end_marker, to_pixels

from .jpegs import encode, exif_segment

HEIGHT, WIDTH = 37, 53
FORMATS = (
    "jpg", "png", "bmp", "webp", "gif", "tiff", "avif", "jp2", "ras", "ppm", "pgm", "pbm",
)  # fmt: skip


def picture() -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    image = cv2.GaussianBlur(noise, (0, 0), 5)
    image[:9, :9], image[:9, 9:20] = 255, 0
    return image


def png_header(height: int, width: int) -> bytes:
    """Return a PNG without pixels."""
    chunks = (b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT", b"IEND")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in chunks
    )


def jpeg_header(height: int, width: int) -> bytes:
    """Return a JPEG with a wrong size in its header."""
    content = encode(picture())
    frame = content.index(b"\xff\xc0") + 5
    return content[:frame] + struct.pack(">HH", height, width) + content[frame + 4 :]


@pytest.mark.parametrize(
    ("extension", "dtype"),
    [
        *((extension, np.uint8) for extension in FORMATS),
        ("hdr", np.float32),
        ("pfm", np.float32),
    ],
)
def test_size_is_read_from_headers_of_all_formats(extension, dtype):
    image = picture().astype(dtype)
    image = image[..., 0].copy() if extension in ("pgm", "pbm") else image
    content = cv2.imencode(f".{extension}", image)[1].tobytes()
    assert image_size(content) == (HEIGHT, WIDTH)
    for length in range(0, 60, 3):
        assert image_size(content[:length]) in (None, (HEIGHT, WIDTH))


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("WEBP", {"lossless": True}),
        ("WEBP", {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}),
        ("TIFF", {"big_tiff": True}),
        ("JPEG2000", {"no_jp2": True}),
        ("JPEG", {"progressive": True}),
        ("JPEG", {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}),
    ],
)
def test_size_is_read_from_headers_of_format_variants(form, options):
    file = io.BytesIO()
    Image.fromarray(picture()).save(file, form, **options)
    assert image_size(file.getvalue()) == (HEIGHT, WIDTH)


def test_size_of_top_down_bmp():
    content = cv2.imencode(".bmp", picture())[1].tobytes()
    upside_down = content[:22] + struct.pack("<i", -HEIGHT) + content[26:]
    assert image_size(upside_down) == (HEIGHT, WIDTH)


@pytest.mark.parametrize(
    "content", [png_header(20_000, 20_000), jpeg_header(60_000, 60_000)], ids=["png", "jpeg"]
)
def test_no_reader_decodes_more_pixels_than_the_limit(tmp_path, content):
    path = tmp_path / "bomb.jpg"
    path.write_bytes(content)
    size = image_size(content)
    with pytest.raises(BodyPoseNetError, match=r"bomb\.jpg.* 128 megapixels") as error:
        read_image(path)
    assert MAX_PIXELS_VARIABLE in error.value.remedy
    with pytest.raises(BodyPoseNetError, match="128 megapixels"):
        ReducedImageReader().read(path, *size)
    with pytest.raises(BodyPoseNetError, match=r"bomb\.jpg"):
        read_mask(path, HEIGHT, WIDTH)
    assert image_problem(path, *size)


def test_limit_can_be_changed(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), picture())
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, str(HEIGHT * WIDTH))
    assert read_image(path).shape == (HEIGHT, WIDTH, 3)
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, str(HEIGHT * WIDTH - 1))
    with pytest.raises(BodyPoseNetError, match=f"{WIDTH} x {HEIGHT}"):
        read_image(path)
    with Image.open(path) as image, pytest.raises(BodyPoseNetError, match=f"{WIDTH} x {HEIGHT}"):
        to_pixels(image)
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, "lots")
    with pytest.raises(BodyPoseNetError, match=f"{MAX_PIXELS_VARIABLE}.*lots"):
        read_image(path)


@pytest.mark.parametrize("kind", [b"IHDR", b"IDAT", b"IEND"])
def test_a_png_chunk_longer_than_the_file_is_not_decoded(tmp_path, kind):
    content = cv2.imencode(".png", picture())[1].tobytes()
    at = content.index(kind) - 4
    (tmp_path / "a.png").write_bytes(content[:at] + b"\xff" * 4 + content[at + 4 :])
    with pytest.raises(BodyPoseNetError, match=r"a\.png.*truncated"):
        read_image(tmp_path / "a.png")
    with pytest.raises(BodyPoseNetError, match=r"a\.png"):
        read_mask(tmp_path / "a.png", HEIGHT, WIDTH)
    assert image_problem(tmp_path / "a.png", HEIGHT, WIDTH)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_lacks_only_its_end_marker_is_read_with_a_warning(
    tmp_path, caplog, progressive
):
    content = encode(picture(), progressive=progressive)
    (tmp_path / "whole.jpg").write_bytes(content)
    (tmp_path / "a.jpg").write_bytes(content[:-2])
    with caplog.at_level(logging.WARNING, logger="bodyposenet"):
        image = read_image(tmp_path / "a.jpg")
        read_image(tmp_path / "a.jpg")
    np.testing.assert_array_equal(image, read_image(tmp_path / "whole.jpg"))
    assert [record.levelname for record in caplog.records] == ["WARNING"]  # once per file
    assert "a.jpg" in caplog.text
    found = ReducedImageReader().read(tmp_path / "a.jpg", HEIGHT, WIDTH)
    np.testing.assert_array_equal(found, image)
    assert image_problem(tmp_path / "a.jpg", HEIGHT, WIDTH) == ""


def test_training_decodes_a_jpeg_that_lacks_only_its_end_marker_once(tmp_path, caplog, monkeypatch):
    (tmp_path / "a.jpg").write_bytes(encode(picture()))
    whole = ReducedImageReader().read(tmp_path / "a.jpg", HEIGHT, WIDTH, 2).copy()
    (tmp_path / "a.jpg").write_bytes(encode(picture())[:-2])
    # Used for other files only, so it must not be called.
    monkeypatch.setattr("bodyposenet.data.reduced_images.read_image", None)
    found = ReducedImageReader().read(tmp_path / "a.jpg", HEIGHT, WIDTH, 2)
    np.testing.assert_array_equal(found, whole)
    assert "a.jpg" in caplog.text


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("missing", [6, 10, 30, 200])
def test_jpeg_without_its_last_blocks_is_truncated(progressive, missing):
    content = encode(picture(), progressive=progressive)
    assert restore_end_marker(content) is content
    assert restore_end_marker(content[:-missing]) is None


@pytest.mark.parametrize("divisor", [1, 4])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("missing", [6, 10, 30, 200])
def test_training_rejects_jpeg_without_its_last_blocks(tmp_path, missing, progressive, divisor):
    (tmp_path / "a.jpg").write_bytes(encode(picture(), progressive=progressive)[:-missing])
    with pytest.raises(BodyPoseNetError, match=r"a\.jpg.*(cut off|truncated)"):
        ReducedImageReader().read(tmp_path / "a.jpg", HEIGHT, WIDTH, divisor)


AVIF = pytest.param(
    "AVIF", marks=pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")
)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", AVIF])
@pytest.mark.parametrize("value", range(1, 9))
def test_the_orientation_of_every_format_is_read_as_images_are_decoded(tmp_path, form, value):
    path = tmp_path / "a"
    exif = Image.Exif()
    exif[0x0112] = value
    Image.fromarray(picture()).save(path, form, exif=exif)
    turn = orientation(path.read_bytes())
    assert turn == Orientation(is_turned=value > 1, swaps_sides=value > 4)
    sides = (WIDTH, HEIGHT) if turn.swaps_sides else (HEIGHT, WIDTH)
    assert read_image(path).shape[:2] == sides


@pytest.mark.parametrize("extension", FORMATS)
def test_image_without_orientation_is_not_rotated(extension):
    gray = extension in ("pgm", "pbm")
    content = cv2.imencode(f".{extension}", picture()[..., 0] if gray else picture())[1].tobytes()
    for length in (*range(0, 60, 3), len(content)):
        assert orientation(content[:length]) == Orientation()


@pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")
@pytest.mark.parametrize("value", range(1, 9))
def test_avif_is_rotated_by_its_properties(tmp_path, value):
    path = tmp_path / "a.avif"
    exif = Image.Exif()
    exif[0x0112] = value
    image = Image.fromarray(picture())
    image.save(path, exif=exif, quality=100, subsampling="4:4:4")
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    np.testing.assert_allclose(read_image(path).astype(int), expected, atol=3)
    assert read_image(path, (HEIGHT, WIDTH)).shape[:2] == (HEIGHT, WIDTH)  # as annotated


@pytest.mark.parametrize("value", range(1, 9))
def test_all_readers_apply_the_same_orientation(tmp_path, value):
    """Also if the size is the same in both orientations: mirrored, or rotated by 180 degrees."""
    path = tmp_path / "a.jpg"
    path.write_bytes(encode(picture(), exif_segment(value)))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path))).astype(int)
    height, width = expected.shape[:2]
    for pixels in (
        read_image(path),
        read_image(path, (height, width)),
        ReducedImageReader().read(path, height, width),
        to_pixels(Image.open(path)),
    ):
        np.testing.assert_allclose(pixels.astype(int), expected, atol=3)
