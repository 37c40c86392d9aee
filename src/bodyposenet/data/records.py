"""Read and write training records in TFRecord files.

Each record is a `tf.train.Example` in TAO's format (TAO reference, section 3.5); files that TAO's
own dataset_convert wrote can be read as well.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bodyposenet.data.tfrecord import (
    Features,
    FrameReader,
    encode_example,
    encode_frame,
    read_frames,
    scan_frames,
)
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import atomic_write
from bodyposenet.types import Record


def encode_record(record: Record) -> bytes:
    """Serialize a record as `tf.train.Example`; arrays are bytes of little-endian float64."""
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
    """Parse a record.

    Args:
        message: A serialized `tf.train.Example`; the features `person/person_idx` and
            `person/num_other_people` are optional.

    Returns:
        The record.

    Raises:
        ValueError: The bytes are not an Example, or the Example is not a training record.
    """
    features = Features(message)
    scales = _floats(features, "person/scales")
    people = len(scales)
    try:
        joints = _floats(features, "person/joints").reshape(people, -1, 3)
        centers = _floats(features, "person/centers").reshape(people, 2)
    except ValueError as error:
        raise ValueError(f"numbers of joints and centers do not match {people} scales") from error
    return Record(
        image_id=features.integer("frame/image_id"),
        image_path=features.content("frame/image_path").decode(),
        mask_path=features.content("frame/mask_path").decode(),
        height=features.integer("frame/height"),
        width=features.integer("frame/width"),
        dataset=features.content("dataset").decode(),
        joints=joints,
        scales=scales,
        centers=centers,
        person_index=(
            features.integer("person/person_idx") if "person/person_idx" in features else 0
        ),
    )


def _floats(features: Features, name: str) -> NDArray[np.float64]:
    """Return the float64 values in a bytes feature."""
    content = features.content(name)
    if not content:
        raise ValueError(f"{name} is empty")
    return np.frombuffer(bytearray(content), "<f8")  # bytearray: the array is writable


def write_records(path: Path, records: Iterable[Record]) -> int:
    """Write a TFRecord file, atomically replacing an existing one.

    Args:
        path: The file.
        records: Records to write.

    Returns:
        Number of records written.

    Raises:
        BodyPoseNetError: The file cannot be written.
    """
    count = 0
    with atomic_write(path, durable=True) as file:
        for record in records:
            file.write(encode_frame(encode_record(record)))
            count += 1
    return count


def read_records(path: Path) -> Iterator[Record]:
    """Read the records of a TFRecord file in order.

    Args:
        path: The file.

    Yields:
        The records.

    Raises:
        BodyPoseNetError: The file is missing, damaged, not a TFRecord file, or does not contain
            training records.
    """
    for offset, message in read_frames(path):
        yield _decoded(path, offset, message)


class RecordSet(Sequence[Record]):
    """Random access to the records of several TFRecord files; records are read on access.

    Only offsets are kept in memory (8 bytes per record, once per file), so that a set is cheap to
    pickle and send to worker processes.

    Args:
        paths: TFRecord files; a file that is listed twice contributes its records twice.

    Raises:
        BodyPoseNetError: A file is missing, truncated, damaged or not a TFRecord file.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)
        self._offsets = {path: scan_frames(path) for path in dict.fromkeys(self.paths)}
        counts = (len(self._offsets[path]) - 1 for path in self.paths)
        self._starts = array("q", accumulate(counts, initial=0))
        self._reader = FrameReader()

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index: int) -> Record:  # type: ignore[override]  # no slices
        """Read a record.

        Raises:
            BodyPoseNetError: The file is missing or damaged, or does not contain training records.
        """
        index = range(len(self))[index]
        number = bisect_right(self._starts, index) - 1
        path, position = self.paths[number], index - self._starts[number]
        offset, next_offset = self._offsets[path][position : position + 2].tolist()
        return _decoded(path, offset, self._reader.read(path, offset, next_offset))


def _decoded(path: Path, offset: int, message: bytes) -> Record:
    """Parse a record; errors name the file and the position."""
    try:
        return decode_record(message)
    except ValueError as error:
        raise BodyPoseNetError(
            f"{path}: record at byte {offset} is not a training record: {error}",
            "Use a file that dataset_convert wrote.",
        ) from error
