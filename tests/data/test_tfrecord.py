"""TFRecord files and Examples: what is written is read; damage is found, and where it is."""

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bodyposenet.data.example import decode_example, encode_example
from bodyposenet.data.tfrecord import encode_frame, masked_crc, read_frame, read_frames, scan_frames
from bodyposenet.errors import BodyPoseNetError

MESSAGES = [b"one", b"", b"three" * 100]

values = st.binary(max_size=300) | st.integers(-(2**63), 2**63 - 1)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "records"
    path.write_bytes(b"".join(map(encode_frame, MESSAGES)))
    return path


def test_messages_are_found_and_read(file):
    frames = scan_frames(file)
    assert [read_frame(file, *frame) for frame in frames.tolist()] == MESSAGES
    assert [message for _, message in read_frames(file)] == MESSAGES
    assert [offset for offset, _ in read_frames(file)] == frames[:, 0].tolist()


def test_an_empty_file_holds_no_messages(tmp_path):
    path = tmp_path / "empty"
    path.touch()
    assert scan_frames(path).shape == (0, 2)
    assert list(read_frames(path)) == []


# The frames begin at 0, 19 and 35; a cut between two of them shows nowhere.
@pytest.mark.parametrize("size", [size for size in range(1, 60) if size not in (19, 35)])
def test_a_cut_off_file_is_an_error_that_says_where(file, size):
    file.write_bytes(file.read_bytes()[:size])
    begin = max(start for start in (0, 19, 35) if start < size)
    for read in (scan_frames, lambda path: list(read_frames(path))):
        with pytest.raises(BodyPoseNetError, match="cut off") as caught:
            read(file)
        assert str(file) in caught.value.what
        assert caught.value.what.endswith(f"byte {begin}")


@pytest.mark.parametrize("at", [0, 7, 8, 11])
def test_a_flipped_bit_in_the_first_header_is_an_error(file, at):
    damage(file, at)
    with pytest.raises(BodyPoseNetError, match="is no TFRecord file, or damaged"):
        scan_frames(file)


@pytest.mark.parametrize("at", [19, 30, 35])
def test_a_flipped_bit_in_a_later_header_is_an_error_that_says_where(file, at):
    damage(file, at)
    with pytest.raises(BodyPoseNetError, match=f"wrong CRC at byte {35 if at == 35 else 19}"):
        scan_frames(file)


@pytest.mark.parametrize("at", [47, 300, 547, 550])
def test_a_flipped_bit_in_a_message_is_an_error_that_says_where(file, at):
    frames = scan_frames(file)
    damage(file, at)
    with pytest.raises(BodyPoseNetError, match=r"records: is damaged: wrong CRC at byte 47"):
        read_frame(file, *frames[2].tolist())
    assert read_frame(file, *frames[0].tolist()) == b"one"


def test_files_that_are_missing_or_something_else_are_errors(tmp_path):
    other = tmp_path / "photo.jpg"
    other.write_bytes(b"\xff\xd8\xff\xe0" + bytes(range(200)))
    with pytest.raises(BodyPoseNetError, match=r"photo\.jpg: is no TFRecord file"):
        scan_frames(other)
    with pytest.raises(BodyPoseNetError, match="absent: cannot be read"):
        scan_frames(tmp_path / "absent")
    with pytest.raises(BodyPoseNetError, match="absent: cannot be read"):
        list(read_frames(tmp_path / "absent"))
    with pytest.raises(BodyPoseNetError, match="cannot be read"):
        scan_frames(tmp_path)


def test_a_file_that_lost_its_end_after_the_scan_is_an_error(file):
    frames = scan_frames(file)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(BodyPoseNetError, match="cut off"):
        read_frame(file, *frames[2].tolist())


@given(st.dictionaries(st.text(max_size=20), values, max_size=12))
def test_examples_come_back(features):
    expected = {name: [value] for name, value in features.items()}
    assert decode_example(encode_example(features)) == expected


@given(st.binary(max_size=60))
def test_any_bytes_are_an_example_or_a_value_error(message):
    with contextlib.suppress(ValueError):
        decode_example(message)


def test_lists_floats_and_unpacked_numbers_of_other_writers_are_read():
    def field(number, content):
        length = len(content)
        size = bytes((length,)) if length < 128 else bytes((length & 127 | 128, length >> 7))
        return bytes((number << 3 | 2,)) + size + content

    def entry(name, kind, content):
        return field(1, field(1, name) + field(2, field(kind, content)))

    floats = struct.pack("<2f", 0.5, -2.0)
    message = field(
        1,
        entry(b"packed", 3, field(1, b"\x01\x02\xac\x02"))
        + entry(b"unpacked", 3, b"\x08\x05\x08\x06")
        + entry(b"floats", 2, field(1, floats))
        + entry(b"single floats", 2, b"\x0d" + floats[:4] + b"\x0d" + floats[4:])
        + entry(b"words", 1, field(1, b"a") + field(1, b"bc"))
        + field(1, field(1, b"nothing") + field(2, b"")),
    )
    assert decode_example(message) == {
        "packed": [1, 2, 300],
        "unpacked": [5, 6],
        "floats": [0.5, -2.0],
        "single floats": [0.5, -2.0],
        "words": [b"a", b"bc"],
        "nothing": [],
    }


def test_the_checksum_is_tensorflows():
    # The CRC-32C of 32 zero bytes is 8A9136AA (RFC 3720, B.4).
    crc = 0x8A9136AA
    rotated = (crc >> 15 | crc << 17) & 0xFFFFFFFF
    assert masked_crc(bytes(32)) == (rotated + 0xA282EAD8) % 2**32


def damage(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 0x10
    path.write_bytes(content)
