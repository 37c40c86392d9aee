"""Precomputed teacher maps: a folder of network maps of whole photos, for distillation.

`training.teacher_maps` computes them once. In training each sample takes the maps of its photo
through its own affine map, so that rotated, mirrored and scaled crops get the teacher's output
without running the teacher. The format of the folder is described in docs/files.md.
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

from bodyposenet.channels import ChannelMap
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import read_json, replacing, write_json
from bodyposenet.geometry import Affine
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.network import STRIDE
from bodyposenet.specs.pose import PoseConfiguration
from bodyposenet.types import Maps

HEADER_FILE = "teacher_maps.json"
"""The file of a folder that describes all maps in it."""

LARGEST_ENLARGEMENT = 1.5
"""Maps that a sample would enlarge more than this are not used."""

LARGEST_REDUCTION = 3.0
"""Maps that a sample would shrink more than this are not used."""

_FORMAT = 1
_LEVELS = 127
_ROUNDING = 1e-6
_SMALLEST_BLUR = 0.25
"""Widening by a Gaussian of fewer cells than this changes nothing that could be measured."""

_COMPUTE_AGAIN = "Compute the maps again (docs/training.md, distillation)."
_READ_ERRORS = (
    AttributeError, EOFError, LookupError, NotImplementedError, OSError, RuntimeError, TypeError,
    ValueError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What NumPy and zipfile raise on damaged files."""


class PhotoStamp(NamedTuple):
    """What identifies a photo beside its name.

    Args:
        height: In pixels.
        width: In pixels.
        file_size: Of the image file, in bytes.
    """

    height: int
    width: int
    file_size: int


@dataclass(frozen=True, eq=False)
class PhotoMaps:
    """The quantized maps of one photo.

    Args:
        heatmaps: (K + 1, h, w) int8.
        pafs: (2 L, h, w) int8.
        steps: The heatmaps' and the PAFs' value of one quantization level.
        to_cells: The affine map from photo pixels to cells.
    """

    heatmaps: NDArray[np.int8]
    pafs: NDArray[np.int8]
    steps: tuple[float, float]
    to_cells: Affine


