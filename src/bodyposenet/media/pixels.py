"""An image as a program holds it (path, array, PIL image) in, its RGB pixels out."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.media.encoded import check_size
from bodyposenet.media.source import read_image

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

Image: TypeAlias = "str | os.PathLike[str] | NDArray[np.uint8] | PILImage"

_EXPECTED = "Give a path, an array of (height, width, 3) uint8 in RGB, or a PIL image."


def to_pixels(image: Image) -> NDArray[np.uint8]:
    """Bring an image to the one form that all of the package works on.

    Args:
        image: The path of a file (see `read_image`); an array, (H, W, 3) uint8 RGB; or a PIL image
            of 8 bits per channel, turned as its EXIF orientation says.

    Returns:
        (H, W, 3) uint8, RGB; it may share memory with the image and be read-only.

    Raises:
        BodyPoseNetError: It is no image, one of another form, its file cannot be read, or holds
            too many pixels (`check_size`).
    """
    if isinstance(image, str | os.PathLike):
        return read_image(os.fspath(image))
    if isinstance(image, np.ndarray):
        return _from_array(image)
    # Who has a PIL image has imported PIL; we do without it.
    pil = sys.modules.get("PIL.Image")
    if pil is not None and isinstance(image, pil.Image):
        return _from_pil(image)
    raise BodyPoseNetError(f"a {type(image).__name__} is no image", _EXPECTED)


def _from_array(image: NDArray[np.generic]) -> NDArray[np.uint8]:
    problem = f"an array of {image.shape} {image.dtype} is no image"
    if image.ndim != 3 or image.shape[2] != 3:
        raise BodyPoseNetError(problem, _remedy_of_shape(image.shape))
    if not image.size:
        raise BodyPoseNetError(f"{problem}: it has no pixels", _EXPECTED)
    if image.dtype != np.uint8:
        raise BodyPoseNetError(problem, _remedy_of_dtype(image.dtype))
    return np.ascontiguousarray(image)  # type: ignore[return-value]


def _remedy_of_shape(shape: tuple[int, ...]) -> str:
    """How to make (H, W, 3) of it."""
    match shape:
        case (_, _):
            return "A gray one becomes RGB with np.stack([image] * 3, axis=-1)."
        case (_, _, 1):
            return "A gray one becomes RGB with np.repeat(image, 3, axis=2)."
        case (_, _, 4):
            return "RGBA becomes RGB with image[..., :3]."
        case (3, _, _):
            return "Channels come last: image.transpose(1, 2, 0)."
        case (_, _, _, _):
            return "Several images are given as list(images)."
        case _:
            return _EXPECTED


def _remedy_of_dtype(dtype: np.dtype[np.generic]) -> str:
    if dtype.kind == "f":
        return "Values of 0 to 1 become 8 bits with (image * 255).round().astype(np.uint8)."
    if dtype == np.uint16:
        return "16 bits become 8 with (image // 256).astype(np.uint8)."
    return "Values of 0 to 255 become 8 bits with image.astype(np.uint8)."


def _from_pil(image: PILImage) -> NDArray[np.uint8]:
    from PIL import ImageOps

    name = getattr(image, "filename", "") or "the PIL image"
    if image.mode[0] in "IF":  # 16 or 32 bits, whose range PIL does not tell
        raise BodyPoseNetError(
            f"{name}: of mode {image.mode}, more than 8 bits per channel",
            "Scale its values to 0 to 255 and convert it to RGB.",
        )
    check_size(name, (image.height, image.width))
    try:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:  # PIL reads the file only now
        raise BodyPoseNetError(f"{name}: cannot be read: {error}") from error
