"""Ranges of tensors for INT8, from histograms of their values.

ONNX Runtime's own calibrators keep the tensors of all batches in memory. Here they go into
histograms of fixed size, whose result does not depend on how the values came in batches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Method = Literal["percentile", "entropy", "minmax"]

LEVELS = 127
"""INT8 levels on either side of zero."""

_BINS = 4096
"""Bins per sign; at least half of them are in use."""

_TAIL = 5e-6
"""Share of values that `percentile` cuts off at either end: 99.999 % remain."""

_ENTROPY_BINS = 2048
_ENTROPY_STEP = 8
_MAGNITUDES = LEVELS + 1


@dataclass(frozen=True)
class Range:
    """Range of values that INT8 represents; values outside are clipped.

    Args:
        low: Never above 0.
        high: Never below 0.
    """

    low: float
    high: float

    @property
    def largest(self) -> float:
        """Largest absolute value."""
        return max(-self.low, self.high)


class Histogram:
    """Histogram of the values of a tensor, with their minimum and maximum."""

    def __init__(self) -> None:
        self.low = self.high = 0.0
        self._exponent: int | None = None  # the bins of either sign reach to 2 to the power of it
        self._counts = np.zeros(2 * _BINS, np.int64)

    def add(self, values: NDArray[np.float32]) -> None:
        """Count values.

        Args:
            values: Of any shape, float32, finite.
        """
        low, high = float(values.min()), float(values.max())
        self.low, self.high = min(self.low, low), max(self.high, high)
        if reach := max(-low, high):
            self._widen(math.frexp(reach)[1])
        if self._exponent is None:  # nothing but zeros so far
            self._counts[_BINS] += values.size
            return
        # The factor is a power of two, so that nothing is rounded but in the sum.
        places = values.ravel() * np.float32(_BINS / 2.0**self._exponent)
        places += _BINS
        np.clip(places, 0, 2 * _BINS - 1, out=places)
        self._counts += np.bincount(places.astype(np.intp), minlength=2 * _BINS)

    def range(self, method: Method) -> Range:
        """Return the range that INT8 is to represent.

        Args:
            method: `minmax` covers every value, `percentile` 99.999 % of them, `entropy` the range
                that changes their distribution least, as TensorRT chooses it.
        """
        if method == "minmax" or self._exponent is None:
            return Range(self.low, self.high)
        if method == "percentile":
            return self._between(*self._percentiles())
        largest = 2.0**self._exponent * _entropy_share(self._magnitudes())
        return self._between(-largest, largest)

    def _widen(self, exponent: int) -> None:
        """Extend the bins to 2 to the power of this by joining neighbors."""
        if self._exponent is None:
            self._exponent = exponent
        for _ in range(exponent - self._exponent):
            pairs = self._counts.reshape(_BINS, 2).sum(axis=1)
            self._counts = np.pad(pairs, _BINS // 2)
        self._exponent = max(exponent, self._exponent)

    def _between(self, low: float, high: float) -> Range:
        return Range(min(max(low, self.low), 0.0), max(min(high, self.high), 0.0))

    def _percentiles(self) -> tuple[float, float]:
        """Return the bin edges beyond which at most `_TAIL` of the values lie."""
        assert self._exponent is not None
        most = _TAIL * self._counts.sum()
        below = int(np.searchsorted(np.cumsum(self._counts), most, side="right"))
        above = int(np.searchsorted(np.cumsum(self._counts[::-1]), most, side="right"))
        width = 2.0**self._exponent / _BINS
        return (below - _BINS) * width, (_BINS - above) * width

    def _magnitudes(self) -> NDArray[np.int64]:
        """Return how often absolute values occur."""
        return self._counts[_BINS:] + self._counts[_BINS - 1 :: -1]


def _entropy_share(counts: NDArray[np.int64]) -> float:
    """Return where to clip absolute values, as a share of the histogram's reach.

    The result minimizes the Kullback-Leibler divergence between the clipped distribution and the
    one in 128 levels (Migacz, "8-bit Inference with TensorRT", GTC 2017). As there, zeros do not
    count: after a ReLU they are the majority, and exact in any range.

    Args:
        counts: (B,) how often absolute values occur.
    """
    merged = counts.reshape(_ENTROPY_BINS, -1).sum(axis=1).astype(np.float64)
    merged[0] = merged[1]
    occupied = int(np.flatnonzero(merged)[-1]) + 1 if merged.any() else 1
    best, share = math.inf, occupied / _ENTROPY_BINS
    for bins in range(_MAGNITUDES, occupied + 1, _ENTROPY_STEP):
        divergence = _divergence(merged[:bins], float(merged[bins:].sum()))
        if divergence < best:
            best, share = divergence, bins / _ENTROPY_BINS
    return share


def _divergence(counts: NDArray[np.float64], clipped: float) -> float:
    """Return the divergence if values are put on 128 levels and `clipped` others on the last."""
    level = np.arange(len(counts)) * _MAGNITUDES // len(counts)
    occupied = counts > 0
    totals = np.bincount(level, counts, _MAGNITUDES)
    bins = np.bincount(level, occupied, _MAGNITUDES)
    spread = np.where(occupied, (totals / np.maximum(bins, 1))[level], 0.0)
    reference = counts.copy()
    reference[-1] += clipped
    occupied = reference > 0
    if not spread.any() or (spread[occupied] == 0).any():
        return math.inf
    reference, spread = reference[occupied], spread[occupied]
    reference, spread = reference / reference.sum(), spread / spread.sum()
    return float((reference * np.log(reference / spread)).sum())
