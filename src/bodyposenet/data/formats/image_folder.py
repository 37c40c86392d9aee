"""Find the images of annotations that state them as an address, or state no size."""

from __future__ import annotations

import os
import re
from functools import cached_property
from pathlib import Path

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import is_file, is_folder
from bodyposenet.media.image_header import read_sizes
from bodyposenet.media.images import IMAGE_EXTENSIONS


class ImageFolder:
    """Folder of a dataset's images.

    Args:
        annotations: The annotation file, for error messages.
        path: The folder, or None if it is unknown.
    """

    def __init__(self, annotations: Path, path: Path | None) -> None:
        self._annotations = annotations
        self._path = path

    @property
    def path(self) -> Path:
        """Path of the folder.

        Raises:
            BodyPoseNetError: It is unknown or does not exist.
        """
        if self._path is None or not is_folder(self._path):
            raise BodyPoseNetError(
                f"{self._annotations}: the format requires the image files, but the folder of the "
                f"images is {'unknown' if self._path is None else f'not found: {self._path}'}",
                "Check images_root_dir_path of the dataset spec.",
            )
        return self._path

    @cached_property
    def names(self) -> list[str]:
        """Paths of all images relative to the folder, with slashes, in alphabetical order."""
        names = [
            os.path.relpath(Path(folder) / file, self.path).replace(os.sep, "/")
            for folder, _, files in os.walk(self.path)
            for file in files
            if file.lower().endswith(IMAGE_EXTENSIONS)
        ]
        return sorted(names)

    @cached_property
    def _by_base_name(self) -> dict[str, str | None]:
        """Path of the image by base name; None if there are several images of this name."""
        found: dict[str, str | None] = {}
        for name in self.names:
            base = name.rpartition("/")[2]
            found[base] = None if base in found else name
        return found

    def find(self, reference: str, *alternatives: str) -> str:
        """Find an image by its path on another machine.

        Args:
            reference: Path, of which the longest ending that exists in the folder is used; or else
                the only image in the folder and its subfolders that has the base name.
            alternatives: Base names to try then.

        Returns:
            Path relative to the folder. If nothing is found or the folder is unknown: the
            reference if it is a relative path, or else its base name.
        """
        split = re.split(r"[/\\]", reference)
        parts = [part for part in split if part not in ("", ".", "..")]
        base = parts[-1] if parts else reference
        is_relative = split[0] != "" and ".." not in split and ":" not in split[0]
        unknown = "/".join(parts) if is_relative else base
        if self._path is None or not is_folder(self._path):
            return unknown
        for start in range(len(parts)):
            name = "/".join(parts[start:])
            if is_file(self._path / name):
                return name
        for name in alternatives:
            if is_file(self._path / name):
                return name
        found = (self._by_base_name.get(name) for name in (base, *alternatives))
        return next((name for name in found if name is not None), unknown)

    def size(self, name: str, *, as_stored: bool = False) -> tuple[int, int]:
        """Read the size of an image from its header.

        Args:
            name: Path relative to the folder.
            as_stored: Whether to ignore the EXIF orientation.

        Returns:
            Height and width in pixels, in the orientation in which viewers show the image, or as
            stored.

        Raises:
            ValueError: The file is missing or is not an image.
            BodyPoseNetError: The folder is unknown or does not exist.
        """
        path = self.path / name
        sizes = read_sizes(path)
        if sizes is None:
            problem = "is not an image" if is_file(path) else "does not exist"
            raise ValueError(f"{path} {problem}, so the size of the image is unknown")
        return sizes.stored if as_stored else sizes.shown
