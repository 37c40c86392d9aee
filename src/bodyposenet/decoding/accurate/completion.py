"""Completion of people by a model of how joints lie to one another (`complete_pose`)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bodyposenet.decoding.accurate.assembly import People
from bodyposenet.decoding.accurate.body_model import BodyEstimate, BodyModel
from bodyposenet.decoding.accurate.peaks import peak_offset

_MAX_PEOPLE = 128
"""People that are completed, the best; more are noise, and would take long."""

# A fragment belongs to a person if its joints lie near where the person's own joints put them: the
# mean squared distance in squared standard deviations, where these are below the body's size.
_MAX_DISTANCE = 2.0
_MAX_UNCERTAINTY = 1.0

# Where the heatmap value times the probability of the place is less, an inferred joint stays at the
# most probable place, with this as its score.
_MIN_VALUE = 0.01

_OCCUPIED = 2.0
"""Standard deviations of a joint's Gaussian within which the heatmap is that joint's alone."""


def merge_fragments(people: People, model: BodyModel) -> People:
    """Merge people that have no joint in common and fit together.

    The person of most joints takes the fragment that fits best, again and again; then the next.
    """
    falling = np.lexsort([-people.totals, -people.found.sum(axis=1)])
    points, scores, totals = people.take(falling)
    alive = np.ones(len(totals), bool)
    for person in range(min(len(totals), _MAX_PEOPLE)):
        while alive[person]:
            others = person + 1 + np.flatnonzero(alive[person + 1 : _MAX_PEOPLE])
            best = _best_fragment(points[others], points[person], model)
            if best is None:
                break
            fragment = others[best]
            points[person] = np.fmax(points[person], points[fragment])
            scores[person] += scores[fragment]
            totals[person] += totals[fragment]
            alive[fragment] = False
    return People(points, scores, totals).take(alive)


def infer_joints(
    people: People, heatmaps: NDArray[np.float32], model: BodyModel, sigma: float
) -> People:
    """Give people the joints that they miss.

    A joint goes to where the heatmap, weighted by the probability of the place, is highest and no
    person has such a joint yet; or to the most probable place, where the heatmap is empty.

    Args:
        people: Best first.
        heatmaps: (K, h, w), without the background.
        model: Where joints may be.
        sigma: Standard deviation of a joint's Gaussian in the heatmaps, in cells.
    """
    points, scores = people.points.copy(), people.scores.copy()
    reach = max(int(_OCCUPIED * sigma), 1)
    free = heatmaps.copy()
    found = people.found
    for person, joint in np.argwhere(found):
        _occupy(free[joint], points[person, joint], reach)
    for person in range(min(len(points), _MAX_PEOPLE)):
        estimate = model.estimate(people.points[person])
        if estimate is None:
            continue
        for joint in np.flatnonzero(model.known & ~found[person]):
            points[person, joint], scores[person, joint] = _most_likely_place(
                free[joint], estimate.points[joint], estimate.deviations[joint], sigma
            )
            _occupy(free[joint], points[person, joint], reach)
    return People(points, scores, people.totals)


def _best_fragment(
    fragments: NDArray[np.float64], person: NDArray[np.float64], model: BodyModel
) -> int | None:
    """Which of (N, K, 2) fragments belongs to a person (K, 2), if one does."""
    found = ~np.isnan(fragments[..., 0])
    disjoint = ~(found & ~np.isnan(person[:, 0])).any(axis=1)
    known = found & model.known
    possible = np.flatnonzero(disjoint & known.any(axis=1))
    estimate = model.estimate(person) if len(possible) else None
    if estimate is None:
        return None
    distances = _distances(fragments[possible], known[possible], estimate)
    best = distances.argmin()
    return int(possible[best]) if distances[best] < _MAX_DISTANCE else None


def _distances(
    fragments: NDArray[np.float64], known: NDArray[np.bool_], estimate: BodyEstimate
) -> NDArray[np.float64]:
    """How far each of (N, K, 2) fragments lies from where the body's joints may be.

    Returns:
        (N,) mean squared distance in squared standard deviations over the (N, K) known joints;
        infinite where the estimate is too uncertain.
    """
    count = known.sum(axis=1)
    squares = ((fragments - estimate.points) ** 2).sum(axis=2) / (2 * estimate.deviations**2)
    distances = np.where(known, squares, 0).sum(axis=1) / count
    uncertainties = np.where(known, estimate.deviations, 0).sum(axis=1) / count
    return np.where(uncertainties < _MAX_UNCERTAINTY * estimate.size, distances, np.inf)


def _most_likely_place(
    heatmap: NDArray[np.float32], center: NDArray[np.float64], deviation: float, sigma: float
) -> tuple[NDArray[np.float64], float]:
    """Where the heatmap times the probability of the place is highest, and its value there."""
    across, down = (
        np.exp(-((np.arange(cells) - middle) ** 2) / (2 * deviation**2))
        for cells, middle in zip(heatmap.shape[::-1], center, strict=True)
    )
    likelihood = heatmap * np.outer(down, across)
    row, column = divmod(int(likelihood.argmax()), heatmap.shape[1])
    if likelihood[row, column] < _MIN_VALUE:
        return center, _MIN_VALUE
    x = column + _offset_along(heatmap[row], column, sigma)
    y = row + _offset_along(heatmap[:, column], row, sigma)
    return np.array([x, y]), min(float(heatmap[row, column]), 1.0)


def _offset_along(line: NDArray[np.float32], cell: int, sigma: float) -> float:
    """`peak_offset` in a row or column of a heatmap."""
    before = float(line[cell - 1]) if cell > 0 else math.nan
    after = float(line[cell + 1]) if cell < len(line) - 1 else math.nan
    return peak_offset(before, float(line[cell]), after, sigma)


def _occupy(heatmap: NDArray[np.float32], point: NDArray[np.float64], reach: int) -> None:
    """Clear the heatmap around a joint that is taken, up to so many cells away."""
    column, row = np.rint(point).astype(int)
    rows, columns = (slice(max(i - reach, 0), max(i + reach + 1, 0)) for i in (row, column))
    heatmap[rows, columns] = 0
