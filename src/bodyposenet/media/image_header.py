"""Headers of encoded images: size, orientation and completeness, without decoding the pixels.

The size is checked before an image is decoded, so that a file of a few bytes cannot allocate
gigabytes. All formats that OpenCV reads are supported. The reader of the boxes of ISO media files
(`find_boxes`) is used for AVIF images, and for MP4 and MOV videos.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from bodyposenet.errors import BodyPoseNetError

MAX_PIXELS_VARIABLE = "BPNET_MAX_IMAGE_PIXELS"
"""Environment variable that overrides the limit of `check_size`."""

_MAX_PIXELS = 128_000_000
"""Default limit of an image's pixels: 384 MB as RGB."""

END_MARKER = b"\xff\xd9"
"""End of a JPEG image (EOI)."""

_JPEG = b"\xff\xd8\xff"
_PNG = b"\x89PNG\r\n\x1a\n"

_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
"""A marker of a JPEG. In the data of a scan, FF 00 encodes the byte FF, and FF D0 to FF D7 are
restart markers."""

_END_OF_IMAGE, _START_OF_SCAN, _APP1 = END_MARKER[1], 0xDA, 0xE1
_WITHOUT_LENGTH = (0x01, 0xD8, _END_OF_IMAGE)
_START_OF_FRAME = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}

_TIFF_LAYOUTS: dict[bytes, tuple[Literal["little", "big"], int]] = {
    b"II*\0": ("little", 4), b"MM\0*": ("big", 4), b"II+\0": ("little", 8), b"MM\0+": ("big", 8),
}  # fmt: skip
"""Signature -> byte order, and bytes of an offset (8 in BigTIFF)."""
_TIFF_WIDTH, _TIFF_HEIGHT, _ORIENTATION = 256, 257, 274

_EXIF = b"Exif\0\0"

_HEADER_BYTES = (2**12, 2**17)
"""Number of bytes that contain EXIF data and size in most JPEGs; in JPEGs with a preview."""

_TEXT_HEADERS = (
    re.compile(rb"P[1-6fF]\s+(?:#[^\n]*\n\s*)*(?P<width>\d{1,9})\s+(?P<height>\d{1,9})\s"),
    re.compile(
        rb"P7\s(?=(?:.*\n)*?WIDTH (?P<width>\d{1,9}))(?=(?:.*\n)*?HEIGHT (?P<height>\d{1,9}))"
    ),
    re.compile(rb"#\?(?:.*\n)*?[-+]Y (?P<height>\d{1,9}) [-+]X (?P<width>\d{1,9})\n"),
)
"""Netpbm and PFM, PAM, and Radiance HDR."""


def check_size(name: str | Path, size: tuple[int, int] | None) -> None:
    """Reject images with more than 128 million pixels, or than BPNET_MAX_IMAGE_PIXELS.

    Args:
        name: The image's name, for error messages.
        size: Its height and width, or None if they are unknown; then nothing is checked.

    Raises:
        BodyPoseNetError: It has more pixels, or the environment variable is not a number.
    """
    if size is None:
        return
    text = os.environ.get(MAX_PIXELS_VARIABLE, str(_MAX_PIXELS))
    if not text.isdecimal():
        raise BodyPoseNetError(
            f"{MAX_PIXELS_VARIABLE}: {text!r} is not a number of pixels",
            "Set it to a whole number, such as 500000000.",
        )
    height, width = size
    if height * width > int(text):
        raise BodyPoseNetError(
            f"{name}: {width} x {height} pixels, the limit is {int(text) / 1e6:g} megapixels",
            f"Reduce the image, or set the environment variable {MAX_PIXELS_VARIABLE} to more "
            "pixels.",
        )


def image_size(content: bytes) -> tuple[int, int] | None:
    """Read the size of an image from its header.

    Args:
        content: The whole file, of any format that OpenCV reads.

    Returns:
        Height and width of the pixels as stored, before the orientation is applied; None if the
        format is unknown or the header is truncated.
    """
    try:
        return _size_in_header(content)
    except IndexError:
        return None


class Orientation(NamedTuple):
    """How the stored pixels are transformed before an image is displayed.

    Args:
        is_turned: The pixels are rotated or mirrored.
        swaps_sides: Height and width are exchanged (a rotation by 90 or 270 degrees).
    """

    is_turned: bool = False
    swaps_sides: bool = False


