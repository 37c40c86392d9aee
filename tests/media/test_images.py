"""Conversion of images of all types to RGB pixels, EXIF orientation, and errors."""

import io
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.media import images as module
from bodyposenet.media.image_header import MAX_PIXELS_VARIABLE
from bodyposenet.media.images import defer, read_image, to_pixels

from .jpegs import encode, exif_segment, segment

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 17, 3)).astype(np.uint8)
GRAY = PIXELS[..., 0]
GRAY_PIXELS = np.stack([GRAY] * 3, axis=-1)
FLOATS = PIXELS.astype(np.float32) / 255
ALPHA = np.dstack([PIXELS, np.zeros_like(GRAY)])


def png(pixels=PIXELS) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


class Foreign:
    """An array of another library, which NumPy can convert."""

    def __array__(self, dtype=None, copy=None):
        return PIXELS


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (PIXELS, PIXELS),
        (PIXELS[:, ::-1], PIXELS[:, ::-1]),
        (GRAY, GRAY_PIXELS),
        (GRAY[..., None], GRAY_PIXELS),
        (GRAY[None], GRAY_PIXELS),
        (ALPHA, PIXELS),
        (PIXELS.transpose(2, 0, 1), PIXELS),
        (ALPHA.transpose(2, 0, 1), PIXELS),
        (PIXELS[:3], PIXELS[:3]),  # the last axis is the channels, as it has three
        (FLOATS, PIXELS),
        (FLOATS.astype(np.float64), PIXELS),
        (FLOATS.transpose(2, 0, 1), PIXELS),
        (FLOATS[..., 0], GRAY_PIXELS),
        (np.float32([[[1.0004, -0.0004, 0.5]]]), np.uint8([[[255, 0, 128]]])),
        (torch.from_numpy(PIXELS), PIXELS),
        (torch.from_numpy(PIXELS).permute(2, 0, 1), PIXELS),
        (torch.from_numpy(FLOATS).permute(2, 0, 1).requires_grad_(), PIXELS),
        (torch.from_numpy(GRAY), GRAY_PIXELS),
        (torch.tensor([[0.0, 1.0]], dtype=torch.bfloat16), np.uint8([[[0] * 3, [255] * 3]])),
        (Foreign(), PIXELS),
        (png(), PIXELS),
        (bytearray(png()), PIXELS),
        (memoryview(png()), PIXELS),
        (io.BytesIO(png()), PIXELS),
        (png(GRAY), GRAY_PIXELS),
        (Image.fromarray(PIXELS), PIXELS),
        (Image.fromarray(GRAY), GRAY_PIXELS),
    ],
)
def test_supported_images(image, expected):
    found = to_pixels(image)
    assert found.dtype == np.uint8 and found.flags.c_contiguous
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("image", "facts", "remedy"),
    [
        (np.zeros((8, 8, 2), np.uint8), "(8, 8, 2)", ""),
        (np.zeros((2, 8, 8, 3), np.uint8), "(2, 8, 8, 3)", "list(images)"),
        (np.zeros(8, np.uint8), "(8,)", ""),
        (np.zeros((0, 8, 3), np.uint8), "(0, 8, 3)", ""),
        (np.uint8(3), "()", ""),
        (np.full((8, 8, 3), 200.0), "200", "astype(np.uint8)"),
        (np.full((8, 8, 3), -2.0), "-2", "normaliz"),
        (np.full((8, 8, 3), np.nan), "nan", "normaliz"),
        (np.zeros((8, 8, 3), np.uint16), "uint16", "// 256"),
        (np.zeros((8, 8, 3), np.int64), "int64", "astype"),
        (np.zeros((8, 8, 3), bool), "bool", "astype(np.uint8) * 255"),
        (torch.zeros(3, 8, 3), "(3, 8, 3)", "permute"),
        (torch.zeros(3, 8, 8, device="meta"), "meta", "cpu()"),
        (Image.new("I;16", (8, 8)), "I;16", "0 to 255"),
        (b"bytes", "bytes", ""),
        (b"", "empty", ""),
        (io.BytesIO(), "nothing left", "seek(0)"),
        (io.StringIO("text"), "text", '"rb"'),
        (cv2.VideoCapture(), "VideoCapture", "model.video"),
        (None, "NoneType", "path"),
        ({"image": 1}, "dict", "path"),
        (0, "int", "model.video(0)"),
        (True, "bool", "path"),
        ("", "empty", "path"),
        ("rtsp://camera/1", "rtsp", "model.video"),
        ("ftp://server/a.jpg", "ftp", "http"),
    ],
)
def test_unsupported_images_are_errors(image, facts, remedy):
    with pytest.raises(BodyPoseNetError) as caught:
        to_pixels(image)
    assert facts in caught.value.what
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    "image", [PIXELS, FLOATS, ALPHA, PIXELS.transpose(2, 0, 1), torch.from_numpy(PIXELS)]
)
def test_arrays_may_be_bgr(image):
    np.testing.assert_array_equal(to_pixels(image, "bgr"), PIXELS[..., ::-1])


