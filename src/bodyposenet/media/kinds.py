"""What a user names as the input in, what kind of input it is out."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import cv2

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.media.source import IMAGE_EXTENSIONS

InputKind = Literal["image", "dir", "json", "video", "webcam"]

VIDEO_EXTENSIONS = (
    ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".gif",
)  # fmt: skip
"""What counts as a video, in either case; elsewhere the content decides."""


def tell_kind(source: str, root: str | Path = "") -> InputKind:
    """Tell what `--input_type auto` stands for: by the extension, or else by the content.

    Args:
        source: A path, the number of a camera, or the address of a stream.
        root: Folder that the path of an image, and of nothing else, may be relative to.

    Raises:
        BodyPoseNetError: There is no such file, or it is of no kind that is known.
    """
    path = Path(source)
    if path.is_dir():
        return "dir"
    if not path.exists() and (source.isdecimal() or "://" in source):
        return "webcam"
    if path.is_file():
        return _kind_of_file(path)
    image = Path(root, source)
    if image.is_file() and _kind_of_file(image) == "image":
        return "image"
    raise BodyPoseNetError(
        f"{source}: no such file or folder",
        "Check --input; only images are looked for in --image_root_path.",
    )


_EXTENSIONS: dict[InputKind, tuple[str, ...]] = {
    "image": IMAGE_EXTENSIONS,
    "json": (".json",),
    "video": VIDEO_EXTENSIONS,
}


def _kind_of_file(path: Path) -> InputKind:
    extension = path.suffix.lower()
    for kind, extensions in _EXTENSIONS.items():
        if extension in extensions:
            return kind
    return _kind_by_content(path)


def _kind_by_content(path: Path) -> InputKind:
    if cv2.haveImageReader(str(path)):
        return "image"
    with open(path, "rb") as file:
        if file.read(100).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"[", b"{"):
            return "json"
    if cv2.VideoCapture(str(path), cv2.CAP_FFMPEG).isOpened():
        return "video"
    raise BodyPoseNetError(
        f"{path}: neither an image nor a JSON nor a video that can be read",
        "Choose an --input_type if it is one nevertheless.",
    )
