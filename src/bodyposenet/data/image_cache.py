"""Decoded images on disk: an image file in, its pixels out, decoded once and read back later.

A file holds a header (what the image file was like) and the raw pixels. Workers and ranks share the
folder; each writes a file under a name of its own and then renames it.
"""

from __future__ import annotations

import hashlib
import math
import os
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bodyposenet.console import logger
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import atomic_write, make_directory

_HEADER = struct.Struct("<8sqq")
"""Format, size of the image file in bytes, time of its last change in nanoseconds."""

_FORMAT = b"bpnpix01"


class ImageCache:
    """A folder of decoded images.

    It never fails: what cannot be read is decoded again, and where the disk is full or read-only
    nothing more is written, after one warning (of each process whose disk fills up).

    Args:
        folder: Is made; may hold the images of many datasets.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writes = True
        try:
            make_directory(folder)
        except BodyPoseNetError as error:
            self._stop_writing(error.what)

    def pixels(
        self,
        source: Path,
        divisor: int,
        size: tuple[int, int],
        decode: Callable[[], NDArray[np.uint8]],
    ) -> NDArray[np.uint8]:
        """The pixels of an image, from the cache, or decoded and put there.

        Args:
            source: The image file; where its size or time of change is another than when it was
                decoded, it is decoded again.
            divisor: By how much it is shrunk.
            size: Rows and columns of the result.
            decode: Makes the result, (rows, columns, 3) uint8; its errors are handed on.
        """
        try:
            status = source.stat()
        except (OSError, ValueError):  # the decoder tells
            return decode()
        header = _HEADER.pack(_FORMAT, status.st_size, status.st_mtime_ns)
        path = self._path(source, divisor)
        found = _read(path, header, (*size, 3))
        if found is None:
            found = decode()
            if self._writes:
                self._write(path, header, found)
        return found

    def _path(self, source: Path, divisor: int) -> Path:
        name = os.fsencode(source.absolute()) + bytes([divisor])
        digest = hashlib.blake2b(name, digest_size=16).hexdigest()
        return self._folder / digest[:2] / f"{digest[2:]}.raw"

    def _write(self, path: Path, header: bytes, pixels: NDArray[np.uint8]) -> None:
        try:
            with atomic_write(path) as file:
                file.write(header)
                file.write(np.ascontiguousarray(pixels).data)
        except BodyPoseNetError as error:
            self._stop_writing(error.what)

    def _stop_writing(self, reason: str) -> None:
        self._writes = False
        logger.warning("dataloader.image_cache_dir keeps no more images: %s", reason)


def _read(path: Path, header: bytes, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """The pixels, or None where there are none of that image, or of another size."""
    with suppress(OSError), open(path, "rb", buffering=0) as file:
        expected = len(header) + math.prod(shape)
        if os.fstat(file.fileno()).st_size != expected or file.read(len(header)) != header:
            return None
        pixels = np.empty(shape, np.uint8)
        if file.readinto(pixels.data) == pixels.nbytes:
            return pixels
    return None