@pytest.mark.parametrize("image", [png(), Image.fromarray(PIXELS), io.BytesIO(png())])
def test_color_has_no_effect_on_encoded_and_pil_images(image):
    np.testing.assert_array_equal(to_pixels(image, "bgr"), PIXELS)


def test_open_files(tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(png())
    with open(path, "rb") as file:
        np.testing.assert_array_equal(to_pixels(file), PIXELS)
        with pytest.raises(BodyPoseNetError, match=r"image\.png: there is nothing left") as caught:
            to_pixels(file)
        assert "seek(0)" in caught.value.remedy
        file.seek(0)
        np.testing.assert_array_equal(to_pixels(file), PIXELS)
    with pytest.raises(BodyPoseNetError, match=r"image\.png: .*closed"):
        to_pixels(file)
    for size in (0, 10**6):  # FastAPI's UploadFile.file, on disk and in memory
        with tempfile.SpooledTemporaryFile(size) as spooled:
            spooled.write(png())
            spooled.seek(0)
            np.testing.assert_array_equal(to_pixels(spooled), PIXELS)


def test_asynchronous_file_is_an_error():
    class UploadFile:
        def __init__(self):
            self.file = io.BytesIO(png())

        async def read(self, size: int = -1) -> bytes:
            return self.file.read(size)

    with pytest.raises(BodyPoseNetError, match="UploadFile") as caught:
        to_pixels(UploadFile())
    assert ".file" in caught.value.remedy
    np.testing.assert_array_equal(to_pixels(UploadFile().file), PIXELS)


def test_addresses(monkeypatch):
    files = {"https://server/image.png": png()}
    monkeypatch.setattr(module, "download", files.__getitem__)
    np.testing.assert_array_equal(to_pixels("https://server/image.png"), PIXELS)
    files["https://server/image.png"] = b"<html>"
    with pytest.raises(BodyPoseNetError, match=r"https://server/image\.png"):
        to_pixels("https://server/image.png")


def as_array(content):
    return np.asarray(Image.open(io.BytesIO(content)))


def as_gray(content):
    return as_array(content)[..., 0]


def channels_first(content):
    return torch.from_numpy(as_array(content).transpose(2, 0, 1).copy())


@pytest.mark.parametrize("convert", [bytes, io.BytesIO, as_array, as_gray, channels_first])
def test_too_many_pixels(convert, monkeypatch):
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, "203")
    with pytest.raises(BodyPoseNetError, match="17 x 12 pixels"):
        to_pixels(convert(png()))


def test_video_in_place_of_an_image_is_an_error(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"\0\0\0\x18ftypmp42")
    with pytest.raises(BodyPoseNetError) as caught:
        to_pixels(path)
    assert "model.video" in caught.value.remedy
    with pytest.raises(BodyPoseNetError) as caught:
        to_pixels(tmp_path / "lost.mp4")
    assert "model.video" not in caught.value.remedy


def test_exif_of_encoded_bytes():
    turned = Image.fromarray(np.rot90(PIXELS))
    exif = turned.getexif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    turned.save(stream, "PNG", exif=exif)
    np.testing.assert_array_equal(to_pixels(stream.getvalue()), PIXELS)


def test_deferred_images_do_not_change():
    array, gray, buffer = PIXELS.copy(), GRAY.copy(), bytearray(png())
    tensor, file = torch.from_numpy(PIXELS.copy()), io.BytesIO(png())
    images = [array, gray, buffer, tensor, file]
    deferred = [defer(image, copy=True) for image in images]
    for changed in (array, gray, tensor.numpy(), np.frombuffer(buffer, np.uint8)):
        changed[:] = 0
    file.close()
    for image, expected in zip(deferred, (PIXELS, GRAY_PIXELS, *[PIXELS] * 3), strict=True):
        np.testing.assert_array_equal(to_pixels(image), expected)
    assert np.shares_memory(defer(array), array)  # without copy=True
    assert defer("a.jpg") == "a.jpg"


def test_opencv_image_with_color_bgr(tmp_path):
    cv2.imwrite(str(tmp_path / "image.png"), PIXELS[..., ::-1])
    read = cv2.imread(str(tmp_path / "image.png"))
    np.testing.assert_array_equal(to_pixels(read, "bgr"), to_pixels(tmp_path / "image.png"))


