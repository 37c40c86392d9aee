"""Result files of an evaluation: results.csv (in TAO's layout), results.json and two plots."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

from bodyposenet.evaluation.keypoint_ap import MAX_DETECTIONS, METRICS, KeypointAP
from bodyposenet.files import atomic_write, write_json


def write_result_files(folder: str | Path, accuracy: KeypointAP) -> list[Path]:
    """Write the result files of an evaluation.

    Args:
        folder: Results folder. Created if missing.
        accuracy: Result of the evaluation.

    Returns:
        Paths of the files: results.csv, results.json, pr_curve.png, keypoint_errors.png.

    Raises:
        BodyPoseNetError: A file cannot be written.
    """
    from bodyposenet.reporting.plots import plot_keypoint_errors, plot_precision_recall

    names = ("results.csv", "results.json", "pr_curve.png", "keypoint_errors.png")
    table, values, curve, errors = paths = [Path(folder) / name for name in names]
    with atomic_write(table, durable=True) as file:
        file.write(_csv(accuracy).encode())
    write_json(values, _json(accuracy))
    for path, figure in (
        (curve, plot_precision_recall(accuracy)),
        (errors, plot_keypoint_errors(accuracy)),
    ):
        with atomic_write(path) as file:
            figure.savefig(file, format="png", dpi=150, metadata={"Software": None})
    return paths


def _csv(accuracy: KeypointAP) -> str:
    """Return the ten metrics as numbered rows, in the layout of a pandas data frame.

    See the TAO reference, section 12.5.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["", "metric", "IoU", "area", "maxDets", "score"])
    for number, (metric, value) in enumerate(zip(METRICS, accuracy.values, strict=True)):
        writer.writerow([number, *metric, MAX_DETECTIONS, value])
    return text.getvalue()


def _json(accuracy: KeypointAP) -> dict[str, Any]:
    """Return all values except the precision-recall curves; null where nothing was measured."""
    return {
        "kpi": {name: value if value >= 0 else None for name, value in accuracy.kpis().items()},
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
            }
            for error in accuracy.joint_errors
        },
    }


def _nan_to_none(value: float) -> float | None:
    return None if math.isnan(value) else value
