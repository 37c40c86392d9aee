"""The metadata of an ONNX file; the network in it is skipped unread.

An ONNX file is a protocol buffers message, `ModelProto`: fields one after the other, each a tag,
which holds its number and its kind, and a value (protobuf.dev, "Encoding").
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
"""`ModelProto.metadata_props`; its entries have a key, field 1, and a value, field 2."""

_VARINT, _BYTES = 0, 2
_MOST_VARINT_BYTES = 10
_SIZES = {1: 8, 5: 4}
"""Kind of a field -> bytes of its value, where that is always the same."""


def read_header(path: str | Path, content: bytes) -> str | None:
    """What an ONNX file says of its model, as JSON; None: nothing.

    Args:
        path: The file, for errors.
        content: What it holds.

    Raises:
        BodyPoseNetError: It is no ONNX.
    """
    try:
        for number, field in _fields(memoryview(content)):
            if number == _METADATA_PROPS:
                entry = dict(_fields(field))
                if bytes(entry.get(1, b"")).decode() == METADATA_KEY:
                    return bytes(entry.get(2, b"")).decode()
    except (ValueError, IndexError) as error:
        raise _broken(path) from error
    return None


def check_onnx(path: Path) -> None:
    """Check that a file has the outline of an ONNX model, in little time: its network stays unread.

    Raises:
        BodyPoseNetError: It has not.
    """
    try:
        with open(path, "rb") as file:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        if any(number == _GRAPH for number, _ in _fields(content)):
            return
    except OSError:  # it cannot be mapped; the runtime reads it by other means, or reports why not
        return
    except (ValueError, IndexError):  # ValueError: of an empty file, too
        pass
    raise _broken(path)


def _broken(path: str | Path) -> BodyPoseNetError:
    return BodyPoseNetError(
        f"{path}: not an ONNX file, or damaged", "Export the model again (bpnet export)."
    )


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Numbers of the fields and their values; those that are whole numbers stay encoded.

    Raises:
        ValueError: It is no message.
        IndexError: The message is cut short.
    """
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            _, end = _varint(message, place)
        elif kind == _BYTES:
            size, place = _varint(message, place)
            end = place + size
        elif kind in _SIZES:
            end = place + _SIZES[kind]
        else:
            raise ValueError(f"a field of kind {kind}")
        if end > len(message):
            raise IndexError(end)
        yield number, message[place:end]
        place = end


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """A number of seven bits to the byte, the lowest first, and the place behind it.

    Raises:
        ValueError: It is too long.
        IndexError: The message is cut short.
    """
    value = 0
    for shift in range(0, 7 * _MOST_VARINT_BYTES, 7):
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError("a number of more than 64 bits")


_KIND = "onnx"


def write_etlt(path: str | Path, content: bytes, key: str = "") -> None:
    """Write a sealed export.

    Args:
        path: The file.
        content: Of an ONNX file; its header stays readable without the key.
        key: Any text; empty: a plain container.

    Raises:
        BodyPoseNetError: The content is no ONNX, or the file cannot be written.
    """
    header = json.loads(read_header(path, content) or "{}")
    write_container(path, header | {"kind": _KIND}, content, key)


def read_etlt(path: str | Path, key: str = "") -> bytes:
    """The content of the ONNX file that `write_etlt` closed.

    Raises:
        BodyPoseNetError: The file cannot be opened (see `encryption`), or holds something else.
    """
    header, content = read_container(path, key)
    if header.get("kind") != _KIND:
        raise BodyPoseNetError(
            f"{path}: holds no sealed ONNX file, but {header.get('kind', 'something else')}",
            "Give an .etlt file as `bpnet export` wrote it.",
        )
    return content
