"""Images as RGB pixels: from paths, addresses, bytes, open files, arrays, tensors and PIL images.

The EXIF orientation of files is applied here, in the same way for inference, training and
evaluation: unless annotations state a size that only the image as stored has.

Ambiguous inputs (floats outside of 0 to 1, 16 bits per channel, a tensor with two axes that could
be the channels) are errors whose texts explain the conversion. With the wrong interpretation, no
person would be detected, and no error reported.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from bodyposenet.console import logger
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import exists
from bodyposenet.media.download import download, is_address
from bodyposenet.media.image_header import (
    END_MARKER,
    avif_transform,
    check_size,
    image_size,
    is_avif,
    is_jpeg,
    is_truncated,
)
from bodyposenet.media.video import VIDEO_EXTENSIONS

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
"""Extensions of the image files in a folder, in either case; other inputs are identified by their
content."""

Color = Literal["rgb", "bgr"]
"""Channel order of arrays and tensors; images of other types define their own."""


class BinaryFile(Protocol):
    """A file opened for reading bytes."""

    def read(self, size: int = ..., /) -> bytes:
        """Read up to `size` bytes, or to the end of the file."""
        ...


class ArrayLike(Protocol):
    """An object that NumPy can convert to an array, such as a tensor of PyTorch or JAX."""

    def __array__(self, *args: Any, **kwargs: Any) -> NDArray[Any]: ...


@dataclass(frozen=True)
class EncodedImage:
    """The content of an image file.

    Args:
        name: The file's name, for error messages.
        content: The whole file.
    """

    name: str
    content: bytes


Buffer: TypeAlias = bytes | bytearray | memoryview
Image: TypeAlias = "str | os.PathLike[str] | Buffer | BinaryFile | ArrayLike | PILImage"
"""Everything that `to_pixels` converts."""
DeferredImage: TypeAlias = str | os.PathLike[str] | bytes | EncodedImage | NDArray[np.uint8]
"""An image that can be converted later, in another thread; arrays are RGB already."""

_CHANNELS = (1, 3, 4)
_TOLERANCE = 1e-3
"""How far values may lie outside of 0 to 1, as they do after resizing."""

_ACCEPTED = (
    "Give a path, an http address, the bytes of an image file, an open file, an array of (height, "
    "width, 3) uint8, or a PIL image."
)
_DAMAGED = "Copy or download it again."

_AS_STORED = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION

_SCAN_DATA = bytes(0x5A ^ 29 * i % 127 for i in range(256))
"""Bytes that `restore_end_marker` appends to the scan of a JPEG to detect missing rows.

After a complete scan, decoders ignore them. After an incomplete one, they are decoded in place of
the missing data, so the pixels differ from those that decoders fill in.
"""


def to_pixels(image: Image | DeferredImage, color: Color = "rgb") -> NDArray[np.uint8]:
    """Convert an image of any supported type to RGB pixels.

    Args:
        image: The path of a file (see `read_image`) or its http(s) address; the bytes of a file; a
            file that is open for reading bytes, which is read to its end and stays open; an array
            or a tensor on the CPU (see below); or a PIL image of 8 bits per channel, whose EXIF
            orientation is applied. Arrays are (H, W), (H, W, C) or (C, H, W) with 1 (gray), 3, or
            4 channels, of which the last, alpha, is ignored; uint8, or floats from 0 to 1. If both
            the first and the last axis could be the channels, those of an array are the last.
        color: Channel order of an array or a tensor.

    Returns:
        (H, W, 3) uint8, RGB; it may share memory with the image and be read-only.

    Raises:
        BodyPoseNetError: The type is not supported, the image can be interpreted in two ways,
            cannot be read, or has too many pixels (`check_size`).
    """
    if isinstance(image, str | os.PathLike):
        return _from_path(os.fspath(image))
    if isinstance(image, Buffer):
        return decode_image(bytes(image), "the bytes of an image")
    if isinstance(image, EncodedImage):
        return decode_image(image.content, image.name)
    # A caller with a PIL image or a tensor has imported PIL or torch; this module imports neither.
    if (pil := sys.modules.get("PIL.Image")) is not None and isinstance(image, pil.Image):
        return _from_pil(cast("PILImage", image))
    if (torch := sys.modules.get("torch")) is not None and isinstance(image, torch.Tensor):
        return _from_tensor(image, color)
    if hasattr(image, "__array__"):
        return _from_array(np.asarray(image), color)
    if hasattr(image, "read"):
        encoded = _read_file(image)
        return decode_image(encoded.content, encoded.name)
    is_camera = isinstance(image, int) and not isinstance(image, bool)
    raise BodyPoseNetError(
        f"Unsupported image type: {type(image).__name__}",
        f"A camera is read with model.video({image})." if is_camera else _ACCEPTED,
    )


def read_image(path: str | Path, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Read an image file, with its EXIF orientation applied.

    If annotations state the size of the image that they were made for, the orientation with that
    size is used: the one after EXIF if it has the size, else the image as stored if it has. If
    neither has it, the result is the image after EXIF, and the caller has to compare the sizes.

    Args:
        path: Any format that OpenCV reads; gray, RGBA and 16-bit images become 8-bit RGB.
        size: (height, width) stated by annotations.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        BodyPoseNetError: The file is missing, empty, truncated, too large (`check_size`) or not an
            image.
    """
    try:
        content = Path(path).read_bytes()
    except IsADirectoryError as error:
        raise BodyPoseNetError(
            f"{path}: is a folder", "Give the path of an image in it."
        ) from error
    except OSError as error:
        problem = f"{path}: cannot be read: {error.strerror or error}"
        raise BodyPoseNetError(problem, "Check the path and its permissions.") from error
    except ValueError as error:  # "a\0b.jpg", for example
        raise BodyPoseNetError(f"{str(path)!r}: not a file name", "Rename the file.") from error
    return decode_image(content, str(path), size)


