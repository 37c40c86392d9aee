"""Reading of image files, and the ways to name them: one image, a folder, or a JSON file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import cv2

from bodyposenet.console import logger
from bodyposenet.errors import BodyPoseNetError, mask_passwords
from bodyposenet.files import exists, is_file, is_folder, read_json
from bodyposenet.media.download import download_beginning, is_address
from bodyposenet.media.images import read_image
from bodyposenet.media.video import name_for_opencv, open_capture

InputType = Literal["image", "dir", "json"]

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
"""What counts as an image in a folder, in either case; elsewhere the content decides."""


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
    """Find the images that the user means (TAO reference, section 11.1).

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


InputKind = Literal["image", "dir", "json", "video", "webcam"]

VIDEO_EXTENSIONS = (
    ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".gif",
    ".mjpeg", ".mjpg",
)  # fmt: skip
"""What counts as a video, in either case; elsewhere the content decides."""


def tell_kind(source: str, root: str | Path = "") -> InputKind:
    """Detect the kind of an input by its extension, or else by its content.

    An address on a web server is an image if its content begins as one, else a stream ("webcam").

    Args:
        source: A path, the number of a camera, or the address of an image or a stream.
        root: Folder that the path of an image, and of nothing else, may be relative to.

    Raises:
        BodyPoseNetError: There is no such file, or it is of no kind that is known.
    """
    path, image = Path(source), Path(root, source)
    if exists(path):
        if is_folder(path):
            return "dir"
        if path.is_fifo():
            return "image"  # nothing else can be read from a pipe
        if is_file(path):
            return _kind_of_file(path)
    elif is_address(source):
        return _kind_of_address(source)
    elif source.isdecimal() or "://" in source:
        return "webcam"
    if is_file(image) and _kind_of_file(image) == "image":
        return "image"
    raise BodyPoseNetError(
        f"{source}: no such file or folder",
        "Check the path; only images are looked for in --image_root_path.",
    )


def check_image(path: Path) -> None:
    """Read the only image of a run, so that an error is reported before a model is opened.

    Raises:
        BodyPoseNetError: It cannot be read, perhaps because it is another kind of input.
    """
    if exists(path) and path.is_fifo():
        return  # it can be read only once
    try:
        read_image(path)
    except BodyPoseNetError as error:
        kind = tell_kind(str(path))
        if kind == "image":
            raise
        raise BodyPoseNetError(error.what, f"Give --input_type {kind}, or auto.") from error


_ENOUGH_FOR_A_SIGNATURE = 512
"""Bytes at the beginning of a file."""

_EXTENSIONS: dict[InputKind, tuple[str, ...]] = {
    "image": IMAGE_EXTENSIONS,
    "json": (".json",),
    "video": VIDEO_EXTENSIONS,
}


def _suffix(path: str | Path) -> str:
    return Path(path).suffix.lower()


def _kind_of_file(path: Path) -> InputKind:
    extension = _suffix(path)
    for kind, extensions in _EXTENSIONS.items():
        if extension in extensions:
            return kind
    return _kind_by_content(path)


def _kind_of_address(address: str) -> InputKind:
    extension = _suffix(re.split("[?#]", address)[0])
    if extension in VIDEO_EXTENSIONS:
        return "webcam"
    try:
        beginning = download_beginning(address, _ENOUGH_FOR_A_SIGNATURE)
    except BodyPoseNetError:  # reading it tells why; FFmpeg reaches some that urllib does not
        return "image" if extension in IMAGE_EXTENSIONS else "webcam"
    with TemporaryDirectory() as folder:
        file = Path(folder, "beginning")
        file.write_bytes(beginning)
        return "image" if cv2.haveImageReader(str(file)) else "webcam"


def _kind_by_content(path: Path) -> InputKind:
    name = name_for_opencv(path)
    if cv2.haveImageReader(name):
        return "image"
    try:
        with open(path, "rb") as file:
            beginning = file.read(100)
    except OSError as error:
        problem = f"{path}: cannot be read: {error.strerror or error}"
        raise BodyPoseNetError(problem, "Check its permissions.") from error
    if beginning.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"[", b"{"):
        return "json"
    if open_capture(name, cv2.CAP_FFMPEG).isOpened():
        return "video"
    raise BodyPoseNetError(
        f"{path}: neither an image nor a JSON nor a video that can be read",
        "Choose an --input_type if it is one nevertheless.",
    )
