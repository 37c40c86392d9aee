"""Cache of decoded images: one decoding per version of a file, no errors of its own."""

import logging
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from bodyposenet.data.image_cache import ImageCache
from bodyposenet.errors import BodyPoseNetError

SIZE = (6, 9)


class Decoder:
    """Returns random pixels and counts its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return np.random.default_rng(self.calls).integers(0, 255, (*SIZE, 3), np.uint8)


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"some bytes")
    return path


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


def files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_an_image_is_decoded_once_per_reduction(source, folder):
    decode = Decoder()
    first = ImageCache(folder).pixels(source, 2, SIZE, decode)
    np.testing.assert_array_equal(ImageCache(folder).pixels(source, 2, SIZE, decode), first)
    assert decode.calls == 1
    ImageCache(folder).pixels(source, 4, SIZE, decode)
    assert decode.calls == 2
    assert len(files(folder)) == 2


def test_a_changed_image_is_decoded_again(source, folder):
    decode, cache = Decoder(), ImageCache(folder)
    cache.pixels(source, 1, SIZE, decode)
    os.utime(source, ns=(0, source.stat().st_mtime_ns + 1))
    cache.pixels(source, 1, SIZE, decode)
    assert decode.calls == 2
    time = source.stat().st_mtime_ns
    source.write_bytes(b"other bytes, at the same time")
    os.utime(source, ns=(time, time))
    cache.pixels(source, 1, SIZE, decode)
    assert decode.calls == 3
    assert len(files(folder)) == 1


@pytest.mark.parametrize("keep", [0, 5, 60, -1])
def test_damaged_cache_files_are_replaced(source, folder, keep):
    decode, cache = Decoder(), ImageCache(folder)
    cache.pixels(source, 1, SIZE, decode)
    (kept,) = files(folder)
    kept.write_bytes(kept.read_bytes()[:keep])
    second = cache.pixels(source, 1, SIZE, decode)
    np.testing.assert_array_equal(cache.pixels(source, 1, SIZE, decode), second)
    assert decode.calls == 2


def test_errors_of_the_decoder_propagate(tmp_path, folder):
    def fail():
        raise BodyPoseNetError("no image")

    with pytest.raises(BodyPoseNetError, match="no image"):
        ImageCache(folder).pixels(tmp_path / "nowhere.jpg", 1, SIZE, fail)
    assert files(folder) == []


def test_a_folder_that_cannot_be_created_gives_one_warning(source, tmp_path, caplog):
    (tmp_path / "file").touch()
    decode = Decoder()
    with caplog.at_level(logging.WARNING):
        cache = ImageCache(tmp_path / "file" / "cache")
        for _ in range(3):
            cache.pixels(source, 1, SIZE, decode)
    assert decode.calls == 3
    assert len(caplog.records) == 1
    assert "image_cache_dir" in caplog.text


def test_a_full_disk_gives_one_warning_and_no_files(source, folder, caplog, monkeypatch):
    decode, cache = Decoder(), ImageCache(folder)
    kept = cache.pixels(source, 1, SIZE, decode)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with caplog.at_level(logging.WARNING):
        for reduction in (2, 4, 8):
            cache.pixels(source, reduction, SIZE, decode)
    assert len(caplog.records) == 1
    assert "No space left" in caplog.text
    assert len(files(folder)) == 1
    np.testing.assert_array_equal(cache.pixels(source, 1, SIZE, decode), kept)


def test_threads_can_write_the_same_image(source, folder):
    pixels = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), np.uint8)

    def read(_):
        return ImageCache(folder).pixels(source, 1, SIZE, lambda: pixels)

    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(read, range(64)):
            np.testing.assert_array_equal(found, pixels)
    assert len(files(folder)) == 1
