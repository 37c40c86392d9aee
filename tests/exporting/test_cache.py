"""Calibration caches: ours as TensorRT writes them, and what is no cache."""

import struct

import pytest

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.exporting.int8.cache import read_cache, write_cache
from bodyposenet.exporting.int8.ranges import Range


def test_a_line_is_the_name_and_the_step_as_big_endian_hex(tmp_path):
    write_cache(tmp_path / "cal.bin", {"input_1:0": Range(-1.0, 0.5), "conv": Range(0.0, 25.4)})
    title, *lines = (tmp_path / "cal.bin").read_text().splitlines()
    assert title.startswith("TRT-")
    assert title.endswith("-EntropyCalibration2")
    parsed = {}
    for line in lines:  # as in NVIDIA's own readers of such files
        name, _, digits = line.rpartition(": ")
        assert len(digits) == 8
        (parsed[name],) = struct.unpack("!f", bytes.fromhex(digits))
    assert parsed == pytest.approx({"input_1:0": 1 / 127, "conv": 25.4 / 127})


def test_a_cache_of_tensorrt_is_read(tmp_path):
    cache = tmp_path / "cal.bin"
    cache.write_text(
        "TRT-8205-EntropyCalibration2\ninput_1:0: 3c010204\n(Unnamed) [Conv]: 00000000\n"
    )
    ranges = read_cache(cache)
    assert ranges["input_1:0"].high == pytest.approx(1.0)
    assert ranges["input_1:0"].low == -ranges["input_1:0"].high
    assert ranges["(Unnamed) [Conv]"] == Range(0.0, 0.0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "begins with ''"),
        (b"input_1:0: 3c010204\n", "not with TRT-"),
        (b"TRT-8601-EntropyCalibration2\ninput: 3c01\n", "line 2 is no tensor"),
        (b"TRT-8601-EntropyCalibration2\ninput: 7fc00000\n", "line 2 is no tensor"),  # NaN
        (b"TRT-8601-EntropyCalibration2\ninput: bc010204\n", "line 2 is no tensor"),  # below zero
        (b"\xff\xfe\x00", "is no text"),
    ],
)
def test_garbage_is_told(tmp_path, content, message):
    (tmp_path / "cal.bin").write_bytes(content)
    with pytest.raises(BodyPoseNetError, match="no calibration cache") as error:
        read_cache(tmp_path / "cal.bin")
    assert message in error.value.what
