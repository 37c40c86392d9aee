"""Records in TFRecord files: encoding, random access, pickling, invalid content."""

import dataclasses
import pickle

import numpy as np
import pytest

from bodyposenet.data.records import (
    RecordSet,
    decode_record,
    encode_record,
    read_records,
    write_records,
)
from bodyposenet.data.tfrecord import encode_example, encode_frame
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.types import Record


def record(image_id=1, people=2, joints=3):
    random = np.random.default_rng(image_id)
    return Record(
        image_id, f"images/{image_id}é.jpg", f"masks/{image_id}é.png", 120, 160, "toy",
        random.normal(size=(people, joints, 3)), random.random(people),
        random.random((people, 2)), 5,
    )  # fmt: skip


def assert_same(one, other):
    for field in dataclasses.fields(Record):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))


@pytest.mark.parametrize(("people", "joints"), [(1, 1), (2, 3), (20, 17)])
def test_a_record_is_read_as_written(people, joints):
    written = record(people=people, joints=joints)
    read = decode_record(encode_record(written))
    assert_same(written, read)
    assert read.joints.dtype == np.float64
    assert read.joints.flags.writeable


def test_unknown_features_are_ignored():
    written = record()
    extra = encode_example({"person/pseudo": b"\0\1", "other": 3})
    assert_same(decode_record(encode_record(written) + extra), written)


def test_records_of_tao_without_the_optional_features_are_read():
    tao = record()
    features = {
        "frame/image_id": 1, "frame/height": 120, "frame/width": 160,
        "frame/image_path": b"train2017/1.jpg", "frame/mask_path": b"train_mask2017/1.jpg",
        "dataset": b"coco", "person/joints": tao.joints.tobytes(),
        "person/scales": tao.scales.tobytes(), "person/centers": tao.centers.tobytes(),
    }  # fmt: skip
    read = decode_record(encode_example(features))
    assert (read.mask_path, read.person_index) == ("train_mask2017/1.jpg", 0)
    np.testing.assert_array_equal(read.joints, tao.joints)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frame/image_id": None}, "integer feature frame/image_id"),
        ({"frame/image_id": b"1"}, "integer feature frame/image_id"),
        ({"frame/image_path": None}, "bytes feature frame/image_path"),
        ({"frame/image_path": 3}, "bytes feature frame/image_path"),
        ({"person/scales": b""}, "person/scales is empty"),
        ({"person/scales": b"123"}, "buffer size"),
        ({"person/centers": bytes(8)}, "2 scales"),
        ({"dataset": b"\xff"}, "can't decode byte"),
    ],
)
def test_an_example_with_missing_or_invalid_features_is_an_error(tmp_path, changes, message):
    tao = record()
    features = {
        "frame/image_id": 1, "frame/height": 120, "frame/width": 160,
        "frame/image_path": b"1.jpg", "frame/mask_path": b"1.jpg", "dataset": b"coco",
        "person/joints": tao.joints.tobytes(), "person/scales": tao.scales.tobytes(),
        "person/centers": tao.centers.tobytes(),
    } | changes  # fmt: skip
    kept = {name: value for name, value in features.items() if value is not None}
    path = tmp_path / "other"
    path.write_bytes(encode_frame(encode_example(kept)))
    with pytest.raises(BodyPoseNetError, match=message) as caught:
        RecordSet([path])[0]
    assert "other: record at byte 12" in caught.value.what


def test_a_record_set_has_the_records_of_all_files_in_order(tmp_path):
    paths = [tmp_path / name for name in ("a", "b", "empty", "c")]
    groups = [[record(1), record(2)], [record(3)], [], [record(4)]]
    for path, group in zip(paths, groups, strict=True):
        assert write_records(path, group) == len(group)
    records = RecordSet(paths)
    assert [r.image_id for r in records] == [1, 2, 3, 4]
    assert (len(records), records[-1].image_id) == (4, 4)
    with pytest.raises(IndexError):
        records[4]
    assert_same(records[2], groups[1][0])
    assert [r.image_id for r in read_records(paths[0])] == [1, 2]


def test_bytes_that_are_not_an_example_are_an_error_with_the_offset(tmp_path):
    path = tmp_path / "other"
    path.write_bytes(encode_frame(b"no message of any kind"))
    for read in (lambda: RecordSet([path])[0], lambda: list(read_records(path))):
        with pytest.raises(BodyPoseNetError, match=r"byte 12 .* not a tf\.train"):
            read()


def test_a_file_listed_many_times_is_indexed_once(tmp_path):
    path, other = tmp_path / "records", tmp_path / "other"
    write_records(path, (record(n, people=1, joints=1) for n in range(1000)))
    write_records(other, [record(7777)])
    records = RecordSet([*[path] * 5000, other, *[path] * 5000])
    assert len(records) == 10_000_001
    places = (0, 999, 1000, 4_999_999, 5_000_000, 5_000_001, -1, -1001)
    ids = [records[index].image_id for index in places]
    assert ids == [0, 999, 0, 999, 7777, 0, 999, 999]


def test_a_pickled_record_set_needs_few_bytes_per_record(tmp_path):
    path = tmp_path / "many"
    write_records(path, (record(n, people=8, joints=17) for n in range(200)))
    sent = pickle.dumps(RecordSet([path]))
    assert len(sent) < 200 * 8 + 1000
    assert pickle.loads(sent)[150].image_id == 150


def test_an_empty_record_set():
    assert len(RecordSet([])) == 0


def test_an_interrupted_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "records"
    write_records(path, [record(1)])

    def interrupted():
        yield record(2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_records(path, interrupted())
    assert [r.image_id for r in RecordSet([path])] == [1]
    assert [p.name for p in tmp_path.iterdir()] == ["records"]
