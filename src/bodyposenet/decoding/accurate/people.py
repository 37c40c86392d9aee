"""Candidates for people, on the cells of the maps, and their scores (`mode: accurate`)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class People(NamedTuple):
    """N people on the cells of the maps."""

    points: NDArray[np.float64]
    """(N, K, 2) x and y in cells, NaN where a joint is missing."""
    scores: NDArray[np.float64]
    """(N, K) heights of the peaks, 0 where a joint is missing."""
    totals: NDArray[np.float64]
    """(N,) sums of the scores of the peaks and of the connections."""

    @property
    def found(self) -> NDArray[np.bool_]:
        """(N, K) which joints are there."""
        return ~np.isnan(self.points[..., 0])

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> People:
        """The chosen people, in the order in which they are chosen."""
        return People(self.points[chosen], self.scores[chosen], self.totals[chosen])


def person_scores(totals: NDArray[np.float64]) -> NDArray[np.float32]:
    """Scores in 0..1 that keep the order of the totals.

    The original's 1 - 1 / total (reference 11.8) is below 0 for the faint people that it never
    keeps. Below a total of 2 the score is total / 4, which touches that curve there.

    Args:
        totals: (N,) at least 0.

    Returns:
        (N,) float32.
    """
    return np.where(totals < 2, totals / 4, 1 - 1 / np.maximum(totals, 2)).astype(np.float32)
