"""TFRecord files and Examples: reading and writing, detection and position of damage."""

import contextlib
import pickle
import struct
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bodyposenet.data.tfrecord import (
    Features,
    FrameReader,
    encode_example,
    encode_frame,
    masked_crc,
    read_frames,
    scan_frames,
)
from bodyposenet.errors import BodyPoseNetError

MESSAGES = [b"one", b"", b"three" * 100]

DESCRIPTORS = Path("/proc/self/fd")

values = st.binary(max_size=300) | st.integers(-(2**63), 2**63 - 1)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "records"
    path.write_bytes(b"".join(map(encode_frame, MESSAGES)))
    return path


def test_messages_are_found_and_read(file):
    offsets = scan_frames(file).tolist()
    assert read_all(FrameReader(), file, offsets) == MESSAGES
    assert [message for _, message in read_frames(file)] == MESSAGES
    assert [offset for offset, _ in read_frames(file)] == offsets[:-1]


def test_messages_longer_than_the_buffer_are_found(tmp_path):
    messages = [bytes([number]) * 2**size for number, size in enumerate((3, 19, 4, 18, 17, 5))]
    path = tmp_path / "long"
    path.write_bytes(b"".join(map(encode_frame, messages)))
    assert read_all(FrameReader(), path, scan_frames(path).tolist()) == messages
    assert [message for _, message in read_frames(path)] == messages


def test_an_empty_file_has_no_messages(tmp_path):
    path = tmp_path / "empty"
    path.touch()
    assert len(scan_frames(path)) == 1
    assert list(read_frames(path)) == []


# Frames begin at 0, 19 and 35; truncation between two of them cannot be detected.
@pytest.mark.parametrize("size", [size for size in range(1, 60) if size not in (19, 35)])
def test_a_truncated_file_is_an_error_with_the_position(file, size):
    file.write_bytes(file.read_bytes()[:size])
    begin = max(start for start in (0, 19, 35) if start < size)
    for read in (scan_frames, lambda path: list(read_frames(path))):
        with pytest.raises(BodyPoseNetError, match="truncated") as caught:
            read(file)
        assert str(file) in caught.value.what
        assert caught.value.what.endswith(f"byte {begin}")


@pytest.mark.parametrize("length", [2**40, 2**63, 2**64 - 1])
def test_a_length_beyond_the_end_of_the_file_is_an_error(file, length):
    header = struct.pack("<Q", length)
    with open(file, "ab") as end:
        end.write(header + struct.pack("<I", masked_crc(header)) + bytes(100))
    for read in (scan_frames, lambda path: list(read_frames(path))):
        with pytest.raises(BodyPoseNetError, match=r"truncated.* byte 551"):
            read(file)


@pytest.mark.parametrize("at", [0, 7, 8, 11])
def test_a_flipped_bit_in_the_first_header_is_an_error(file, at):
    damage(file, at)
    with pytest.raises(BodyPoseNetError, match="not a TFRecord file"):
        scan_frames(file)


@pytest.mark.parametrize("at", [19, 30, 35])
def test_a_flipped_bit_in_a_later_header_is_an_error_with_the_position(file, at):
    damage(file, at)
    with pytest.raises(BodyPoseNetError, match=f"wrong CRC at byte {35 if at == 35 else 19}"):
        scan_frames(file)


@pytest.mark.parametrize("at", [47, 300, 547, 550])
def test_a_flipped_bit_in_a_message_is_an_error_with_the_position(file, at):
    offsets, reader = scan_frames(file).tolist(), FrameReader()
    damage(file, at)
    with pytest.raises(BodyPoseNetError, match=r"records: .*byte 47"):
        reader.read(file, *offsets[2:4])
    assert reader.read(file, *offsets[:2]) == b"one"


def test_missing_files_and_other_formats_are_errors(tmp_path):
    other = tmp_path / "photo.jpg"
    other.write_bytes(b"\xff\xd8\xff\xe0" + bytes(range(200)))
    with pytest.raises(BodyPoseNetError, match=r"photo\.jpg: not a TFRecord file"):
        scan_frames(other)
    with pytest.raises(BodyPoseNetError, match="absent: cannot be read"):
        scan_frames(tmp_path / "absent")
    with pytest.raises(BodyPoseNetError, match="absent: cannot be read"):
        list(read_frames(tmp_path / "absent"))
    with pytest.raises(BodyPoseNetError, match="absent: cannot be read"):
        FrameReader().read(tmp_path / "absent", 12, 30)
    with pytest.raises(BodyPoseNetError, match="cannot be read"):
        scan_frames(tmp_path)


