"""Boxes of ISO base media files (ISO/IEC 14496-12): MP4 and MOV videos, AVIF and JPEG 2000 images.

A file is a row of boxes, each of a length, a kind of four letters and its content, which may be a
row of boxes again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

_WITH_VERSION = (b"meta",)
"""Kinds whose inner boxes follow four bytes of version and flags."""


class Box(NamedTuple):
    """One box.

    Args:
        kind: Four letters.
        content: What follows them.
    """

    kind: bytes
    content: memoryview


def boxes(content: bytes | memoryview) -> Iterator[Box]:
    """Yield the boxes that lie side by side, up to the first that is not there as a whole."""
    view, at = memoryview(content), 0
    while at + 8 <= len(view):
        length, kind, head = (
            int.from_bytes(view[at : at + 4], "big"),
            bytes(view[at + 4 : at + 8]),
            8,
        )
        if length == 1:
            length, head = int.from_bytes(view[at + 8 : at + 16], "big"), 16
        elif length == 0:  # up to the end
            length = len(view) - at
        if length < head or at + length > len(view):
            return
        yield Box(kind, view[at + head : at + length])
        at += length


def find_boxes(content: bytes | memoryview, *kinds: bytes) -> Iterator[memoryview]:
    """Yield the contents of all boxes of the last kind, within those of the kinds before."""
    for box in boxes(content):
        if box.kind != kinds[0]:
            continue
        inner = box.content[4:] if box.kind in _WITH_VERSION else box.content
        if len(kinds) == 1:
            yield inner
        else:
            yield from find_boxes(inner, *kinds[1:])
