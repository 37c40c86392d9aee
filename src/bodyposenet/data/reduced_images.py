"""Read training images at a reduced size if the following warp shrinks them anyway.

JPEGs without EXIF data, as in COCO, are decoded by libjpeg-turbo, which reduces while decoding. All
other files are decoded by `media.images.read_image`, which also decides whether an EXIF orientation
is applied, and are then reduced.
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

_REDUCTIONS = (8, 4, 2)
"""Factors by which JPEG decoders reduce images at little cost."""

_ROUNDING = 1e-6
"""Tolerance for scales: after a rotation, a scale of 1/2 is not exactly 1/2."""


def reduction_for(to_input: Affine) -> int:
    """Choose the factor by which an image can be reduced before a warp without losing detail.

    Args:
        to_input: The map from image pixels to network pixels.

    Returns:
        1, 2, 4 or 8.
    """
    (a, b), (c, d) = to_input.matrix[:, :2].tolist()
    half, area = (a * a + b * b + c * c + d * d) / 2, a * d - b * c
    # The first singular value: the largest scale over all directions.
    largest = math.sqrt(half + math.sqrt(max(half * half - area * area, 0.0)))
    return next((factor for factor in _REDUCTIONS if largest * factor <= 1 + _ROUNDING), 1)


def reduced_size(height: int, width: int, reduction: int) -> tuple[int, int]:
    """Return rows and columns of a reduced image, rounded up as JPEG decoders do."""
    return -(-height // reduction), -(-width // reduction)


class ReducedImageReader:
    """Reads images at a reduced size.

    JPEGs are decoded into one reused buffer, because allocating new memory takes a third of the
    time of decoding a photo.
    """

    def __init__(self) -> None:
        self._buffer = np.empty(0, np.uint8)

    def read(self, path: Path, height: int, width: int, reduction: int = 1) -> NDArray[np.uint8]:
        """Read an image at a reduced size, with the same EXIF orientation as `read_image`.

        Args:
            path: The file.
            height: Expected height, from the record.
            width: Expected width, from the record.
            reduction: 1, 2, 4 or 8; each pixel of the result is the mean of this many rows and
                columns.

        Returns:
            (h, w, 3) uint8 RGB of `reduced_size`; the next call can overwrite it.

        Raises:
            BodyPoseNetError: The file cannot be read, is damaged, or has another size or too many
                pixels (`check_size`).
        """
        try:
            content = path.read_bytes()
        except (OSError, ValueError) as error:  # ValueError for "a\0b.jpg", for example
            raise BodyPoseNetError(
                f"{path}: cannot be read: {getattr(error, 'strerror', error)}",
                "Check that root_data_path of the train spec is root_directory_path of the dataset "
                "spec.",
            ) from error
        check_size(path, image_size(content))
        if is_jpeg(content) and not has_exif(content):
            # ValueError, KeyError: a damaged file (also if rows are missing) or a rare color space;
            # these are read by `read_image` below.
            with suppress(ValueError, KeyError):
                rows, columns, *_ = simplejpeg.decode_jpeg_header(content)
                _check_size(path, (int(rows), int(columns)), (height, width))
                whole = ensure_end_marker(content)
                pixels = self._decode(whole, reduced_size(height, width, reduction), reduction)
                if whole is not content:
                    warn_missing_end_marker(str(path))
                return pixels
        image = read_image(path, (height, width))
        _check_size(path, image.shape[:2], (height, width))
        return _reduce(image, reduction)

    def _decode(self, jpeg: bytes, size: tuple[int, int], reduction: int) -> NDArray[np.uint8]:
        """Decode a JPEG at a reduced size into the buffer."""
        rows, columns = size
        if self._buffer.size < 3 * rows * columns:
            self._buffer = np.empty(3 * rows * columns, np.uint8)
        return simplejpeg.decode_jpeg(
            jpeg, "RGB", min_height=rows, min_width=columns, min_factor=reduction,
            buffer=self._buffer,
        )  # fmt: skip


def _check_size(path: Path, size: tuple[int, ...], expected: tuple[int, int]) -> None:
    """Raise an error if an image does not have the size of its record."""
    if size != expected:
        raise BodyPoseNetError(
            f"{path}: image size {size[1]} x {size[0]} differs from the record, "
            f"{expected[1]} x {expected[0]}",
            "Convert the dataset again with --check_files.",
        )


def _reduce(image: NDArray[np.uint8], reduction: int) -> NDArray[np.uint8]:
    """Average blocks of pixels; blocks at the right and bottom edge are padded, as in JPEG."""
    if reduction == 1:
        return image
    height, width = image.shape[:2]
    rows, columns = reduced_size(height, width, reduction)
    bottom, right = rows * reduction - height, columns * reduction - width
    image = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REPLICATE)  # type: ignore[assignment]
    return cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]
