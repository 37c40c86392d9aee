"""The outcome of an evaluation -> files: results.csv (TAO's layout), results.json and two plots."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

from bodyposenet.evaluation.keypoint_ap import MAX_DETECTIONS, METRICS, KeypointAP
from bodyposenet.files import atomic_write, write_json


def write_result_files(folder: str | Path, outcome: KeypointAP) -> list[Path]:
    """Write the files of an evaluation.

    Args:
        folder: The results folder; it is made.
        outcome: What to write.

    Returns:
        The files: results.csv, results.json, pr_curve.png, keypoint_errors.png.

    Raises:
        BodyPoseNetError: A file cannot be written.
    """
    from bodyposenet.reporting.plots import plot_keypoint_errors, plot_precision_recall

    names = ("results.csv", "results.json", "pr_curve.png", "keypoint_errors.png")
    table, values, curve, errors = paths = [Path(folder) / name for name in names]
    with atomic_write(table, durable=True) as file:
        file.write(_csv(outcome).encode())
    write_json(values, _json(outcome))
    for path, figure in (
        (curve, plot_precision_recall(outcome)),
        (errors, plot_keypoint_errors(outcome)),
    ):
        with atomic_write(path) as file:
            figure.savefig(file, format="png", dpi=150, metadata={"Software": None})
    return paths


def _csv(outcome: KeypointAP) -> str:
    """The ten figures as rows, numbered like those that pandas writes.

    See the TAO reference, section 12.5.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["", "metric", "IoU", "area", "maxDets", "score"])
    for number, (metric, value) in enumerate(zip(METRICS, outcome.values, strict=True)):
        writer.writerow([number, *metric, MAX_DETECTIONS, value])
    return text.getvalue()


def _json(outcome: KeypointAP) -> dict[str, Any]:
    """Everything but the curves; null where there is nothing to measure."""
    return {
        "kpi": {name: value if value >= 0 else None for name, value in outcome.kpis().items()},
        "images": outcome.images,
        "people": outcome.people,
        "poses": outcome.poses,
        "keypoints_not_evaluated": list(outcome.not_evaluated),
        "keypoints": {
            error.joint: {
                "labelled": error.labelled,
                "found": _or_null(error.found),
                "median_error": _or_null(error.median),
                "mean_error": _or_null(error.mean),
            }
            for error in outcome.joint_errors
        },
    }


def _or_null(value: float) -> float | None:
    return None if math.isnan(value) else value
