"""Comparison of an evaluation with earlier ones on the same dataset.

The detections of the earlier evaluations are read from their results folders, and all of them are
scored again, on the joints that all models have. The uncertainty of the differences is estimated
with a paired bootstrap over the images (Efron and Tibshirani, "An Introduction to the Bootstrap",
1993).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bodyposenet.console import logger
from bodyposenet.data.coco import CocoImage
from bodyposenet.data.detections import read_detections
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.evaluation.analysis import Analysis
from bodyposenet.evaluation.protocols import EvaluationProtocol, Scores
from bodyposenet.files import read_json
from bodyposenet.inference.detections import FILE_NAME

RESAMPLINGS = 300
"""Number of bootstrap samples."""

CONFIDENCE = 0.95
"""Probability that the interval contains the difference."""

_SEED = 0
_REMEDY = "Give the results folder of an evaluation of the same test_data."


@dataclass(frozen=True, eq=False)
class EarlierRun:
    """Detections of an earlier evaluation.

    Args:
        folder: Its results folder.
        results: Its poses in COCO's result format, with the keypoints of the dataset.
        joints: Names of the keypoints that its model has.
    """

    folder: Path
    results: list[dict[str, Any]]
    joints: tuple[str, ...]


@dataclass(frozen=True)
class Difference:
    """A metric of both runs.

    Args:
        metric: Name of the metric.
        value: Its value in this evaluation; -1 without ground truth.
        earlier: Its value in the earlier one.
        low: Lower limit of the confidence interval of `value - earlier`; NaN without ground truth.
        high: Upper limit.
    """

    metric: str
    value: float
    earlier: float
    low: float
    high: float

    @property
    def is_significant(self) -> bool:
        """Whether the confidence interval excludes 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, eq=False)
class Comparison:
    """Comparison with one earlier evaluation.

    Args:
        folder: Results folder of the earlier evaluation.
        joints: Names of the keypoints on which both are scored.
        differences: The metrics of the protocol.
        analysis: Analysis of this evaluation on these keypoints.
        earlier: Analysis of the earlier one.
    """

    folder: Path
    joints: tuple[str, ...]
    differences: tuple[Difference, ...]
    analysis: Analysis
    earlier: Analysis

    def table(self) -> list[str]:
        """Return the lines of a summary: both values of each metric, and their difference."""
        lines = [f" Compared with {self.folder}, on {len(self.joints)} joints:"]
        for one in self.differences:
            line = f" {one.metric:<22} {one.earlier:6.3f} -> {one.value:6.3f}"
            if not np.isnan(one.low):
                line += f"  {one.value - one.earlier:+.3f} ({one.low:+.3f} to {one.high:+.3f})"
            lines.append(line)
        return lines

    @property
    def quality_changes(self) -> NDArray[np.float64]:
        """(I,) changes of the quality of each image's poses; 0 where one is not defined."""
        changes = self.analysis.image_qualities - self.earlier.image_qualities
        return np.nan_to_num(changes)


def read_run(folder: Path, images: Sequence[CocoImage], joints: tuple[str, ...]) -> EarlierRun:
    """Read the detections of an earlier evaluation.

    Args:
        folder: Its results folder.
        images: The test images of the dataset.
        joints: Names of the dataset's keypoints.

    Raises:
        BodyPoseNetError: The files are missing or invalid, or they lack images of the dataset.
    """
    path = folder / FILE_NAME
    content = read_json(folder / "results.json", _REMEDY)
    try:
        lacking = set(content["keypoints_not_evaluated"])
    except (KeyError, TypeError) as error:
        raise BodyPoseNetError(
            f"{folder / 'results.json'}: not the results of an evaluation", _REMEDY
        ) from error
    detections = read_detections(path, images, joints)
    for reason, count in detections.skipped.items():
        if count:
            logger.warning("%s: skipped: %d %s", path, count, reason)
    missing = [image for image in images if image.image_id not in detections.by_image]
    if missing:
        raise BodyPoseNetError(
            f"{path}: {len(missing):,} of {len(images):,} images of this dataset are missing, such "
            f"as {missing[0].file_name}",
            _REMEDY,
        )
    results = [
        {"image_id": image_id, "keypoints": _triples(keypoints), "score": score}
        for image_id, found in detections.by_image.items()
        for keypoints, score in zip(found.keypoints, found.scores.tolist(), strict=True)
    ]
    known = tuple(joint for joint in joints if joint not in lacking)
    return EarlierRun(folder, results, known)


def compare_runs(
    protocol: EvaluationProtocol,
    results: Sequence[dict[str, Any]],
    joints: Sequence[str],
    runs: Sequence[EarlierRun],
) -> list[Comparison]:
    """Compare an evaluation with earlier ones.

    Args:
        protocol: The protocol, and the dataset.
        results: Poses of this evaluation in COCO's result format.
        joints: Names of the keypoints that its model has.
        runs: The earlier evaluations.

    Raises:
        BodyPoseNetError: The models have no joints in common.
    """
    common = tuple(
        joint for joint in protocol.joints
        if all(joint in known for known in (joints, *(run.joints for run in runs)))
    )  # fmt: skip
    if not common:
        raise BodyPoseNetError(
            "--compare_with: the models have no joints of this dataset in common",
            "Compare models with the same joints, or at least some of them.",
        )
    arranged = protocol.arrange(results, common)
    scores, analysis = protocol.score(arranged), protocol.analyze(arranged)
    comparisons = []
    for run in runs:
        earlier = protocol.arrange(run.results, common)
        differences = compare_scores(scores, protocol.score(earlier), len(arranged))
        comparisons.append(
            Comparison(run.folder, common, differences, analysis, protocol.analyze(earlier))
        )
    return comparisons


def compare_scores(scores: Scores, earlier: Scores, images: int) -> tuple[Difference, ...]:
    """Compare the metrics of two evaluations of the same images.

    Args:
        scores: Scores of this evaluation.
        earlier: Scores of the earlier one.
        images: Number of images.

    Returns:
        One difference per metric, with its bootstrap percentile interval.
    """
    rng = np.random.default_rng(_SEED)
    samples = [
        _differences(scores, earlier, rng.multinomial(images, np.full(images, 1 / images)))
        for _ in range(RESAMPLINGS)
    ]
    limits = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    low, high = np.quantile(samples, limits, axis=0)
    rows = zip(scores.metrics().items(), earlier.metrics().values(), low, high, strict=True)
    return tuple(
        Difference(name, value, other, float(lower), float(upper))
        for (name, value), other, lower, upper in rows
    )


def _differences(scores: Scores, earlier: Scores, counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the difference of each metric on resampled images; NaN without ground truth."""
    weights = counts.astype(float)
    values, others = (np.array(list(one.metrics(weights).values())) for one in (scores, earlier))
    return np.where((values < 0) | (others < 0), np.nan, values - others)


def _triples(keypoints: NDArray[np.float64]) -> list[float]:
    """Return keypoints (D, 2), NaN where they are missing, as x, y and a flag of 0 or 1."""
    is_detected = ~np.isnan(keypoints[:, :1])
    return np.hstack([np.nan_to_num(keypoints), is_detected]).ravel().tolist()
