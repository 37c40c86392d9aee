"""Metadata of ONNX files, and encrypted ONNX files (`.etlt`), without the `onnx` package.

An ONNX file is a protocol buffers message, `ModelProto`: a sequence of fields, each a tag (number
and wire type of the field) and a value (protobuf.dev, "Encoding"). Only the metadata is parsed; the
network is skipped.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator
from pathlib import Path

from bodyposenet.encryption import METADATA_KEY, read_container, write_container
from bodyposenet.errors import BodyPoseNetError

_GRAPH = 7
_METADATA_PROPS = 14
"""`ModelProto.metadata_props`; each entry has a key (field 1) and a value (field 2)."""

_VARINT, _BYTES = 0, 2
_MAX_VARINT_BYTES = 10
_SIZES = {1: 8, 5: 4}
"""Bytes of a value by wire type, for wire types of fixed size."""
_KIND = "onnx"
"""Kind of content in the header of an `.etlt` file."""


def read_header(path: str | Path, content: bytes) -> str | None:
    """Read the model header from the metadata of an ONNX file.

    Args:
        path: Path of the file, for error messages.
        content: Content of the file.

    Returns:
        The header as JSON, or None if there is none, as in NVIDIA's own files.

    Raises:
        BodyPoseNetError: The content is not an ONNX model.
    """
    try:
        for number, field in _fields(memoryview(content)):
            if number == _METADATA_PROPS:
                entry = dict(_fields(field))
                if bytes(entry.get(1, b"")).decode() == METADATA_KEY:
                    return bytes(entry.get(2, b"")).decode()
    except (ValueError, IndexError) as error:
        raise _invalid_onnx_error(path) from error
    return None


def check_onnx(path: Path) -> None:
    """Check quickly that a file is an ONNX model, without reading its network.

    Raises:
        BodyPoseNetError: The file is not an ONNX model.
    """
    try:
        with open(path, "rb") as file:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        if any(number == _GRAPH for number, _ in _fields(content)):
            return
    except OSError:  # cannot be mapped: the runtime reads it by other means or raises an error
        return
    except (ValueError, IndexError):  # mmap of an empty file is a ValueError, too
        pass
    raise _invalid_onnx_error(path)


def _invalid_onnx_error(path: str | Path) -> BodyPoseNetError:
    """Create the error for a file that is not an ONNX model."""
    return BodyPoseNetError(
        f"{path}: not an ONNX file, or damaged", "Export the model again (bpnet export)."
    )


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield the numbers and values of the fields of a message; varints stay encoded.

    Raises:
        ValueError: This is not a message.
        IndexError: The message is truncated.
    """
    start = 0
    while start < len(message):
        tag, start = _varint(message, start)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == _VARINT:
            _, end = _varint(message, start)
        elif wire_type == _BYTES:
            size, start = _varint(message, start)
            end = start + size
        elif wire_type in _SIZES:
            end = start + _SIZES[wire_type]
        else:
            raise ValueError(f"unknown wire type {wire_type}")
        if end > len(message):
            raise IndexError(end)
        yield number, message[start:end]
        start = end


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Decode the varint at a position. Returns its value and the position after it.

    Raises:
        ValueError: The varint is too long.
        IndexError: The message is truncated.
    """
    value = 0
    for shift in range(0, 7 * _MAX_VARINT_BYTES, 7):
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a varint of more than 64 bits")


def write_etlt(path: str | Path, content: bytes, key: str = "") -> None:
    """Write an `.etlt` file: an encrypted ONNX file.

    Args:
        path: Path of the file.
        content: Content of the ONNX file. Its model header is copied unencrypted.
        key: Encryption key, or empty for an unencrypted container.

    Raises:
        BodyPoseNetError: The content is not an ONNX model, or the file cannot be written.
    """
    header = json.loads(read_header(path, content) or "{}")
    write_container(path, header | {"kind": _KIND}, content, key)


def read_etlt(path: str | Path, key: str = "") -> bytes:
    """Read the ONNX file in an `.etlt` file.

    Args:
        path: Path of the file.
        key: Encryption key, or empty for an unencrypted container.

    Returns:
        Content of the ONNX file.

    Raises:
        BodyPoseNetError: The file cannot be opened (see `encryption`) or is not an `.etlt` file.
    """
    header, content = read_container(path, key)
    if header.get("kind") != _KIND:
        raise BodyPoseNetError(
            f"{path}: not an encrypted ONNX file; its content: {header.get('kind', 'unknown')}",
            "Use an .etlt file written by `bpnet export`.",
        )
    return content
