"""Images as programs hold them (paths, addresses, bytes, files, arrays, PIL), as RGB pixels.

Forms that can mean one thing only are converted. Where a form could mean two things (floats beyond
0 to 1, 16 bits, a tensor with two axes that could be the channels), it is an error that tells how
to convert it: a wrong guess would find nobody, without a reason.
"""

from __future__ import annotations

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
from bodyposenet.media.image_header import check_size, decode, image_size, with_end

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage


_AGAIN = "Copy or download it again."

_AS_STORED = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


def read_image(path: str | Path, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Read an image file.

    The EXIF orientation is applied. Where annotations tell the size that they were made for, the
    orientation of that size is used: the turned image if it fits, else the image as stored if that
    one fits. Where neither does, the turned image comes back and the caller finds another size.

    Args:
        path: Any format that OpenCV reads; gray, RGBA and 16-bit images become 8-bit RGB.
        size: (height, width) that annotations state.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        BodyPoseNetError: The file is missing, empty, cut off, too large (`check_size`) or no
            image.
    """
    try:
        content = Path(path).read_bytes()
    except IsADirectoryError as error:
        raise BodyPoseNetError(f"{path}: is a folder", "Name an image in it.") from error
    except OSError as error:
        problem = f"{path}: cannot be read: {error.strerror or error}"
        raise BodyPoseNetError(problem, "Check the path and its permissions.") from error
    except ValueError as error:  # "a\0b.jpg", for example
        raise BodyPoseNetError(f"{str(path)!r}: no name of a file", "Rename the file.") from error
    return decode_image(content, str(path), size)


def decode_image(
    content: bytes, name: str, size: tuple[int, int] | None = None
) -> NDArray[np.uint8]:
    """Decode the content of an image file; the rest as in `read_image`.

    Args:
        content: The whole file.
        name: The image, for errors.
        size: (height, width) that annotations state.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        BodyPoseNetError: It is empty, cut off, too large (`check_size`) or no image.
    """
    if not content:
        raise BodyPoseNetError(f"{name}: the file is empty", _AGAIN)
    check_size(name, image_size(content))
    whole = with_end(content)
    if whole is None:
        raise BodyPoseNetError(f"{name}: the file is cut off (no end of image)", _AGAIN)
    if whole is not content:
        warn_of_missing_end(name)
    image = decode(whole, cv2.IMREAD_COLOR)
    if image is None:
        raise BodyPoseNetError(
            f"{name}: not an image, or a damaged one",
            "Give an image that OpenCV reads: JPEG, PNG, BMP, WebP and others.",
        )
    if size is not None and image.shape[:2] != size:
        stored = decode(whole, _AS_STORED)
        if stored is not None and stored.shape[:2] == size:
            image = stored
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)  # type: ignore[return-value]


@cache
def warn_of_missing_end(path: str) -> None:
    """Warn of a JPEG without end marker, once per file: training reads it in every epoch."""
    logger.warning("%s: the end marker of the JPEG is missing; all rows are there", path)


class BinaryFile(Protocol):
    """A file that was opened for reading bytes."""

    def read(self, size: int = ..., /) -> bytes: ...  # noqa: D102


class ArrayLike(Protocol):
    """Something that becomes an array: a tensor of PyTorch or JAX, for example."""

    def __array__(self, *args: Any, **kwargs: Any) -> NDArray[Any]: ...


Buffer: TypeAlias = bytes | bytearray | memoryview
Image: TypeAlias = "str | os.PathLike[str] | Buffer | BinaryFile | ArrayLike | PILImage"
Color = Literal["rgb", "bgr"]
"""Order of the channels in arrays; images of other kinds tell theirs."""

_CHANNELS = (1, 3, 4)
_TOLERANCE = 1e-3
"""Resizing may leave values a little beyond 0 to 1."""

_EXPECTED = (
    "Give a path, an http address, the bytes of an image file, an open file, an array of (height, "
    "width, 3) uint8, or a PIL image."
)


@dataclass(frozen=True)
class Encoded:
    """The content of an image file, and what to call it in errors."""

    name: str
    content: bytes


HeldImage: TypeAlias = str | os.PathLike[str] | bytes | Encoded | NDArray[np.uint8]
"""An image that can wait to be read in another thread; arrays are RGB already."""


def to_pixels(image: Image | HeldImage, color: Color = "rgb") -> NDArray[np.uint8]:
    """Convert an image to the one form that all of the package works on.

    Args:
        image: The path of a file (see `read_image`) or its http(s) address; the bytes of a file; a
            file that is open for reading bytes, which is read to its end and stays open; an array
            or a tensor on the CPU (see below); or a PIL image of 8 bits per channel, turned as its
            EXIF orientation states. Arrays are (H, W), (H, W, C) or (C, H, W) with 1 (gray), 3, or
            4 channels, of which the last, alpha, is ignored; uint8, or floats from 0 to 1. Where
            the first and the last axis could be the channels, an array has them last.
        color: Order of an array's channels.

    Returns:
        (H, W, 3) uint8, RGB; it may share memory with the image and be read-only.

    Raises:
        BodyPoseNetError: It is not an image, one of a form that could mean several things, cannot
            be read, or holds too many pixels (`check_size`).
    """
    if isinstance(image, str | os.PathLike):
        return _from_path(os.fspath(image))
    if isinstance(image, Buffer):
        return decode_image(bytes(image), "the bytes of an image")
    if isinstance(image, Encoded):
        return decode_image(image.content, image.name)
    # Who has a PIL image or a tensor has imported PIL or torch; this module does not.
    if (pil := sys.modules.get("PIL.Image")) is not None and isinstance(image, pil.Image):
        return _from_pil(cast("PILImage", image))
    if (torch := sys.modules.get("torch")) is not None and isinstance(image, torch.Tensor):
        return _from_tensor(image, color)
    if hasattr(image, "__array__"):
        return _from_array(np.asarray(image), color)
    if hasattr(image, "read"):
        encoded = _read_file(image)
        return decode_image(encoded.content, encoded.name)
    raise BodyPoseNetError(f"Unsupported image type: {type(image).__name__}", _remedy(image))


def hold(image: Image, color: Color = "rgb", *, copy: bool = False) -> HeldImage:
    """Take what is needed of an image that waits for its turn, in another thread.

    Paths, addresses and bytes are returned as they are, for `to_pixels` to read or decode them
    later. Files are read, and everything else becomes pixels, now: a PIL image reads its file when
    it is asked for pixels, and it or a file may be something else by then.

    Args:
        image: See `to_pixels`.
        color: See `to_pixels`.
        copy: The program may fill the same array anew for the next image.

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
    """Check an order of channels.

    Raises:
        BodyPoseNetError: It is unknown.
    """
    if color not in ("rgb", "bgr"):
        raise BodyPoseNetError(f"color: {color!r} is unknown", 'Write "rgb" or "bgr".')


def is_image(images: object) -> bool:
    """Whether something that can be iterated over is meant as one image: a file, an array."""
    one = isinstance(images, str | os.PathLike | Buffer)
    return one or hasattr(images, "__array__") or hasattr(images, "read")


def _from_path(path: str) -> NDArray[np.uint8]:
    if is_address(path):
        return decode_image(download(path), path)
    if scheme := re.match(r"([A-Za-z][\w+.-]+)://", path):
        raise BodyPoseNetError(
            f"{path}: Unsupported address: {scheme[1]}",
            "Images are read from http and https; streams with model.video(address).",
        )
    if path.startswith("data:image"):
        raise BodyPoseNetError(
            f"Unsupported address: {path[:40]}...",
            'Give its bytes: base64.b64decode(text.partition(",")[2]).',
        )
    if not path:
        raise BodyPoseNetError("The path of the image is empty", _EXPECTED)
    try:
        return read_image(path)
    except BodyPoseNetError as error:
        from bodyposenet.media.inputs import VIDEO_EXTENSIONS

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


def _read_file(file: Any) -> Encoded:
    """The rest of an open file."""
    name = getattr(file, "name", None)
    name = name if isinstance(name, str) and name else "the open file"
    if inspect.iscoroutinefunction(file.read):  # an UploadFile of FastAPI
        raise BodyPoseNetError(
            f"Unsupported image type: {type(file).__name__}, which is read asynchronously",
            "Give the file within it (upload.file), or its content (await upload.read()).",
        )
    try:
        content = file.read()
    except (OSError, ValueError) as error:  # ValueError: it is closed, or holds no text
        raise BodyPoseNetError(f"{name}: cannot be read: {error}", "Open it anew.") from error
    if isinstance(content, str):
        raise BodyPoseNetError(
            f"{name}: opened as text, not as bytes", 'Open it with open(path, "rb").'
        )
    if not isinstance(content, bytes):  # a VideoCapture of OpenCV, whose read gives a frame
        raise BodyPoseNetError(
            f"Unsupported image type: {type(file).__name__}, whose read() gives no bytes",
            "Give the frames that it reads, or model.video(source) the path of a video.",
        )
    if not content:
        raise BodyPoseNetError(
            f"{name}: there is nothing left to read", "Rewind it (file.seek(0)) if it was read."
        )
    return Encoded(name, content)


def _from_array(
    image: NDArray[Any], color: Color, what: str = "an array", *, is_tensor: bool = False
) -> NDArray[np.uint8]:
    """Arrays have their channels last where both ends could be channels; tensors tell nothing."""
    problem = f"Unsupported image: {what} of {image.shape} {image.dtype}"
    if not image.size and image.ndim in (2, 3):
        raise BodyPoseNetError(f"{problem}, without pixels", _EXPECTED)
    if image.ndim == 2:
        image = image[..., None]
    elif image.ndim != 3:
        several = "Give several images as list(images)."
        raise BodyPoseNetError(problem, several if image.ndim == 4 else _EXPECTED)
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
            raise BodyPoseNetError(f"{problem}: no axis has 1, 3 or 4 channels", _EXPECTED)
    check_size(what, image.shape[:2])
    image = image[..., :3]
    pixels = image if image.dtype == np.uint8 else _to_bytes(image, problem)
    if pixels.shape[2] == 1:
        return np.repeat(pixels, 3, axis=2)
    return np.ascontiguousarray(pixels[..., ::-1] if color == "bgr" else pixels)


def _to_bytes(image: NDArray[Any], problem: str) -> NDArray[np.uint8]:
    """Values of 0 to 1 as 0 to 255."""
    if image.dtype == np.uint16:
        raise BodyPoseNetError(problem, "16 bits become 8 with (image // 256).astype(np.uint8).")
    if image.dtype == np.bool_:
        raise BodyPoseNetError(problem, "True as white: image.astype(np.uint8) * 255.")
    if image.dtype.kind != "f":
        raise BodyPoseNetError(problem, "Values of 0 to 255: image.astype(np.uint8).")
    low, high = float(image.min()), float(image.max())
    if not -_TOLERANCE <= low <= high <= 1 + _TOLERANCE:
        in_bytes = 0 <= low <= high <= 255
        raise BodyPoseNetError(
            f"{problem}, whose values of {low:g} to {high:g} are not within 0 to 1",
            "Values of 0 to 255: image.astype(np.uint8)."
            if in_bytes
            else "Give the image as it was before it was normalized.",
        )
    return (image.astype(np.float32).clip(0, 1) * 255).round().astype(np.uint8)


def _from_tensor(tensor: Any, color: Color) -> NDArray[np.uint8]:
    """A tensor of PyTorch."""
    if tensor.device.type != "cpu":
        raise BodyPoseNetError(
            f"Unsupported image: a tensor on {tensor.device}", "Give tensor.cpu()."
        )
    tensor = tensor.detach()
    if tensor.is_floating_point():
        tensor = tensor.float()  # numpy has no bfloat16
    return _from_array(tensor.numpy(), color, "a tensor", is_tensor=True)


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


def _remedy(image: object) -> str:
    if isinstance(image, int) and not isinstance(image, bool):
        return f"A camera is read with model.video({image})."
    return _EXPECTED