def orientation(content: bytes) -> Orientation:
    """Read the orientation of an image from its EXIF data or, of an AVIF, from its properties.

    Args:
        content: The whole file; of a JPEG, everything before the first scan is enough.
    """
    if is_avif(content):
        rotation, mirror = avif_transform(content)
        return Orientation(bool(rotation) or mirror is not None, rotation % 2 == 1)
    try:
        exif = content if content[:4] in _TIFF_LAYOUTS else _exif(content)
        value = 1 if exif is None else _tiff_tags(exif).get(_ORIENTATION, 1)
    except (IndexError, KeyError):
        return Orientation()
    return Orientation(2 <= value <= 8, 5 <= value <= 8)


class FileSizes(NamedTuple):
    """Size of an image file, from its header.

    Args:
        stored: Height and width of the pixels as stored.
        orientation: How they are transformed before the image is displayed.
    """

    stored: tuple[int, int]
    orientation: Orientation

    @property
    def shown(self) -> tuple[int, int]:
        """Height and width of the displayed image."""
        height, width = self.stored
        return (width, height) if self.orientation.swaps_sides else (height, width)

    @property
    def possible(self) -> frozenset[tuple[int, int]]:
        """The sizes that annotations of the image can have: as stored, and as displayed."""
        return frozenset({self.stored, self.shown})


def read_sizes(path: Path) -> FileSizes | None:
    """Read the size of an image file; of a JPEG, only the first bytes are read.

    Args:
        path: The file.

    Returns:
        The sizes, or None if the file cannot be read or its format is unknown.
    """
    try:
        with open(path, "rb") as file:
            content = b""
            for length in (*_HEADER_BYTES, -1):  # other formats can have EXIF data at the end
                content += file.read(length)
                if is_jpeg(content) and image_size(content) is not None:
                    break
    except (OSError, ValueError):  # ValueError for "a\0b.jpg", for example
        return None
    stored = image_size(content)
    return None if stored is None else FileSizes(stored, orientation(content))


def has_exif(content: bytes) -> bool:
    """Return whether an image has EXIF data, which may contain an orientation.

    Args:
        content: See `orientation`.
    """
    return _exif(content) is not None


def avif_transform(content: bytes) -> tuple[int, int | None]:
    """Read the orientation of an AVIF (ISO/IEC 23008-12, 6.5.10 and 6.5.12).

    Returns:
        Counterclockwise quarter turns, and the axis that is flipped after them (0 or 1), or None.
    """
    properties = b"meta", b"iprp", b"ipco"
    rotation = next(find_boxes(content, *properties, b"irot"), b"")
    mirror = next(find_boxes(content, *properties, b"imir"), b"")
    return rotation[0] & 3 if rotation else 0, mirror[0] & 1 if mirror else None


def is_jpeg(content: bytes) -> bool:
    """Return whether the content starts like a JPEG."""
    return content.startswith(_JPEG)


def is_avif(content: bytes) -> bool:
    """Return whether the content starts like an AVIF."""
    return content[4:8] == b"ftyp"


def _is_webp(content: bytes) -> bool:
    return content.startswith(b"RIFF") and content[8:12] == b"WEBP"


def has_end_marker(content: bytes) -> bool:
    """Return whether complete files of this format end with a marker, as JPEG and PNG do."""
    return is_jpeg(content) or content.startswith(_PNG)


def is_truncated(content: bytes) -> bool:
    """Return whether a JPEG or PNG lacks its end marker; False for other formats."""
    if is_jpeg(content):
        return all(code != _END_OF_IMAGE for code, _ in _segments(content))
    return content.startswith(_PNG) and all(kind != b"IEND" for kind, _ in _png_chunks(content))


def ensure_end_marker(jpeg: bytes) -> bytes:
    """Append the end marker to a JPEG that has none anywhere; else return the same object.

    Missing rows are not detected; see `images.restore_end_marker`.
    """
    return jpeg + END_MARKER if jpeg.rfind(END_MARKER) < 0 else jpeg


def _exif(content: bytes) -> bytes | None:
    """Find the EXIF data of a JPEG, PNG or WebP: a TIFF without an image."""
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
    for code, offset in _segments(content):
        if code == _START_OF_SCAN:
            return None
        if code == _APP1 and content.startswith(_EXIF, offset + 2):
            length = int.from_bytes(content[offset : offset + 2], "big")
            return content[offset + 2 + len(_EXIF) : offset + length]
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
    if content[:4] in _TIFF_LAYOUTS:
        return _size_of_tiff(content)
    if is_avif(content):  # the largest size: that of the image, not of its tiles or thumbnail
        properties = find_boxes(content, b"meta", b"iprp", b"ipco")
        stated = (
            box.content for ipco in properties for box in iter_boxes(ipco) if box.kind == b"ispe"
        )
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


def _size_of_jpeg(content: bytes) -> tuple[int, int] | None:
    for code, offset in _segments(content):
        if code in _START_OF_FRAME:
            return _number(content, offset + 3, 2), _number(content, offset + 5, 2)
    return None