def decode_image(
    content: bytes, name: str, size: tuple[int, int] | None = None
) -> NDArray[np.uint8]:
    """Decode the content of an image file, as `read_image` does.

    Args:
        content: The whole file.
        name: The image's name, for error messages.
        size: (height, width) stated by annotations.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        BodyPoseNetError: It is empty, truncated, too large (`check_size`) or not an image.
    """
    if not content:
        raise BodyPoseNetError(f"{name}: the file is empty", _DAMAGED)
    check_size(name, image_size(content))
    whole = restore_end_marker(content)
    if whole is None:
        raise BodyPoseNetError(f"{name}: the file is truncated (no end of image)", _DAMAGED)
    if whole is not content:
        warn_missing_end_marker(name)
    image = imdecode(whole, cv2.IMREAD_COLOR)
    if image is None:
        raise BodyPoseNetError(
            f"{name}: not an image, or a damaged one",
            "Give an image that OpenCV reads: JPEG, PNG, BMP, WebP and others.",
        )
    if size is not None and image.shape[:2] != size:
        stored = imdecode(whole, _AS_STORED)
        if stored is not None and stored.shape[:2] == size:
            image = stored
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)  # type: ignore[return-value]


def imdecode(content: bytes, flags: int) -> NDArray[np.uint8] | None:
    """Decode an image with `cv2.imdecode`, which does not apply the orientation of AVIF.

    Args:
        content: The whole file.
        flags: Flags of `cv2.imdecode`; without IMREAD_IGNORE_ORIENTATION, the orientation that the
            file states is applied (EXIF, or the properties of an AVIF).

    Returns:
        The pixels, with the channels in OpenCV's order; None if the content cannot be decoded.
    """
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error:  # an empty file, or more pixels than OpenCV allows
        return None
    if image is not None and is_avif(content) and not flags & cv2.IMREAD_IGNORE_ORIENTATION:
        quarter_turns, flipped_axis = avif_transform(content)
        image = np.rot90(image, quarter_turns)
        if flipped_axis is not None:
            image = np.flip(image, flipped_axis)
        image = np.ascontiguousarray(image)
    return image  # type: ignore[return-value]


def restore_end_marker(content: bytes) -> bytes | None:
    """Complete a JPEG that lacks only its end marker, as some cameras and scrapers write it.

    Args:
        content: The whole file, of at most as many pixels as `check_size` allows.

    Returns:
        The content; the same object if it is complete, or the format is neither JPEG nor PNG. None
        if the file is truncated and rows are missing, which OpenCV would fill with gray in a JPEG.
    """
    if not is_truncated(content):
        return content
    if not is_jpeg(content):
        return None
    digests = {_digest(content + data + END_MARKER) for data in (b"", _SCAN_DATA)}
    has_all_rows = len(digests) == 1 and None not in digests
    return content + END_MARKER if has_all_rows else None


