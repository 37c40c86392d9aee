"""Match the channels of one skeleton's maps to another's, by the names of joints and limbs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bodyposenet.skeleton import Skeleton


class ChannelMap(NamedTuple):
    """Where each of C channels comes from.

    Args:
        source: (C,) index of the other skeleton's channel; 0 where there is none.
        sign: (C,) float32, 1, or -1 for a limb that the other skeleton lists from end to start.
        known: (C,) bool, whether the other skeleton has the channel.
    """

    source: NDArray[np.int64]
    sign: NDArray[np.float32]
    known: NDArray[np.bool_]

    def followed_by(self, other: ChannelMap, offset: int) -> ChannelMap:
        """Return the map of these channels and, behind them, those of another map.

        Args:
            other: The channels that follow.
            offset: Channels of the other skeleton that lie before those of `other`.
        """
        return ChannelMap(
            np.concatenate([self.source, other.source + offset]),
            np.concatenate([self.sign, other.sign]),
            np.concatenate([self.known, other.known]),
        )


def match_heatmaps(theirs: Skeleton, ours: Skeleton, *, keep_background: bool) -> ChannelMap:
    """Match heatmaps by the names of the joints.

    Args:
        theirs: The skeleton to take channels from.
        ours: The skeleton whose K + 1 channels are looked for.
        keep_background: Whether the background of other joints counts as ours.
    """
    joints = {joint: (index, 1.0) for index, joint in enumerate(theirs.joints)}
    same = keep_background or set(theirs.joints) == set(ours.joints)
    background = (len(theirs.joints), 1.0) if same else None
    return _channel_map([*(joints.get(joint) for joint in ours.joints), background])


def match_pafs(theirs: Skeleton, ours: Skeleton) -> ChannelMap:
    """Match part affinity fields by the names of the limbs' ends.

    Args:
        theirs: The skeleton to take channels from.
        ours: The skeleton whose 2 L channels are looked for.
    """
    limbs: dict[tuple[str, str], tuple[int, float]] = {}
    for index, (start, end) in enumerate(theirs.limbs):
        limbs[theirs.joints[end], theirs.joints[start]] = index, -1.0
    for index, (start, end) in enumerate(theirs.limbs):
        limbs[theirs.joints[start], theirs.joints[end]] = index, 1.0
    found = [limbs.get((ours.joints[start], ours.joints[end])) for start, end in ours.limbs]
    return _channel_map(
        [limb and (2 * limb[0] + axis, limb[1]) for limb in found for axis in (0, 1)]
    )


def _channel_map(pairs: Sequence[tuple[int, float] | None]) -> ChannelMap:
    """Build the map from index and sign of every channel."""
    source, sign = zip(*(pair or (0, 1.0) for pair in pairs), strict=True)
    known = [pair is not None for pair in pairs]
    return ChannelMap(np.array(source), np.array(sign, np.float32), np.array(known))
