"""What lies beside a calibration cache: whether it is used for the model that it is of."""

import json

import pytest

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.exporting.int8.calibration_cache import (
    CalibrationMetadata,
    digest_of,
    read_metadata,
    write_metadata,
)


@pytest.fixture
def cache(tmp_path):
    path = tmp_path / "cal.bin"
    path.write_bytes(b"TRT-8601-EntropyCalibration2\n")
    return path


@pytest.fixture
def metadata(cache):
    return CalibrationMetadata(
        model="a", cache=digest_of(cache.read_bytes()), method="entropy", input_shape=(64, 96),
        images=8, ranges={"input_1:0": (-0.5, 1 / 3)},
    )  # fmt: skip


def test_what_was_written_is_read(cache, metadata):
    write_metadata(cache, metadata)
    assert (cache.parent / "cal.bin.json").is_file()
    assert read_metadata(cache) == metadata


def test_files_of_older_and_later_versions_are_read(cache, metadata):
    content = metadata.model_dump(mode="json") | {"author": "somebody"}
    del content["batches"]
    (cache.parent / "cal.bin.json").write_text(json.dumps(content))
    assert read_metadata(cache) == metadata


def test_caches_of_tensorrt_have_none(cache):
    assert read_metadata(cache) is None


def test_a_changed_cache_is_told(cache, metadata):
    write_metadata(cache, metadata)
    cache.write_bytes(cache.read_bytes() + b"input_1:0: 3c010204\n")
    with pytest.raises(BodyPoseNetError, match=r"cal.bin: .*cal.bin.json"):
        read_metadata(cache)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b'{"model": 1}'])
def test_garbage_is_told(cache, content):
    (cache.parent / "cal.bin.json").write_bytes(content)
    with pytest.raises(BodyPoseNetError, match=r"cal.bin.json: .*cal.bin"):
        read_metadata(cache)
