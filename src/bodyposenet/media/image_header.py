"""Encoded images: format, size, orientation and completeness, without decoding them.

Their size (so that a file of a few bytes cannot ask for gigabytes), whether the file is cut off,
and whether its content may be turned.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from bodyposenet.errors import BodyPoseNetError

MAX_PIXELS_VARIABLE = "BPNET_MAX_IMAGE_PIXELS"
"""Environment variable that sets another limit, for every process that reads images."""

_MAX_PIXELS = 128_000_000
"""Most pixels of an image: 384 MB as RGB."""

_JPEG = b"\xff\xd8\xff"
_PNG = b"\x89PNG\r\n\x1a\n"

_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
"""In a scan's data FF 00 stands for the byte FF, and FF D0 to FF D7 are restart markers."""

_END_OF_IMAGE, _START_OF_SCAN, _APP1 = 0xD9, 0xDA, 0xE1
_WITHOUT_LENGTH = (0x01, 0xD8, _END_OF_IMAGE)
_START_OF_FRAME = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}

_END_MARKER = bytes((0xFF, _END_OF_IMAGE))
_SCAN_DATA = bytes(0x5A ^ 29 * i % 127 for i in range(256))
"""Behind a scan that is there as a whole it changes nothing; where data are missing it takes their
place, and decodes to something else than what decoders fill in."""

_TIFF_FORMS: dict[bytes, tuple[Literal["little", "big"], int]] = {
    b"II*\0": ("little", 4), b"MM\0*": ("big", 4), b"II+\0": ("little", 8), b"MM\0+": ("big", 8),
}  # fmt: skip
"""Byte order, and bytes of a place in the file: 8 in BigTIFF."""
_TIFF_WIDTH, _TIFF_HEIGHT, _ORIENTATION = 256, 257, 274

_EXIF = b"Exif\0\0"

_TEXT_HEADERS = (
    re.compile(rb"P[1-6fF]\s+(?:#[^\n]*\n\s*)*(?P<width>\d{1,9})\s+(?P<height>\d{1,9})\s"),
    re.compile(
        rb"P7\s(?=(?:.*\n)*?WIDTH (?P<width>\d{1,9}))(?=(?:.*\n)*?HEIGHT (?P<height>\d{1,9}))"
    ),
    re.compile(rb"#\?(?:.*\n)*?[-+]Y (?P<height>\d{1,9}) [-+]X (?P<width>\d{1,9})\n"),
)
"""Netpbm and PFM, PAM, and Radiance HDR."""


def is_jpeg(content: bytes) -> bool:
    """Whether a file begins as a JPEG."""
    return content.startswith(_JPEG)


class Orientation(NamedTuple):
    """How an image is to be turned before it is shown, as its file states.

    Args:
        is_turned: It is rotated or mirrored.
        swaps_sides: Its height becomes its width.
    """

    is_turned: bool = False
    swaps_sides: bool = False


def orientation(content: bytes) -> Orientation:
    """Read how an image is turned by `decode`: by its EXIF data, or by AVIF's own properties.

    Args:
        content: The whole file; of a JPEG its beginning up to the first scan is enough.
    """
    if _is_avif(content):
        rotation, mirror = _avif_turn(content)
        return Orientation(bool(rotation) or mirror is not None, rotation % 2 == 1)
    try:
        exif = content if content[:4] in _TIFF_FORMS else _exif(content)
        value = 1 if exif is None else _tiff_tags(exif).get(_ORIENTATION, 1)
    except (IndexError, KeyError):
        return Orientation()
    return Orientation(2 <= value <= 8, 5 <= value <= 8)


def has_exif(content: bytes) -> bool:
    """Whether an image has EXIF data, which may state that it is to be turned.

    Args:
        content: As for `orientation`.
    """
    return _exif(content) is not None


def _exif(content: bytes) -> bytes | None:
    """The EXIF data of a JPEG, PNG or WebP, which are a TIFF without an image."""
    if is_jpeg(content):
        return _exif_of_jpeg(content)
    if content.startswith(_PNG):
        chunks = _png_chunks(content)
        return next((bytes(chunk) for kind, chunk in chunks if kind == b"eXIf"), None)
    if _is_webp(content):
        chunks = _webp_chunks(content)
        found = next((chunk for kind, chunk in chunks if kind == b"EXIF"), None)
        return None if found is None else found.removeprefix(_EXIF)
    return None


def _exif_of_jpeg(content: bytes) -> bytes | None:
    for code, place in _segments(content):
        if code == _START_OF_SCAN:
            return None
        if code == _APP1 and content.startswith(_EXIF, place + 2):
            length = int.from_bytes(content[place : place + 2], "big")
            return content[place + 2 + len(_EXIF) : place + length]
    return None


def has_end_marker(content: bytes) -> bool:
    """Whether complete files of this format end with a marker: JPEG or PNG."""
    return is_jpeg(content) or content.startswith(_PNG)


