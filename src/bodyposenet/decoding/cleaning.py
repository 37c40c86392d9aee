"""Maps of any network in, the same maps out with nothing in them that no network should say."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bodyposenet.decoding.compiling import compiled

# A heatmap or PAF lies in -1..1; what is far beyond is a broken network's, like NaN and infinity.
_ABSURD = 1e6


@compiled
def cleaned(channels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Copy (C, h, w) float32 maps, with 0 for every value that no sound network gives."""
    copy = np.empty_like(channels)
    for channel in range(channels.shape[0]):
        for row in range(channels.shape[1]):
            for column in range(channels.shape[2]):
                value = channels[channel, row, column]
                copy[channel, row, column] = value if abs(value) < _ABSURD else np.float32(0)
    return copy
