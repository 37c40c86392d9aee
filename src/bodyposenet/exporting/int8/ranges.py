"""Value ranges of a model's tensors for INT8: minmax, percentile or entropy calibration.

`measure_ranges` runs the model on calibration images and counts the values of every tensor in a
histogram of fixed size, so memory does not grow with the number of images. The result does not
depend on the batch size.

ONNX Runtime 1.31 has calibrators, too. On lightweight OpenPose with equalized channels, their
percentiles are as accurate (AP .351 and .351 on 150 photos of val, 24 calibration photos). Their
entropy calibration is not TensorRT's: with the default of 128 bins it compares few ranges (.351
instead of .357), and with 2048 bins it takes more than three minutes instead of one second. They
keep the tensors of all photos in memory (346 MiB per photo of 368 x 496) and take twice as long
(benchmarks/RESULTS.md, "INT8 quantization").
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bodyposenet.console import progress
from bodyposenet.exporting.int8.activations import ActivationCollector

CalibrationMethod = Literal["percentile", "entropy", "minmax"]

Batches = Iterable[NDArray[np.float32]]
"""(N, H, W, 3) float32, normalized RGB."""

INT8_MAX = 127
"""Number of INT8 levels on either side of zero."""

_BINS = 4096
"""Histogram bins per sign; at least half of them are in use."""

_TAIL = 5e-6
"""Share of values that `percentile` clips at either end, so that 99.999 % remain."""

_ENTROPY_BINS = 2048
_ENTROPY_STEP = 8
_MAGNITUDES = INT8_MAX + 1


@dataclass(frozen=True)
class Range:
    """Range of values that INT8 represents; values outside are clipped.

    Args:
        low: Lowest value, at most 0.
        high: Highest value, at least 0.
    """

    low: float
    high: float

    @property
    def largest(self) -> float:
        """Largest absolute value."""
        return max(-self.low, self.high)


def measure_ranges(
    content: bytes, batches: Batches, method: CalibrationMethod, total: int | None = None
) -> dict[str, Range]:
    """Run a model on images and measure the ranges of its tensors.

    Images run one by one, so that neither many batches nor large ones need more memory.

    Args:
        content: Content of a float32 ONNX file from `export_onnx`.
        batches: (N, H, W, 3) float32 each, normalized RGB; converted to the input of the model.
        method: Calibration method, see `Histogram.range`.
        total: Number of batches, for the progress bar.

    Returns:
        Range of every float tensor from the network's normalized input on, by name.

    Raises:
        BodyPoseNetError: The model cannot be run on the images.
    """
    collector = ActivationCollector(content)
    histograms: dict[str, Histogram] = {}
    for batch in progress(batches, "calibration", total):
        for tensors in collector.run(batch):
            for name, values in tensors.items():
                histograms.setdefault(name, Histogram()).add(values)
    return {name: histogram.range(method) for name, histogram in histograms.items()}


class Histogram:
    """Histogram of the values of a tensor, with their minimum and maximum."""

    def __init__(self) -> None:
        self.low = self.high = 0.0
        self._exponent: int | None = None  # the bins of either sign extend to 2**exponent
        self._counts = np.zeros(2 * _BINS, np.int64)

    def add(self, values: NDArray[np.float32]) -> None:
        """Count values.

        Args:
            values: Finite float32 values, in any shape.
        """
        low, high = float(values.min()), float(values.max())
        self.low, self.high = min(self.low, low), max(self.high, high)
        if reach := max(-low, high):
            self._widen(math.frexp(reach)[1])
        if self._exponent is None:  # only zeros so far
            self._counts[_BINS] += values.size
            return
        # The factor is a power of two, so only the sum is rounded.
        bins = values.ravel() * np.float32(_BINS / 2.0**self._exponent)
        bins += _BINS
        np.clip(bins, 0, 2 * _BINS - 1, out=bins)
        self._counts += np.bincount(bins.astype(np.intp), minlength=2 * _BINS)

    def range(self, method: CalibrationMethod) -> Range:
        """Return the range that INT8 should represent.

        Args:
            method: `minmax` covers every value and `percentile` 99.999 % of them; `entropy`
                minimizes the change of their distribution, as TensorRT's calibrator does.
        """
        if method == "minmax" or self._exponent is None:
            return Range(self.low, self.high)
        if method == "percentile":
            return self._between(*self._percentiles())
        largest = 2.0**self._exponent * _entropy_share(self._magnitudes())
        return self._between(-largest, largest)

    def _widen(self, exponent: int) -> None:
        """Extend the bins to 2**exponent by merging neighboring bins."""
        if self._exponent is None:
            self._exponent = exponent
        for _ in range(exponent - self._exponent):
            pairs = self._counts.reshape(_BINS, 2).sum(axis=1)
            self._counts = np.pad(pairs, _BINS // 2)
        self._exponent = max(exponent, self._exponent)

    def _between(self, low: float, high: float) -> Range:
        """Return a range, limited to the measured values and including 0."""
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
        """Return the histogram of the absolute values."""
        return self._counts[_BINS:] + self._counts[_BINS - 1 :: -1]


def _entropy_share(counts: NDArray[np.int64]) -> float:
    """Return where to clip absolute values, as a share of the histogram's extent.

    The result minimizes the Kullback-Leibler divergence between the clipped distribution and its
    quantization to 128 levels (Migacz, "8-bit Inference with TensorRT", GTC 2017). As in that
    work, zeros do not count: after a ReLU they are the majority, and every range represents them
    exactly.

    Args:
        counts: (B,) histogram of the absolute values.
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
    """Return the divergence of a quantization to 128 levels.

    Args:
        counts: (B,) histogram of the absolute values up to the clipping point.
        clipped: Number of values beyond it, which are clipped to the last bin.
    """
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