def _digest(content: bytes) -> bytes | None:
    """Return a hash of the decoded pixels, or None if the content cannot be decoded."""
    image = imdecode(content, cv2.IMREAD_COLOR)
    return None if image is None else hashlib.blake2b(image.data, digest_size=16).digest()


@cache
def warn_missing_end_marker(path: str) -> None:
    """Log that a JPEG has no end marker, once per file, as training reads it in every epoch."""
    logger.warning("%s: the end marker of the JPEG is missing; all rows are present", path)


def defer(image: Image, color: Color = "rgb", *, copy: bool = False) -> DeferredImage:
    """Prepare an image for `to_pixels` at a later time, in another thread.

    Paths, addresses and bytes are returned unchanged. Files are read, and everything else is
    converted to pixels now: a PIL image reads its file on first use, and the caller may change the
    image or the file in the meantime.

    Args:
        image: See `to_pixels`.
        color: See `to_pixels`.
        copy: Copy arrays, for callers that reuse one array for the next image.

    Raises:
        BodyPoseNetError: See `to_pixels`.
    """
    if isinstance(image, str | os.PathLike | bytes):
        return image
    if isinstance(image, bytearray | memoryview):
        return bytes(image)
    if hasattr(image, "read") and not hasattr(image, "__array__"):
        return _read_file(image)
    pixels = to_pixels(image, color)
    return pixels.copy() if copy and (pixels is image or not pixels.flags.owndata) else pixels


def check_color(color: object) -> None:
    """Check the argument `color`.

    Raises:
        BodyPoseNetError: It is neither "rgb" nor "bgr".
    """
    if color not in ("rgb", "bgr"):
        raise BodyPoseNetError(f"color: {color!r} is unknown", 'Write "rgb" or "bgr".')


def is_single_image(images: object) -> bool:
    """Return whether an argument is one image rather than an iterable of images."""
    is_file = isinstance(images, str | os.PathLike | Buffer)
    return is_file or hasattr(images, "__array__") or hasattr(images, "read")


def _from_path(path: str) -> NDArray[np.uint8]:
    """Read a file or download it; errors suggest fixes for patterns, lists and videos."""
    if is_address(path):
        return decode_image(download(path), path)
    if scheme := re.match(r"([A-Za-z][\w+.-]+)://", path):
        raise BodyPoseNetError(
            f"{path}: unsupported type of address: {scheme[1]}",
            "Images are read from http and https; streams with model.video(address).",
        )
    if path.startswith("data:image"):
        raise BodyPoseNetError(
            f"Unsupported address: {path[:40]}...",
            'Give its bytes: base64.b64decode(text.partition(",")[2]).',
        )
    if not path:
        raise BodyPoseNetError("The path of the image is empty", _ACCEPTED)
    try:
        return read_image(path)
    except BodyPoseNetError as error:
        if Path(path).suffix.lower() in VIDEO_EXTENSIONS and exists(path):
            remedy = f"Videos are read with model.video({path!r})."
        elif exists(path):
            raise
        elif "*" in path or "?" in path:
            remedy = f'Give the files that it matches: Path(".").glob({path!r}).'
        elif "," in path:
            remedy = "Give several images as a list of paths."
        else:
            raise
        raise BodyPoseNetError(error.what, remedy) from error


def _read_file(file: Any) -> EncodedImage:
    """Read an open file from its position to its end."""
    name = getattr(file, "name", None)
    name = name if isinstance(name, str) and name else "the open file"
    if inspect.iscoroutinefunction(file.read):  # an UploadFile of FastAPI
        raise BodyPoseNetError(
            f"Unsupported image type: {type(file).__name__}, which is read asynchronously",
            "Give the file within it (upload.file), or its content (await upload.read()).",
        )
    try:
        content = file.read()
    except (OSError, ValueError) as error:  # ValueError: a closed file, or one that is not text
        raise BodyPoseNetError(f"{name}: cannot be read: {error}", "Open it again.") from error
    if isinstance(content, str):
        raise BodyPoseNetError(
            f"{name}: opened as text, not as bytes", 'Open it with open(path, "rb").'
        )
    if not isinstance(content, bytes):  # a VideoCapture of OpenCV, whose read returns a frame
        raise BodyPoseNetError(
            f"Unsupported image type: {type(file).__name__}, whose read() returns no bytes",
            "Give the frames that it returns, or the path of a video to model.video(source).",
        )
    if not content:
        raise BodyPoseNetError(
            f"{name}: there is nothing left to read",
            "If the file was read before, rewind it with file.seek(0).",
        )
    return EncodedImage(name, content)


