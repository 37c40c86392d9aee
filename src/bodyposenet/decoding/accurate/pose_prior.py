"""Pose prior: a linear Gaussian model of the joints of one person.

`resources/pose/body_model.json` holds the mean pose of many people and the principal components
of their deviations from it. Its unit is the size of a person: the root mean square distance of
the joints of the mean pose from their center.
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

_RESIDUAL = 0.1
"""Standard deviation of a joint from the pose that the components describe, relative to the size of
the person."""


@dataclass(frozen=True, eq=False)
class JointEstimates:
    """Expected positions of the joints of one person.

    Args:
        points: (K, 2) x and y, NaN for joints that are not in the prior.
        deviations: (K,) standard deviation per axis, NaN for joints that are not in the prior.
        size: Size of the person, in the same unit.
    """

    points: NDArray[np.float64]
    deviations: NDArray[np.float64]
    size: float


@dataclass(frozen=True, eq=False)
class PosePrior:
    """Poses as size x mean + position + sum of components with Gaussian coefficients.

    Args:
        basis: (K, 2, 3 + C) change of each joint per unit of size, x, y and each component; NaN
            for joints that are not in the prior.
        penalties: (3 + C,) ridge penalties of the coefficients relative to squared residuals; 0
            for size and position.
    """

    basis: NDArray[np.float64]
    penalties: NDArray[np.float64]

    @property
    def known(self) -> NDArray[np.bool_]:
        """(K,) True for joints that are in the prior."""
        return ~np.isnan(self.basis[:, 0, 0])

    def estimate(self, points: NDArray[np.float64]) -> JointEstimates | None:
        """Estimate all joints of a person from the detected ones.

        Ridge regression: the maximum a posteriori estimate for independent, normally distributed
        residuals and coefficients, with size and position unconstrained.

        Args:
            points: (K, 2) x and y, NaN for missing joints.

        Returns:
            The estimates, or None if fewer than three detected joints are in the prior or the
            person is upside down.
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
        return JointEstimates(
            self.basis @ unknowns, _RESIDUAL * size * np.sqrt(1 + uncertainty), size
        )


@lru_cache
def load_pose_prior(joints: tuple[str, ...]) -> PosePrior | None:
    """Load the prior and match its joints by side and part (`LeftHip`, `hip_l`).

    Args:
        joints: Names of the K joints.

    Returns:
        The prior, or None (with a warning at the first call) if fewer than three joints match.
    """
    content = json.loads((files("bodyposenet") / "resources/pose/body_model.json").read_text())
    index = {_side_and_part(joint): k for k, joint in enumerate(content["joints"])}
    rows = [index.get(_side_and_part(joint), -1) for joint in joints]
    if sum(row >= 0 for row in rows) < _MIN_JOINTS:
        logger.warning(
            "complete_pose has no effect: fewer than %d of the joints %s are in the pose prior",
            _MIN_JOINTS, joints,
        )  # fmt: skip
        return None
    mean, components = np.array(content["mean"]), np.array(content["components"])
    basis = np.zeros((len(mean) + 1, 2, 3 + len(components)))
    basis[:-1, :, 0] = mean
    basis[:-1, 0, 1] = basis[:-1, 1, 2] = 1
    basis[:-1, :, 3:] = np.moveaxis(components, 0, -1)
    basis[-1] = np.nan
    variances = np.array(content["deviations"]) ** 2
    return PosePrior(basis[rows], np.concatenate([np.zeros(3), _RESIDUAL**2 / variances]))


def _side_and_part(joint: str) -> tuple[str, str]:
    """Split the name of a joint into side and part."""
    return side_of(joint), part_of(joint)
