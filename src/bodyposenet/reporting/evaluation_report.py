"""HTML report of an evaluation: metrics, errors, comparisons, pictures and settings."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from bodyposenet.console import logger
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.evaluation import KeypointAP
from bodyposenet.evaluation.analysis import Analysis
from bodyposenet.evaluation.comparison import CONFIDENCE, RESAMPLINGS, Comparison
from bodyposenet.evaluation.crowdpose import CROWD_LEVELS
from bodyposenet.evaluation.details import DetailedResult
from bodyposenet.evaluation.error_types import (
    CORRECTIONS,
    FALSE_NEGATIVES,
    FALSE_POSITIVES,
    ErrorSummary,
)
from bodyposenet.evaluation.evaluator import DatasetResult
from bodyposenet.evaluation.image_poses import ImagePoses
from bodyposenet.evaluation.oks_scores import OksScores
from bodyposenet.evaluation.pck import PckScores
from bodyposenet.reporting.html import (
    REPORT_FILE,
    Markup,
    Section,
    accuracy_table,
    collapsible_list,
    paragraph,
    plot,
    preformatted,
    quantity,
    row,
    table,
    thumbnail,
    write_page,
)
from bodyposenet.reporting.plots import (
    plot_error_types,
    plot_keypoint_errors,
    plot_oks_histogram,
    plot_pck,
    plot_precision_recall,
)
from bodyposenet.reporting.pose_pictures import draw_entry, draw_with_truth
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.inference import InferenceSpec

_MAX_SAMPLES = 12
_CROWDED_SAMPLES = 4
"""Number of sample images that are those with the most detections."""

_MAX_WORST, _MAX_BEST = 9, 3
_MAX_CHANGED = 4
"""Number of images that became better in a comparison, and of those that became worse."""

_QUALITY = (
    "The quality of an image is the mean OKS of its people and the poses that are matched with "
    "them (OKS at least 0.1; people without a pose count as 0). Each pose without a person lowers "
    "it like a fraction of a missed person, its score."
)
_LEGEND = "Predicted poses are drawn in color, annotated people in white with dashed limbs."


def write_evaluation_report(
    folder: str | Path,
    details: DetailedResult,
    *,
    model: str,
    skeleton: Skeleton,
    spec: InferenceSpec,
) -> Path:
    """Write report.html; it is reproducible byte for byte.

    Args:
        folder: Results folder. Created if missing.
        details: Result of the evaluation.
        model: Name of the model file.
        skeleton: Skeleton of the model.
        spec: Inference spec of the evaluation.

    Returns:
        Path of the file.

    Raises:
        BodyPoseNetError: The file cannot be written.
    """
    result, analysis, dataset = details.result, details.analysis, details.protocol.spec.dataset
    accuracy = result.accuracy
    settings = yaml.safe_dump(
        spec.model_dump(mode="json"), sort_keys=False, default_flow_style=None
    )
    pictures = _Pictures(result.images, details.protocol.joints, skeleton)
    sections = (
        *_protocol_sections(details),
        Section("Accuracy", _accuracy(details)),
        *(_comparison(comparison, pictures) for comparison in details.comparisons),
        Section("Errors", _errors(analysis.errors)),
        Section("Keypoints", _keypoints(accuracy, analysis)),
        Section("Worst and best images", _extremes(analysis, pictures)),
        Section("Sample images", [row(_samples(result.images, skeleton))]),
        Section("Settings", [paragraph(f"Inference spec of {model}."), preformatted(settings)]),
        Section("Images with problems", _problems(result)),
    )
    facts = {
        **_main_metrics(details),
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


def _main_metrics(details: DetailedResult) -> dict[str, str]:
    """Return the AP, and the PCK at its largest threshold."""
    metrics, scores = details.metrics, details.scores
    values = {"AP": details.result.accuracy.ap}
    if isinstance(scores, PckScores):
        name = list(metrics)[-1]
        values = {name.replace("_", "@"): metrics[name]}
    elif details.protocol.name == "crowdpose":
        values = {"AP of CrowdPose": metrics[scores.definitions[0].name]}
    return {name: _format_number(value, 3) for name, value in values.items()}


def _protocol_sections(details: DetailedResult) -> Iterator[Section]:
    """Yield the section of a protocol other than COCO's."""
    scores = details.scores
    if details.protocol.name == "crowdpose" and isinstance(scores, OksScores):
        dataset, metrics = details.protocol.spec.dataset, details.metrics
        limits = ", ".join(
            f"{level}: {int(scores.groups[level].images.sum()):,}" for level in CROWD_LEVELS
        )
        yield Section("CrowdPose", [
            accuracy_table({dataset: metrics}, scores.definitions),
            paragraph(f"Images by level of crowding: {limits}."),
        ])  # fmt: skip
    elif isinstance(scores, PckScores):
        by_threshold = [scores.joint_pck(threshold) for threshold in scores.thresholds.values()]
        rows = [
            ("all", *(_format_number(value, 3) for value in details.metrics.values())),
            *(
                (joint.replace("_", " "), *(_format_number(pck[joint], 3) for pck in by_threshold))
                for joint in by_threshold[0]
            ),
        ]
        note = f"The reference length is the {scores.reference}."
        if scores.skipped_people:
            note += f" {scores.skipped_people:,} people without it do not count."
        yield Section("Percentage of correct keypoints", [
            row([table(("keypoint", *details.metrics), rows), plot(plot_pck(scores))]),
            paragraph(note),
        ])  # fmt: skip


