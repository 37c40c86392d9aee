"""Result files of an evaluation: tables of metrics (TAO's layout), images and errors; plots."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bodyposenet.evaluation.analysis import Analysis
from bodyposenet.evaluation.comparison import Comparison
from bodyposenet.evaluation.details import DetailedResult
from bodyposenet.evaluation.error_types import ErrorType
from bodyposenet.evaluation.keypoint_ap import MAX_DETECTIONS
from bodyposenet.evaluation.pck import PckScores
from bodyposenet.files import atomic_write, open_csv, write_json


def write_result_files(folder: str | Path, details: DetailedResult) -> list[Path]:
    """Write the result files of an evaluation.

    Args:
        folder: Results folder. Created if missing.
        details: Result of the evaluation.

    Returns:
        Paths of the files: results.csv, images.csv, results.json, pr_curve.png,
        keypoint_errors.png and error_types.png.

    Raises:
        BodyPoseNetError: A file cannot be written.
    """
    from bodyposenet.reporting.plots import (
        plot_error_types,
        plot_keypoint_errors,
        plot_precision_recall,
    )

    accuracy, folder = details.result.accuracy, Path(folder)
    tables = {"results.csv": _metrics_table(details), "images.csv": _images_table(details)}
    values = folder / "results.json"
    plots = {
        "pr_curve.png": plot_precision_recall(accuracy),
        "keypoint_errors.png": plot_keypoint_errors(accuracy),
        "error_types.png": plot_error_types(details.analysis.errors),
    }
    for name, rows in tables.items():
        with open_csv(folder / name) as writer:
            writer.writerows(rows)
    write_json(values, _json(details))
    for name, figure in plots.items():
        with atomic_write(folder / name) as file:
            figure.savefig(file, format="png", dpi=150, metadata={"Software": None})
    return [*(folder / name for name in tables), values, *(folder / name for name in plots)]


def _metrics_table(details: DetailedResult) -> list[Sequence[Any]]:
    """Return the metrics as numbered rows, in the layout of a pandas data frame.

    See the TAO reference, section 12.5. Other protocols than COCO's have rows of the same layout,
    in which `IoU` is the threshold and `area` the group of people or the reference length.
    """
    scores = details.scores
    if isinstance(scores, PckScores):
        rows = [(*name.split("_"), scores.reference, "") for name in details.metrics]
    else:
        rows = [(*metric, MAX_DETECTIONS) for metric in scores.definitions]
    header = ("", "metric", "IoU", "area", "maxDets", "score")
    values = zip(rows, details.metrics.values(), strict=True)
    return [header, *((number, *row, value) for number, (row, value) in enumerate(values))]


def _images_table(details: DetailedResult) -> list[Sequence[Any]]:
    """Return the images with the quality of their poses, the worst image first."""
    qualities = details.analysis.image_qualities
    rows = [
        (
            image.file_name, image.image_id, poses.num_people, len(poses.scores),
            "" if math.isnan(quality) else round(quality, 4),
        )
        for image, poses, quality in zip(
            details.protocol.images, details.analysis.images, qualities.tolist(), strict=True
        )
    ]  # fmt: skip
    header = ("file_name", "image_id", "people", "poses", "quality")
    return [header, *(rows[index] for index in np.argsort(qualities, kind="stable"))]


def _json(details: DetailedResult) -> dict[str, Any]:
    """Return all values except the curves; null where nothing was measured."""
    accuracy, scores = details.result.accuracy, details.scores
    document: dict[str, Any] = {
        "protocol": details.protocol.name,
        "kpi": {name: _measured(value) for name, value in details.metrics.items()},
        "images": accuracy.images,
        "people": accuracy.people,
        "poses": accuracy.poses,
        "keypoints_not_evaluated": list(accuracy.not_evaluated),
        "keypoints": {
            error.joint: {
                "labelled": error.labeled,
                "found": _nan_to_none(error.detected),
                "median_error": _nan_to_none(error.median),
                "mean_error": _nan_to_none(error.mean),
                "ap": _measured(details.analysis.joint_ap[error.joint]),
            }
            for error in accuracy.joint_errors
        },
        **_analysis(details.analysis),
    }
    if isinstance(scores, PckScores):
        document["pck"] = {
            "reference": scores.reference,
            "people_without_reference": scores.skipped_people,
            "keypoints": {
                name: scores.joint_pck(threshold) for name, threshold in scores.thresholds.items()
            },
        }
    if details.comparisons:
        document["comparisons"] = [_comparison(one) for one in details.comparisons]
    return document


def _analysis(analysis: Analysis) -> dict[str, Any]:
    """Return the values of an analysis."""
    errors = analysis.errors
    counts, without_pose = analysis.oks_histogram()
    return {
        "sizes": {
            score.size: {
                "people": score.people, "ap": _measured(score.ap), "ar": _measured(score.ar),
            }
            for score in analysis.sizes
        },
        "oks_histogram": {"counts": counts.tolist(), "people_without_pose": without_pose},
        "errors": {
            "types": {name: _nan_to_none(share) for name, share in errors.shares().items()},
            "types_by_keypoint": {
                joint: dict(zip((kind.label for kind in ErrorType), row, strict=True))
                for joint, row in zip(errors.joints, errors.counts.tolist(), strict=True)
            },
            "false_positives": errors.false_positives,
            "false_negatives": errors.false_negatives,
            "ap": _measured(errors.ap),
            "corrected_ap": {name: _measured(ap) for name, ap in errors.corrected_ap.items()},
        },
    }  # fmt: skip


def _comparison(comparison: Comparison) -> dict[str, Any]:
    """Return the values of a comparison."""
    return {
        "compared_with": comparison.folder.as_posix(),
        "keypoints": list(comparison.joints),
        "metrics": {
            difference.metric: {
                "value": _measured(difference.value),
                "earlier": _measured(difference.earlier),
                "interval": [_nan_to_none(difference.low), _nan_to_none(difference.high)],
            }
            for difference in comparison.differences
        },
    }


def _measured(value: float) -> float | None:
    """Return a metric, or None for -1."""
    return value if value >= 0 else None


def _nan_to_none(value: float) -> float | None:
    return None if math.isnan(value) else value
