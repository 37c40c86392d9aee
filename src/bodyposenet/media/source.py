"""Reading of image files, and the ways to name them: one image, a folder, or a JSON file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import cv2
import numpy as np
from numpy.typing import NDArray

from bodyposenet.console import logger
from bodyposenet.errors import BodyPoseNetError, mask_passwords
from bodyposenet.files import read_json
from bodyposenet.media.download import is_address
from bodyposenet.media.encoded import check_size, decode, image_size, with_end

InputType = Literal["image", "dir", "json"]

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
"""What counts as an image in a folder, in either case; elsewhere the content decides."""

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


@dataclass(frozen=True)
class ImageEntry:
    """One image to work on.

    Args:
        path: The file; of an image on a web server, only its name.
        fields: What the input JSON says of it, beside the path.
        address: Of an image on a web server (`http://...`, `https://...`); empty for files.
    """

    path: Path
    fields: Mapping[str, Any] = field(default_factory=dict)
    address: str = ""

    @classmethod
    def of(
        cls, name: str | Path, root: Path, fields: Mapping[str, Any] | None = None
    ) -> ImageEntry:
        """An image as the user names it: by an address, or a path relative to a folder."""
        if is_address(str(name)):
            path = Path(PurePosixPath(unquote(urlsplit(str(name)).path)).name or "image")
            return cls(path, fields or {}, str(name))
        return cls(root / name, fields or {})

    @property
    def name(self) -> str:
        """The path or address for people and files, without a password."""
        return mask_passwords(self.address) or self.path.as_posix()


@dataclass(frozen=True)
class ImageList:
    """The images to work on.

    Args:
        entries: In the order of the results.
        fields: What the input JSON says beside the images.
    """

    entries: tuple[ImageEntry, ...]
    fields: Mapping[str, Any] = field(default_factory=dict)


def list_images(input_type: InputType, path: str | Path, root: str | Path = "") -> ImageList:
    """Find the images that the user means (reference 11.1).

    Args:
        input_type: `image`: `path` is one; `dir`: it is a folder of images, folders in it are not
            searched; `json`: it is a file with a list of paths, or with an object whose `images`
            have a `full_image_path` each.
        path: The input.
        root: Joined in front of the paths of `image` and `json`; absolute paths and addresses stay.

    Raises:
        BodyPoseNetError: The folder or the JSON cannot be read, or names no image.
    """
    if input_type == "image":
        return ImageList((ImageEntry.of(path, Path(root)),))
    if input_type == "dir":
        return _list_folder(Path(path))
    return _list_json(Path(path), Path(root))


def _list_folder(folder: Path) -> ImageList:
    try:
        files = sorted(file for file in folder.iterdir() if file.is_file())
    except OSError as error:
        raise BodyPoseNetError(
            f"{folder}: not a folder that can be read: {error.strerror or error}",
            "Check the path and its permissions; --input_type auto finds out what an input is.",
        ) from error
    images = [file for file in files if file.suffix.lower() in IMAGE_EXTENSIONS]
    if not images:
        extensions = ", ".join(extension[1:] for extension in IMAGE_EXTENSIONS)
        raise BodyPoseNetError(
            f"{folder}: holds no images ({extensions})", "Folders within it are not searched."
        )
    if len(images) < len(files):
        others = len(files) - len(images)
        logger.info("%s: %d files are not images and are skipped", folder, others)
    return ImageList(tuple(ImageEntry(image) for image in images))


def _list_json(path: Path, root: Path) -> ImageList:
    remedy = 'Write ["a.jpg", "b.jpg"] or {"images": [{"full_image_path": "a.jpg"}]}.'
    content = read_json(path, "Give a JSON file; --input_type auto finds out what an input is.")
    fields = {}
    if isinstance(content, dict):
        fields = {key: value for key, value in content.items() if key != "images"}
        content = content.get("images")
    if not isinstance(content, list):
        raise BodyPoseNetError(f"{path}: neither a list of paths nor an object with images", remedy)
    if not content:
        raise BodyPoseNetError(f"{path}: the list of images is empty", remedy)
    entries = []
    for place, item in enumerate(content):
        own = item if isinstance(item, dict) else {"full_image_path": item}
        image = own.get("full_image_path")
        if not isinstance(image, str) or not image:
            raise BodyPoseNetError(f"{path}: images.{place}: no path of an image", remedy)
        entries.append(ImageEntry.of(image, root, own))
    return ImageList(tuple(entries), fields)