def _accuracy(details: DetailedResult) -> list[Markup]:
    """Return the table of metrics, the precision-recall plot, and the AP by size of people."""
    accuracy, analysis = details.result.accuracy, details.analysis
    metrics = accuracy_table({details.protocol.spec.dataset: accuracy.kpis()})
    parts = [row([metrics, plot(plot_precision_recall(accuracy))])]
    if not accuracy.people:
        parts.append(paragraph("There is no AP, as no person in these images has keypoints."))
        return parts
    sizes = [
        (score.size, f"{score.people:,}", *(_format_number(v, 3) for v in (score.ap, score.ar)))
        for score in analysis.sizes
    ]
    by_size = table(("people", "number", "AP", "AR"), sizes)
    note = (
        "Small people have an area of at most 32² pixels, large ones of at least 96². COCO has no "
        "metrics of small people, as it has no labels of their keypoints."
    )
    if details.protocol.name == "crowdpose":
        note += (
            " The sizes and all that follows are based on CrowdPose's areas of people, the table "
            "of COCO's metrics on those of the annotations."
        )
    return [*parts, row([by_size, plot(plot_oks_histogram(analysis))]), paragraph(note)]


def _errors(errors: ErrorSummary) -> list[Markup]:
    """Return the plot of error types, and the AP without each type."""
    if not errors.counts.sum():
        return []
    shares = errors.shares()
    numbers = {
        **{
            name: _format_number(100 * sum(shares[kind.label] for kind in kinds), 1, " % of joints")
            for name, kinds in CORRECTIONS.items()
        },
        FALSE_POSITIVES: quantity(errors.false_positives, "pose", "poses"),
        FALSE_NEGATIVES: quantity(errors.false_negatives, "person", "people"),
    }
    rows = [
        (
            name, numbers[name], _format_number(corrected, 3),
            _format_change(corrected - errors.ap) if errors.ap >= 0 else "–",
        )
        for name, corrected in errors.corrected_ap.items()
    ]  # fmt: skip
    meaning = (
        "Jitter: near its label. Inversion: at the joint on the other side of the same person. "
        "Swap: at a joint of another person. Miss: far from all labels, or undetected. False "
        "positives: poses without a person. False negatives: people without a pose. The AP without "
        "an error is that after its correction: joints are moved, poses removed, people not "
        "counted (Ronchi and Perona, 2017)."
    )
    header = ("error", "number", "AP without it", "change")
    return [plot(plot_error_types(errors)), table(header, rows), paragraph(meaning)]


def _keypoints(accuracy: KeypointAP, analysis: Analysis) -> list[Markup]:
    """Return the plot and the table of keypoint errors."""
    header = ("keypoint", "labeled", "detected", "median distance", "mean distance", "AP")
    rows = [
        (
            error.joint.replace("_", " "), f"{error.labeled:,}",
            *(
                _format_number(100 * share, 1, " %")
                for share in (error.detected, error.median, error.mean)
            ),
            _format_number(analysis.joint_ap[error.joint], 3),
        )
        for error in accuracy.joint_errors
        if error.joint not in accuracy.not_evaluated
    ]  # fmt: skip
    note = (
        "Over matched people (OKS at least 0.5); distances as shares of the person's size. The AP "
        "of a keypoint is that of all people with its label, with its similarity alone as the OKS."
    )
    parts = [plot(plot_keypoint_errors(accuracy)), table(header, rows), paragraph(note)]
    if accuracy.not_evaluated:
        names = ", ".join(accuracy.not_evaluated)
        parts.append(paragraph(f"Not evaluated, as the skeleton does not have them: {names}."))
    return parts


