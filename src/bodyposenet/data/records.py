"""Training records in TFRecord files: `Record` <-> `tf.train.Example` (reference 3.5).

Reads the files of TAO's own dataset_convert as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bodyposenet.data.example import Features, decode_example, encode_example
from bodyposenet.data.tfrecord import encode_frame, read_frame, read_frames, scan_frames
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import replacing
from bodyposenet.types import Record


def encode_record(record: Record) -> bytes:
    """The `tf.train.Example` of a record; arrays are bytes of little-endian float64, C order."""
    return encode_example(
        {
            "frame/image_id": record.image_id,
            "frame/height": record.height,
            "frame/width": record.width,
            "frame/image_path": record.image_path.encode(),
            "frame/mask_path": record.mask_path.encode(),
            "dataset": record.dataset.encode(),
            "person/joints": record.joints.astype("<f8").tobytes(),
            "person/scales": record.scales.astype("<f8").tobytes(),
            "person/centers": record.centers.astype("<f8").tobytes(),
            "person/person_idx": record.person_index,
            "person/num_other_people": len(record.scales) - 1,
        }
    )


def decode_record(message: bytes) -> Record:
    """The record in a `tf.train.Example`.

    `person/person_idx` and `person/num_other_people` may be absent.

    Raises:
        ValueError: The bytes are no Example, or no record of body poses.
    """
    features = decode_example(message)
    scales = _array(features, "person/scales")
    people = len(scales)
    try:
        joints = _array(features, "person/joints").reshape(people, -1, 3)
        centers = _array(features, "person/centers").reshape(people, 2)
    except ValueError as error:
        raise ValueError(f"joints and centers do not fit {people} scales") from error
    return Record(
        image_id=_integer(features, "frame/image_id"),
        image_path=_text(features, "frame/image_path"),
        mask_path=_text(features, "frame/mask_path"),
        height=_integer(features, "frame/height"),
        width=_integer(features, "frame/width"),
        dataset=_text(features, "dataset"),
        joints=joints,
        scales=scales,
        centers=centers,
        person_index=_integer(features, "person/person_idx", default=0),
    )


def _array(features: Features, name: str) -> NDArray[np.float64]:
    values = np.frombuffer(_bytes(features, name), "<f8").astype(np.float64)
    if not len(values):
        raise ValueError(f"{name} is empty")
    return values


def _text(features: Features, name: str) -> str:
    return _bytes(features, name).decode()


def _bytes(features: Features, name: str) -> bytes:
    values = features.get(name)
    if not values or not isinstance(values[0], bytes):
        raise ValueError(f"it has no bytes feature {name}")
    return values[0]


def _integer(features: Features, name: str, default: int | None = None) -> int:
    values = features.get(name)
    if not values and default is not None:
        return default
    if not values or not isinstance(values[0], int):
        raise ValueError(f"it has no integer feature {name}")
    return values[0]


def write_records(path: Path, records: Iterable[Record]) -> int:
    """Write a TFRecord file, replacing the old one at once.

    Returns:
        How many records it holds.

    Raises:
        BodyPoseNetError: The file cannot be written.
    """
    count = 0
    with replacing(path, durable=True) as file:
        for record in records:
            file.write(encode_frame(encode_record(record)))
            count += 1
    return count


def read_records(path: Path) -> Iterator[Record]:
    """Read the records of a TFRecord file from its beginning.

    Raises:
        BodyPoseNetError: The file is missing, no TFRecord file, damaged, or holds other things.
    """
    for offset, message in read_frames(path):
        yield _decoded(path, offset, message)


class RecordSet(Sequence[Record]):
    """The records of several TFRecord files, in their order, read when they are asked for.

    It holds offsets only (20 bytes per record), so it is cheap to keep and to send to workers.

    Args:
        paths: TFRecord files.

    Raises:
        BodyPoseNetError: A file is missing, no TFRecord file, cut off or damaged.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)
        frames = [scan_frames(path) for path in self.paths]
        counts = [len(found) for found in frames]
        self._file = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        self._frame = np.concatenate([*frames, np.empty((0, 2), np.int64)])

    def __len__(self) -> int:
        return len(self._file)

    def __getitem__(self, index: int) -> Record:  # type: ignore[override]  # no slices
        """Read a record.

        Raises:
            BodyPoseNetError: The file is gone or damaged, or holds other things than records.
        """
        path = self.paths[self._file[index]]
        offset, length = map(int, self._frame[index])
        return _decoded(path, offset, read_frame(path, offset, length))


def _decoded(path: Path, offset: int, message: bytes) -> Record:
    try:
        return decode_record(message)
    except ValueError as error:
        raise BodyPoseNetError(
            f"{path}: the record at byte {offset} is no record of body poses: {error}",
            "Give a file that dataset_convert wrote.",
        ) from error