def test_a_file_that_is_truncated_after_the_scan_is_an_error(file):
    offsets = scan_frames(file).tolist()
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(BodyPoseNetError, match="truncated"):
        FrameReader().read(file, *offsets[2:4])


@pytest.mark.skipif(not DESCRIPTORS.is_dir(), reason="the system does not list open files")
def test_a_reader_limits_its_open_files_and_closes_them(tmp_path):
    paths = [tmp_path / str(number) for number in range(100)]
    for number, path in enumerate(paths):
        path.write_bytes(encode_frame(f"{number:03d}".encode()))
    before, reader = count_descriptors(), FrameReader()
    for _ in range(2):
        assert [reader.read(path, 12, 31) for path in paths] == [b"%03d" % n for n in range(100)]
    assert count_descriptors() <= before + 64
    other = pickle.loads(pickle.dumps(reader))
    assert other.read(paths[0], 12, 31) == b"000"
    del reader, other
    assert count_descriptors() == before


def test_threads_share_a_reader(tmp_path):
    path, messages = tmp_path / "many", [f"{number:05d}".encode() for number in range(2000)]
    path.write_bytes(b"".join(map(encode_frame, messages)))
    offsets, reader = scan_frames(path).tolist(), FrameReader()
    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(lambda _: read_all(reader, path, offsets), range(4)):
            assert found == messages


# Protocol buffers do not define the order of names of which one is a prefix of another.
@given(st.dictionaries(st.text(min_size=3, max_size=3), values, max_size=12))
def test_features_are_read_as_written_and_sorted_by_name(features):
    message = encode_example(features)
    read = Features(message)
    for name, value in features.items():
        assert (read.content if isinstance(value, bytes) else read.integer)(name) == value
    assert encode_example(dict(reversed(features.items()))) == message


@given(st.binary(max_size=60))
def test_any_bytes_are_an_example_or_a_value_error(message):
    with contextlib.suppress(ValueError):
        Features(message)


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=3))
def test_a_mutated_example_gives_values_or_a_value_error(mutations):
    message = bytearray(encode_example({"name": b"x" * 20, "number": 300, "empty": b""}))
    for place, byte in mutations:
        message[place % len(message)] = byte
    with contextlib.suppress(ValueError):
        features = Features(bytes(message))
        assert isinstance(features.content("name"), bytes)
        assert isinstance(features.integer("number"), int)


def test_missing_features_and_other_types_are_errors():
    features = Features(encode_example({"word": b"a", "number": 1}))
    assert "word" in features
    assert "other" not in features
    for name in ("other", "number"):
        with pytest.raises(ValueError, match=f"bytes feature {name}"):
            features.content(name)
    for name in ("other", "word"):
        with pytest.raises(ValueError, match=f"integer feature {name}"):
            features.integer(name)


def test_lists_and_unpacked_numbers_of_other_writers_are_read():
    def field(number, content):
        length = len(content)
        size = bytes((length,)) if length < 128 else bytes((length & 127 | 128, length >> 7))
        return bytes((number << 3 | 2,)) + size + content

    def entry(name, kind, content):
        return field(1, field(1, name) + field(2, field(kind, content)))

    message = field(
        1,
        entry(b"packed", 3, field(1, b"\xac\x02\x01"))
        + entry(b"unpacked", 3, b"\x08\x05\x08\x06")
        + entry(b"floats", 2, field(1, struct.pack("<2f", 0.5, -2.0)))
        + entry(b"words", 1, field(1, b"a") + field(1, b"bc"))
        + field(1, field(1, b"nothing") + field(2, b"")),
    )
    features = Features(message + field(7, b"of a later version"))
    assert (features.integer("packed"), features.integer("unpacked")) == (300, 5)
    assert features.content("words") == b"a"
    for name in ("floats", "nothing"):
        assert name in features
        with pytest.raises(ValueError, match="bytes feature"):
            features.content(name)


def test_the_checksum_equals_that_of_tensorflow():
    # The CRC-32C of 32 zero bytes is 8A9136AA (RFC 3720, B.4).
    crc = 0x8A9136AA
    rotated = (crc >> 15 | crc << 17) & 0xFFFFFFFF
    assert masked_crc(bytes(32)) == (rotated + 0xA282EAD8) % 2**32


def read_all(reader, path, offsets):
    return [reader.read(path, *place) for place in pairwise(offsets)]


def count_descriptors():
    return sum(1 for _ in DESCRIPTORS.iterdir())


def damage(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 0x10
    path.write_bytes(content)
