"""Tests that caches and tensorfiles of earlier calibrations must agree with the options."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.exporting.int8.calibration import find_ranges, prepare_images
from bodyposenet.exporting.int8.calibration_cache import (
    CalibrationMetadata,
    cache_digest,
    write_cache,
    write_metadata,
)
from bodyposenet.exporting.int8.calibration_source import (
    CalibrationSource,
    ExpectedCalibration,
    check_source,
)
from bodyposenet.exporting.int8.ranges import Range
from bodyposenet.exporting.int8.tensorfile import write_tensorfile
from bodyposenet.exporting.photos import file_digest, sample_digest, shuffled_photos

SIZE = 16, 24
RANGES = {"input_1:0": Range(-0.5, 0.5)}
BATCHES, BATCH_SIZE = 5, 2
"""What is asked for: ten of twelve photos. Four are held back, so there are four batches."""


@pytest.fixture
def folder(tmp_path):
    """Two folders of twelve photos each, `photos` and `others`."""
    for number in range(24):
        name = tmp_path / ("photos" if number < 12 else "others") / f"{number % 12}.png"
        name.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(name), np.full((8, 12, 3), 10 * number, np.uint8))
    return tmp_path


@pytest.fixture
def digests(folder):
    """Digests of the photos that are calibrated on."""
    return tuple(file_digest(path) for path in shuffled_photos(folder / "photos")[:8])


@pytest.fixture
def source(folder):
    """Calibration on `photos`, without files of earlier calibrations."""
    return CalibrationSource(
        folder / "photos", None, None, BATCHES, BATCH_SIZE, SIZE, hold_back=True
    )


def save_tensorfile(path, *, photos=None, requested=None, count=4, size=SIZE):
    """Write a tensorfile; without photos and requested batches it is like those of TAO."""
    batches = [np.full((BATCH_SIZE, *size, 3), index, np.float32) for index in range(count)]
    write_tensorfile(path, batches, requested, photos)
    return path


def save_cache(folder, **properties):
    """Write a cache of eight photos with its metadata; some properties may differ."""
    cache = folder / "cal.bin"
    values = {
        "model": "model", "cache": cache_digest(write_cache(cache, RANGES)),
        "method": "percentile", "input_shape": SIZE, "batches": 4, "images": 8,
        "requested_batches": BATCHES, "batch_size": BATCH_SIZE,
        "photos": sample_digest(folder / "photos", 8),
        "ranges": {name: (each.low, each.high) for name, each in RANGES.items()},
    }  # fmt: skip
    write_metadata(cache, CalibrationMetadata(**values | properties))
    return cache


def check(source, facts):
    """Check a source with files that exist; facts of the expected error, or None."""
    if facts is None:
        check_source(source)
        return
    with pytest.raises(BodyPoseNetError) as error:
        check_source(source)
    assert all(fact in error.value.what for fact in facts), error.value.what
    assert "delete" in error.value.remedy


OF_PHOTOS = {
    "no flag": ({}, None),
    "the same flags": ({"method": "percentile", "shape": SIZE, "images": 10}, None),
    "the number that is left": ({"images": 8}, None),
    "--cal_method": ({"method": "entropy"}, ("--cal_method: percentile", "entropy")),
    "--input_dims": ({"shape": (16, 32)}, ("--input_dims: (16, 24)", "(16, 32)")),
    "--batches": ({"images": 12}, ("--batches times --batch_size: 8", "12")),
    "both": ({"method": "minmax", "images": 1}, ("--cal_method", "minmax", "--batches", "not 1")),
}


@pytest.mark.parametrize(("expected", "facts"), OF_PHOTOS.values(), ids=OF_PHOTOS)
def test_cache_of_photos(folder, source, expected, facts):
    source = replace(
        source, cache_file=save_cache(folder), expected=ExpectedCalibration(**expected)
    )
    check(source, facts and ("cal.bin", *facts))


OF_TENSORFILE = {
    "no flag": ({}, None),
    "the same flags": ({"batches": 4, "batch_size": 2, "images": 8}, None),
    "--batches": ({"batches": 3, "images": 3}, ("--batches: 4", "3")),
    "--batch_size": ({"batch_size": 1, "images": 10}, ("--batch_size: 2", "1")),
}


@pytest.mark.parametrize("is_kept", [True, False])
@pytest.mark.parametrize(("expected", "facts"), OF_TENSORFILE.values(), ids=OF_TENSORFILE)
def test_cache_of_a_tensorfile(folder, source, expected, facts, is_kept):
    """Whether the tensorfile still exists makes no difference."""
    data_file = save_tensorfile(folder / "cal.tensorfile")
    digest = file_digest(data_file)
    cache = save_cache(folder, photos=None, requested_batches=4, tensorfile=digest)
    if not is_kept:
        data_file.unlink()
    source = replace(
        source, image_dir=None, data_file=data_file, cache_file=cache,
        expected=ExpectedCalibration(**expected),
    )  # fmt: skip
    check(source, facts and ("cal.bin", *facts))


@pytest.mark.parametrize("name", ["photos", "others"])
@pytest.mark.parametrize("kind", ["photos", "tensorfile", "older version"])
def test_cache_of_other_photos(folder, source, digests, name, kind):
    properties = {
        "photos": {"photo_digests": digests},
        "tensorfile": {"photo_digests": digests, "photos": None},
        "older version": {"requested_batches": None, "batch_size": None, "batches": None},
    }
    cache = save_cache(folder, **properties[kind])
    facts = ("cal.bin", "--cal_image_dir", str(folder / name)) if name == "others" else None
    check(replace(source, image_dir=folder / name, cache_file=cache), facts)


@pytest.mark.parametrize("is_same", [True, False])
def test_cache_of_another_tensorfile(folder, source, is_same):
    data_file = save_tensorfile(folder / "cal.tensorfile")
    cache = save_cache(folder, photos=None, tensorfile=file_digest(data_file))
    if not is_same:
        save_tensorfile(data_file, count=5)
    source = replace(source, image_dir=None, data_file=data_file, cache_file=cache)
    check(source, None if is_same else ("cal.bin", f"--cal_data_file: another file than {folder}"))


TENSORFILE = {
    "no flag": ({}, {}, None),
    "the same flags": ({}, {"batches": 5, "batch_size": 2}, None),
    "fewer --batches": ({"batches": 2}, {}, None),
    "more --batches": ({"batches": 6}, {}, ("4 batches", "6")),
    "--input_dims": ({"shape": (16, 32)}, {}, ("(2, 16, 24, 3)", "--input_dims", "16, 32")),
    "--batch_size": ({}, {"batch_size": 1}, ("--batch_size: 2", "1")),
    "--cal_image_dir": ({"image_dir": "others"}, {}, ("--cal_image_dir", "others")),
}


@pytest.mark.parametrize("is_taos", [False, True])
@pytest.mark.parametrize(("changes", "expected", "facts"), TENSORFILE.values(), ids=TENSORFILE)
def test_tensorfile(folder, source, digests, changes, expected, facts, is_taos):
    """It is unknown which photos those of TAO contain, and they hold all batches asked for."""
    ours = {} if is_taos else {"photos": digests, "requested": (BATCHES, BATCH_SIZE)}
    data_file = save_tensorfile(folder / "cal.tensorfile", **ours)
    if is_taos:
        changes = {"batches": 4} | changes
        facts = None if "image_dir" in changes else facts
    changes = changes | {"image_dir": folder / changes.get("image_dir", "photos")}
    source = replace(source, data_file=data_file, expected=ExpectedCalibration(**expected))
    check(replace(source, **changes), facts and ("cal.tensorfile", *facts))


def test_cache_without_metadata_is_used_and_the_unchecked_flags_are_logged(folder, source, caplog):
    cache = folder / "cal.bin"
    write_cache(cache, RANGES)
    expected = ExpectedCalibration("entropy", 8, (64, 96), 4, 2)
    source = replace(source, cache_file=cache, expected=expected)
    check_source(source)
    found = find_ranges(b"", source, "entropy", list(RANGES), "model")
    assert found["input_1:0"].high == pytest.approx(0.5)
    (line,) = caplog.messages
    for fact in (
        "cal.bin", "--cal_method entropy", "--input_dims (64, 96)", "--batches 4", "--batch_size 2",
        f"--cal_image_dir {folder / 'photos'}",
    ):  # fmt: skip
        assert fact in line


def test_tensorfile_that_is_not_written_is_logged(folder, source, caplog):
    cache = save_cache(folder)
    source = replace(source, cache_file=cache, data_file=folder / "cal.tensorfile")
    find_ranges(b"", source, "percentile", list(RANGES), "model")
    assert str(folder / "cal.tensorfile") in caplog.text
    assert not (folder / "cal.tensorfile").exists()


def unused(photos, folder):
    """Return the numbers of the photos that can be compared on."""
    digests = {path: file_digest(path) for path in (folder / "photos").iterdir()}
    return {path.stem for path in photos.unused if digests[path] not in photos.used}


@pytest.mark.parametrize("kind", ["photos", "cache", "older cache", "tensorfile"])
def test_photos_that_are_not_used_are_held_back(folder, source, digests, kind):
    if kind == "tensorfile":
        path = save_tensorfile(folder / "t", photos=digests, requested=(BATCHES, BATCH_SIZE))
        source = replace(source, data_file=path)
    elif kind != "photos":
        known = {} if kind == "older cache" else {"photo_digests": digests}
        source = replace(source, cache_file=save_cache(folder, **known))
    photos = prepare_images(source)
    assert photos.used == set(digests)
    assert unused(photos, folder) == {path.stem for path in shuffled_photos(folder / "photos")[8:]}


def test_no_photos_are_held_back_if_others_are_given(source):
    photos = prepare_images(replace(source, hold_back=False))
    assert (len(photos.used), photos.unused) == (10, [])


@pytest.mark.parametrize("kind", ["cache", "tensorfile"])
def test_photos_of_other_programs_files_are_unknown(folder, source, kind):
    path = folder / kind
    if kind == "cache":
        write_cache(path, RANGES)
        source = replace(source, cache_file=path)
    else:
        source = replace(source, data_file=save_tensorfile(path))
    assert prepare_images(source).used is None
    assert prepare_images(source).unused == []
