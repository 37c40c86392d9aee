"""Read the photos of records, decoded no larger than the warp needs.

JPEGs without EXIF, as in COCO, take the quick decoder, which shrinks while it decodes.
"""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.geometry import Affine
from bodyposenet.media.image_header import (
    check_size,
    ensure_end_marker,
    has_exif,
    image_size,
    is_jpeg,
)
from bodyposenet.media.images import read_image, warn_missing_end_marker

_DIVISORS = (8, 4, 2)
"""By how much decoders of JPEG shrink at little cost."""

_ROUNDING = 1e-6
"""A map of exactly 1/2, turned, is not exactly 1/2 any more."""


def reduction_for(to_input: Affine) -> int:
    """By how much an image may be shrunk before a map that shrinks it further: 1, 2, 4 or 8."""
    (a, b), (c, d) = to_input.matrix[:, :2].tolist()
    half, area = (a * a + b * b + c * c + d * d) / 2, a * d - b * c
    # Of the scales in all directions, the largest: the first singular value.
    largest = math.sqrt(half + math.sqrt(max(half * half - area * area, 0.0)))
    return next((divisor for divisor in _DIVISORS if largest * divisor <= 1 + _ROUNDING), 1)


def reduced_size(height: int, width: int, divisor: int) -> tuple[int, int]:
    """Rows and columns of an image over the divisor, rounded up as JPEG decoders do."""
    return -(-height // divisor), -(-width // divisor)


class PhotoReader:
    """Reads photos into one piece of memory, again and again.

    The system takes a third as long to hand out fresh memory as a photo takes to decode.
    """

    def __init__(self) -> None:
        self._memory = np.empty(0, np.uint8)

    def read(self, path: Path, height: int, width: int, divisor: int = 1) -> NDArray[np.uint8]:
        """Read an image, turned as in inference (EXIF), and shrink it by the divisor.

        Args:
            path: The file.
            height: In its record.
            width: In its record.
            divisor: 1, 2, 4 or 8; every pixel is the average of so many rows and columns.

        Returns:
            (h, w, 3) uint8 RGB of the `reduced_size`; the next call may write over it.

        Raises:
            BodyPoseNetError: The file cannot be read, is not a whole image, or has another size or
                too many pixels (`check_size`).
        """
        try:
            content = path.read_bytes()
        except (OSError, ValueError) as error:  # ValueError for "a\0b.jpg", for example
            raise BodyPoseNetError(
                f"{path}: cannot be read: {getattr(error, 'strerror', error)}",
                "root_data_path of the train spec must be the dataset's root_directory_path.",
            ) from error
        check_size(path, image_size(content))
        if is_jpeg(content) and not has_exif(content):
            # A damaged file (rows that are missing too are a ValueError), or rare colors: the
            # other reader tells.
            with suppress(ValueError, KeyError):
                rows, columns, *_ = simplejpeg.decode_jpeg_header(content)
                _check_size(path, (int(rows), int(columns)), (height, width))
                whole = ensure_end_marker(content)
                pixels = self._decode(whole, reduced_size(height, width, divisor), divisor)
                if whole is not content:
                    warn_missing_end_marker(str(path))
                return pixels
        image = read_image(path, (height, width))
        _check_size(path, image.shape[:2], (height, width))
        return _shrink(image, divisor)

    def _decode(self, jpeg: bytes, size: tuple[int, int], divisor: int) -> NDArray[np.uint8]:
        rows, columns = size
        if self._memory.size < 3 * rows * columns:
            self._memory = np.empty(3 * rows * columns, np.uint8)
        return simplejpeg.decode_jpeg(
            jpeg, "RGB", min_height=rows, min_width=columns, min_factor=divisor, buffer=self._memory
        )


def _check_size(path: Path, found: tuple[int, ...], stated: tuple[int, int]) -> None:
    if found != stated:
        raise BodyPoseNetError(
            f"{path}: the image is {found[1]} x {found[0]}, its record states "
            f"{stated[1]} x {stated[0]}",
            "Convert the dataset again, with --check_files.",
        )


def _shrink(image: NDArray[np.uint8], divisor: int) -> NDArray[np.uint8]:
    """Average blocks of pixels; those at the right and lower edge are filled up, as in JPEG."""
    if divisor == 1:
        return image
    height, width = image.shape[:2]
    rows, columns = reduced_size(height, width, divisor)
    below, beside = rows * divisor - height, columns * divisor - width
    image = cv2.copyMakeBorder(image, 0, below, 0, beside, cv2.BORDER_REPLICATE)  # type: ignore[assignment]
    return cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]