def _size_of_bmp(content: bytes) -> tuple[int, int]:
    count = 2 if _number(content, 14, 4, "little") == 12 else 4  # the short header of OS/2
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
        width, height = (_number(content, offset, 2, "little") & 0x3FFF for offset in (26, 28))
        return height, width
    return None


def _size_of_tiff(content: bytes) -> tuple[int, int] | None:
    tags = _tiff_tags(content)
    if _TIFF_HEIGHT in tags and _TIFF_WIDTH in tags:
        return tags[_TIFF_HEIGHT], tags[_TIFF_WIDTH]
    return None


def _tiff_tags(content: bytes) -> dict[int, int]:
    """Read the tags of a TIFF's first image, with the first number of each.

    Raises:
        IndexError: They are truncated.
        KeyError: It is not a TIFF.
    """
    order, word = _TIFF_LAYOUTS[content[:4]]
    first = _number(content, word, word, order)
    entries = first + (2 if word == 4 else 8)
    length = 4 + 2 * word
    count = _number(content, first, entries - first, order)
    tags = {}
    for offset in range(entries, entries + count * length, length):
        size = 2 if _number(content, offset + 2, 2, order) == 3 else 4  # a short, or a long
        tags[_number(content, offset, 2, order)] = _number(content, offset + 4 + word, size, order)
    return tags


def _png_chunks(png: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Yield kind and content of the chunks, in their order, up to the first that is truncated."""
    view, offset = memoryview(png), len(_PNG)
    while offset + 12 <= len(png):
        end = offset + 12 + int.from_bytes(png[offset : offset + 4], "big")
        if end > len(png):
            return
        yield png[offset + 4 : offset + 8], view[offset + 8 : end - 4]
        offset = end


def _webp_chunks(webp: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and content of the chunks, in their order; they are padded to an even length."""
    offset = 12
    while offset + 8 <= len(webp):
        length = int.from_bytes(webp[offset + 4 : offset + 8], "little")
        yield webp[offset : offset + 4], webp[offset + 8 : offset + 8 + length]
        offset += 8 + length + length % 2


def _segments(jpeg: bytes) -> Iterator[tuple[int, int]]:
    """Yield the code of each marker up to the end of the image, and the offset after the marker.

    A JPEG is a sequence of segments: a marker (FF and a code) and, for most, a length and that many
    bytes. Two things are outside of segments: the data of a scan (up to the next marker, which they
    cannot contain), and data that cameras append after the end of the image, such as the video of a
    motion photo.
    """
    offset = 2
    while found := _MARKER.search(jpeg, offset):
        code, offset = found[1][0], found.end()
        yield code, offset
        if code == _END_OF_IMAGE:
            return
        if code not in _WITHOUT_LENGTH:
            offset += int.from_bytes(jpeg[offset : offset + 2], "big")


def _number(
    content: bytes | memoryview, offset: int, count: int, order: Literal["little", "big"] = "big"
) -> int:
    """Read an unsigned number of `count` bytes.

    Raises:
        IndexError: The content is too short.
    """
    if offset + count > len(content):
        raise IndexError(offset)
    return int.from_bytes(content[offset : offset + count], order)


_WITH_VERSION = (b"meta",)
"""Kinds of boxes with four bytes of version and flags before the inner boxes."""


class Box(NamedTuple):
    """A box of an ISO media file (ISO/IEC 14496-12).

    Args:
        kind: Type, four letters.
        content: The bytes after the type.
    """

    kind: bytes
    content: memoryview


def iter_boxes(content: bytes | memoryview) -> Iterator[Box]:
    """Yield the boxes of one level, in their order, up to the first that is truncated."""
    view, offset = memoryview(content), 0
    while offset + 8 <= len(view):
        length, kind, head = (
            int.from_bytes(view[offset : offset + 4], "big"),
            bytes(view[offset + 4 : offset + 8]),
            8,
        )
        if length == 1:
            length, head = int.from_bytes(view[offset + 8 : offset + 16], "big"), 16
        elif length == 0:  # extends to the end
            length = len(view) - offset
        if length < head or offset + length > len(view):
            return
        yield Box(kind, view[offset + head : offset + length])
        offset += length


def find_boxes(content: bytes | memoryview, *kinds: bytes) -> Iterator[memoryview]:
    """Yield the contents of all boxes at a path of kinds, such as b"moov", b"trak"."""
    for box in iter_boxes(content):
        if box.kind != kinds[0]:
            continue
        inner = box.content[4:] if box.kind in _WITH_VERSION else box.content
        if len(kinds) == 1:
            yield inner
        else:
            yield from find_boxes(inner, *kinds[1:])
