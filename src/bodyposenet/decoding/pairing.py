"""The pairs of peaks that a limb could join in, those that it does join out: best first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bodyposenet.decoding.compiling import compiled


@compiled
def take_best_pairs(
    pairs: NDArray[np.int64], values: NDArray[np.float64], peaks: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Take pairs by descending value (ties in their order), each peak at most once.

    Args:
        pairs: (N, 2) indices of peaks.
        values: (N,) what each pair is worth.
        peaks: How many peaks there are.

    Returns:
        The pairs that are taken, (M, 2), and their values (M,).
    """
    taken = np.zeros(peaks, np.bool_)
    best = np.empty(len(pairs), np.int64)
    count = 0
    for k in np.argsort(-values, kind="mergesort"):
        a, b = pairs[k]
        if not (taken[a] or taken[b]):
            taken[a] = taken[b] = True
            best[count] = k
            count += 1
    return pairs[best[:count]], values[best[:count]]
