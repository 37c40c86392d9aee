"""Tests of calibration caches in TensorRT's format, damaged caches, and their metadata."""

import json
import struct

import pytest

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.exporting.int8.calibration_cache import (
    CalibrationMetadata,
    cache_digest,
    find_tensors,
    read_cache,
    read_metadata,
    write_cache,
    write_metadata,
)
from bodyposenet.exporting.int8.ranges import Range


def test_line_is_the_name_and_the_scale_in_big_endian_hex(tmp_path):
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


def test_tensor_that_is_always_zero_has_a_single_zero(tmp_path):
    """TensorRT omits leading zeros."""
    cache = tmp_path / "cal.bin"
    cache.write_text("TRT-8400-EntropyCalibration2\n366: 0\n395: 3cbe52af\n")
    assert read_cache(cache)["366"] == Range(0.0, 0.0)


TENSORFLOW_NAMES = {
    "images": "input_1:0",
    "block_1a_relu": "block_1a_relu/Relu:0",
    "channel_reduction_conv/relu": "channel_reduction_conv/relu/Relu:0",
    "stage1/conv1/relu": "stage1/conv1/relu/Relu:0",
    "stage1/cmap/conv4/relu": "stage1/cmap/conv4/relu/Relu:0",
    "stage1/paf_branch/out": "stage1/paf_branch/out/BiasAdd:0",
    "stage2/concat": "concatenate_1/concat:0",
    "stage3/concat": "concatenate_2/concat:0",
    "stage2/cmap/attention_conv": "stage2/cmap/attention_conv/BiasAdd:0",
    "stage2/cmap/attention_conv/sigmoid": "stage2/cmap/attention_conv/sigmoid/Sigmoid:0",
    "stage2/paf/attention_conv/tanh": "stage2/paf/attention_conv/tanh/Tanh:0",
    "stage2/paf/attention": "multiply_1/mul:0",
    "stage2/cmap/attention": "multiply_2/mul:0",
    "stage3/paf/attention": "multiply_3/mul:0",
    "paf_out": "paf_out/BiasAdd:0",
}


@pytest.mark.parametrize("scope", ["", "model_1/", "Model/model_1/"])
@pytest.mark.parametrize("index", [":0", ""])  # ONNX files have it, the older UFF files do not
def test_tensors_are_found_under_tensorflows_names(scope, index):
    theirs = {
        scope + name.removesuffix(":0") + index: Range(-number - 1.0, number + 1.0)
        for number, name in enumerate(TENSORFLOW_NAMES.values())
    }
    theirs[scope + "stage1/conv1/Conv2D:0"] = Range(-99.0, 99.0)  # before the bias: another tensor
    found = find_tensors(theirs, [*TENSORFLOW_NAMES, "stage1/conv2/relu"])
    assert found == {
        name: Range(-number - 1.0, number + 1.0) for number, name in enumerate(TENSORFLOW_NAMES)
    }


def test_onnx_names_take_precedence_over_tensorflows():
    ours, theirs = Range(-1.0, 1.0), Range(-2.0, 2.0)
    ranges = {"block_1a_relu/Relu:0": theirs, "block_1a_relu": ours, "x/block_1a_relu:0": theirs}
    assert find_tensors(ranges, ["block_1a_relu"]) == {"block_1a_relu": ours}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "''"),
        (b"input_1:0: 3c010204\n", "TRT-"),
        (b"TRT-8601-EntropyCalibration2\ninput: 3c01\n", "line 2"),
        (b"TRT-8601-EntropyCalibration2\ninput: 7fc00000\n", "line 2"),  # NaN
        (b"TRT-8601-EntropyCalibration2\ninput: bc010204\n", "line 2"),  # below zero
        (b"\xff\xfe\x00", "text"),
    ],
)
def test_damaged_cache_is_an_error(tmp_path, content, message):
    (tmp_path / "cal.bin").write_bytes(content)
    with pytest.raises(BodyPoseNetError, match=r"cal\.bin") as error:
        read_cache(tmp_path / "cal.bin")
    assert message in error.value.what


@pytest.fixture
def cache(tmp_path):
    path = tmp_path / "cal.bin"
    path.write_bytes(b"TRT-8601-EntropyCalibration2\n")
    return path


@pytest.fixture
def metadata(cache):
    return CalibrationMetadata(
        model="a", cache=cache_digest(cache.read_bytes()), method="entropy", input_shape=(64, 96),
        images=8, ranges={"input_1:0": (-0.5, 1 / 3)},
    )  # fmt: skip


def test_written_metadata_is_read(cache, metadata):
    write_metadata(cache, metadata)
    assert (cache.parent / "cal.bin.json").is_file()
    assert read_metadata(cache) == metadata


def test_metadata_of_older_and_later_versions_is_read(cache, metadata):
    content = metadata.model_dump(mode="json") | {"author": "somebody"}
    del content["batches"]
    (cache.parent / "cal.bin.json").write_text(json.dumps(content))
    assert read_metadata(cache) == metadata


def test_caches_of_tensorrt_have_no_metadata(cache):
    assert read_metadata(cache) is None


def test_changed_cache_is_an_error(cache, metadata):
    write_metadata(cache, metadata)
    cache.write_bytes(cache.read_bytes() + b"input_1:0: 3c010204\n")
    with pytest.raises(BodyPoseNetError, match=r"cal.bin: .*cal.bin.json"):
        read_metadata(cache)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b'{"model": 1}'])
def test_damaged_metadata_is_an_error(cache, content):
    (cache.parent / "cal.bin.json").write_bytes(content)
    with pytest.raises(BodyPoseNetError, match=r"cal.bin.json: .*cal.bin"):
        read_metadata(cache)