class MapFolder:
    """A folder of precomputed teacher maps, one file per photo.

    Args:
        path: The folder.
        header: Content of its header file.

    Raises:
        BodyPoseNetError: The header is damaged, or of a newer format.
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
    def open(cls, path: Path) -> MapFolder:
        """Open a folder for reading.

        Raises:
            BodyPoseNetError: The header is missing or damaged.
        """
        header = read_json(path / HEADER_FILE, _COMPUTE_AGAIN)
        if not isinstance(header, dict):
            raise BodyPoseNetError(f"{path / HEADER_FILE}: expected an object", _COMPUTE_AGAIN)
        return cls(path, header)

    @classmethod
    def create(cls, path: Path, skeleton: Skeleton, origin: Mapping[str, Any]) -> MapFolder:
        """Open a folder for writing; one that holds maps of the same origin is continued.

        Args:
            path: The folder, made if it does not exist.
            skeleton: Of the maps.
            origin: The model and the settings that make the maps, as JSON values.

        Raises:
            BodyPoseNetError: It holds maps of another origin, or cannot be written.
        """
        header = {
            "format": _FORMAT,
            **json.loads(json.dumps(origin)),
            "skeleton": skeleton.to_pose_configuration(),
        }
        if (path / HEADER_FILE).exists():
            former = cls.open(path).header
            keys = sorted(header.keys() | former.keys())
            differing = [key for key in keys if header.get(key) != former.get(key)]
            if differing:
                raise BodyPoseNetError(
                    f"{path}: holds teacher maps that differ in {', '.join(differing)}",
                    "Choose another folder, or remove this one.",
                )
        elif any(path.glob("*.npz")):
            raise BodyPoseNetError(
                f"{path}: holds maps of an unknown teacher: {HEADER_FILE} is missing",
                "Choose another folder, or remove the maps.",
            )
        else:
            write_json(path / HEADER_FILE, header)
        return cls(path, header)

    @property
    def digest(self) -> int:
        """A checksum of the header: folders of other models or settings have another one."""
        return zlib.crc32(json.dumps(self.header, sort_keys=True).encode())

    def __len__(self) -> int:
        """Return the number of photos with maps."""
        return sum(1 for _ in self.path.glob("*.npz"))

    def file_of(self, photo: Path) -> Path:
        """Return the path of a photo's maps, whether they exist or not."""
        return self.path / f"{photo.name}.npz"

    def write(self, photo: Path, stamp: PhotoStamp, maps: Maps, to_cells: Affine) -> None:
        """Write the maps of a photo, replacing the file atomically.

        Args:
            photo: The image file; its name counts.
            stamp: Of the photo.
            maps: Of the whole photo.
            to_cells: The affine map from photo pixels to the maps' cells.

        Raises:
            BodyPoseNetError: The maps are not finite, or the file cannot be written.
        """
        heatmaps, heat_step = _quantize(photo, maps.heatmaps)
        pafs, paf_step = _quantize(photo, maps.pafs)
        with replacing(self.file_of(photo)) as file:
            np.savez_compressed(
                file,
                heatmaps=heatmaps,
                pafs=pafs,
                steps=np.array([heat_step, paf_step]),
                to_cells=to_cells.matrix,
                photo=np.array(stamp, np.int64),
            )

    def has(self, photo: Path, stamp: PhotoStamp) -> bool:
        """Return whether the maps of a photo are there; a damaged file counts as missing.

        Raises:
            BodyPoseNetError: There are maps of another photo of the same name.
        """
        path = self.file_of(photo)
        if not path.exists():
            return False
        try:
            # Of its bytes: NumPy leaves a damaged file open.
            with np.load(BytesIO(path.read_bytes()), allow_pickle=False) as content:
                found = content["photo"].tolist()
                _ = content["heatmaps"], content["pafs"]  # checksums
        except _READ_ERRORS:
            return False
        _check_stamp(path, photo, found, stamp)
        return True

    def read(self, photo: Path, height: int, width: int) -> PhotoMaps | None:
        """Read the maps of a photo.

        Args:
            photo: The image file.
            height: Of the photo, as its record states.
            width: Of the photo, as its record states.

        Returns:
            The maps, or None if the folder has none of this photo.

        Raises:
            BodyPoseNetError: The file is damaged, or of another photo of the same name.
        """
        path = self.file_of(photo)
        try:
            with np.load(BytesIO(path.read_bytes()), allow_pickle=False) as content:
                found = content["photo"].tolist()
                heatmaps, pafs = content["heatmaps"], content["pafs"]
                heat_step, paf_step = content["steps"].tolist()
                matrix = content["to_cells"]
        except FileNotFoundError:
            return None
        except _READ_ERRORS as error:
            raise _damaged(path, str(error)) from error
        channels = self.skeleton.heatmap_channels, self.skeleton.paf_channels
        if heatmaps.ndim != 3 or pafs.ndim != 3:
            raise _damaged(path, f"maps of shapes {heatmaps.shape} and {pafs.shape}")
        if not math.isfinite(heat_step) or not math.isfinite(paf_step):
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
        _check_stamp(path, photo, found, PhotoStamp(height, width, _file_size(photo)))
        return PhotoMaps(heatmaps, pafs, (heat_step, paf_step), Affine(matrix))


@dataclass(frozen=True, eq=False)
class SampleMaps:
    """What a teacher says of one training sample.

    Args:
        heatmaps: (K + 1, h, w) float32, on the cells of the sample.
        pafs: (2 L, h, w) float32.
        cells: (h, w) bool, the cells where they count.
        is_missing: Whether the photo has no maps.
        is_out_of_scale: Whether the sample is too large or too small for the photo's maps.
    """

    heatmaps: NDArray[np.float32]
    pafs: NDArray[np.float32]
    cells: NDArray[np.bool_]
    is_missing: bool = False
    is_out_of_scale: bool = False


