"""Tests of INT8 ranges against independent computations on the values themselves."""

import numpy as np
import pytest

from bodyposenet.exporting.int8.ranges import Histogram, Range

METHODS = "percentile", "entropy", "minmax"


def values(seed=0, count=200_000):
    """Return values like the output of a ReLU: half of them are 0, with a long tail."""
    random = np.random.default_rng(seed)
    return np.maximum(random.normal(size=count) * random.gamma(2, size=count), 0).astype(np.float32)


def histogram(*batches):
    found = Histogram()
    for batch in batches:
        found.add(batch)
    return found


def test_minmax_is_exact():
    mixed = np.array([[-3.5, 0.25], [7.125, 2]], np.float32)
    assert histogram(mixed, mixed / 2).range("minmax") == Range(-3.5, 7.125)


def test_percentile_clips_the_tails():
    found = histogram(values() - 1).range("percentile")
    low, high = np.quantile(values() - 1, [5e-6, 1 - 5e-6], method="inverted_cdf")
    assert found.low == pytest.approx(low, abs=0.01)
    assert found.high == pytest.approx(high, rel=0.01)


def looped_entropy_calibration(magnitudes, bins):
    """Return the clipping point of TensorRT's calibration (Migacz 2017), by loops over all bins."""
    counts, edges = np.histogram(magnitudes, 2048, (0, 2 ** np.ceil(np.log2(magnitudes.max()))))
    counts = counts.astype(float)
    counts[0] = counts[1]
    best = (np.inf, 0.0)
    for end in range(128, np.flatnonzero(counts)[-1] + 2, bins):
        reference = counts[:end].copy()
        quantized = np.zeros(end)
        for level in range(128):
            inside = [k for k in range(end) if k * 128 // end == level and counts[k]]
            for k in inside:
                quantized[k] = counts[inside].sum() / len(inside)
        reference[-1] += counts[end:].sum()
        if ((reference > 0) & (quantized == 0)).any():
            continue
        p, q = reference / reference.sum(), quantized / quantized.sum()
        lost = sum(a * np.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)
        best = min(best, (lost, edges[end]))
    return best[1]


def test_entropy_equals_a_plain_loop():
    found = histogram(values(count=20_000)).range("entropy")
    assert found.low == 0
    assert found.high == pytest.approx(
        looped_entropy_calibration(values(count=20_000), bins=8), rel=1e-6
    )


@pytest.mark.parametrize("method", METHODS)
def test_ranges_do_not_depend_on_batches(method):
    parts = np.array_split(values(), 7)
    whole = histogram(values()).range(method)
    assert histogram(*parts).range(method) == whole
    assert histogram(*reversed(parts)).range(method) == whole


@pytest.mark.parametrize("method", METHODS)
def test_zeros_and_single_values(method):
    zeros = np.zeros(10, np.float32)
    assert histogram(zeros).range(method) == Range(0, 0)
    found = histogram(zeros, np.full(10, -4, np.float32)).range(method)
    assert found.low == pytest.approx(-4, rel=1e-3)
    assert found.high == 0
