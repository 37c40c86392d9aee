"""Completion of poses with a pose prior: merging of fragments, inference of joints.

Used with `complete_pose`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bodyposenet.decoding.accurate.assembly import People
from bodyposenet.decoding.accurate.peaks import peak_offset
from bodyposenet.decoding.accurate.pose_prior import JointEstimates, PosePrior

_MAX_PEOPLE = 128
"""Maximum number of people that are completed, the best ones. More are usually noise."""

_MAX_DISTANCE = 2.0
"""Maximum mean squared distance of a fragment's joints from their estimates, in squared standard
deviations."""

_MAX_UNCERTAINTY = 1.0
"""Maximum mean standard deviation of these estimates, relative to the size of the person."""

_MIN_VALUE = 0.01
"""Minimum of heatmap value times probability for an inferred joint.

Below it, the joint is placed at its most probable position, and its score is this value.
"""

_OCCUPIED = 2.0
"""Radius around a detected joint in which no other person's joint is inferred, in standard
deviations of the joint's Gaussian."""


def merge_fragments(people: People, prior: PosePrior) -> People:
    """Merge detections that are fragments of one person.

    A fragment is merged into a person if they have no joint in common and the joints of the
    fragment lie near the positions that the prior estimates from those of the person. The person
    with the most joints repeatedly takes the fragment that fits best, then the person with the
    second most joints, and so on.

    Args:
        people: People, in any order.
        prior: Prior of the skeleton's joints.

    Returns:
        The people after merging; their totals are the sums of those of their fragments.
    """
    order = np.lexsort([-people.totals, -people.found.sum(axis=1)])
    points, scores, totals = people.take(order)
    is_kept = np.ones(len(totals), bool)
    for person in range(min(len(totals), _MAX_PEOPLE)):
        while is_kept[person]:
            others = person + 1 + np.flatnonzero(is_kept[person + 1 : _MAX_PEOPLE])
            best = _best_fragment(points[others], points[person], prior)
            if best is None:
                break
            fragment = others[best]
            points[person] = np.fmax(points[person], points[fragment])
            scores[person] += scores[fragment]
            totals[person] += totals[fragment]
            is_kept[fragment] = False
    return People(points, scores, totals).take(is_kept)


def infer_joints(
    people: People, heatmaps: NDArray[np.float32], prior: PosePrior, sigma: float
) -> People:
    """Infer the missing joints of people.

    A joint is placed at the maximum of heatmap value times probability, away from the joints of
    other people. If this maximum is too low, it is placed at its most probable position.

    Args:
        people: People, best first.
        heatmaps: (K, h, w), without the background channel.
        prior: Prior of the skeleton's joints.
        sigma: Standard deviation of a joint's Gaussian in the heatmaps, in cells.

    Returns:
        The same people with all joints that are in the prior. The score of an inferred joint is the
        heatmap value at its position, or 0.01 if it is placed at its most probable position.
    """
    points, scores = people.points.copy(), people.scores.copy()
    reach = max(int(_OCCUPIED * sigma), 1)
    free = heatmaps.copy()
    found = people.found
    for person, joint in np.argwhere(found):
        _occupy(free[joint], points[person, joint], reach)
    for person in range(min(len(points), _MAX_PEOPLE)):
        estimate = prior.estimate(people.points[person])
        if estimate is None:
            continue
        for joint in np.flatnonzero(prior.known & ~found[person]):
            points[person, joint], scores[person, joint] = _most_likely_place(
                free[joint], estimate.points[joint], estimate.deviations[joint], sigma
            )
            _occupy(free[joint], points[person, joint], reach)
    return People(points, scores, people.totals)


def _best_fragment(
    fragments: NDArray[np.float64], person: NDArray[np.float64], prior: PosePrior
) -> int | None:
    """Return the index of the (N, K, 2) fragment that fits a person (K, 2) best, or None."""
    found = ~np.isnan(fragments[..., 0])
    disjoint = ~(found & ~np.isnan(person[:, 0])).any(axis=1)
    known = found & prior.known
    possible = np.flatnonzero(disjoint & known.any(axis=1))
    estimate = prior.estimate(person) if len(possible) else None
    if estimate is None:
        return None
    distances = _distances(fragments[possible], known[possible], estimate)
    best = distances.argmin()
    return int(possible[best]) if distances[best] < _MAX_DISTANCE else None


def _distances(
    fragments: NDArray[np.float64], known: NDArray[np.bool_], estimate: JointEstimates
) -> NDArray[np.float64]:
    """Measure the distance of each of (N, K, 2) fragments from the estimated joints.

    Returns:
        (N,) mean squared distance over the (N, K) known joints in squared standard deviations;
        infinity where the estimate is too uncertain.
    """
    count = known.sum(axis=1)
    squares = ((fragments - estimate.points) ** 2).sum(axis=2) / (2 * estimate.deviations**2)
    distances = np.where(known, squares, 0).sum(axis=1) / count
    uncertainties = np.where(known, estimate.deviations, 0).sum(axis=1) / count
    return np.where(uncertainties < _MAX_UNCERTAINTY * estimate.size, distances, np.inf)


def _most_likely_place(
    heatmap: NDArray[np.float32], center: NDArray[np.float64], deviation: float, sigma: float
) -> tuple[NDArray[np.float64], float]:
    """Return the maximum of heatmap value times probability, and the heatmap value there."""
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
    """Return the `peak_offset` of a cell in a row or column of a heatmap."""
    before = float(line[cell - 1]) if cell > 0 else math.nan
    after = float(line[cell + 1]) if cell < len(line) - 1 else math.nan
    return peak_offset(before, float(line[cell]), after, sigma)


def _occupy(heatmap: NDArray[np.float32], point: NDArray[np.float64], reach: int) -> None:
    """Set a heatmap to 0 around a joint, up to `reach` cells away."""
    column, row = np.rint(point).astype(int)
    rows, columns = (slice(max(i - reach, 0), max(i + reach + 1, 0)) for i in (row, column))
    heatmap[rows, columns] = 0
