"""What an evaluation found -> report.html: figures, plots, joints, pictures, settings, problems."""

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
    FILE_NAME,
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

_MOST_PICTURES, _CROWDED = 12, 4
"""Pictures of a page, and how many of them show the images where most people were found."""

_LONGEST_SIDE = 480
"""Of a picture, in pixels."""


def write_evaluation_report(
    folder: str | Path,
    result: DatasetResult,
    *,
    dataset: str,
    model: str,
    skeleton: Skeleton,
    spec: InferenceSpec,
) -> Path:
    """Write report.html: the same result gives the same bytes.

    Args:
        folder: The results folder; it is made.
        result: What was found.
        dataset: Name of the dataset.
        model: Name of the model file.
        skeleton: The model's.
        spec: How the poses were found.

    Returns:
        The file.

    Raises:
        BodyPoseNetError: It cannot be written.
    """
    accuracy = result.accuracy
    used = spec.model_dump(mode="json")
    settings = yaml.safe_dump(used, sort_keys=False, default_flow_style=None)
    sections = (
        Section("Accuracy", _accuracy(accuracy, dataset)),
        Section("Keypoints", _keypoints(accuracy)),
        Section("People found in some of the images", [row(_samples(result.images, skeleton))]),
        Section("Settings", [paragraph(f"The inference spec of {model}."), preformatted(settings)]),
        Section("Images with problems", _problems(result)),
    )
    facts = {
        "AP": _number(accuracy.ap, 3),
        "images": f"{accuracy.images:,}",
        "people with keypoints": f"{accuracy.people:,}",
        "poses found": f"{accuracy.poses:,}",
        "model": model,
    }
    return write_page(Path(folder, FILE_NAME), f"Evaluation on {dataset}", facts, sections)


def select_sample_images(images: Sequence[Mapping[str, Any]]) -> list[int]:
    """The images to show: the most crowded ones, and others spread over the set.

    Args:
        images: Entries of detections.json; those with an `error` are not chosen.

    Returns:
        Their indices, in order; at most 12.
    """
    readable = [index for index, entry in enumerate(images) if "error" not in entry]
    crowded = sorted(readable, key=lambda index: -len(images[index]["scores"]))[:_CROWDED]
    others = [index for index in readable if index not in crowded]
    count = min(_MOST_PICTURES - len(crowded), len(others))
    spread = np.linspace(0, len(others) - 1, count).round().astype(int)
    return sorted([*crowded, *(others[place] for place in spread)])


def _accuracy(accuracy: KeypointAP, dataset: str) -> list[Markup]:
    figures = accuracy_table({dataset: accuracy.kpis()})
    parts = [row([figures, plot(plot_precision_recall(accuracy))])]
    if not accuracy.people:
        parts.append(paragraph("No person in these images has keypoints: there is no AP."))
    return parts


def _keypoints(accuracy: KeypointAP) -> list[Markup]:
    header = ("keypoint", "labelled", "found", "median distance", "mean distance")
    rows = [
        (
            error.joint.replace("_", " "), f"{error.labelled:,}",
            *(_number(100 * share, 1, " %") for share in (error.found, error.median, error.mean)),
        )
        for error in accuracy.joint_errors
        if error.joint not in accuracy.not_evaluated
    ]  # fmt: skip
    meaning = "Over the people found (OKS at least 0.5); distances as shares of their size."
    parts = [plot(plot_keypoint_errors(accuracy)), table(header, rows), paragraph(meaning)]
    if accuracy.not_evaluated:
        names = ", ".join(accuracy.not_evaluated)
        parts.append(paragraph(f"Not evaluated, for the skeleton lacks them: {names}."))
    return parts


def _samples(images: Sequence[Mapping[str, Any]], skeleton: Skeleton) -> Iterator[Markup]:
    for index in select_sample_images(images):
        entry = images[index]
        meta, count = entry["image_meta"], len(entry["scores"])
        try:
            image = read_image(entry["full_image_path"], (meta["height"], meta["width"]))
        except BodyPoseNetError as error:  # it could be read a moment ago
            logger.warning("not shown in %s: %s", FILE_NAME, error)
            continue
        people = "1 person" if count == 1 else f"{count} people"
        yield thumbnail(_draw_small(image, entry, skeleton), f"{meta['file_name']}: {people}")


def _draw_small(
    image: NDArray[np.uint8], entry: Mapping[str, Any], skeleton: Skeleton
) -> NDArray[np.uint8]:
    """The image at most 480 pixels long, with the poses, which lie in the annotations' pixels."""
    height, width = entry["image_meta"]["height"], entry["image_meta"]["width"]
    scale = min(_LONGEST_SIDE / max(height, width), 1)
    rows, columns = max(round(height * scale), 1), max(round(width * scale), 1)
    shrink = Affine.resize(columns / image.shape[1], rows / image.shape[0])
    small = shrink.warp(image, rows, columns, outside=PAD_VALUE)
    poses = Poses.from_dict(entry, skeleton).transform(
        Affine.resize(columns / width, rows / height)
    )
    return draw(small, poses, score_threshold=0)


def _problems(result: DatasetResult) -> list[Markup]:
    return [
        collapsible_list(f"{len(lines):,} {meaning}", lines)
        for lines, meaning in (
            (result.unreadable, "could not be read and count as images without detections"),
            (
                result.resized,
                "differ from their annotated size; each line tells whether poses are scaled",
            ),
        )
        if lines
    ]


def _number(value: float, digits: int, unit: str = "") -> str:
    return "–" if math.isnan(value) or value < 0 else f"{value:.{digits}f}{unit}"
