"""TFRecord files: messages in, frames with checksums out, and back.

A file is a row of frames: 8 bytes length, 4 bytes CRC of the length, the message, 4 bytes CRC of
the message; all little-endian (tensorflow.org, "TFRecord and tf.train.Example").
"""

from __future__ import annotations

import io
import os
import struct
from array import array
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import BinaryIO

import google_crc32c
import numpy as np
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