def _from_array(
    image: NDArray[Any], color: Color, what: str = "an array", *, is_tensor: bool = False
) -> NDArray[np.uint8]:
    """Convert an array or tensor; a tensor with two possible channel axes is an error."""
    problem = f"Unsupported image: {what} of {image.shape} {image.dtype}"
    if not image.size and image.ndim in (2, 3):
        raise BodyPoseNetError(f"{problem}, without pixels", _ACCEPTED)
    if image.ndim == 2:
        image = image[..., None]
    elif image.ndim != 3:
        several = "Give several images as list(images)."
        raise BodyPoseNetError(problem, several if image.ndim == 4 else _ACCEPTED)
    else:
        first, last = image.shape[0] in _CHANNELS, image.shape[2] in _CHANNELS
        if is_tensor and first and last:
            raise BodyPoseNetError(
                f"{problem}: its first or its last axis could be the channels",
                "Give it as an array with the channels last: tensor.permute(1, 2, 0).numpy().",
            )
        if first and not last:
            image = image.transpose(1, 2, 0)
        elif not last:
            raise BodyPoseNetError(f"{problem}: no axis has 1, 3 or 4 channels", _ACCEPTED)
    check_size(what, image.shape[:2])
    image = image[..., :3]
    pixels = image if image.dtype == np.uint8 else _to_bytes(image, problem)
    if pixels.shape[2] == 1:
        return np.repeat(pixels, 3, axis=2)
    return np.ascontiguousarray(pixels[..., ::-1] if color == "bgr" else pixels)


def _to_bytes(image: NDArray[Any], problem: str) -> NDArray[np.uint8]:
    """Convert floats from 0 to 1 to values from 0 to 255."""
    if image.dtype == np.uint16:
        raise BodyPoseNetError(problem, "Convert 16 bits to 8: (image // 256).astype(np.uint8).")
    if image.dtype == np.bool_:
        raise BodyPoseNetError(
            problem, "Convert it, with True as white: image.astype(np.uint8) * 255."
        )
    if image.dtype.kind != "f":
        raise BodyPoseNetError(problem, "Convert values from 0 to 255: image.astype(np.uint8).")
    low, high = float(image.min()), float(image.max())
    if not -_TOLERANCE <= low <= high <= 1 + _TOLERANCE:
        in_bytes = 0 <= low <= high <= 255
        raise BodyPoseNetError(
            f"{problem}, whose values from {low:g} to {high:g} are not within 0 to 1",
            "Convert values from 0 to 255: image.astype(np.uint8)."
            if in_bytes
            else "Give the image before normalization.",
        )
    return (image.astype(np.float32).clip(0, 1) * 255).round().astype(np.uint8)


def _from_tensor(tensor: Any, color: Color) -> NDArray[np.uint8]:
    """Convert a tensor of PyTorch."""
    if tensor.device.type != "cpu":
        raise BodyPoseNetError(
            f"Unsupported image: a tensor on {tensor.device}", "Convert it with tensor.cpu()."
        )
    tensor = tensor.detach()
    if tensor.is_floating_point():
        tensor = tensor.float()  # numpy has no bfloat16
    return _from_array(tensor.numpy(), color, "a tensor", is_tensor=True)


def _from_pil(image: PILImage) -> NDArray[np.uint8]:
    """Convert a PIL image, with its EXIF orientation applied."""
    from PIL import ImageOps

    name = getattr(image, "filename", "") or "the PIL image"
    if image.mode[0] in "IF":  # 16 or 32 bits, of a range that PIL does not define
        raise BodyPoseNetError(
            f"{name}: mode {image.mode} has more than 8 bits per channel",
            "Scale its values to 0 to 255 and convert it to RGB.",
        )
    check_size(name, (image.height, image.width))
    try:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:  # PIL reads the file here
        raise BodyPoseNetError(f"{name}: cannot be read: {error}") from error
