"""TFRecord files equal an independent encoding of frames, checksums and messages."""

import struct

import numpy as np
import pytest

from bodyposenet.data.records import decode_record, encode_record, write_records
from bodyposenet.types import Record

RECORD = Record(
    image_id=36,
    image_path="train2017/000000000036.jpg",
    mask_path="train_mask2017/000000000036.png",
    height=360,
    width=271,
    dataset="coco",
    joints=np.arange(2 * 17 * 3, dtype=np.float64).reshape(2, 17, 3) / 7,
    scales=np.array([261.67, 12.5]),
    centers=np.array([[181.92, 222.465], [3.0, -4.0]]),
    person_index=300,
)

KINDS = {
    "frame/image_id": "int", "frame/height": "int", "frame/width": "int",
    "frame/image_path": "byte", "frame/mask_path": "byte", "dataset": "byte",
    "person/joints": "byte", "person/scales": "byte", "person/centers": "byte",
    "person/person_idx": "int", "person/num_other_people": "int",
}  # fmt: skip


def crc_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


def masked_crc(data, table=crc_table()):  # noqa: B008
    crc = 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) % 2**32)


def varint(number):
    bits = f"{number:b}"
    groups = [bits[max(end - 7, 0) : end] for end in range(len(bits), 0, -7)]
    last = len(groups) - 1
    return bytes(int(group, 2) + (128 if i < last else 0) for i, group in enumerate(groups))


def message(field, content):
    return varint(8 * field + 2) + varint(len(content)) + content


def expected_example():
    values = {
        "dataset": b"coco",
        "frame/height": 360,
        "frame/image_id": 36,
        "frame/image_path": b"train2017/000000000036.jpg",
        "frame/mask_path": b"train_mask2017/000000000036.png",
        "frame/width": 271,
        "person/centers": struct.pack("<4d", 181.92, 222.465, 3.0, -4.0),
        "person/joints": struct.pack("<102d", *(number / 7 for number in range(102))),
        "person/num_other_people": 1,
        "person/person_idx": 300,
        "person/scales": struct.pack("<2d", 261.67, 12.5),
    }
    entries = b""
    for name, value in sorted(values.items()):
        if isinstance(value, int):
            feature = message(3, message(1, varint(value)))
        else:
            feature = message(1, message(1, value))
        entries += message(1, message(1, name.encode()) + message(2, feature))
    return message(1, entries)


def test_a_file_equals_the_expected_bytes(tmp_path):
    path = tmp_path / "records"
    write_records(path, [RECORD, RECORD])
    example = expected_example()
    length = struct.pack("<Q", len(example))
    frame = length + masked_crc(length) + example + masked_crc(example)
    assert path.read_bytes() == frame + frame


def test_the_independent_encoding_equals_published_values():
    # RFC 3720, B.4: CRC-32C of 32 bytes of zeros; protobuf.dev, "Encoding": 150 and the key 08.
    crc = 0x8A9136AA
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32
    assert masked_crc(bytes(32)) == struct.pack("<I", masked)
    assert varint(150) == b"\x96\x01"
    assert message(2, b"testing") == b"\x12\x07testing"


def test_protobuf_encodes_the_same_bytes():
    example_pb2 = pytest.importorskip("tfrecord.example_pb2")
    ours = encode_record(RECORD)
    parsed = example_pb2.Example.FromString(ours)
    assert parsed.SerializeToString(deterministic=True) == ours
    features = parsed.features.feature
    assert set(features) == set(KINDS)
    assert features["frame/width"].int64_list.value[:] == [271]
    joints = np.frombuffer(features["person/joints"].bytes_list.value[0])
    np.testing.assert_array_equal(joints.reshape(2, 17, 3), RECORD.joints)


def test_the_tfrecord_package_reads_the_file(tmp_path):
    reader = pytest.importorskip("tfrecord.reader")
    path = tmp_path / "records"
    write_records(path, [RECORD] * 3)
    rows = list(reader.tfrecord_loader(str(path), None, KINDS))
    assert len(rows) == 3
    assert rows[2]["person/person_idx"].tolist() == [300]
    assert bytes(rows[2]["frame/image_path"]).decode() == RECORD.image_path


def test_tensorflow_reads_our_files_and_we_read_its_messages(tmp_path):
    tensorflow = pytest.importorskip("tensorflow")
    path = tmp_path / "records"
    write_records(path, [RECORD, RECORD])
    rows = list(tensorflow.data.TFRecordDataset(str(path)).as_numpy_iterator())
    assert len(rows) == 2
    example = tensorflow.train.Example.FromString(rows[0])
    assert example.features.feature["frame/height"].int64_list.value[:] == [360]
    np.testing.assert_array_equal(decode_record(example.SerializeToString()).joints, RECORD.joints)
