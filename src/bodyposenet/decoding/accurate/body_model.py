"""A statistical model of where the joints of a body lie: a mean body and how people deviate.

The numbers are in resources/pose/body_model.json: the mean of many people and the principal
components of their deviations, in units of a body's size (the root mean square distance of the
mean body's joints from their center).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from bodyposenet.console import logger
from bodyposenet.skeleton import part_of, side_of

_MIN_JOINTS = 3

# How far a joint lies from what the components can express, in sizes of the body.
_REST = 0.1


@dataclass(frozen=True, eq=False)
class BodyEstimate:
    """Where the joints of one body may be.

    Args:
        points: (K, 2) x and y, NaN for joints that the model does not know.
        deviations: (K,) standard deviation of each, per axis; NaN for these.
        size: Of the body, in the same unit.
    """

    points: NDArray[np.float64]
    deviations: NDArray[np.float64]
    size: float


@dataclass(frozen=True, eq=False)
class BodyModel:
    """Bodies as size x mean + position + sum of components, of which small ones are likelier.

    Args:
        basis: (K, 2, 3 + C) what a unit of size, of x, of y and of each component adds to each
            joint; NaN for joints that the model does not know.
        penalties: (3 + C,) of the square of each unknown, in a fit whose errors weigh 1; 0 for
            size and position, which are free.
    """

    basis: NDArray[np.float64]
    penalties: NDArray[np.float64]

    @property
    def known(self) -> NDArray[np.bool_]:
        """(K,) the joints that the model knows."""
        return ~np.isnan(self.basis[:, 0, 0])

    def estimate(self, points: NDArray[np.float64]) -> BodyEstimate | None:
        """Fit the model to the joints that were found.

        Ridge regression: with joints of equal, normal errors and components of their own
        variances the most probable body, whatever its size.

        Args:
            points: (K, 2) x and y, NaN for missing joints.

        Returns:
            None where fewer than three joints are known, or no upright body fits them.
        """
        found = self.known & ~np.isnan(points[:, 0])
        if found.sum() < _MIN_JOINTS:
            return None
        rows = self.basis[found].reshape(-1, len(self.penalties))
        inverse = np.linalg.inv(rows.T @ rows + np.diag(self.penalties))
        unknowns = inverse @ (rows.T @ points[found].reshape(-1))
        size = float(unknowns[0])
        if size <= 0:
            return None
        uncertainty = np.einsum("kdi,ij,kdj->k", self.basis, inverse, self.basis) / 2
        return BodyEstimate(self.basis @ unknowns, _REST * size * np.sqrt(1 + uncertainty), size)


@lru_cache
def body_model(joints: tuple[str, ...]) -> BodyModel | None:
    """The model for a skeleton's joints, matched by side and part (`LeftHip`, `hip_l`).

    Args:
        joints: Names of the K joints.

    Returns:
        None, with a warning the first time, if fewer than three of them match.
    """
    content = json.loads((files("bodyposenet") / "resources/pose/body_model.json").read_text())
    index = {_place(joint): k for k, joint in enumerate(content["joints"])}
    rows = [index.get(_place(joint), -1) for joint in joints]
    if sum(row >= 0 for row in rows) < _MIN_JOINTS:
        logger.warning("complete_pose has no effect: it knows too few of the joints %s", joints)
        return None
    mean, components = np.array(content["mean"]), np.array(content["components"])
    basis = np.zeros((len(mean) + 1, 2, 3 + len(components)))
    basis[:-1, :, 0] = mean
    basis[:-1, 0, 1] = basis[:-1, 1, 2] = 1
    basis[:-1, :, 3:] = np.moveaxis(components, 0, -1)
    basis[-1] = np.nan
    variances = np.array(content["deviations"]) ** 2
    return BodyModel(basis[rows], np.concatenate([np.zeros(3), _REST**2 / variances]))


def _place(joint: str) -> tuple[str, str]:
    """A joint by its side and part."""
    return side_of(joint), part_of(joint)
