"""Decoding: maps -> poses, with the original's decoder (`mode: tao`, reference 11.4 to 11.8).

    heatmaps -> find_peaks -> find_connections (along the part affinity fields) -> connect_parts

It is written for clarity and exactness, as the measure of any faster decoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bodyposenet.decoding.assembly import Body, connect_parts
from bodyposenet.decoding.limbs import Connection, find_connections
from bodyposenet.decoding.peaks import Peaks, find_peaks
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.geometry import Affine
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.types import Maps, Poses

__all__ = [
    "Body",
    "Connection",
    "DecodingOptions",
    "Peaks",
    "connect_parts",
    "decode",
    "find_connections",
    "find_peaks",
]

# A heatmap or PAF lies in -1..1; what is far beyond is a broken network's, like NaN and infinity.
_ABSURD = 1e6


@dataclass(frozen=True)
class DecodingOptions:
    """How maps become poses; the keys of the inference spec (reference 2.5).

    Args:
        mode: The decoder: `tao`, the original's.
        heatmap_threshold: A peak must be higher than this.
        paf_threshold: A PAF sample must agree with the limb's direction by more than this.
        upsampling: Factors (vertical, horizontal) that maps are enlarged by before peaks are
            sought; at (1, 1) peaks lie on the network's cells.
    """

    mode: Literal["tao"] = "tao"
    heatmap_threshold: float = 0.1
    paf_threshold: float = 0.05
    upsampling: tuple[int, int] = (8, 8)

    @classmethod
    def from_spec(cls, spec: InferenceSpec) -> DecodingOptions:
        """The options of an inference spec."""
        return cls(
            spec.mode, spec.heatmap_threshold, spec.paf_threshold, spec.output_upsampling_factor
        )


def decode(maps: Maps, skeleton: Skeleton, options: DecodingOptions | None = None) -> Poses:
    """Find the people in the maps of one image.

    Args:
        maps: Heatmaps and part affinity fields. Values that are NaN, infinite or absurdly large
            count as 0.
        skeleton: The joints and limbs that the maps are of.
        options: How to decode; the original's constants by default.

    Returns:
        Poses in network input pixels, not clipped to the image. A keypoint's score is the
        unsmoothed heatmap at its peak; a person's is 1 - 1 / total, where total is the sum of the
        peaks and of the connections between them.

    Raises:
        BodyPoseNetError: The maps' channels or sizes do not fit the skeleton or each other.
    """
    options = options or DecodingOptions()
    _check_shapes(maps, skeleton)
    if not maps.heatmaps.size:
        return Poses.empty(skeleton)
    heatmaps, pafs = _without_absurdities(maps.heatmaps[:-1]), _without_absurdities(maps.pafs)
    peaks = find_peaks(heatmaps, options.heatmap_threshold, options.upsampling)
    connections = find_connections(pafs, peaks, skeleton, options.paf_threshold, options.upsampling)
    bodies = connect_parts(connections, peaks, skeleton)
    vertical, horizontal = options.upsampling
    to_network = Affine.resize(maps.stride / horizontal, maps.stride / vertical)
    return _poses(bodies, peaks, skeleton).moved(to_network)


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
            "A model exported with --sdk_compatible_model gives such maps; export it without.",
        )


def _without_absurdities(channels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Copy the channels as float32, with 0 for every value that no sound network gives."""
    return np.where(np.abs(channels) < _ABSURD, channels, 0).astype(np.float32)


def _poses(bodies: list[Body], peaks: Peaks, skeleton: Skeleton) -> Poses:
    """Look up the peaks of each body; positions stay on the upsampled grid."""
    if not bodies:
        return Poses.empty(skeleton)
    parts = np.array([body.parts for body in bodies])
    found = parts >= 0
    keypoints = np.full((*parts.shape, 2), np.nan, np.float32)
    keypoints[found] = peaks.points[parts[found]]
    scores = np.zeros(parts.shape, np.float32)
    # Bicubic upsampling can lift a peak a little above 1.
    scores[found] = peaks.scores[parts[found]].clip(max=1.0)
    totals = np.array([body.total for body in bodies])
    return Poses(keypoints, scores, (1 - 1 / totals).astype(np.float32), skeleton)
