"""Store precomputed teacher maps in a folder: one file per photo, and a header file.

docs/files.md describes the format.
"""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import atomic_write, exists, read_json, write_json
from bodyposenet.geometry import Affine
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.pose import PoseConfiguration
from bodyposenet.types import Maps

HEADER_FILE = "teacher_maps.json"
"""Name of the header file, which describes all maps of the folder."""

_FORMAT = 1
_MAX_LEVEL = 127
_COMPUTE_AGAIN = "Compute the maps again (docs/distillation.md)."
_READ_ERRORS = (
    AttributeError, EOFError, LookupError, NotImplementedError, OSError, RuntimeError, TypeError,
    ValueError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""Exceptions that NumPy and zipfile raise for damaged files."""


class PhotoFingerprint(NamedTuple):
    """Identifies a photo, in addition to its name.

    Args:
        height: Height in pixels.
        width: Width in pixels.
        file_size: Size of the image file in bytes.
    """

    height: int
    width: int
    file_size: int


@dataclass(frozen=True, eq=False)
class StoredMaps:
    """The quantized maps of one photo.

    Args:
        heatmaps: (K + 1, h, w) int8.
        pafs: (2 L, h, w) int8.
        steps: Values of one quantization level, of heatmaps and of PAFs.
        to_cells: Affine map from photo pixels to cells.
    """

    heatmaps: NDArray[np.int8]
    pafs: NDArray[np.int8]
    steps: tuple[float, float]
    to_cells: Affine


class TeacherMapStore:
    """A folder of precomputed teacher maps, one file per photo.

    Args:
        path: The folder.
        header: Content of the header file.

    Raises:
        BodyPoseNetError: The header is damaged or has an unsupported format.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path = path
        self.header = dict(header)
        if header.get("format") != _FORMAT:
            raise BodyPoseNetError(
                f"{path / HEADER_FILE}: unsupported format {header.get('format')!r}, expected "
                f"{_FORMAT}",
                _COMPUTE_AGAIN,
            )
        try:
            configuration = PoseConfiguration.model_validate_json(json.dumps(header["skeleton"]))
            self.skeleton = Skeleton.from_pose_configuration(configuration.model_dump())
        except (KeyError, ValueError) as error:
            raise BodyPoseNetError(
                f"{path / HEADER_FILE}: the skeleton is missing or damaged: {error}", _COMPUTE_AGAIN
            ) from error

    @classmethod
    def open(cls, path: Path) -> TeacherMapStore:
        """Open a folder for reading.

        Args:
            path: The folder.

        Returns:
            The store.

        Raises:
            BodyPoseNetError: The header is missing or damaged.
        """
        header = read_json(path / HEADER_FILE, _COMPUTE_AGAIN)
        if not isinstance(header, dict):
            raise BodyPoseNetError(f"{path / HEADER_FILE}: expected an object", _COMPUTE_AGAIN)
        return cls(path, header)

    @classmethod
    def create(cls, path: Path, skeleton: Skeleton, metadata: Mapping[str, Any]) -> TeacherMapStore:
        """Create a store, or continue one with the same skeleton and metadata.

        Args:
            path: The folder, created if missing.
            skeleton: Skeleton of the maps.
            metadata: Model and settings with which the maps are computed, as JSON values.

        Returns:
            The store.

        Raises:
            BodyPoseNetError: The folder has maps with other metadata, or cannot be written.
        """
        header = {
            "format": _FORMAT,
            **json.loads(json.dumps(metadata)),
            "skeleton": skeleton.to_pose_configuration(),
        }
        if exists(path / HEADER_FILE):
            existing = cls.open(path).header
            keys = sorted(header.keys() | existing.keys())
            differing = [key for key in keys if header.get(key) != existing.get(key)]
            if differing:
                raise BodyPoseNetError(
                    f"{path}: existing teacher maps differ in {', '.join(differing)}",
                    "Choose another folder, or remove this one.",
                )
        elif any(path.glob("*.npz")):
            raise BodyPoseNetError(
                f"{path}: existing teacher maps without the header file {HEADER_FILE}",
                "Choose another folder, or remove the maps.",
            )
        else:
            write_json(path / HEADER_FILE, header)
        return cls(path, header)

    @property
    def digest(self) -> int:
        """CRC-32 of the header, which identifies model and settings."""
        return zlib.crc32(json.dumps(self.header, sort_keys=True).encode())

    def __len__(self) -> int:
        """Return the number of photos with maps."""
        return sum(1 for _ in self.path.glob("*.npz"))

    def file_of(self, photo: Path) -> Path:
        """Return the path of a photo's file of maps, which need not exist."""
        return self.path / f"{photo.name}.npz"

    def write(
        self, photo: Path, fingerprint: PhotoFingerprint, maps: Maps, to_cells: Affine
    ) -> None:
        """Write the maps of a photo, atomically replacing an existing file.

        Args:
            photo: The image file; its name determines that of the file of maps.
            fingerprint: Fingerprint of the photo.
            maps: Maps of the whole photo.
            to_cells: Affine map from photo pixels to cells of the maps.

        Raises:
            BodyPoseNetError: The maps are not finite, or the file cannot be written.
        """
        heatmaps, heatmap_step = _quantize(photo, maps.heatmaps)
        pafs, paf_step = _quantize(photo, maps.pafs)
        with atomic_write(self.file_of(photo)) as file:
            np.savez_compressed(
                file,
                heatmaps=heatmaps,
                pafs=pafs,
                steps=np.array([heatmap_step, paf_step]),
                to_cells=to_cells.matrix,
                photo=np.array(fingerprint, np.int64),
            )

    def has(self, photo: Path, fingerprint: PhotoFingerprint) -> bool:
        """Check whether maps of a photo exist.

        Args:
            photo: The image file.
            fingerprint: Fingerprint of the photo.

        Returns:
            Whether the file of maps exists and is not damaged.

        Raises:
            BodyPoseNetError: The maps are those of another photo with the same name.
        """
        path = self.file_of(photo)
        if not exists(path):
            return False
        try:
            # Read first, because np.load leaves a damaged file open.
            with np.load(BytesIO(path.read_bytes()), allow_pickle=False) as content:
                found = content["photo"].tolist()
                _ = content["heatmaps"], content["pafs"]  # checksums
        except _READ_ERRORS:
            return False
        _check_fingerprint(path, photo, found, fingerprint)
        return True

    def read(self, photo: Path, height: int, width: int) -> StoredMaps | None:
        """Read the maps of a photo.

        Args:
            photo: The image file.
            height: Height of the photo, from its record.
            width: Width of the photo, from its record.

        Returns:
            The maps, or None if the folder has none of this photo.

        Raises:
            BodyPoseNetError: The file is damaged, or the maps are those of another photo with the
                same name.
        """
        path = self.file_of(photo)
        try:
            with np.load(BytesIO(path.read_bytes()), allow_pickle=False) as content:
                found = content["photo"].tolist()
                heatmaps, pafs = content["heatmaps"], content["pafs"]
                heatmap_step, paf_step = content["steps"].tolist()
                matrix = content["to_cells"]
        except FileNotFoundError:
            return None
        except _READ_ERRORS as error:
            raise _damaged(path, str(error)) from error
        channels = self.skeleton.heatmap_channels, self.skeleton.paf_channels
        if heatmaps.ndim != 3 or pafs.ndim != 3:
            raise _damaged(path, f"maps of shapes {heatmaps.shape} and {pafs.shape}")
        if not math.isfinite(heatmap_step) or not math.isfinite(paf_step):
            raise _damaged(path, "steps that are not finite")
        if (len(heatmaps), len(pafs)) != channels or heatmaps.shape[1:] != pafs.shape[1:]:
            raise _damaged(path, f"maps of shapes {heatmaps.shape} and {pafs.shape}")
        if heatmaps.dtype != np.int8 or pafs.dtype != np.int8:
            raise _damaged(path, f"maps of type {heatmaps.dtype} and {pafs.dtype}")
        if (
            matrix.shape != (2, 3)
            or not np.isfinite(matrix).all()
            or not abs(np.linalg.det(matrix[:, :2])) > 0
        ):
            raise _damaged(path, "to_cells cannot be inverted")
        _check_fingerprint(path, photo, found, PhotoFingerprint(height, width, _file_size(photo)))
        return StoredMaps(heatmaps, pafs, (heatmap_step, paf_step), Affine(matrix))


def _quantize(photo: Path, values: NDArray[np.float32]) -> tuple[NDArray[np.int8], float]:
    """Quantize symmetrically to -127..127; return the levels and the value of one level."""
    highest = float(np.abs(values).max(initial=0))
    if not math.isfinite(highest):
        raise BodyPoseNetError(
            f"{photo}: the teacher's maps are not finite", "Check the model with this photo."
        )
    step = highest / _MAX_LEVEL or 1.0
    return np.rint(values / np.float32(step)).astype(np.int8), step


def _file_size(photo: Path) -> int:
    """Return the size of an image file in bytes."""
    try:
        return photo.stat().st_size
    except (OSError, ValueError) as error:
        raise BodyPoseNetError(
            f"{photo}: cannot be read: {getattr(error, 'strerror', error)}",
            "Check the path and its permissions.",
        ) from error


def _check_fingerprint(
    path: Path, photo: Path, found: list[int], expected: PhotoFingerprint
) -> None:
    """Raise an error if a file has the maps of another photo."""
    if found != list(expected):
        raise BodyPoseNetError(
            f"{path}: maps of another photo; expected (height, width, bytes) {tuple(expected)} "
            f"of {photo}, got {tuple(found)}",
            "Remove the file and compute the maps again, from the train spec (-e) if photos have "
            "an EXIF orientation. Photos of several datasets must have different names.",
        )


def _damaged(path: Path, why: str) -> BodyPoseNetError:
    """Create an error about a damaged file."""
    return BodyPoseNetError(f"{path}: damaged teacher maps: {why}", f"Remove it. {_COMPUTE_AGAIN}")
