"""Detection of what kind of input a user means: image, folder, JSON, video or camera."""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import cv2

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import exists, is_file, is_folder
from bodyposenet.media.download import download_beginning, is_address
from bodyposenet.media.source import IMAGE_EXTENSIONS, read_image
from bodyposenet.media.video import name_for_opencv, open_capture

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
