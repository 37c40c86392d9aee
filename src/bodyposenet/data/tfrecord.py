"""TFRecord files: messages in, frames with checksums out, and back.

A file is a row of frames: 8 bytes length, 4 bytes CRC of the length, the message, 4 bytes CRC of
the message; all little-endian (tensorflow.org, "TFRecord and tf.train.Example").
"""

from __future__ import annotations

import io
import os
import struct
from array import array
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

import google_crc32c
import numpy as np
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from numpy.typing import NDArray

from bodyposenet.errors import BodyPoseNetError

_HEADER = struct.Struct("<QI")
_CRC = struct.Struct("<I")
_OVERHEAD = _HEADER.size + _CRC.size

_BUFFER = 2**18
"""Bytes that are read at once from the beginning of a file to its end."""
_MOST_OPEN_FILES = 64
"""macOS lets a process open 256."""


def masked_crc(data: bytes) -> int:
    """TFRecord's checksum: CRC-32C, rotated by 15 bits, plus a constant."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def encode_frame(message: bytes) -> bytes:
    """The frame of one message."""
    length = struct.pack("<Q", len(message))
    crcs = _CRC.pack(masked_crc(length)), _CRC.pack(masked_crc(message))
    return b"".join((length, crcs[0], message, crcs[1]))


def scan_frames(path: Path) -> NDArray[np.int64]:
    """Find the messages of a file, checking the CRC of every length.

    Args:
        path: A TFRecord file.

    Returns:
        (N + 1,) the offset of each message in the file, and that of a message behind the last one,
        in bytes. So the length of message i is the distance to the next one less 16.

    Raises:
        BodyPoseNetError: The file is missing, no TFRecord file, cut off or damaged.
    """
    offsets = array("q", [_HEADER.size])
    try:
        with open(path, "rb", buffering=_BUFFER) as file:
            for offset, length in _walk_frames(path, file):
                offsets.append(offset + length + _OVERHEAD)
                file.seek(length + _CRC.size, os.SEEK_CUR)
    except OSError as error:
        raise _unreadable(path, error) from error
    return np.array(offsets, np.int64)


class FrameReader:
    """Reads single messages of TFRecord files, in any order.

    The files that it read last stay open, a bounded number of them. It travels to other processes.
    """

    def __init__(self) -> None:
        self._open = lru_cache(_MOST_OPEN_FILES)(_OpenFile)

    def __reduce__(self) -> tuple[type[FrameReader], tuple[()]]:
        """Another process opens the files for itself."""
        return FrameReader, ()

    def read(self, path: Path, offset: int, next_offset: int) -> bytes:
        """Read one message, checking its CRC.

        Args:
            path: A TFRecord file.
            offset: Of the message, from `scan_frames`.
            next_offset: Of the message behind it.

        Raises:
            BodyPoseNetError: The file is gone, cut off or damaged.
        """
        length = next_offset - offset - _OVERHEAD
        try:
            frame = self._open(path).read_at(offset, length + _CRC.size)
        except OSError as error:
            raise _unreadable(path, error) from error
        return _checked(path, offset, length, frame)


class _OpenFile(io.FileIO):
    """A file that is closed when nobody holds it any more."""

    def __init__(self, path: Path) -> None:
        self._turn = Lock()
        super().__init__(path)

    def __del__(self) -> None:
        self.close()

    def read_at(self, offset: int, size: int) -> bytes:
        """Read some bytes; a process that was forked off may read of the same file meanwhile."""
        if hasattr(os, "pread"):
            return os.pread(self.fileno(), size, offset)
        with self._turn:  # Windows: has no pread, but no forks either
            self.seek(offset)
            return self.read(size)


def read_frames(path: Path) -> Iterator[tuple[int, bytes]]:
    """Read a file from its beginning, checking all CRCs.

    Yields:
        The offset of each message, and the message.

    Raises:
        BodyPoseNetError: The file is missing, no TFRecord file, cut off or damaged.
    """
    try:
        with open(path, "rb", buffering=_BUFFER) as file:
            for offset, length in _walk_frames(path, file):
                yield offset, _checked(path, offset, length, file.read(length + _CRC.size))
    except OSError as error:
        raise _unreadable(path, error) from error


def _walk_frames(path: Path, file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Offset and length of each message; whoever takes them moves the file behind its CRC."""
    at, size = 0, path.stat().st_size
    while header := file.read(_HEADER.size):
        length = _length_in(header)
        if length is None or at + _OVERHEAD + length > size:
            raise _broken_frame(path, at, header)
        yield at + _HEADER.size, length
        at += _OVERHEAD + length


@lru_cache(2**14)
def _length_in(header: bytes) -> int | None:
    """The length that a header tells; None where it is cut off or its CRC is wrong.

    It remembers them: many records have the same length, and their headers are the same.
    """
    if len(header) < _HEADER.size:
        return None
    length, crc = _HEADER.unpack(header)
    return length if masked_crc(header[:8]) == crc else None


