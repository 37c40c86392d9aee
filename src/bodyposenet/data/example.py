"""`tf.train.Example` messages: features in, bytes out, and back.

    Example { Features = 1 }     Features { map<string, Feature> = 1 }
    Feature { BytesList = 1 | FloatList = 2 | Int64List = 3 }, each of them { repeated value = 1 }

The wire format is that of protocol buffers (protobuf.dev, "Encoding").
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

Features = dict[str, list[bytes] | list[float] | list[int]]
"""Name of a feature -> its values."""

_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5
"""Wire types."""

_BYTES_LIST, _FLOAT_LIST, _INT64_LIST = 1, 2, 3
"""Field numbers of the three kinds of feature."""


def encode_example(features: Mapping[str, bytes | int]) -> bytes:
    """Encode features of one value each, in the order of their names.

    Args:
        features: Name -> bytes, or an integer of 64 bits with sign.
    """
    entries = []
    for name, value in sorted(features.items()):
        if isinstance(value, bytes):
            feature = _close_field(_BYTES_LIST, _close_field(1, value))
        else:
            packed = _encode_varint(value % 2**64)
            feature = _close_field(_INT64_LIST, _close_field(1, packed))
        entries.append(_close_field(1, _close_field(1, name.encode()) + _close_field(2, feature)))
    return _close_field(1, b"".join(entries))


def _close_field(number: int, content: bytes) -> bytes:
    return bytes((number << 3 | _DELIMITED,)) + _encode_varint(len(content)) + content


def _encode_varint(number: int) -> bytes:
    """7 bits per byte, the lowest first; the highest bit says that more bytes follow."""
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def decode_example(message: bytes) -> Features:
    """Decode the features of an Example, whoever wrote it.

    Raises:
        ValueError: The bytes are no Example.
    """
    features: Features = {}
    try:
        at, end = 0, len(message)
        while at < end:
            _, entry, at = _open_field(message, at, end)
            while entry < at:
                _, start, entry = _open_field(message, entry, at)
                name, values = _decode_entry(message, start, entry)
                features[name] = values
    except (IndexError, struct.error) as error:
        raise ValueError("not a tf.train.Example") from error
    return features


def _decode_entry(message: bytes, at: int, end: int) -> tuple[str, list[Any]]:
    """Name and values of the map entry at message[at:end]."""
    name, values = "", []
    while at < end:
        field, start, at = _open_field(message, at, end)
        if field == 1:
            name = message[start:at].decode()
        elif field == 2 and start < at:
            kind, start, stop = _open_field(message, start, at)
            values = _decode_values(message, kind, start, stop)
    return name, values


def _decode_values(message: bytes, kind: int, at: int, end: int) -> list[Any]:
    """The values of the list at message[at:end]."""
    values = []
    while at < end:
        _, start, at = _open_field(message, at, end)
        values.append(message[start:at])
    if kind == _BYTES_LIST:
        return values
    packed = b"".join(values)
    if kind == _INT64_LIST:
        return _decode_integers(packed)
    return list(struct.unpack(f"<{len(packed) // 4}f", packed))


def _decode_integers(packed: bytes) -> list[int]:
    numbers, at = [], 0
    while at < len(packed):
        number, at = _decode_varint(packed, at)
        numbers.append(number - 2**64 if number >= 2**63 else number)
    return numbers


def _open_field(message: bytes, at: int, end: int) -> tuple[int, int, int]:
    """Number of the field that begins at message[at], start and stop of its content.

    A varint's content is its encoded bytes. Keys and lengths of one byte are read in place, not by
    `_decode_varint`: every training sample passes through here some fifty times.
    """
    key = message[at]
    start = at + 1
    wire_type = key & 7
    if key > 0x7F:
        key, start = _decode_varint(message, at)
    if wire_type == _DELIMITED:
        size = message[start]
        start += 1
        if size > 0x7F:
            size, start = _decode_varint(message, start - 1)
    elif wire_type == _VARINT:
        size = _decode_varint(message, start)[1] - start
    elif wire_type in (_FIXED64, _FIXED32):
        size = 8 if wire_type == _FIXED64 else 4
    else:
        raise ValueError(f"not a tf.train.Example: wire type {wire_type}")
    stop = start + size
    if stop > end:
        raise ValueError("not a tf.train.Example: a field runs over the end of its message")
    return key >> 3, start, stop


def _decode_varint(message: bytes, at: int) -> tuple[int, int]:
    """A number, and where the next one begins."""
    number, shift = 0, 0
    while True:
        byte = message[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte <= 0x7F:
            return number, at
        shift += 7
