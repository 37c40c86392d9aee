"""Decoding of heatmaps and part affinity fields (PAFs) into poses, with `decode`.

There are two decoders, each a package with the modules `peaks` (candidate joints), `connections`
(PAF scores of candidate limbs) and `assembly` (people):

- `accurate`: sub-pixel peaks without upsampling. With `complete_pose`, fragments of people are
  merged and missing joints inferred (`completion`, `pose_prior`).
- `tao`: TAO's rules, with the same results as TAO (`upsampling`).

They share `common` (lists of peaks and connections) and `jit` (compilation by numba). numba is
imported by the first call of `decode`, not by importing this package.

In all modules, a cell is a pixel of the network's maps, which covers stride x stride pixels of the
network input.
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
"""Larger absolute values than this are treated as broken, like NaN; normal ones are up to 1."""


@dataclass(frozen=True)
class DecodingOptions:
    """Options of `decode`, from the inference spec (TAO reference, section 2.5).

    Args:
        mode: Decoder: `accurate` (sub-pixel peaks without upsampling) or `tao`.
        heatmap_threshold: Minimum heatmap value of a peak (exclusive), or None for the default of
            the mode: 0.05 (`accurate`) or 0.1 (`tao`).
        paf_threshold: Minimum PAF score of a sample along a limb, which is the component of the
            field in the direction of the limb (exclusive), or None for the default of the mode:
            0.02 (`accurate`) or 0.05 (`tao`).
        upsampling: Upsampling factors (vertical, horizontal) of `tao`, or (1, 1) for none.
        complete_pose: Merge fragments of people and infer missing joints (`accurate` only).
    """

    mode: Mode = "accurate"
    heatmap_threshold: float | None = None
    paf_threshold: float | None = None
    upsampling: tuple[int, int] = (8, 8)
    complete_pose: bool = False

    @classmethod
    def from_spec(cls, spec: InferenceSpec) -> DecodingOptions:
        """Read the options from an inference spec."""
        return cls(
            spec.mode, spec.heatmap_threshold, spec.paf_threshold,
            spec.output_upsampling_factor, spec.complete_pose,
        )  # fmt: skip

    @property
    def thresholds(self) -> tuple[float, float]:
        """Thresholds of heatmaps and PAFs, with the defaults of the mode applied.

        Always floats, because the decoders would be compiled again for integers.
        """
        heatmap, paf = self.heatmap_threshold, self.paf_threshold
        return (
            _HEATMAP_THRESHOLDS[self.mode] if heatmap is None else float(heatmap),
            _PAF_THRESHOLDS[self.mode] if paf is None else float(paf),
        )


def decode(maps: Maps, skeleton: Skeleton, options: DecodingOptions | None = None) -> Poses:
    """Decode the maps of one image into poses.

    Args:
        maps: Heatmaps and part affinity fields. Values that are NaN, infinite or larger than 1e6
            are treated as 0.
        skeleton: Joints and limbs of the maps.
        options: Decoding options, or None for `accurate` with its default thresholds.

    Returns:
        Poses in network input pixels, not rounded and not clipped to the image. Only the 128
        highest peaks per joint are used, which limits the time for the maps of a broken network.

    Raises:
        BodyPoseNetError: The numbers of channels do not match the skeleton, or the heatmaps and
            PAFs have different sizes.

    Examples:
        ```python
        from bodyposenet.decoding import DecodingOptions, decode

        poses = decode(maps, skeleton, DecodingOptions("tao", heatmap_threshold=0.2))
        ```
    """
    options = options or DecodingOptions()
    _check_shapes(maps, skeleton)
    if not maps.heatmaps[0].size:
        return Poses.empty(skeleton)
    heatmaps, pafs = _sanitize(maps.heatmaps[:-1]), _sanitize(maps.pafs)
    # Each decoder is imported only when used, because its import loads numba.
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
    """Compile a decoder, or load it from the cache, ahead of its first use."""
    skeleton = Skeleton("forearm", ("elbow", "wrist"), ((0, 1),))
    maps = Maps(np.zeros((3, 4, 4), np.float32), np.zeros((2, 4, 4), np.float32))
    decode(maps, skeleton, DecodingOptions(mode))


def warm_up_in_background(mode: Mode) -> None:
    """Run `warm_up` in a thread, while the caller opens a model.

    Only the first call per mode has an effect. Decoding, the end of the process and a fork wait
    until the thread has finished.
    """
    with _warming_lock:
        if mode not in _warming:
            _warming[mode] = Thread(target=_try_to_warm_up, args=(mode,), name=f"warm up {mode}")
            _warming[mode].start()


def _try_to_warm_up(mode: Mode) -> None:
    """Run `warm_up` without raising errors."""
    with suppress(Exception):  # decoding the first image raises the same error
        warm_up(mode)


_warming: dict[Mode, Thread] = {}
"""Threads of `warm_up_in_background`."""
_warming_lock = Lock()
"""Held while `_warming` is changed, and during a fork."""


def _finish_warming() -> None:
    """Wait until all threads of `warm_up_in_background` have finished, and start no others."""
    _warming_lock.acquire()
    for thread in _warming.values():
        thread.join()


if hasattr(os, "register_at_fork"):  # not on Windows
    # A forked process inherits numba's locks, but not the thread that would release them.
    os.register_at_fork(
        before=_finish_warming,
        after_in_parent=_warming_lock.release,
        after_in_child=_warming_lock.release,
    )


def _check_shapes(maps: Maps, skeleton: Skeleton) -> None:
    """Raise an error if maps do not match the skeleton."""
    actual = (len(maps.heatmaps), len(maps.pafs))
    expected = (skeleton.heatmap_channels, skeleton.paf_channels)
    if actual != expected:
        raise BodyPoseNetError(
            f"the network has {actual[0]} heatmaps and {actual[1]} PAF channels, but the skeleton "
            f"{skeleton.name} needs {expected[0]} and {expected[1]}",
            "Use the pose configuration that the model was trained with.",
        )
    if maps.heatmaps.shape[1:] != maps.pafs.shape[1:]:
        raise BodyPoseNetError(
            f"the network's heatmaps have the size {maps.heatmaps.shape[1:]}, but its part "
            f"affinity fields have the size {maps.pafs.shape[1:]}",
            "Export the model again (bpnet export).",
        )


def _sanitize(channels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Set broken values to 0 and convert to the type and layout that the kernels are compiled for.

    Copies only if necessary.
    """
    channels = np.require(channels, np.float32, ["C", "W"])
    # Comparisons with NaN are false.
    if not channels.size or (channels.max() < _MAX_VALUE and channels.min() > -_MAX_VALUE):
        return channels
    return np.where(np.abs(channels) < _MAX_VALUE, channels, np.float32(0))