def _broken_frame(path: Path, at: int, header: bytes) -> BodyPoseNetError:
    """What is wrong with a frame whose header tells no length, or more than the file holds."""
    if len(header) < _HEADER.size or _length_in(header) is not None:
        return _cut_off(path, at)
    if at == 0:
        return BodyPoseNetError(
            f"{path}: is no TFRecord file, or damaged: wrong CRC at byte 0",
            "Give a file that dataset_convert wrote; compressed files must be unpacked.",
        )
    return _damaged(path, at)


def _checked(path: Path, offset: int, length: int, frame: bytes) -> bytes:
    if len(frame) < length + _CRC.size:
        raise _cut_off(path, offset - _HEADER.size)
    message = frame[:length]
    if masked_crc(message) != _CRC.unpack_from(frame, length)[0]:
        raise _damaged(path, offset)
    return message


def _unreadable(path: Path, error: OSError) -> BodyPoseNetError:
    return BodyPoseNetError(
        f"{path}: cannot be read: {error.strerror or error}",
        "Name the files that dataset_convert wrote.",
    )


def _cut_off(path: Path, at: int) -> BodyPoseNetError:
    return BodyPoseNetError(
        f"{path}: is cut off: it ends within the record at byte {at}",
        "Copy the file again, or convert the dataset again.",
    )


def _damaged(path: Path, at: int) -> BodyPoseNetError:
    return BodyPoseNetError(
        f"{path}: is damaged: wrong CRC at byte {at}",
        "Copy the file again, or convert the dataset again.",
    )


_PACKAGE = "tensorflow"

_KINDS = {
    "bytes_list": ("BytesList", FieldDescriptorProto.TYPE_BYTES),
    "float_list": ("FloatList", FieldDescriptorProto.TYPE_FLOAT),
    "int64_list": ("Int64List", FieldDescriptorProto.TYPE_INT64),
}
"""Kinds of features in the order of their numbers: the message and the type of its values."""


class Features:
    """The features of an Example, whoever wrote it.

    Args:
        message: A serialized Example.

    Raises:
        ValueError: The bytes are no Example.
    """

    def __init__(self, message: bytes) -> None:
        try:
            self._features = _Example.FromString(message).features.feature
        except DecodeError as error:
            raise ValueError("not a tf.train.Example") from error

    def __contains__(self, name: str) -> bool:
        return name in self._features

    def content(self, name: str) -> bytes:
        """The first value of a feature of bytes.

        Raises:
            ValueError: There is no such feature, or it holds no bytes.
        """
        # A name that is not there gives an empty feature: quicker than to look twice.
        values = self._features[name].bytes_list.value
        if not values:
            raise ValueError(f"it has no bytes feature {name}")
        return values[0]

    def integer(self, name: str) -> int:
        """The first value of a feature of integers.

        Raises:
            ValueError: There is no such feature, or it holds no integers.
        """
        values = self._features[name].int64_list.value
        if not values:
            raise ValueError(f"it has no integer feature {name}")
        return values[0]


def encode_example(features: Mapping[str, bytes | int]) -> bytes:
    """Encode features of one value each, in the order of their names.

    Args:
        features: Name -> bytes, or an integer of 64 bits with sign. No name begins with another:
            protocol buffers have no one order for these.
    """
    example = _Example()
    for name, value in features.items():
        feature = example.features.feature[name]
        kind = feature.bytes_list if isinstance(value, bytes) else feature.int64_list
        kind.value.append(value)
    return example.SerializeToString(deterministic=True)


def _describe_messages() -> FileDescriptorProto:
    """What TensorFlow's example.proto and feature.proto say."""
    file = FileDescriptorProto(name="example.proto", package=_PACKAGE, syntax="proto3")
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, (kind, (message, type_of_value)) in enumerate(_KINDS.items(), 1):
        _add_field(file.message_type.add(name=message), "value", 1, type_of_value, repeated=True)
        _add_field(feature, kind, number, message).oneof_index = 0
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    _add_field(entry, "key", 1, FieldDescriptorProto.TYPE_STRING)
    _add_field(entry, "value", 2, "Feature")
    _add_field(features, "feature", 1, "Features.FeatureEntry", repeated=True)
    _add_field(file.message_type.add(name="Example"), "features", 1, "Features")
    return file


def _add_field(
    message: Any, name: str, number: int, kind: str | int, *, repeated: bool = False
) -> FieldDescriptorProto:
    """Describe a field: `kind` is the name of a message, or a type of protocol buffers."""
    label = "REPEATED" if repeated else "OPTIONAL"
    field = message.field.add(name=name, number=number, label=f"LABEL_{label}")
    if isinstance(kind, str):
        field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
    else:
        field.type = kind
    return field


def _example_class() -> Any:
    pool = DescriptorPool()
    pool.AddSerializedFile(_describe_messages().SerializeToString())
    return GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Example"))


_Example = _example_class()
