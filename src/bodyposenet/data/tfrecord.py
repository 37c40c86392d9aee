"""Read and write TFRecord files and `tf.train.Example` messages without TensorFlow.

A TFRecord file is a sequence of frames, all little-endian: 8 bytes length, 4 bytes CRC of the
length, the message, 4 bytes CRC of the message (tensorflow.org, "TFRecord and tf.train.Example").
The messages here are `Example` protocol buffers, whose descriptors are built in this module.
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
"""Buffer size in bytes for sequential reads."""
_MAX_OPEN_FILES = 64
"""Well below the limit of macOS, 256 per process."""

_PACKAGE = "tensorflow"
_KINDS = {
    "bytes_list": ("BytesList", FieldDescriptorProto.TYPE_BYTES),
    "float_list": ("FloatList", FieldDescriptorProto.TYPE_FLOAT),
    "int64_list": ("Int64List", FieldDescriptorProto.TYPE_INT64),
}
"""Message name and value type of each kind of feature, in the order of the field numbers."""


def masked_crc(data: bytes) -> int:
    """Compute TFRecord's checksum: CRC-32C, rotated right by 15 bits, plus a constant."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def encode_frame(message: bytes) -> bytes:
    """Encode a message as a TFRecord frame."""
    length = struct.pack("<Q", len(message))
    crcs = _CRC.pack(masked_crc(length)), _CRC.pack(masked_crc(message))
    return b"".join((length, crcs[0], message, crcs[1]))


def scan_frames(path: Path) -> NDArray[np.int64]:
    """Find the messages of a file, and check the CRC of each length.

    Args:
        path: A TFRecord file.

    Returns:
        (N + 1,) int64: byte offsets of the N messages, and the offset of a message appended to the
        file. The length of message i is offsets[i + 1] - offsets[i] - 16.

    Raises:
        BodyPoseNetError: The file is missing, truncated, damaged or not a TFRecord file.
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
    """Random access to the messages of TFRecord files.

    The most recently used files stay open, up to a limit. A reader can be pickled.
    """

    def __init__(self) -> None:
        self._open = lru_cache(_MAX_OPEN_FILES)(_OpenFile)

    def __reduce__(self) -> tuple[type[FrameReader], tuple[()]]:
        """Pickle without the open files; another process opens its own."""
        return FrameReader, ()

    def read(self, path: Path, offset: int, next_offset: int) -> bytes:
        """Read one message, and check its CRC.

        Args:
            path: A TFRecord file.
            offset: Offset of the message, from `scan_frames`.
            next_offset: Offset of the next message.

        Returns:
            The message.

        Raises:
            BodyPoseNetError: The file is missing, truncated or damaged.
        """
        length = next_offset - offset - _OVERHEAD
        try:
            frame = self._open(path).read_at(offset, length + _CRC.size)
        except OSError as error:
            raise _unreadable(path, error) from error
        return _checked(path, offset, length, frame)


class _OpenFile(io.FileIO):
    """A file that is closed when it is garbage-collected."""

    def __init__(self, path: Path) -> None:
        self._lock = Lock()
        super().__init__(path)

    def __del__(self) -> None:
        self.close()

    def read_at(self, offset: int, size: int) -> bytes:
        """Read bytes at an offset; safe if forked processes share the file."""
        if hasattr(os, "pread"):
            return os.pread(self.fileno(), size, offset)
        with self._lock:  # Windows has neither pread nor fork
            self.seek(offset)
            return self.read(size)


def read_frames(path: Path) -> Iterator[tuple[int, bytes]]:
    """Read all messages of a file in order, and check all CRCs.

    Args:
        path: A TFRecord file.

    Yields:
        Offset and content of each message.

    Raises:
        BodyPoseNetError: The file is missing, truncated, damaged or not a TFRecord file.
    """
    try:
        with open(path, "rb", buffering=_BUFFER) as file:
            for offset, length in _walk_frames(path, file):
                yield offset, _checked(path, offset, length, file.read(length + _CRC.size))
    except OSError as error:
        raise _unreadable(path, error) from error


def _walk_frames(path: Path, file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Yield offset and length of each message; the caller must seek to the end of its CRC."""
    position, size = 0, path.stat().st_size
    while header := file.read(_HEADER.size):
        length = _parse_length(header)
        if length is None or position + _OVERHEAD + length > size:
            raise _frame_error(path, position, header)
        yield position + _HEADER.size, length
        position += _OVERHEAD + length