def with_end_marker(jpeg: bytes) -> bytes:
    """Append the end marker to a JPEG that holds none anywhere: the same object if it does.

    Whether rows are missing too is for a decoder to find out, or `with_end`.
    """
    return jpeg + _END_MARKER if jpeg.rfind(_END_MARKER) < 0 else jpeg


def with_end(content: bytes) -> bytes | None:
    """Complete a JPEG that lacks only its end marker, as some cameras and scrapers write it.

    Args:
        content: The whole file, of no more pixels than `check_size` allows.

    Returns:
        The content; the same object if nothing is missing, or the format is not JPEG or PNG. None
        if the file is cut off, so that rows are missing: OpenCV would fill those of a JPEG with
        gray.
    """
    if is_jpeg(content):
        if any(code == _END_OF_IMAGE for code, _ in _segments(content)):
            return content
        found = {_digest(content + data + _END_MARKER) for data in (b"", _SCAN_DATA)}
        has_all_rows = len(found) == 1 and None not in found
        return content + _END_MARKER if has_all_rows else None
    if content.startswith(_PNG) and all(kind != b"IEND" for kind, _ in _png_chunks(content)):
        return None
    return content


def _digest(content: bytes) -> bytes | None:
    """Of the pixels; None if the content cannot be decoded."""
    image = decode(content, cv2.IMREAD_COLOR)
    return None if image is None else hashlib.blake2b(image.data, digest_size=16).digest()


def decode(content: bytes, flags: int) -> NDArray[np.uint8] | None:
    """Decode an image with OpenCV.

    Args:
        content: The whole file.
        flags: Of `cv2.imdecode`; without IMREAD_IGNORE_ORIENTATION the image is turned as the file
            states, by its EXIF data or AVIF's own properties.

    Returns:
        The pixels, their channels in OpenCV's order; None if the content cannot be decoded.
    """
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error:  # an empty file, or more pixels than OpenCV allows
        return None
    if image is not None and _is_avif(content) and not flags & cv2.IMREAD_IGNORE_ORIENTATION:
        image = _turn_avif(image, content)  # type: ignore[arg-type]
    return image  # type: ignore[return-value]


def _is_avif(content: bytes) -> bool:
    return content[4:8] == b"ftyp"


def _is_webp(content: bytes) -> bool:
    return content.startswith(b"RIFF") and content[8:12] == b"WEBP"


def _avif_turn(content: bytes) -> tuple[int, int | None]:
    """Quarter turns to the left, and the axis that is mirrored after them, if any.

    ISO/IEC 23008-12, 6.5.10 and 6.5.12.
    """
    properties = b"meta", b"iprp", b"ipco"
    rotation = next(find_boxes(content, *properties, b"irot"), b"")
    mirror = next(find_boxes(content, *properties, b"imir"), b"")
    return rotation[0] & 3 if rotation else 0, mirror[0] & 1 if mirror else None


def _turn_avif(image: NDArray[np.uint8], content: bytes) -> NDArray[np.uint8]:
    """Rotate and then mirror, which OpenCV leaves out."""
    rotation, mirror = _avif_turn(content)
    image = np.rot90(image, rotation)
    if mirror is not None:
        image = np.flip(image, mirror)
    return np.ascontiguousarray(image)


def check_size(name: str | Path, size: tuple[int, int] | None) -> None:
    """Refuse images of more pixels than the limit: 128 million, or that of the environment.

    Args:
        name: The image, for errors.
        size: Its height and width; None: unknown.

    Raises:
        BodyPoseNetError: It has more, or the environment variable is not a number.
    """
    if size is None:
        return
    text = os.environ.get(MAX_PIXELS_VARIABLE, str(_MAX_PIXELS))
    if not text.isdecimal():
        raise BodyPoseNetError(
            f"{MAX_PIXELS_VARIABLE}: {text!r} is not a number of pixels", "Write 500000000 or so."
        )
    height, width = size
    if height * width > int(text):
        raise BodyPoseNetError(
            f"{name}: {width} x {height} pixels, the limit is {int(text) / 1e6:g} megapixels",
            f"Reduce the image, or set the environment variable {MAX_PIXELS_VARIABLE} to more "
            "pixels.",
        )


def image_size(content: bytes) -> tuple[int, int] | None:
    """Height and width of an image as stored, by its header.

    Args:
        content: The whole file, of any format that OpenCV reads.

    Returns:
        None if the format is unknown, or the header is cut off.
    """
    try:
        return _size_in_header(content)
    except IndexError:
        return None


