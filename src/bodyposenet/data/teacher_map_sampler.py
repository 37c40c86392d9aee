"""Warp precomputed teacher maps into training samples, for distillation.

The maps of whole photos (`data.teacher_map_store`) are warped by the affine map of each sample, so
that rotated, mirrored and scaled crops have the teacher's output without running the teacher.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bodyposenet.channel_map import ChannelMap
from bodyposenet.data.teacher_map_store import StoredMaps, TeacherMapStore
from bodyposenet.geometry import Affine
from bodyposenet.specs.network import STRIDE

MAX_ENLARGEMENT = 1.5
"""Maps are not used in samples that enlarge them by more than this factor."""

MAX_REDUCTION = 3.0
"""Maps are not used in samples that reduce them by more than this factor."""

_ROUNDING = 1e-6
_MIN_BLUR = 0.25
"""Smallest standard deviation in cells by which heatmaps are widened; less has no measurable
effect."""


@dataclass(frozen=True, eq=False)
class SampleMaps:
    """Teacher maps of one training sample.

    Args:
        heatmaps: (K + 1, h, w) float32, on the cells of the sample.
        pafs: (2 L, h, w) float32.
        cells: (h, w) bool, the cells where the maps are used.
        is_missing: Whether the photo has no maps.
        is_out_of_scale: Whether the sample is too large or too small for the maps of the photo.
    """

    heatmaps: NDArray[np.float32]
    pafs: NDArray[np.float32]
    cells: NDArray[np.bool_]
    is_missing: bool = False
    is_out_of_scale: bool = False


class TeacherMapSampler:
    """Warps the maps of whole photos into training samples.

    Heatmaps and PAFs are resampled at the positions of the sample's own targets; the vectors of
    PAFs are also rotated or mirrored, with their length preserved. In mirrored samples, left and
    right channels are swapped, as in the targets.

    **Scale.** Gaussians and limbs have a fixed width in the teacher's input. In a sample that shows
    the photo at another scale, their width differs from that of the targets, although position and
    height of the peaks are right:

    - *Smaller* samples (down to a third of the teacher's scale): the maps are widened to the width
      of the targets. For heatmaps this is a dilation with a Gaussian, the maximum over x of
      v(x) exp(-|x - y|^2 / 2b^2); it turns a Gaussian of variance s^2 into one of s^2 + b^2 with
      the same height, and combines several by their maximum, as in the targets. For PAFs, it is the
      longest vector within the missing half width. The maps are worth using, as the teacher's input
      has a higher resolution: for COCO photos reduced by 2 to 3, the correlation of heatmaps with
      the targets is .78 (.61 without widening; .76 if the teacher runs on the sample itself).
    - *Larger* samples: maps cannot be sharpened. Up to a factor of 1.5 they are used unchanged (the
      squared difference to the target's Gaussian is then half of its energy, and the network learns
      the weighted mean of both); beyond that, the sample is learned from its labels only.

    **Outside of the photo** the maps are not used: the teacher has no output there, the Gaussian of
    a joint at the border would be cut in half, and the targets already have a background there.

    A channel is used only if the teacher has it both in plain and in mirrored samples, so that the
    weights do not depend on the sample.

    Args:
        store: Maps of the photos.
        plain: Channel maps of heatmaps and of PAFs, from the network's channels to the teacher's.
        mirrored: The same for mirrored samples.
        sigma: Standard deviation of the targets' Gaussians in cells.
        half_width: Half width of the targets' limbs in cells.
    """

    def __init__(
        self,
        store: TeacherMapStore,
        plain: tuple[ChannelMap, ChannelMap],
        mirrored: tuple[ChannelMap, ChannelMap],
        *,
        sigma: float,
        half_width: float,
    ) -> None:
        self.store = store
        self._sigma, self._half_width = sigma, half_width
        self.known_heatmaps = plain[0].known & mirrored[0].known
        self.known_pafs = plain[1].known & mirrored[1].known
        self._channel_maps = {False: plain, True: mirrored}

    def sample(
        self,
        photo: Path,
        size: tuple[int, int],
        to_input: Affine,
        input_size: tuple[int, int],
    ) -> SampleMaps:
        """Warp the maps of a photo into a sample.

        Args:
            photo: The image file.
            size: Height and width of the photo.
            to_input: The sample's affine map from photo pixels to network pixels.
            input_size: Height and width of the network input.

        Returns:
            The warped maps; no cell is used if the photo has no maps or the scale is out of range.

        Raises:
            BodyPoseNetError: The file is damaged, or the maps are those of another photo with the
                same name.
        """
        rows, columns = (-(-side // STRIDE) for side in input_size)
        stored = self.store.read(photo, *size)
        if stored is None:
            return self._empty(rows, columns, is_missing=True)
        to_cells = to_input.then(Affine.resize(STRIDE).inverse())
        warp = stored.to_cells.inverse().then(to_cells)
        scales = np.linalg.svd(warp.matrix[:, :2], compute_uv=False)
        if (
            scales[0] > MAX_ENLARGEMENT * (1 + _ROUNDING)
            or scales[1] * MAX_REDUCTION < 1 - _ROUNDING
        ):
            return self._empty(rows, columns, is_out_of_scale=True)
        maps = self._empty(rows, columns)
        of_heatmaps, of_pafs = self._channel_maps[to_input.mirrors]
        maps.heatmaps[self.known_heatmaps] = self._heatmaps(stored, warp, maps, of_heatmaps)
        maps.pafs[self.known_pafs] = self._pafs(stored, warp, maps, of_pafs)
        maps.cells[:] = _cells_within(size, to_cells, rows, columns)
        return maps

    def _empty(
        self, rows: int, columns: int, *, is_missing: bool = False, is_out_of_scale: bool = False
    ) -> SampleMaps:
        """Return maps of zeros, of which no cell is used."""
        heatmaps, pafs = (
            np.zeros((len(known), rows, columns), np.float32)
            for known in (self.known_heatmaps, self.known_pafs)
        )
        cells = np.zeros((rows, columns), bool)
        return SampleMaps(heatmaps, pafs, cells, is_missing, is_out_of_scale)

    def _heatmaps(
        self, stored: StoredMaps, warp: Affine, target: SampleMaps, channels: ChannelMap
    ) -> NDArray[np.float32]:
        """Return the warped heatmaps of the channels that the teacher has."""
        source = channels.source[self.known_heatmaps]
        values = stored.heatmaps[source].astype(np.float32)
        values *= stored.steps[0]
        has_background = bool(self.known_heatmaps[-1])
        if has_background:  # inverted: high values at people, as in the other channels
            values[-1] = 1 - values[-1]
        blur = self._sigma * math.sqrt(max(warp.scale**-2 - 1, 0))
        if blur > _MIN_BLUR:
            values = widen_heatmaps(values, blur)
        warped = warp.resample(values, *target.cells.shape)
        if has_background:
            warped[-1] = 1 - warped[-1]
        return warped

    def _pafs(
        self, stored: StoredMaps, warp: Affine, target: SampleMaps, channels: ChannelMap
    ) -> NDArray[np.float32]:
        """Return the warped PAFs of the channels that the teacher has."""
        source, sign = channels.source[self.known_pafs], channels.sign[self.known_pafs]
        values = stored.pafs[source].astype(np.float32)
        values *= (sign * np.float32(stored.steps[1]))[:, None, None]
        missing = self._half_width * (1 / warp.scale - 1)
        if round(missing) >= 1:
            values = widen_pafs(values, round(missing))
        warped = warp.resample(values, *target.cells.shape)
        return _rotate_vectors(warped, warp.matrix[:, :2])


def widen_heatmaps(values: NDArray[np.float32], blur: float) -> NDArray[np.float32]:
    """Widen Gaussians without changing their height.

    Args:
        values: (C, h, w) float32.
        blur: Standard deviation in cells; a Gaussian of variance s^2 becomes one of s^2 + blur^2.

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
    """Widen limbs: each cell gets the longest vector of its octagonal neighborhood.

    Args:
        values: (2 L, h, w) float32.
        cells: Number of cells on either side.

    Returns:
        (2 L, h, w).
    """
    fields = values.reshape(-1, 2, *values.shape[1:])
    for step in range(cells):
        # Alternating diamonds and squares give an octagon.
        if step % 2:
            fields = _longest_vectors(_longest_vectors(fields, (2,)), (3,))
        else:
            fields = _longest_vectors(fields, (2, 3))
    return fields.reshape(values.shape)


def _longest_vectors(fields: NDArray[np.float32], axes: tuple[int, ...]) -> NDArray[np.float32]:
    """Return (L, 2, h, w), the longest vector of each cell and its two neighbors on each axis."""
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


def _rotate_vectors(
    values: NDArray[np.float32], linear: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Apply a linear map to the vectors of (2 L, h, w), but preserve their lengths."""
    scale = math.sqrt(abs(np.linalg.det(linear)))
    (xx, xy), (yx, yy) = (linear / scale).astype(np.float32)
    x, y = values[0::2], values[1::2]
    rotated = np.empty_like(values)
    rotated[0::2], rotated[1::2] = xx * x + xy * y, yx * x + yy * y
    if not np.allclose(linear @ linear.T, scale**2 * np.eye(2), rtol=0, atol=_ROUNDING * scale**2):
        lengths = np.hypot(rotated[0::2], rotated[1::2])  # not a similarity: they changed
        factors = np.hypot(x, y) / np.maximum(lengths, np.float32(1e-9))
        rotated[0::2] *= factors
        rotated[1::2] *= factors
    return rotated


def _cells_within(
    size: tuple[int, int], to_cells: Affine, rows: int, columns: int
) -> NDArray[np.bool_]:
    """Return (rows, columns) bool, the cells with centers inside of the photo."""
    grid = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).astype(float)
    points = to_cells.inverse().apply(grid)
    height, width = size
    x, y = points[..., 0], points[..., 1]
    return (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
