"""Images of all forms as RGB pixels; and the forms that are refused."""

import io
import tempfile

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.media import images as module
from bodyposenet.media.image_header import MAX_PIXELS_VARIABLE
from bodyposenet.media.images import hold, to_pixels

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
    """An array of another library."""

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
        (PIXELS[:3], PIXELS[:3]),  # three rows are no channels where the last axis has three
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
def test_forms_that_mean_one_thing(image, expected):
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
        (np.full((8, 8, 3), -2.0), "-2", "normalized"),
        (np.full((8, 8, 3), np.nan), "nan", "normalized"),
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
def test_forms_that_are_refused(image, facts, remedy):
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
def test_other_images_tell_their_colors(image):
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
    for memory in (0, 10**6):  # what FastAPI's UploadFile.file is
        with tempfile.SpooledTemporaryFile(memory) as spooled:
            spooled.write(png())
            spooled.seek(0)
            np.testing.assert_array_equal(to_pixels(spooled), PIXELS)


def test_a_file_that_is_read_asynchronously():
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


@pytest.mark.parametrize("form", [bytes, io.BytesIO, as_array, as_gray, channels_first])
def test_too_many_pixels(form, monkeypatch):
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, "203")
    with pytest.raises(BodyPoseNetError, match="17 x 12 pixels"):
        to_pixels(form(png()))


def test_a_video_is_no_image(tmp_path):
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


def test_what_is_held_stays_as_it_was():
    array, gray, buffer = PIXELS.copy(), GRAY.copy(), bytearray(png())
    tensor, file = torch.from_numpy(PIXELS.copy()), io.BytesIO(png())
    images = [array, gray, buffer, tensor, file]
    held = [hold(image, copy=True) for image in images]
    for changed in (array, gray, tensor.numpy(), np.frombuffer(buffer, np.uint8)):
        changed[:] = 0
    file.close()
    for image, expected in zip(held, (PIXELS, GRAY_PIXELS, *[PIXELS] * 3), strict=True):
        np.testing.assert_array_equal(to_pixels(image), expected)
    assert np.shares_memory(hold(array), array)  # nobody says that it will change
    assert hold("a.jpg") == "a.jpg"


def test_opencv_and_color_bgr_agree(tmp_path):
    cv2.imwrite(str(tmp_path / "image.png"), PIXELS[..., ::-1])
    read = cv2.imread(str(tmp_path / "image.png"))
    np.testing.assert_array_equal(to_pixels(read, "bgr"), to_pixels(tmp_path / "image.png"))