def _size_in_header(content: bytes) -> tuple[int, int] | None:
    if is_jpeg(content):
        return _size_of_jpeg(content)
    if content.startswith(_PNG):
        return _number(content, 20, 4), _number(content, 16, 4)
    if content.startswith(b"BM"):
        return _size_of_bmp(content)
    if _is_webp(content):
        return _size_of_webp(content)
    if content.startswith((b"GIF87a", b"GIF89a")):
        return _number(content, 8, 2, "little"), _number(content, 6, 2, "little")
    if content[:4] in _TIFF_FORMS:
        return _size_of_tiff(content)
    if _is_avif(content):  # the largest of the image, its tiles and its thumbnail
        properties = find_boxes(content, b"meta", b"iprp", b"ipco")
        stated = (box.content for ipco in properties for box in boxes(ipco) if box.kind == b"ispe")
        sizes = ((_number(size, 8, 4), _number(size, 4, 4)) for size in stated)
        return max(sizes, key=math.prod, default=None)
    if content[4:8] == b"jP  ":
        header = next(find_boxes(content, b"jp2h", b"ihdr"), b"")
        return _number(header, 0, 4), _number(header, 4, 4)
    if content.startswith(b"\xff\x4f\xff\x51"):  # JPEG 2000 without a container
        return _number(content, 12, 4), _number(content, 8, 4)
    if content.startswith(b"\x59\xa6\x6a\x95"):  # Sun raster
        return _number(content, 8, 4), _number(content, 4, 4)
    for header in _TEXT_HEADERS:
        if found := header.match(content[:4096]):
            return int(found["height"]), int(found["width"])
    return None


def _number(
    content: bytes | memoryview, at: int, count: int, order: Literal["little", "big"] = "big"
) -> int:
    """An unsigned number of `count` bytes.

    Raises:
        IndexError: The content ends before.
    """
    if at + count > len(content):
        raise IndexError(at)
    return int.from_bytes(content[at : at + count], order)


def _size_of_jpeg(content: bytes) -> tuple[int, int] | None:
    for code, place in _segments(content):
        if code in _START_OF_FRAME:
            return _number(content, place + 3, 2), _number(content, place + 5, 2)
    return None


def _size_of_bmp(content: bytes) -> tuple[int, int]:
    count = 2 if _number(content, 14, 4, "little") == 12 else 4  # OS/2's header is a short one
    width, height = (_number(content, 18 + count * i, count, "little") for i in (0, 1))
    # Rows from top to bottom have a negative height.
    return (2**32 - height if height >= 2**31 else height), width


def _size_of_webp(content: bytes) -> tuple[int, int] | None:
    kind = content[12:16]
    if kind == b"VP8X":
        return _number(content, 27, 3, "little") + 1, _number(content, 24, 3, "little") + 1
    if kind == b"VP8L":
        bits = _number(content, 21, 4, "little")
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = (_number(content, at, 2, "little") & 0x3FFF for at in (26, 28))
        return height, width
    return None


def _size_of_tiff(content: bytes) -> tuple[int, int] | None:
    tags = _tiff_tags(content)
    if _TIFF_HEIGHT in tags and _TIFF_WIDTH in tags:
        return tags[_TIFF_HEIGHT], tags[_TIFF_WIDTH]
    return None


def _tiff_tags(content: bytes) -> dict[int, int]:
    """The tags of a TIFF's first image, and the first number of each.

    Raises:
        IndexError: They are cut off.
        KeyError: It is not a TIFF.
    """
    order, word = _TIFF_FORMS[content[:4]]
    first = _number(content, word, word, order)
    entries = first + (2 if word == 4 else 8)
    length = 4 + 2 * word
    count = _number(content, first, entries - first, order)
    tags = {}
    for at in range(entries, entries + count * length, length):
        size = 2 if _number(content, at + 2, 2, order) == 3 else 4  # a short, or a long
        tags[_number(content, at, 2, order)] = _number(content, at + 4 + word, size, order)
    return tags


def _png_chunks(png: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Kind and content of the chunks that lie in the file as a whole, in their order."""
    view, at = memoryview(png), len(_PNG)
    while at + 12 <= len(png):
        end = at + 12 + int.from_bytes(png[at : at + 4], "big")
        if end > len(png):
            return
        yield png[at + 4 : at + 8], view[at + 8 : end - 4]
        at = end


def _webp_chunks(webp: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of the chunks, in their order; chunks are filled up to an even length."""
    at = 12
    while at + 8 <= len(webp):
        length = int.from_bytes(webp[at + 4 : at + 8], "little")
        yield webp[at : at + 4], webp[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


def _segments(jpeg: bytes) -> Iterator[tuple[int, int]]:
    """The code of each marker up to the end of the image, and the place behind the marker.

    A JPEG is a row of segments: a marker (FF and a code) and, for most, a length and so many bytes.
    Two things stand in no segment: the data of a scan (up to the next marker, which they cannot
    contain), and what cameras put behind the end of the image, such as the film of a motion photo.
    """
    at = 2
    while found := _MARKER.search(jpeg, at):
        code, at = found[1][0], found.end()
        yield code, at
        if code == _END_OF_IMAGE:
            return
        if code not in _WITHOUT_LENGTH:
            at += int.from_bytes(jpeg[at : at + 2], "big")


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
