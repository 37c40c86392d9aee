"""Reading images as cameras, phones and scanners write them."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.media.images import read_image
from bodyposenet.media.inputs import list_images

from .jpegs import encode, exif_segment, segment


def picture(height: int = 40, width: int = 60) -> np.ndarray:
    """Smooth RGB, red growing to the right and green downwards."""
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


def write_turned(path: Path, image: np.ndarray, orientation: int) -> Path:
    """A JPEG with an EXIF block of one tag, the orientation."""
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
    path = write_turned(tmp_path / "a.jpg", picture(40, 60), orientation=6)
    turned = read_image(path)
    assert turned.shape == (60, 40, 3)
    np.testing.assert_allclose(turned, np.rot90(read_image(path, (40, 60)), -1))


@pytest.mark.parametrize("size", [(40, 60), (60, 40)])
def test_the_annotated_size_chooses_the_orientation(tmp_path, size):
    path = write_turned(tmp_path / "a.jpg", picture(40, 60), orientation=6)
    assert read_image(path, size).shape[:2] == size


def test_another_size_leaves_the_turned_image(tmp_path):
    path = write_turned(tmp_path / "a.jpg", picture(40, 60), orientation=8)
    assert read_image(path, (10, 10)).shape[:2] == (60, 40)


@pytest.mark.parametrize("extension", [".jpg", ".png", ".bmp", ".webp"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.98])
def test_damaged_files_are_errors(tmp_path, extension, share):
    path = write(tmp_path / f"a{extension}", picture())
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(BodyPoseNetError, match=path.name):
        read_image(path)


@pytest.mark.parametrize("film", [b"\0\0\0\x18ftypmp42" + bytes(99), b"\xff\xda\xff\xd8" * 9])
@pytest.mark.parametrize("progressive", [False, True])
def test_what_stands_behind_a_jpeg_is_ignored(tmp_path, film, progressive):
    photo = encode(picture(), progressive=progressive)
    (tmp_path / "plain.jpg").write_bytes(photo)
    (tmp_path / "motion.jpg").write_bytes(photo + film)
    np.testing.assert_array_equal(
        read_image(tmp_path / "motion.jpg"), read_image(tmp_path / "plain.jpg")
    )


@pytest.mark.parametrize("share", [0.4, 0.7, 0.95])
def test_a_progressive_jpeg_with_a_thumbnail_is_cut_off_where_it_is_cut_off(tmp_path, share):
    thumbnail = segment(0xE1, b"Exif\0\0" + encode(picture(8, 8)))
    photo = encode(picture(), thumbnail, progressive=True)
    beginning = photo.index(b"\xff\xda", len(thumbnail))
    path = tmp_path / "a.jpg"
    path.write_bytes(photo[: beginning + int((len(photo) - beginning) * share)])
    with pytest.raises(BodyPoseNetError, match=r"a\.jpg: the file is cut off"):
        read_image(path)


@pytest.mark.parametrize("name", ["a\0b.jpg", "a\ud800.jpg"])
def test_names_that_no_file_can_have_are_errors(tmp_path, name):
    with pytest.raises(BodyPoseNetError, match="no name of a file"):
        read_image(tmp_path / name)


def test_text_and_missing_files_are_errors(tmp_path):
    (tmp_path / "a.jpg").write_text("no image at all")
    for name in ("a.jpg", "b.jpg", "."):
        with pytest.raises(BodyPoseNetError, match=name) as error:
            read_image(tmp_path / name)
        assert error.value.remedy


def test_a_folder_lists_its_images_sorted(tmp_path):
    for name in ("b.JPG", "a.png", "c.webp", "d.Bmp", "e.jpeg", "notes.txt", "sub/f.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [entry.path.name for entry in list_images("dir", tmp_path).entries]
    assert names == ["a.png", "b.JPG", "c.webp", "d.Bmp", "e.jpeg"]


def test_a_folder_without_images_is_an_error(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(BodyPoseNetError, match="holds no images"):
        list_images("dir", tmp_path)
    with pytest.raises(BodyPoseNetError, match="not a folder"):
        list_images("dir", tmp_path / "missing")


def test_the_root_goes_in_front_of_relative_paths(tmp_path):
    (entry,) = list_images("image", "sub/a.jpg", "/photos").entries
    assert entry.path == Path("/photos/sub/a.jpg")
    (entry,) = list_images("image", tmp_path / "a.jpg", "/photos").entries
    assert entry.path == tmp_path / "a.jpg"


def test_json_is_a_list_of_paths(tmp_path):
    (tmp_path / "list.json").write_text('["a.jpg", "sub/b.jpg"]')
    images = list_images("json", tmp_path / "list.json", "/photos")
    assert [entry.path for entry in images.entries] == [
        Path("/photos/a.jpg"),
        Path("/photos/sub/b.jpg"),
    ]


def test_json_may_begin_with_a_byte_order_mark(tmp_path):
    (tmp_path / "list.json").write_text('["ä.jpg"]', encoding="utf-8-sig")
    (entry,) = list_images("json", tmp_path / "list.json").entries
    assert entry.path == Path("ä.jpg")


def test_json_objects_keep_their_fields(tmp_path):
    content = {"source": "trip", "images": [{"full_image_path": "a.jpg", "id": 7}]}
    (tmp_path / "list.json").write_text(json.dumps(content))
    images = list_images("json", tmp_path / "list.json")
    assert images.fields == {"source": "trip"}
    assert images.entries[0].path == Path("a.jpg")
    assert images.entries[0].fields["id"] == 7


@pytest.mark.parametrize(
    "text", ["[", "3", "{}", "[]", "[3]", '{"images": [{"file": "a.jpg"}]}', '{"images": null}']
)
def test_json_of_another_form_is_an_error(tmp_path, text):
    (tmp_path / "list.json").write_text(text)
    with pytest.raises(BodyPoseNetError, match=r"list\.json"):
        list_images("json", tmp_path / "list.json")
