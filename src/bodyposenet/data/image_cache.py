"""Cache of decoded images on disk, which saves decoding in later epochs and runs.

A cache file has a header, which identifies the version of the image file, and the raw pixels.
Worker processes and ranks share the folder: each writes to a temporary file, which is then renamed.
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
"""Format, size of the image file in bytes, modification time in nanoseconds."""

_FORMAT = b"bpnpix01"


class ImageCache:
    """A folder of decoded images.

    Cache files that cannot be read are replaced. If the disk is full or read-only, nothing more is
    written, which each process logs once. The cache raises no errors except those of the decoder.

    Args:
        folder: Created if missing; several datasets can share it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._can_write = True
        try:
            make_directory(folder)
        except BodyPoseNetError as error:
            self._stop_writing(error.what)

    def pixels(
        self,
        source: Path,
        reduction: int,
        size: tuple[int, int],
        decode: Callable[[], NDArray[np.uint8]],
    ) -> NDArray[np.uint8]:
        """Return the pixels of an image from the cache, or decode and cache them.

        Args:
            source: The image file; it is decoded again if its size or modification time changed.
            reduction: Factor by which the decoded image is reduced.
            size: Rows and columns of the reduced image.
            decode: Function that decodes the image to (rows, columns, 3) uint8; its exceptions
                propagate.

        Returns:
            (rows, columns, 3) uint8.
        """
        try:
            status = source.stat()
        except (OSError, ValueError):  # decode() raises an error with a remedy
            return decode()
        header = _HEADER.pack(_FORMAT, status.st_size, status.st_mtime_ns)
        path = self._path(source, reduction)
        cached = _read(path, header, (*size, 3))
        if cached is not None:
            return cached
        pixels = decode()
        if self._can_write:
            self._write(path, header, pixels)
        return pixels

    def _path(self, source: Path, reduction: int) -> Path:
        """Return the path of a cache file: a hash of the image's path and the reduction."""
        name = os.fsencode(source.absolute()) + bytes([reduction])
        digest = hashlib.blake2b(name, digest_size=16).hexdigest()
        return self._folder / digest[:2] / f"{digest[2:]}.raw"

    def _write(self, path: Path, header: bytes, pixels: NDArray[np.uint8]) -> None:
        """Write a cache file; after an error, no more are written."""
        try:
            with atomic_write(path) as file:
                file.write(header)
                file.write(np.ascontiguousarray(pixels).data)
        except BodyPoseNetError as error:
            self._stop_writing(error.what)

    def _stop_writing(self, reason: str) -> None:
        """Write no more cache files, and log the reason."""
        self._can_write = False
        logger.warning("dataloader.image_cache_dir: no more images are cached: %s", reason)


def _read(path: Path, header: bytes, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """Read a cache file; None if it is missing, damaged or of another image or size."""
    with suppress(OSError), open(path, "rb", buffering=0) as file:
        expected = len(header) + math.prod(shape)
        if os.fstat(file.fileno()).st_size != expected or file.read(len(header)) != header:
            return None
        pixels = np.empty(shape, np.uint8)
        if file.readinto(pixels.data) == pixels.nbytes:
            return pixels
    return None
