"""The bytes of an image file in; what they tell without being decoded out: cut off? with EXIF?

A JPEG is a row of segments: a marker (FF and a code) and, for most, a length and so many bytes. Two
things stand in no segment: the data of a scan (up to the next marker, which they cannot contain),
and what cameras put behind the end of the image, such as the film of a motion photo.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_JPEG = b"\xff\xd8\xff"
_PNG, _END_OF_PNG = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"

_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
"""In a scan's data FF 00 stands for the byte FF, and FF D0 to FF D7 are restart markers."""

_END_OF_IMAGE, _START_OF_SCAN, _APP1 = 0xD9, 0xDA, 0xE1
_WITHOUT_LENGTH = (0x01, 0xD8, _END_OF_IMAGE)


def is_jpeg(content: bytes) -> bool:
    """Whether a file begins as a JPEG."""
    return content.startswith(_JPEG)


def is_cut_off(content: bytes) -> bool:
    """Whether a JPEG or PNG lacks its end: OpenCV fills a JPEG's rest with gray and says nothing.

    Args:
        content: The whole file; of another format, it is not cut off.
    """
    if is_jpeg(content):
        return all(code != _END_OF_IMAGE for code, _ in _segments(content))
    return content.startswith(_PNG) and _END_OF_PNG not in content


def has_exif(content: bytes) -> bool:
    """Whether a JPEG has EXIF data, which may say that it is to be turned.

    Args:
        content: The file, or its beginning up to the first scan.
    """
    for code, place in _segments(content):
        if code == _START_OF_SCAN:
            return False
        if code == _APP1 and content.startswith(b"Exif\0\0", place + 2):
            return True
    return False


def _segments(jpeg: bytes) -> Iterator[tuple[int, int]]:
    """The code of each marker up to the end of the image, and the place behind the marker."""
    at = 2
    while found := _MARKER.search(jpeg, at):
        code, at = found[1][0], found.end()
        yield code, at
        if code == _END_OF_IMAGE:
            return
        if code not in _WITHOUT_LENGTH:
            at += int.from_bytes(jpeg[at : at + 2], "big")
