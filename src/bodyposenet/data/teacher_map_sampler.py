"""Precomputed teacher maps in training samples, for distillation.

Each sample warps the maps of its photo (`data.teacher_map_store`) by its own affine map, so that
rotated, mirrored and scaled crops get the teacher's output without running the teacher.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bodyposenet.channels import ChannelMap
from bodyposenet.data.teacher_map_store import StoredMaps, TeacherMapStore
from bodyposenet.geometry import Affine
from bodyposenet.specs.network import STRIDE

LARGEST_ENLARGEMENT = 1.5
"""Maps that a sample would enlarge more than this are not used."""

LARGEST_REDUCTION = 3.0
"""Maps that a sample would shrink more than this are not used."""

_ROUNDING = 1e-6
_SMALLEST_BLUR = 0.25
"""Widening by a Gaussian of fewer cells than this changes nothing that could be measured."""


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


class TeacherMapSampler:
    """Moves the maps of whole photos into training samples.

    Peaks and fields arrive where the sample's own targets are: heatmaps are moved, the vectors of
    PAFs are also rotated or mirrored, and keep their length. In mirrored samples, left
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
        mirrored: The same for samples that show a mirror image.
        sigma: Standard deviation of the targets' Gaussians, in cells.
        half_width: Half width of the targets' limbs, in cells.
    """

    def __init__(
        self,
        folder: TeacherMapStore,
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
    ) -> SampleMaps:
        """Return the maps of a sample.

        Args:
            photo: The image file.
            size: Height and width of the photo.
            to_input: The sample's affine map, from photo pixels to network pixels.
            input_size: Height and width of the network input.

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
        tables = self._tables[to_input.mirrors]
        maps.heatmaps[self.known_heatmaps] = self._heatmaps(stored, moving, maps, tables[0])
        maps.pafs[self.known_pafs] = self._pafs(stored, moving, maps, tables[1])
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
        self, stored: StoredMaps, moving: Affine, into: SampleMaps, table: ChannelMap
    ) -> NDArray[np.float32]:
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
        self, stored: StoredMaps, moving: Affine, into: SampleMaps, table: ChannelMap
    ) -> NDArray[np.float32]:
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