def picture(height: int = 40, width: int = 60) -> np.ndarray:
    """Return an RGB gradient: red increases to the right, green downwards."""
    rows, columns = np.mgrid[:height, :width]
    return np.dstack([columns * 255 // width, rows * 255 // height, np.full_like(rows, 90)]).astype(
        np.uint8
    )


def write(path: Path, image: np.ndarray) -> Path:
    order = {2: None, 3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}[
        image.ndim if image.ndim == 2 else image.shape[2]
    ]
    cv2.imwrite(str(path), image if order is None else cv2.cvtColor(image, order))
    return path


def write_with_orientation(path: Path, image: np.ndarray, orientation: int) -> Path:
    """Write a JPEG with an EXIF orientation."""
    path.write_bytes(encode(image, exif_segment(orientation)))
    return path


def test_pixels_are_rgb(tmp_path):
    image = picture()
    read = read_image(write(tmp_path / "a.png", image))
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, image)


def test_gray_alpha_and_16_bit_become_rgb(tmp_path):
    image = picture()
    gray = image[..., 0]
    np.testing.assert_array_equal(
        read_image(write(tmp_path / "gray.png", gray)), np.dstack([gray] * 3)
    )
    alpha = np.dstack([image, np.full(gray.shape, 7, np.uint8)])
    np.testing.assert_array_equal(read_image(write(tmp_path / "alpha.png", alpha)), image)
    deep = read_image(write(tmp_path / "deep.png", image.astype(np.uint16) * 257))
    assert deep.dtype == np.uint8
    assert np.abs(deep.astype(int) - image).max() <= 1


def test_exif_orientation_is_applied(tmp_path):
    path = write_with_orientation(tmp_path / "a.jpg", picture(40, 60), orientation=6)
    turned = read_image(path)
    assert turned.shape == (60, 40, 3)
    np.testing.assert_allclose(turned, np.rot90(read_image(path, (40, 60)), -1))


@pytest.mark.parametrize("size", [(40, 60), (60, 40)])
def test_annotated_size_selects_the_orientation(tmp_path, size):
    path = write_with_orientation(tmp_path / "a.jpg", picture(40, 60), orientation=6)
    assert read_image(path, size).shape[:2] == size


def test_other_annotated_sizes_keep_the_exif_orientation(tmp_path):
    path = write_with_orientation(tmp_path / "a.jpg", picture(40, 60), orientation=8)
    assert read_image(path, (10, 10)).shape[:2] == (60, 40)


@pytest.mark.parametrize("extension", [".jpg", ".png", ".bmp", ".webp"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.98])
def test_damaged_files_are_errors(tmp_path, extension, share):
    path = write(tmp_path / f"a{extension}", picture())
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(BodyPoseNetError, match=path.name):
        read_image(path)


@pytest.mark.parametrize("video", [b"\0\0\0\x18ftypmp42" + bytes(99), b"\xff\xda\xff\xd8" * 9])
@pytest.mark.parametrize("progressive", [False, True])
def test_data_after_a_jpeg_is_ignored(tmp_path, video, progressive):
    photo = encode(picture(), progressive=progressive)
    (tmp_path / "plain.jpg").write_bytes(photo)
    (tmp_path / "motion.jpg").write_bytes(photo + video)
    np.testing.assert_array_equal(
        read_image(tmp_path / "motion.jpg"), read_image(tmp_path / "plain.jpg")
    )


@pytest.mark.parametrize("share", [0.4, 0.7, 0.95])
def test_truncated_progressive_jpeg_with_thumbnail_is_an_error(tmp_path, share):
    thumbnail = segment(0xE1, b"Exif\0\0" + encode(picture(8, 8)))
    photo = encode(picture(), thumbnail, progressive=True)
    beginning = photo.index(b"\xff\xda", len(thumbnail))
    path = tmp_path / "a.jpg"
    path.write_bytes(photo[: beginning + int((len(photo) - beginning) * share)])
    with pytest.raises(BodyPoseNetError, match=r"a\.jpg.*truncated"):
        read_image(path)


@pytest.mark.parametrize("name", ["a\0b.jpg", "a\ud800.jpg"])
def test_invalid_file_names_are_errors(tmp_path, name):
    with pytest.raises(BodyPoseNetError, match="file name"):
        read_image(tmp_path / name)


def test_text_and_missing_files_are_errors(tmp_path):
    (tmp_path / "a.jpg").write_text("no image at all")
    for name in ("a.jpg", "b.jpg", "."):
        with pytest.raises(BodyPoseNetError, match=name) as error:
            read_image(tmp_path / name)
        assert error.value.remedy
