"""Inputs of commands: the type of an input, and the images in a folder or a JSON list."""

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
from bodyposenet.media.images import IMAGE_EXTENSIONS, read_image
from bodyposenet.media.video import VIDEO_EXTENSIONS, name_for_opencv, open_capture

ImageInputType = Literal["image", "dir", "json"]
InputType = Literal["image", "dir", "json", "video", "webcam"]

_EXTENSIONS: dict[InputType, tuple[str, ...]] = {
    "image": IMAGE_EXTENSIONS,
    "json": (".json",),
    "video": VIDEO_EXTENSIONS,
}

_SIGNATURE_BYTES = 512
"""Bytes at the beginning of a file that are enough to recognize an image."""


def detect_input_type(source: str, root: str | Path = "") -> InputType:
    """Detect the type of an input by its extension, or else by its content.

    An address on a web server is an image if its content starts like one, else a stream
    ("webcam").

    Args:
        source: A path, the number of a camera, or the address of an image or a stream.
        root: Folder to which the path of an image may be relative; other paths may not.

    Raises:
        BodyPoseNetError: There is no such file, or its type is unknown.
    """
    path, image = Path(source), Path(root, source)
    if exists(path):
        if is_folder(path):
            return "dir"
        if path.is_fifo():
            return "image"  # the only type that can be read from a pipe
        if is_file(path):
            return _type_of_file(path)
    elif is_address(source):
        return _type_of_address(source)
    elif source.isdecimal() or "://" in source:
        return "webcam"
    if is_file(image) and _type_of_file(image) == "image":
        return "image"
    raise BodyPoseNetError(
        f"File or folder not found: {source}",
        "Check the path; --image_root_path is searched for images only.",
    )


@dataclass(frozen=True)
class ImageEntry:
    """One image of an input.

    Args:
        path: The file; of an image on a web server, only its name.
        fields: Its object in the input JSON; empty for other inputs.
        address: Address of an image on a web server (`http://...`, `https://...`); empty for
            files.
    """

    path: Path
    fields: Mapping[str, Any] = field(default_factory=dict)
    address: str = ""

    @classmethod
    def from_name(
        cls, name: str | Path, root: Path, fields: Mapping[str, Any] | None = None
    ) -> ImageEntry:
        """Create an entry from an address, or from a path relative to a folder.

        Args:
            name: The address or the path.
            root: The folder.
            fields: See the class.
        """
        if is_address(str(name)):
            path = Path(PurePosixPath(unquote(urlsplit(str(name)).path)).name or "image")
            return cls(path, fields or {}, str(name))
        return cls(root / name, fields or {})

    @property
    def name(self) -> str:
        """The path or address for messages and results, without a password."""
        return mask_passwords(self.address) or self.path.as_posix()


@dataclass(frozen=True)
class ImageList:
    """The images of an input.

    Args:
        entries: The images, in the order of the results.
        fields: Other keys of the input JSON, beside `images`.
    """

    entries: tuple[ImageEntry, ...]
    fields: Mapping[str, Any] = field(default_factory=dict)


def list_images(input_type: ImageInputType, path: str | Path, root: str | Path = "") -> ImageList:
    """List the images of an input (TAO reference, section 11.1).

    Args:
        input_type: Meaning of `path`. `image`: one image; `dir`: a folder of images, without its
            subfolders; `json`: a file with a list of paths, or with an object whose `images` have
            a `full_image_path` each.
        path: The input.
        root: Folder to which relative paths of `image` and `json` are relative.

    Raises:
        BodyPoseNetError: The folder or the JSON file cannot be read, or contains no images.
    """
    if input_type == "image":
        return ImageList((ImageEntry.from_name(path, Path(root)),))
    if input_type == "dir":
        return _list_folder(Path(path))
    return _list_json(Path(path), Path(root))


def _list_folder(folder: Path) -> ImageList:
    try:
        files = sorted(file for file in folder.iterdir() if file.is_file())
    except OSError as error:
        raise BodyPoseNetError(
            f"{folder}: not a folder that can be read: {error.strerror or error}",
            "Check the path and its permissions; --input_type auto detects the type.",
        ) from error
    images = [file for file in files if file.suffix.lower() in IMAGE_EXTENSIONS]
    if not images:
        extensions = ", ".join(extension[1:] for extension in IMAGE_EXTENSIONS)
        raise BodyPoseNetError(
            f"{folder}: contains no images ({extensions})",
            "Subfolders are not searched.",
        )
    if len(images) < len(files):
        others = len(files) - len(images)
        logger.info("%s: skipped %d files that are not images", folder, others)
    return ImageList(tuple(ImageEntry(image) for image in images))


def _list_json(path: Path, root: Path) -> ImageList:
    remedy = 'Write ["a.jpg", "b.jpg"] or {"images": [{"full_image_path": "a.jpg"}]}.'
    content = read_json(path, "Give a JSON file; --input_type auto detects the type.")
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
        fields_of_image = item if isinstance(item, dict) else {"full_image_path": item}
        image = fields_of_image.get("full_image_path")
        if not isinstance(image, str) or not image:
            raise BodyPoseNetError(f"{path}: images.{place}: expected the path of an image", remedy)
        entries.append(ImageEntry.from_name(image, root, fields_of_image))
    return ImageList(tuple(entries), fields)


def check_image(path: Path) -> None:
    """Read the only image of a run, to report an error before the model is loaded.

    Raises:
        BodyPoseNetError: It cannot be read, perhaps because it is an input of another type.
    """
    if exists(path) and path.is_fifo():
        return  # it can be read only once
    try:
        read_image(path)
    except BodyPoseNetError as error:
        detected = detect_input_type(str(path))
        if detected == "image":
            raise
        raise BodyPoseNetError(error.what, f"Give --input_type {detected}, or auto.") from error


def _suffix(path: str | Path) -> str:
    return Path(path).suffix.lower()


def _type_of_file(path: Path) -> InputType:
    extension = _suffix(path)
    for input_type, extensions in _EXTENSIONS.items():
        if extension in extensions:
            return input_type
    return _type_by_content(path)


def _type_of_address(address: str) -> InputType:
    extension = _suffix(re.split("[?#]", address)[0])
    if extension in VIDEO_EXTENSIONS:
        return "webcam"
    try:
        beginning = download_beginning(address, _SIGNATURE_BYTES)
    except BodyPoseNetError:
        # The error is reported when the input is read; FFmpeg can open some addresses that urllib
        # cannot.
        return "image" if extension in IMAGE_EXTENSIONS else "webcam"
    with TemporaryDirectory() as folder:
        file = Path(folder, "beginning")
        file.write_bytes(beginning)
        return "image" if cv2.haveImageReader(str(file)) else "webcam"


def _type_by_content(path: Path) -> InputType:
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
        f"{path}: not recognized as an image, JSON or video",
        "If it is one, give its type with --input_type.",
    )