@lru_cache(2**14)
def _parse_length(header: bytes) -> int | None:
    """Return the length in a header, or None if the header is truncated or its CRC is wrong.

    Cached, because many records have the same length and thus the same header.
    """
    if len(header) < _HEADER.size:
        return None
    length, crc = _HEADER.unpack(header)
    return length if masked_crc(header[:8]) == crc else None


def _frame_error(path: Path, position: int, header: bytes) -> BodyPoseNetError:
    """Describe a frame whose header is invalid or exceeds the file."""
    if len(header) < _HEADER.size or _parse_length(header) is not None:
        return _truncated(path, position)
    if position == 0:
        return BodyPoseNetError(
            f"{path}: not a TFRecord file, or damaged: wrong CRC at byte 0",
            "Use a file that dataset_convert wrote; decompress it if it is compressed.",
        )
    return _damaged(path, position)


def _checked(path: Path, offset: int, length: int, frame: bytes) -> bytes:
    """Return the message of a frame after a check of its length and CRC."""
    if len(frame) < length + _CRC.size:
        raise _truncated(path, offset - _HEADER.size)
    message = frame[:length]
    if masked_crc(message) != _CRC.unpack_from(frame, length)[0]:
        raise _damaged(path, offset)
    return message


def _unreadable(path: Path, error: OSError) -> BodyPoseNetError:
    """Create an error about a file that cannot be read."""
    return BodyPoseNetError(
        f"{path}: cannot be read: {error.strerror or error}",
        "Check the path; use a file that dataset_convert wrote.",
    )


def _truncated(path: Path, position: int) -> BodyPoseNetError:
    """Create an error about a file that ends too early."""
    return BodyPoseNetError(
        f"{path}: truncated: the file ends within the record at byte {position}",
        "Copy the file again, or convert the dataset again.",
    )


def _damaged(path: Path, position: int) -> BodyPoseNetError:
    """Create an error about a wrong CRC."""
    return BodyPoseNetError(
        f"{path}: damaged: wrong CRC at byte {position}",
        "Copy the file again, or convert the dataset again.",
    )


class Features:
    """The features of a `tf.train.Example`.

    Args:
        message: A serialized Example of any writer.

    Raises:
        ValueError: The bytes are not an Example.
    """

    def __init__(self, message: bytes) -> None:
        try:
            self._features = _Example.FromString(message).features.feature
        except DecodeError as error:
            raise ValueError("not a tf.train.Example") from error

    def __contains__(self, name: str) -> bool:
        return name in self._features

    def content(self, name: str) -> bytes:
        """Return the first value of a bytes feature.

        Raises:
            ValueError: The feature is missing or of another type.
        """
        # A missing name gives an empty feature, which is faster than a check in advance.
        values = self._features[name].bytes_list.value
        if not values:
            raise ValueError(f"missing bytes feature {name}")
        return values[0]

    def integer(self, name: str) -> int:
        """Return the first value of an integer feature.

        Raises:
            ValueError: The feature is missing or of another type.
        """
        values = self._features[name].int64_list.value
        if not values:
            raise ValueError(f"missing integer feature {name}")
        return values[0]


def encode_example(features: Mapping[str, bytes | int]) -> bytes:
    """Serialize a `tf.train.Example` with features of one value each, sorted by name.

    Args:
        features: Bytes or signed 64-bit integers by name. No name should be a prefix of another,
            because protocol buffers do not define an order for such names.

    Returns:
        The serialized Example.
    """
    example = _Example()
    for name, value in features.items():
        feature = example.features.feature[name]
        kind = feature.bytes_list if isinstance(value, bytes) else feature.int64_list
        kind.value.append(value)
    return example.SerializeToString(deterministic=True)


def _describe_messages() -> FileDescriptorProto:
    """Build the descriptors of TensorFlow's example.proto and feature.proto."""
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
    """Add a field; `kind` is the name of a message or a scalar type of protocol buffers."""
    label = "REPEATED" if repeated else "OPTIONAL"
    field = message.field.add(name=name, number=number, label=f"LABEL_{label}")
    if isinstance(kind, str):
        field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
    else:
        field.type = kind
    return field


def _example_class() -> Any:
    """Build the class of `tf.train.Example` messages."""
    pool = DescriptorPool()
    pool.AddSerializedFile(_describe_messages().SerializeToString())
    return GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Example"))


_Example = _example_class()