class TeacherMaps:
    """Moves the maps of whole photos into training samples.

    Peaks and fields arrive where the sample's own targets are: heatmaps are moved, the vectors of
    PAFs are also rotated or mirrored, and keep their length. In samples that were flipped, left
    and right channels are swapped, as in the labels.

    **Scale.** The teacher has drawn Gaussians and limbs of a fixed width in its own input. In a
    sample that shows the photo at another scale they would have another width than the targets,
    although peaks keep place and height:

    - *Smaller* samples (a third or more of the teacher's scale): the maps are widened by as much
      as they lack. For heatmaps that is a dilation with a Gaussian, the largest of
      v(x) exp(-|x - y|^2 / 2b^2); it turns a Gaussian of variance s^2 into one of s^2 + b^2 of the
      same height, and combines several by their maximum, as targets do. For PAFs, the longest
      vector within the missing half width counts. The teacher has seen these people at a higher
      resolution, so its maps are worth keeping: on photos of COCO reduced 2 to 3 times, heatmaps
      correlate with the targets by .78 (.61 without widening; those of the teacher itself, run on
      the sample, by .76).
    - *Larger* samples: maps cannot be sharpened without inventing detail. Up to 1.5 times they are
      used as they are (the squared difference to the target's Gaussian is then half of its own
      energy, and what is learned is the weighted mean of both); above that the sample is learned
      from its labels.

    **Outside of the photo** the maps do not count: the teacher has seen no cells there, a joint at
    the border would be taught with half of its Gaussian cut off, and the labels state already that
    nobody is there.

    A channel counts only if the teacher has it in plain and in mirrored samples, so that weights
    do not depend on the sample.

    Args:
        folder: The maps.
        plain: Where our heatmaps and PAFs come from among the teacher's.
        mirrored: The same for samples that were flipped from left to right.
        sigma: Standard deviation of the targets' Gaussians, in cells.
        half_width: Half width of the targets' limbs, in cells.
    """

    def __init__(
        self,
        folder: MapFolder,
        plain: tuple[ChannelMap, ChannelMap],
        mirrored: tuple[ChannelMap, ChannelMap],
        *,
        sigma: float,
        half_width: float,
    ) -> None:
        self.folder = folder
        self._sigma, self._half_width = sigma, half_width
        self.known_heatmaps = plain[0].known & mirrored[0].known
        self.known_pafs = plain[1].known & mirrored[1].known
        self._tables = {False: plain, True: mirrored}

    def sample(
        self,
        photo: Path,
        size: tuple[int, int],
        to_input: Affine,
        input_size: tuple[int, int],
        *,
        flip_lr: bool,
    ) -> SampleMaps:
        """Return the maps of a sample.

        Args:
            photo: The image file.
            size: Height and width of the photo.
            to_input: The sample's affine map, from photo pixels to network pixels.
            input_size: Height and width of the network input.
            flip_lr: Whether the sample is mirrored, so that left and right change places.

        Raises:
            BodyPoseNetError: The file is damaged, or of another photo of the same name.
        """
        rows, columns = (-(-side // STRIDE) for side in input_size)
        stored = self.folder.read(photo, *size)
        if stored is None:
            return self._nothing(rows, columns, is_missing=True)
        to_cells = to_input.then(Affine.resize(STRIDE).inverse())
        moving = stored.to_cells.inverse().then(to_cells)
        scales = np.linalg.svd(moving.matrix[:, :2], compute_uv=False)
        if (
            scales[0] > LARGEST_ENLARGEMENT * (1 + _ROUNDING)
            or scales[1] * LARGEST_REDUCTION < 1 - _ROUNDING
        ):
            return self._nothing(rows, columns, is_out_of_scale=True)
        maps = self._nothing(rows, columns)
        maps.heatmaps[self.known_heatmaps] = self._heatmaps(stored, moving, maps, flip_lr)
        maps.pafs[self.known_pafs] = self._pafs(stored, moving, maps, flip_lr)
        maps.cells[:] = _cells_within(size, to_cells, rows, columns)
        return maps

    def _nothing(
        self, rows: int, columns: int, *, is_missing: bool = False, is_out_of_scale: bool = False
    ) -> SampleMaps:
        heatmaps, pafs = (
            np.zeros((len(known), rows, columns), np.float32)
            for known in (self.known_heatmaps, self.known_pafs)
        )
        cells = np.zeros((rows, columns), bool)
        return SampleMaps(heatmaps, pafs, cells, is_missing, is_out_of_scale)

    def _heatmaps(
        self, stored: PhotoMaps, moving: Affine, into: SampleMaps, flip_lr: bool
    ) -> NDArray[np.float32]:
        table = self._tables[flip_lr][0]
        source = table.source[self.known_heatmaps]
        values = stored.heatmaps[source].astype(np.float32)
        values *= stored.steps[0]
        has_background = bool(self.known_heatmaps[-1])
        if has_background:  # where people are, as in the other channels
            values[-1] = 1 - values[-1]
        blur = self._sigma * math.sqrt(max(moving.scale**-2 - 1, 0))
        if blur > _SMALLEST_BLUR:
            values = widen_heatmaps(values, blur)
        moved = moving.resample(values, *into.cells.shape)
        if has_background:
            moved[-1] = 1 - moved[-1]
        return moved

    def _pafs(
        self, stored: PhotoMaps, moving: Affine, into: SampleMaps, flip_lr: bool
    ) -> NDArray[np.float32]:
        table = self._tables[flip_lr][1]
        source, sign = table.source[self.known_pafs], table.sign[self.known_pafs]
        values = stored.pafs[source].astype(np.float32)
        values *= (sign * np.float32(stored.steps[1]))[:, None, None]
        missing = self._half_width * (1 / moving.scale - 1)
        if round(missing) >= 1:
            values = widen_pafs(values, round(missing))
        moved = moving.resample(values, *into.cells.shape)
        return _turn(moved, moving.matrix[:, :2])


def widen_heatmaps(values: NDArray[np.float32], blur: float) -> NDArray[np.float32]:
    """Widen Gaussians without changing their height.

    Args:
        values: (C, h, w).
        blur: In cells; a Gaussian of variance s^2 becomes one of s^2 + blur^2.

    Returns:
        (C, h, w), the dilation of each map with a Gaussian.
    """
    for axis in (1, 2):
        sources = np.moveaxis(values, axis, 0)
        values = values.copy()
        targets = np.moveaxis(values, axis, 0)
        for shift in range(1, math.ceil(2.5 * blur) + 1):
            weighted = sources * np.float32(math.exp(-(shift**2) / (2 * blur**2)))
            np.maximum(targets[shift:], weighted[:-shift], out=targets[shift:])
            np.maximum(targets[:-shift], weighted[shift:], out=targets[:-shift])
    return values


def widen_pafs(values: NDArray[np.float32], cells: int) -> NDArray[np.float32]:
    """Widen limbs: each cell takes the longest vector in reach, within an octagon.

    Args:
        values: (2 L, h, w).
        cells: By how many cells on either side.

    Returns:
        (2 L, h, w).
    """
    fields = values.reshape(-1, 2, *values.shape[1:])
    for step in range(cells):
        # Diamonds and squares in turn give an octagon.
        if step % 2:
            fields = _take_longest(_take_longest(fields, (2,)), (3,))
        else:
            fields = _take_longest(fields, (2, 3))
    return fields.reshape(values.shape)


def _take_longest(fields: NDArray[np.float32], axes: tuple[int, ...]) -> NDArray[np.float32]:
    """(L, 2, h, w): the longest vector of each cell and its two neighbors along each axis."""
    lengths = np.square(fields).sum(axis=1, keepdims=True)
    longest, result = lengths.copy(), fields.copy()
    for axis in axes:
        for ahead in (True, False):
            near = [slice(None)] * 4
            far = [slice(None)] * 4
            near[axis], far[axis] = slice(1, None), slice(None, -1)
            to, source = (tuple(near), tuple(far)) if ahead else (tuple(far), tuple(near))
            is_longer = lengths[source] > longest[to]
            np.copyto(longest[to], lengths[source], where=is_longer)
            np.copyto(result[to], fields[source], where=is_longer)
    return result


def _turn(values: NDArray[np.float32], linear: NDArray[np.float64]) -> NDArray[np.float32]:
    """(2 L, h, w): vectors as a linear map turns them, with the lengths that they had."""
    scale = math.sqrt(abs(np.linalg.det(linear)))
    (xx, xy), (yx, yy) = (linear / scale).astype(np.float32)
    x, y = values[0::2], values[1::2]
    turned = np.empty_like(values)
    turned[0::2], turned[1::2] = xx * x + xy * y, yx * x + yy * y
    if not np.allclose(linear @ linear.T, scale**2 * np.eye(2), rtol=0, atol=_ROUNDING * scale**2):
        lengths = np.hypot(turned[0::2], turned[1::2])  # stretched: they depend on the direction
        factors = np.hypot(x, y) / np.maximum(lengths, np.float32(1e-9))
        turned[0::2] *= factors
        turned[1::2] *= factors
    return turned


def _cells_within(
    size: tuple[int, int], to_cells: Affine, rows: int, columns: int
) -> NDArray[np.bool_]:
    """Which cells have their centers in the photo."""
    grid = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).astype(float)
    points = to_cells.inverse().apply(grid)
    height, width = size
    x, y = points[..., 0], points[..., 1]
    return (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)


def _quantize(photo: Path, values: NDArray[np.float32]) -> tuple[NDArray[np.int8], float]:
    """Round to 255 levels, 0 exactly one of them; the value of one level."""
    highest = float(np.abs(values).max(initial=0))
    if not math.isfinite(highest):
        raise BodyPoseNetError(
            f"{photo}: the teacher's maps are not finite", "Check the model on this photo."
        )
    step = highest / _LEVELS or 1.0
    return np.rint(values / np.float32(step)).astype(np.int8), step


def _file_size(photo: Path) -> int:
    try:
        return photo.stat().st_size
    except (OSError, ValueError) as error:
        raise BodyPoseNetError(
            f"{photo}: cannot be read: {getattr(error, 'strerror', error)}",
            "Check the path and its permissions.",
        ) from error


def _check_stamp(path: Path, photo: Path, found: list[int], expected: PhotoStamp) -> None:
    if found != list(expected):
        raise BodyPoseNetError(
            f"{path}: made of a photo of (height, width, bytes) {tuple(found)}, but {photo} has "
            f"{tuple(expected)}",
            "Remove the file and compute the maps again, from the train spec (-e) if photos are "
            "turned by EXIF. Photos of several datasets must have different names.",
        )


def _damaged(path: Path, why: str) -> BodyPoseNetError:
    return BodyPoseNetError(f"{path}: damaged teacher maps: {why}", f"Remove it. {_COMPUTE_AGAIN}")
