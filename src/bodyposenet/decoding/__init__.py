"""Decoding: maps -> poses, by our own decoder (`mode: accurate`) or the original's (`mode: tao`).

Both are compiled by numba, which is imported with the first call, not with this module.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.types import Maps, Poses

__all__ = ["DecodingOptions", "decode", "warm_up"]

Mode = Literal["accurate", "tao"]

_HEATMAP_THRESHOLDS: dict[Mode, float] = {"accurate": 0.05, "tao": 0.1}
_PAF_THRESHOLDS: dict[Mode, float] = {"accurate": 0.02, "tao": 0.05}


@dataclass(frozen=True)
class DecodingOptions:
    """How maps become poses; the keys of the inference spec (reference 2.5).

    Args:
        mode: The decoder: `accurate`, our own, between the cells and without upsampling; or `tao`,
            the original's.
        heatmap_threshold: A peak must be higher than this; None: .05 (accurate) or .1 (tao).
        paf_threshold: A PAF sample must agree with the limb's direction by more than this; None:
            .02 (accurate) or .05 (tao).
        upsampling: Factors (vertical, horizontal) of the grid that peaks lie on with `tao`; at
            (1, 1) they lie on the network's cells.
        complete_pose: With `accurate`, join what is left of a body and infer its missing joints.
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
    # Here, since numba comes with them.
    from bodyposenet.decoding.accurate import decode_accurate
    from bodyposenet.decoding.cleaning import cleaned
    from bodyposenet.decoding.tao import decode_tao

    heatmaps, pafs = cleaned(_plain(maps.heatmaps[:-1])), cleaned(_plain(maps.pafs))
    if options.mode == "tao":
        return decode_tao(
            heatmaps, pafs, skeleton, *options.thresholds, options.upsampling, maps.stride
        )
    return decode_accurate(
        heatmaps, pafs, skeleton, *options.thresholds, options.complete_pose,
        maps.stride, maps.heatmap_sigma,
    )  # fmt: skip


def warm_up() -> None:
    """Compile both decoders, or load what an earlier run compiled, before it is needed."""
    skeleton = Skeleton("forearm", ("elbow", "wrist"), ((0, 1),))
    nobody = Maps(np.zeros((3, 4, 4), np.float32), np.zeros((2, 4, 4), np.float32))
    for mode in _HEATMAP_THRESHOLDS:
        decode(nobody, skeleton, DecodingOptions(mode))


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


def _plain(channels: NDArray[np.float32]) -> NDArray[np.float32]:
    """The channels in the one layout that is compiled for; a copy only where they have another."""
    return np.require(channels, np.float32, ["C", "W"])
