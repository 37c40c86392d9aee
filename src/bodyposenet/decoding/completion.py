"""Bodies -> more complete bodies, by a model of how joints lie to one another (`complete_pose`)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bodyposenet.decoding.bodies import Bodies
from bodyposenet.decoding.body_model import BodyModel, Guess
from bodyposenet.decoding.sub_pixel_peaks import offset

_MOST_BODIES = 128
"""Bodies that are completed, the best; more are noise, and would take long."""

# A fragment belongs to a body if its joints lie near where the body's own joints say that they are:
# the mean squared distance in squared standard deviations, where these are below the body's size.
_MOST_DISTANCE = 2.0
_MOST_DOUBT = 1.0

# Where heat times the probability of the place is less, an inferred joint stays at the most
# probable place, with this as its score.
_LEAST_HEAT = 0.01

_OCCUPIED = 2.0
"""Standard deviations of a joint's Gaussian within which the heatmap is that joint's alone."""


def merge_fragments(bodies: Bodies, model: BodyModel) -> Bodies:
    """Join bodies that have no joint in common and fit together.

    The body of most joints takes the fragment that fits best, again and again; then the next.
    """
    falling = np.lexsort([-bodies.totals, -bodies.found.sum(axis=1)])
    points, scores, totals = bodies.take(falling)
    alive = np.ones(len(totals), bool)
    for body in range(min(len(totals), _MOST_BODIES)):
        while alive[body]:
            others = body + 1 + np.flatnonzero(alive[body + 1 : _MOST_BODIES])
            best = _best_fragment(points[others], points[body], model)
            if best is None:
                break
            fragment = others[best]
            points[body] = np.fmax(points[body], points[fragment])
            scores[body] += scores[fragment]
            totals[body] += totals[fragment]
            alive[fragment] = False
    return Bodies(points, scores, totals).take(alive)


def infer_joints(
    bodies: Bodies, heatmaps: NDArray[np.float32], model: BodyModel, sigma: float
) -> Bodies:
    """Give bodies the joints that they miss.

    A joint goes to where the heatmap, weighted by the probability of the place, is highest and no
    body has such a joint yet; or to the most probable place, where there is no heat.

    Args:
        bodies: Best first.
        heatmaps: (K, h, w), without the background.
        model: Where joints may be.
        sigma: Standard deviation of a joint's Gaussian in the heatmaps, in cells.
    """
    points, scores = bodies.points.copy(), bodies.scores.copy()
    reach = max(int(_OCCUPIED * sigma), 1)
    free = heatmaps.copy()
    found = bodies.found
    for body, joint in np.argwhere(found):
        _occupy(free[joint], points[body, joint], reach)
    for body in range(min(len(points), _MOST_BODIES)):
        guess = model.guess(bodies.points[body])
        if guess is None:
            continue
        for joint in np.flatnonzero(model.known & ~found[body]):
            points[body, joint], scores[body, joint] = _likeliest_place(
                free[joint], guess.points[joint], guess.deviations[joint], sigma
            )
            _occupy(free[joint], points[body, joint], reach)
    return Bodies(points, scores, bodies.totals)


def _best_fragment(
    fragments: NDArray[np.float64], body: NDArray[np.float64], model: BodyModel
) -> int | None:
    """Which of (N, K, 2) fragments belongs to a body (K, 2), if one does."""
    found = ~np.isnan(fragments[..., 0])
    disjoint = ~(found & ~np.isnan(body[:, 0])).any(axis=1)
    known = found & model.known
    possible = np.flatnonzero(disjoint & known.any(axis=1))
    guess = model.guess(body) if len(possible) else None
    if guess is None:
        return None
    misfits = _misfits(fragments[possible], known[possible], guess)
    best = misfits.argmin()
    return int(possible[best]) if misfits[best] < _MOST_DISTANCE else None


def _misfits(
    fragments: NDArray[np.float64], known: NDArray[np.bool_], guess: Guess
) -> NDArray[np.float64]:
    """How far each of (N, K, 2) fragments lies from where the body's joints may be.

    Returns:
        (N,) mean squared distance in squared standard deviations over the (N, K) known joints;
        infinite where the guess is too doubtful.
    """
    count = known.sum(axis=1)
    squares = ((fragments - guess.points) ** 2).sum(axis=2) / (2 * guess.deviations**2)
    misfits = np.where(known, squares, 0).sum(axis=1) / count
    doubts = np.where(known, guess.deviations, 0).sum(axis=1) / count
    return np.where(doubts < _MOST_DOUBT * guess.size, misfits, np.inf)


def _likeliest_place(
    heatmap: NDArray[np.float32], center: NDArray[np.float64], deviation: float, sigma: float
) -> tuple[NDArray[np.float64], float]:
    """Where heat times the probability of the place is highest, and the heat there."""
    across, down = (
        np.exp(-((np.arange(cells) - middle) ** 2) / (2 * deviation**2))
        for cells, middle in zip(heatmap.shape[::-1], center, strict=True)
    )
    likelihood = heatmap * np.outer(down, across)
    row, column = divmod(int(likelihood.argmax()), heatmap.shape[1])
    if likelihood[row, column] < _LEAST_HEAT:
        return center, _LEAST_HEAT
    x = column + offset(heatmap[row], column, sigma)
    y = row + offset(heatmap[:, column], row, sigma)
    return np.array([x, y]), min(float(heatmap[row, column]), 1.0)


def _occupy(heatmap: NDArray[np.float32], point: NDArray[np.float64], reach: int) -> None:
    """Clear the heatmap around a joint that belongs to somebody, up to so many cells away."""
    column, row = np.rint(point).astype(int)
    rows, columns = (slice(max(i - reach, 0), max(i + reach + 1, 0)) for i in (row, column))
    heatmap[rows, columns] = 0
