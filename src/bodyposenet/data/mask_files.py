"""Encode masks as PNG, and read them, most without decoding.

Most masks are valid everywhere and written by us, so their bytes are known.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.media.encoded import decode, image_size, with_end
from bodyposenet.types import MASK_VALID


def encode_png(gray: NDArray[np.uint8]) -> bytes:
    """Encode a gray image, (H, W) uint8, as PNG, compressed lightly and without row filters.

    For masks that is small enough, and training reads them several times as fast.
    """
    light = (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE)
    plain = (cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_DEFAULT)
    return cv2.imencode(".png", gray, (*light, *plain))[1].tobytes()


@lru_cache(maxsize=4096)
def encode_all_valid(height: int, width: int) -> bytes:
    """The PNG of a mask without ignored regions; datasets repeat a few thousand sizes."""
    return encode_png(np.full((height, width), MASK_VALID, np.uint8))


def read_mask(path: Path, height: int, width: int) -> NDArray[np.uint8] | None:
    """Read a mask.

    Args:
        path: Any format that OpenCV reads.
        height: Of the image, in pixels.
        width: Of the image, in pixels.

    Returns:
        (height, width) uint8 of pure 0 and 255, though TAO's JPEG masks hold other values; None
        where all of it is known to be valid.

    Raises:
        FileNotFoundError: There is no such file.
        BodyPoseNetError: The file cannot be read, is not an image, or has another size.
    """
    try:
        content = path.read_bytes()
    except (NotADirectoryError, IsADirectoryError, ValueError) as error:  # "a\0b.png", for example
        raise FileNotFoundError(path) from error
    except FileNotFoundError:
        raise
    except OSError as error:
        raise BodyPoseNetError(
            f"{path}: cannot be read: {error.strerror or error}", "Change its permissions."
        ) from error
    if content == encode_all_valid(height, width):
        return None
    mask = None
    if image_size(content) in (None, (height, width)) and (whole := with_end(content)) is not None:
        mask = decode(whole, cv2.IMREAD_GRAYSCALE)
    if mask is None or mask.shape != (height, width):
        raise BodyPoseNetError(
            f"{path}: no mask of {width} x {height} pixels",
            "Make the masks again: dataset_convert --generate_masks.",
        )
    return cv2.threshold(mask, 127, MASK_VALID, cv2.THRESH_BINARY)[1]  # type: ignore[return-value]
