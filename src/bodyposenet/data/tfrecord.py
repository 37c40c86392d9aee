"""TFRecord files: messages in, frames with checksums out, and back.

A file is a row of frames: 8 bytes length, 4 bytes CRC of the length, the message, 4 bytes CRC of
the message; all little-endian (tensorflow.org, "TFRecord and tf.train.Example").
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from bodyposenet.errors import BodyPoseNetError

_HEADER = struct.Struct("<QI")
_CRC = struct.Struct("<I")


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
        (N, 2) the offset of each message in the file, and its length, in bytes.

    Raises:
        BodyPoseNetError: The file is missing, no TFRecord file, cut off or damaged.
    """
    frames: list[tuple[int, int]] = []
    try:
        size, at = path.stat().st_size, 0
        with open(path, "rb") as file:
            while at < size:
                file.seek(at)
                length = _frame_length(path, at, file.read(_HEADER.size))
                frames.append((at + _HEADER.size, length))
                at += _HEADER.size + length + _CRC.size
    except OSError as error:
        raise _unreadable(path, error) from error
    if at > size:
        raise _cut_off(path, frames[-1][0] - _HEADER.size)
    return np.array(frames, np.int64).reshape(-1, 2)


def read_frame(path: Path, offset: int, length: int) -> bytes:
    """Read one message, checking its CRC.

    Args:
        path: A TFRecord file.
        offset: Of the message, from `scan_frames`.
        length: Of the message, from `scan_frames`.

    Raises:
        BodyPoseNetError: The file is gone, cut off or damaged.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            file.seek(offset)
            frame = file.read(length + _CRC.size)
    except OSError as error:
        raise _unreadable(path, error) from error
    return _checked(path, offset, length, frame)


def read_frames(path: Path) -> Iterator[tuple[int, bytes]]:
    """Read a file from its beginning, checking all CRCs.

    Yields:
        The offset of each message, and the message.

    Raises:
        BodyPoseNetError: The file is missing, no TFRecord file, cut off or damaged.
    """
    at = 0
    try:
        with open(path, "rb") as file:
            while header := file.read(_HEADER.size):
                length = _frame_length(path, at, header)
                offset = at + _HEADER.size
                yield offset, _checked(path, offset, length, file.read(length + _CRC.size))
                at = offset + length + _CRC.size
    except OSError as error:
        raise _unreadable(path, error) from error


def _frame_length(path: Path, at: int, header: bytes) -> int:
    if len(header) < _HEADER.size:
        raise _cut_off(path, at)
    length, crc = _HEADER.unpack(header)
    if masked_crc(header[:8]) == crc:
        return length
    if at == 0:
        raise BodyPoseNetError(
            f"{path}: is no TFRecord file, or damaged: wrong CRC at byte 0",
            "Give a file that dataset_convert wrote; compressed files must be unpacked.",
        )
    raise _damaged(path, at)


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
