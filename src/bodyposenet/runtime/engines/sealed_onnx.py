"""Sealed exports, `.etlt`: the content of an ONNX file in our container, closed with a key."""

from __future__ import annotations

import json
from pathlib import Path

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.runtime.engines.onnx_metadata import read_header
from bodyposenet.sealing import read_container, write_container

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
        BodyPoseNetError: The file cannot be opened (see `sealing`), or holds something else.
    """
    header, content = read_container(path, key)
    if header.get("kind") != _KIND:
        raise BodyPoseNetError(
            f"{path}: holds no sealed ONNX file, but {header.get('kind', 'something else')}",
            "Give an .etlt file as `bpnet export` wrote it.",
        )
    return content
