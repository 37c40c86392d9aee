"""Mapping between the map channels of two skeletons, by the names of joints and limbs.

Names in other notations match too: `LShoulder` is `left_shoulder` (`Skeleton.match`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bodyposenet.skeleton import Skeleton


class ChannelMap(NamedTuple):
    """Source channel of each of C target channels.

    Args:
        source: (C,) index of the channel in the source skeleton's maps; 0 if it has none.
        sign: (C,) float32, 1, or -1 for a limb that the source skeleton has in reverse direction.
        known: (C,) bool, whether the source skeleton has the channel.
    """

    source: NDArray[np.int64]
    sign: NDArray[np.float32]
    known: NDArray[np.bool_]

    def followed_by(self, other: ChannelMap, offset: int) -> ChannelMap:
        """Concatenate the channels of this map and of another one.

        Args:
            other: Map of the channels that follow.
            offset: Number of source channels before those of `other`.
        """
        return ChannelMap(
            np.concatenate([self.source, other.source + offset]),
            np.concatenate([self.sign, other.sign]),
            np.concatenate([self.known, other.known]),
        )


def match_heatmaps(source: Skeleton, target: Skeleton, *, keep_background: bool) -> ChannelMap:
    """Match heatmaps by the names of the joints, see `Skeleton.match`.

    Args:
        source: Skeleton with the source channels.
        target: Skeleton with the K + 1 target channels.
        keep_background: Whether to use the source's background if its joints differ.
    """
    joints = source.match(target.joints)
    same = keep_background or (None not in joints and len(joints) == len(source.joints))
    background = (len(source.joints), 1.0) if same else None
    return _channel_map([*(None if i is None else (i, 1.0) for i in joints), background])


def match_pafs(source: Skeleton, target: Skeleton) -> ChannelMap:
    """Match part affinity fields by the joint names of the limbs, see `Skeleton.match`.

    Args:
        source: Skeleton with the source channels.
        target: Skeleton with the 2 L target channels.
    """
    limbs: dict[tuple[int | None, int | None], tuple[int, float]] = {}
    for index, (start, end) in enumerate(source.limbs):
        limbs[end, start] = index, -1.0
    for index, (start, end) in enumerate(source.limbs):
        limbs[start, end] = index, 1.0
    joints = source.match(target.joints)
    matches = [limbs.get((joints[start], joints[end])) for start, end in target.limbs]
    return _channel_map(
        [limb and (2 * limb[0] + axis, limb[1]) for limb in matches for axis in (0, 1)]
    )


def _channel_map(pairs: Sequence[tuple[int, float] | None]) -> ChannelMap:
    """Build the map from index and sign of every channel."""
    source, sign = zip(*(pair or (0, 1.0) for pair in pairs), strict=True)
    known = [pair is not None for pair in pairs]
    return ChannelMap(np.array(source), np.array(sign, np.float32), np.array(known))
