"""Decoders from maps to poses: our own (`mode: accurate`) and the original's (`mode: tao`).

Their kernels are compiled by numba, which is imported with the first call, not with this module.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock, Thread
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.types import Maps, Poses

__all__ = ["DecodingOptions", "decode", "warm_up", "warm_up_in_background"]

Mode = Literal["accurate", "tao"]

_HEATMAP_THRESHOLDS: dict[Mode, float] = {"accurate": 0.05, "tao": 0.1}
_PAF_THRESHOLDS: dict[Mode, float] = {"accurate": 0.02, "tao": 0.05}

_MAX_VALUE = 1e6
"""Heatmaps and PAFs lie in -1..1; what is far beyond is broken, like NaN and infinity."""


@dataclass(frozen=True)
class DecodingOptions:
    """How maps become poses; the keys of the inference spec (TAO reference, section 2.5).

    Args:
        mode: The decoder: `accurate`, our own, between the cells and without upsampling; or `tao`,
            the original's.
        heatmap_threshold: A peak must be higher than this; None: .05 (accurate) or .1 (tao).
        paf_threshold: The PAF score of a sample along a limb must be higher than this; None:
            .02 (accurate) or .05 (tao).
        upsampling: Factors (vertical, horizontal) of the grid that peaks lie on with `tao`; at
            (1, 1) they lie on the network's cells.
        complete_pose: With `accurate`, merge fragments of people and infer missing joints.
    """

    mode: Mode = "accurate"
    heatmap_threshold: float | None = None
    paf_threshold: float | None = None
    upsampling: tuple[int, int] = (8, 8)
    complete_pose: bool = False

    @classmethod
    def from_spec(cls, spec: InferenceSpec) -> DecodingOptions:
        """The options of an inference spec."""
        return cls(
            spec.mode, spec.heatmap_threshold, spec.paf_threshold,
            spec.output_upsampling_factor, spec.complete_pose,
        )  # fmt: skip

    @property
    def thresholds(self) -> tuple[float, float]:
        """Of heatmaps and of PAFs; the mode's own where none is given.

        Floats, as the decoders would be compiled once more for integers.
        """
        heatmap, paf = self.heatmap_threshold, self.paf_threshold
        return (
            _HEATMAP_THRESHOLDS[self.mode] if heatmap is None else float(heatmap),
            _PAF_THRESHOLDS[self.mode] if paf is None else float(paf),
        )


def decode(maps: Maps, skeleton: Skeleton, options: DecodingOptions | None = None) -> Poses:
    """Find the people in the maps of one image.

    Args:
        maps: Heatmaps and part affinity fields. Values that are NaN, infinite or absurdly large
            count as 0.
        skeleton: The joints and limbs that the maps are of.
        options: How to decode; `accurate` with its own thresholds by default.

    Returns:
        Poses in network input pixels: floats, not clipped to the image. At most 128 peaks per
        joint, the highest, are looked at, so that the maps of a broken network take no more time.

    Raises:
        BodyPoseNetError: The maps' channels or sizes do not fit the skeleton or each other.
    """
    options = options or DecodingOptions()
    _check_shapes(maps, skeleton)
    if not maps.heatmaps[0].size:
        return Poses.empty(skeleton)
    heatmaps, pafs = _sanitize(maps.heatmaps[:-1]), _sanitize(maps.pafs)
    # Each decoder is imported where it runs, as numba and what it compiles come with it.
    if options.mode == "tao":
        from bodyposenet.decoding.tao import decode_tao

        return decode_tao(
            heatmaps, pafs, skeleton, *options.thresholds, options.upsampling, maps.stride
        )
    from bodyposenet.decoding.accurate import decode_accurate

    return decode_accurate(
        heatmaps, pafs, skeleton, *options.thresholds, options.complete_pose,
        maps.stride, maps.heatmap_sigma,
    )  # fmt: skip


def warm_up(mode: Mode) -> None:
    """Compile a decoder, or load what an earlier process compiled, before it is needed."""
    skeleton = Skeleton("forearm", ("elbow", "wrist"), ((0, 1),))
    nobody = Maps(np.zeros((3, 4, 4), np.float32), np.zeros((2, 4, 4), np.float32))
    decode(nobody, skeleton, DecodingOptions(mode))


def warm_up_in_background(mode: Mode) -> None:
    """Let a thread do `warm_up` while the caller opens a model; only the first call has an effect.

    Who decodes before it has finished waits for it. So does the end of the process, and a fork of
    it: a compilation must not be torn apart.
    """
    with _warming_lock:
        if mode not in _warming:
            _warming[mode] = Thread(target=_try_to_warm_up, args=(mode,), name=f"warm up {mode}")
            _warming[mode].start()


def _try_to_warm_up(mode: Mode) -> None:
    with suppress(Exception):  # the first image has the same error, and can report it
        warm_up(mode)


_warming: dict[Mode, Thread] = {}
_warming_lock = Lock()


def _finish_warming() -> None:
    for thread in _warming.values():
        thread.join()


if hasattr(os, "register_at_fork"):  # not on Windows
    # A child has its parent's locks, but not the thread that would release numba's.
    os.register_at_fork(before=_finish_warming)


def _check_shapes(maps: Maps, skeleton: Skeleton) -> None:
    """Refuse maps of another skeleton."""
    found = (len(maps.heatmaps), len(maps.pafs))
    expected = (skeleton.heatmap_channels, skeleton.paf_channels)
    if found != expected:
        raise BodyPoseNetError(
            f"the network gives {found[0]} heatmaps and {found[1]} PAF channels, but the skeleton "
            f"{skeleton.name} needs {expected[0]} and {expected[1]}",
            "Use the pose configuration that the model was trained with.",
        )
    if maps.heatmaps.shape[1:] != maps.pafs.shape[1:]:
        raise BodyPoseNetError(
            f"the network's heatmaps are {maps.heatmaps.shape[1:]} cells large, its part affinity "
            f"fields {maps.pafs.shape[1:]}",
            "Both must have the same height and width; export the model again (bpnet export).",
        )


def _sanitize(channels: NDArray[np.float32]) -> NDArray[np.float32]:
    """The channels with 0 for broken values, in the one type and layout that is compiled for.

    A copy is made only where it takes one.
    """
    channels = np.require(channels, np.float32, ["C", "W"])
    # A comparison with NaN is false.
    if not channels.size or (channels.max() < _MAX_VALUE and channels.min() > -_MAX_VALUE):
        return channels
    return np.where(np.abs(channels) < _MAX_VALUE, channels, np.float32(0))
