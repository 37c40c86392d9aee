"""HTML report of an evaluation: metrics, plots, keypoint errors, sample images and settings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from bodyposenet.console import logger
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.evaluation import KeypointAP
from bodyposenet.evaluation.evaluator import DatasetResult
from bodyposenet.geometry import Affine
from bodyposenet.media.draw import draw
from bodyposenet.media.images import read_image
from bodyposenet.reporting.html import (
    REPORT_FILE,
    Markup,
    Section,
    accuracy_table,
    collapsible_list,
    paragraph,
    plot,
    preformatted,
    row,
    table,
    thumbnail,
    write_page,
)
from bodyposenet.reporting.plots import plot_keypoint_errors, plot_precision_recall
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.types import PAD_VALUE, Poses

_MAX_SAMPLES = 12
_CROWDED_SAMPLES = 4
"""Number of sample images that are those with the most detections."""

_MAX_SIDE = 480
"""Longest side of a sample image, in pixels."""


def write_evaluation_report(
    folder: str | Path,
    result: DatasetResult,
    *,
    dataset: str,
    model: str,
    skeleton: Skeleton,
    spec: InferenceSpec,
) -> Path:
    """Write report.html; it is reproducible byte for byte.

    Args:
        folder: Results folder. Created if missing.
        result: Result of the evaluation.
        dataset: Name of the dataset.
        model: Name of the model file.
        skeleton: Skeleton of the model.
        spec: Inference spec of the evaluation.

    Returns:
        Path of the file.

    Raises:
        BodyPoseNetError: The file cannot be written.
    """
    accuracy = result.accuracy
    settings = yaml.safe_dump(
        spec.model_dump(mode="json"), sort_keys=False, default_flow_style=None
    )
    sections = (
        Section("Accuracy", _accuracy(accuracy, dataset)),
        Section("Keypoints", _keypoints(accuracy)),
        Section("Sample images", [row(_samples(result.images, skeleton))]),
        Section("Settings", [paragraph(f"Inference spec of {model}."), preformatted(settings)]),
        Section("Images with problems", _problems(result)),
    )
    facts = {
        "AP": _format_number(accuracy.ap, 3),
        "images": f"{accuracy.images:,}",
        "people with keypoints": f"{accuracy.people:,}",
        "predicted poses": f"{accuracy.poses:,}",
        "model": model,
    }
    return write_page(Path(folder, REPORT_FILE), f"Evaluation on {dataset}", facts, sections)


def select_sample_images(images: Sequence[Mapping[str, Any]]) -> list[int]:
    """Select the images to show: those with the most detections, and others evenly spaced.

    Args:
        images: Entries of detections.json. Those with an `error` are not selected.

    Returns:
        Indices of at most 12 images, sorted.
    """
    readable = [index for index, entry in enumerate(images) if "error" not in entry]
    crowded = sorted(readable, key=lambda index: -len(images[index]["scores"]))[:_CROWDED_SAMPLES]
    others = [index for index in readable if index not in crowded]
    count = min(_MAX_SAMPLES - len(crowded), len(others))
    spaced = np.linspace(0, len(others) - 1, count).round().astype(int)
    return sorted([*crowded, *(others[index] for index in spaced)])


def _accuracy(accuracy: KeypointAP, dataset: str) -> list[Markup]:
    """Return the table of metrics and the precision-recall plot."""
    metrics = accuracy_table({dataset: accuracy.kpis()})
    parts = [row([metrics, plot(plot_precision_recall(accuracy))])]
    if not accuracy.people:
        parts.append(paragraph("There is no AP, as no person in these images has keypoints."))
    return parts


def _keypoints(accuracy: KeypointAP) -> list[Markup]:
    """Return the plot and the table of keypoint errors."""
    header = ("keypoint", "labeled", "detected", "median distance", "mean distance")
    rows = [
        (
            error.joint.replace("_", " "), f"{error.labeled:,}",
            *(
                _format_number(100 * share, 1, " %")
                for share in (error.detected, error.median, error.mean)
            ),
        )
        for error in accuracy.joint_errors
        if error.joint not in accuracy.not_evaluated
    ]  # fmt: skip
    note = "Over matched people (OKS at least 0.5); distances as shares of the person's size."
    parts = [plot(plot_keypoint_errors(accuracy)), table(header, rows), paragraph(note)]
    if accuracy.not_evaluated:
        names = ", ".join(accuracy.not_evaluated)
        parts.append(paragraph(f"Not evaluated, as the skeleton does not have them: {names}."))
    return parts


def _samples(images: Sequence[Mapping[str, Any]], skeleton: Skeleton) -> Iterator[Markup]:
    """Yield the sample images with their poses."""
    for index in select_sample_images(images):
        entry = images[index]
        meta, count = entry["image_meta"], len(entry["scores"])
        try:
            image = read_image(entry["full_image_path"], (meta["height"], meta["width"]))
        except BodyPoseNetError as error:  # The file has changed since the evaluation.
            logger.warning("Not shown in %s: %s", REPORT_FILE, error)
            continue
        people = "1 person" if count == 1 else f"{count} people"
        yield thumbnail(_draw_resized(image, entry, skeleton), f"{meta['file_name']}: {people}")


def _draw_resized(
    image: NDArray[np.uint8], entry: Mapping[str, Any], skeleton: Skeleton
) -> NDArray[np.uint8]:
    """Draw the poses, which are in pixels of the annotated size, on the downscaled image."""
    height, width = entry["image_meta"]["height"], entry["image_meta"]["width"]
    scale = min(_MAX_SIDE / max(height, width), 1)
    rows, columns = max(round(height * scale), 1), max(round(width * scale), 1)
    resize = Affine.resize(columns / image.shape[1], rows / image.shape[0])
    small = resize.warp(image, rows, columns, outside=PAD_VALUE)
    poses = Poses.from_dict(entry, skeleton).transform(
        Affine.resize(columns / width, rows / height)
    )
    return draw(small, poses, score_threshold=0)


def _problems(result: DatasetResult) -> list[Markup]:
    """Return lists of images that could not be read or have another size."""
    return [
        collapsible_list(f"{len(lines):,} {meaning}", lines)
        for lines, meaning in (
            (result.unreadable, "could not be read and count as images without detections"),
            (result.resized, "differ in size from their annotations; the poses are scaled"),
        )
        if lines
    ]


def _format_number(value: float, digits: int, unit: str = "") -> str:
    """Format a number, or return a dash if it was not measured."""
    return "–" if math.isnan(value) or value < 0 else f"{value:.{digits}f}{unit}"