def _comparison(comparison: Comparison, pictures: _Pictures) -> Section:
    """Return the section of a comparison with an earlier evaluation."""
    rows = [
        (
            difference.metric, _format_number(difference.earlier, 3),
            _format_number(difference.value, 3),
            *(
                "–" if math.isnan(difference.low) else text
                for text in (
                    _format_change(difference.value - difference.earlier),
                    f"{_format_change(difference.low)} to {_format_change(difference.high)}",
                    "yes" if difference.is_significant else "no",
                )
            ),
        )
        for difference in comparison.differences
    ]  # fmt: skip
    interval = f"{CONFIDENCE:.0%} interval"
    header = ("metric", "earlier", "this", "change", interval, "significant")
    joints = ", ".join(joint.replace("_", " ") for joint in comparison.joints)
    notes = (
        f"Both evaluations are scored on the {len(comparison.joints)} keypoints that all compared "
        f"models and the dataset have: {joints}.",
        f"The {interval} of the change is estimated from {RESAMPLINGS} bootstrap samples of the "
        "images. A change whose interval contains 0 may be chance.",
    )
    parts = [table(header, rows), *map(paragraph, notes)]
    changes = comparison.quality_changes
    order = np.argsort(changes, kind="stable").tolist()
    worse = [index for index in order[:_MAX_CHANGED] if changes[index] < 0]
    better = [index for index in order[::-1][:_MAX_CHANGED] if changes[index] > 0]
    for title, indices in (("Most improved", better), ("Most degraded", worse)):
        if indices:
            parts += [
                paragraph(f"{title} images: the earlier poses on the left. {_LEGEND}"),
                row(pictures.show_changes(comparison, indices)),
            ]
    return Section(f"Comparison with {comparison.folder}", parts)


def _extremes(analysis: Analysis, pictures: _Pictures) -> list[Markup]:
    """Return the pictures of the images with the lowest and the highest quality."""
    qualities = analysis.image_qualities
    labels = np.array([image.labeled.sum() for image in analysis.images])
    ranked = [
        index
        for index in np.lexsort((-labels, qualities)).tolist()
        if not math.isnan(qualities[index])
    ]
    worst = ranked[:_MAX_WORST]
    best = [index for index in ranked[::-1] if index not in worst][:_MAX_BEST]
    parts = [paragraph(f"{_LEGEND} {_QUALITY}")]
    for title, indices in (("Worst images", worst), ("Best images", best)):
        if indices:
            parts += [paragraph(f"{title}:"), row(pictures.show(analysis, indices))]
    return parts


class _Pictures:
    """Pictures of images with predicted and annotated people.

    Args:
        entries: Entries of detections.json, one per image.
        joints: Names of the keypoints of the dataset.
        skeleton: Skeleton of the model.
    """

    def __init__(
        self, entries: Sequence[Mapping[str, Any]], joints: Sequence[str], skeleton: Skeleton
    ) -> None:
        self._entries = entries
        self._joints = joints
        self._skeleton = skeleton

    def show(self, analysis: Analysis, indices: Iterable[int]) -> Iterator[Markup]:
        """Yield pictures of images with their quality.

        Args:
            analysis: Analysis of the poses.
            indices: Indices of the images.
        """
        for index in indices:
            image, quality = analysis.images[index], analysis.image_qualities[index]
            caption = (
                f"quality {quality:.2f}, {quantity(image.num_people, 'person', 'people')}, "
                f"{quantity(len(image.scores), 'pose', 'poses')}"
            )
            yield from self._show(index, [image], caption, "large")

    def show_changes(self, comparison: Comparison, indices: Iterable[int]) -> Iterator[Markup]:
        """Yield pictures of images with the poses of both evaluations side by side.

        Args:
            comparison: The comparison.
            indices: Indices of the images.
        """
        runs = (comparison.earlier, comparison.analysis)
        for index in indices:
            before, after = (run.image_qualities[index] for run in runs)
            versions = [run.images[index] for run in runs]
            yield from self._show(index, versions, f"quality {before:.2f} → {after:.2f}", "wide")

    def _show(
        self,
        index: int,
        versions: Sequence[ImagePoses],
        caption: str,
        size: Literal["large", "wide"],
    ) -> Iterator[Markup]:
        """Yield the picture of an image if it can be read."""
        entry = self._entries[index]
        try:
            picture = draw_with_truth(entry, versions, self._joints, self._skeleton)
        except BodyPoseNetError as error:
            logger.warning("Not shown in %s: %s", REPORT_FILE, error)
            return
        name = entry["image_meta"]["file_name"]
        yield thumbnail(picture, f"{name}: {caption}", size=size)


def _samples(images: Sequence[Mapping[str, Any]], skeleton: Skeleton) -> Iterator[Markup]:
    """Yield the sample images with their poses."""
    for index in select_sample_images(images):
        entry = images[index]
        try:
            picture = draw_entry(entry, skeleton)
        except BodyPoseNetError as error:  # The file has changed since the evaluation.
            logger.warning("Not shown in %s: %s", REPORT_FILE, error)
            continue
        people = quantity(len(entry["scores"]), "person", "people")
        yield thumbnail(picture, f"{entry['image_meta']['file_name']}: {people}")


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


def _format_change(value: float) -> str:
    """Format a difference with its sign."""
    return f"{value:+.3f}"
