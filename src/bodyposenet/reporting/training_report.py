"""A training's status.json and last picture in, report.html out: the training on one page."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bodyposenet.reporting.html import (
    FILE_NAME,
    Markup,
    Section,
    accuracy_table,
    full_width_image,
    paragraph,
    plot,
    preformatted,
    row,
    table,
    write_page,
)
from bodyposenet.reporting.plots import plot_training_curves
from bodyposenet.reporting.training_history import TrainingHistory
from bodyposenet.results_folder import StatusFile

_PANELS = (
    "From left to right: the people found; target and predicted keypoints; target and predicted "
    "limbs."
)
_MOST_RUNS = 20
_ENDS = {"SUCCESS": "complete", "FAILURE": "stopped", "RUNNING": "cut off"}


def write_training_report(
    results_dir: Path,
    spec_text: str,
    status: StatusFile,
    picture: NDArray[np.uint8] | None,
) -> Path:
    """Write report.html.

    Args:
        results_dir: The results folder.
        spec_text: The train spec as it was written, without a key.
        status: What was said, over all runs of the training.
        picture: (H, W, 3) uint8 RGB of the last validation (`draw_predictions`); None: unknown.

    Returns:
        The file.

    Raises:
        BodyPoseNetError: It cannot be written.
    """
    history = TrainingHistory.read(status.lines())
    shown = [] if picture is None else [full_width_image(picture, _PANELS)]
    sections = (
        Section("Curves", _curves(history)),
        Section("Accuracy", _accuracy(history)),
        Section("Samples of the last validation", shown),
        Section("Runs", _runs(history)),
        Section("Settings", [preformatted(spec_text)]),
    )
    title = f"Training in {results_dir.resolve().name}"
    return write_page(results_dir / FILE_NAME, title, _facts(history), sections)


def _facts(history: TrainingHistory) -> dict[str, str]:
    facts = {}
    if history.epochs:
        last = list(history.epochs.values())[-1]
        facts["epochs"] = f"{last.epoch} of {last.max_epoch}"
    for name, curve in (
        ("loss", history.reported("loss")),
        ("validation loss", history.validated("validation_loss")),
    ):
        if curve:
            facts[name] = f"{list(curve.values())[-1]:.4g}"
    for dataset in history.datasets():
        facts[f"AP on {dataset}"] = _last_and_best(history.validated(f"AP_{dataset}"))
    if history.runs:
        facts["time"] = str(sum((run.duration for run in history.runs), timedelta()))
    if speed := history.reported("images_per_s"):
        facts["images per second"] = f"{list(speed.values())[-1]:.1f}"
    return facts


def _last_and_best(curve: dict[int, float]) -> str:
    """An AP, and the best one where that was an earlier one."""
    last, best = max(curve), max(curve, key=lambda epoch: (curve[epoch], epoch))
    if curve[best] < 0:
        return "–"
    value = f"{curve[last]:.3f}"
    return value if best == last else f"{value} (epoch {best}: {curve[best]:.3f})"


def _curves(history: TrainingHistory) -> list[Markup]:
    if not history.epochs:
        return [paragraph("No epoch is finished yet.")]
    return [row([plot(figure) for figure in plot_training_curves(history)])]


def _accuracy(history: TrainingHistory) -> list[Markup]:
    """The tables of the last validation."""
    if not history.validations:
        return [paragraph("There was no validation.")]
    last = max(history.validations)
    accuracy = history.validations[last].accuracy
    if not accuracy:
        return [paragraph("The AP was not measured; the log of the training says why.")]
    return [paragraph(f"After epoch {last}."), accuracy_table(accuracy)]


def _runs(history: TrainingHistory) -> list[Markup]:
    """When the training ran, how each run ended, and with which versions."""
    if not history.runs:
        return []
    rows = [
        (
            f"{run.begun:%Y-%m-%d %H:%M}",
            str(run.duration),
            _range(run.epochs),
            _ENDS.get(run.status, run.status),
            ", ".join(f"{name} {version}" for name, version in run.versions.items()),
        )
        for run in history.runs
    ]
    if history.runs[-1].status == "RUNNING":
        rows[-1] = (*rows[-1][:3], "wrote this page", rows[-1][4])
    parts = [table(("begun", "lasted", "epochs", "end", "versions"), rows[-_MOST_RUNS:])]
    if len(rows) > _MOST_RUNS:
        parts.append(paragraph(f"{len(rows) - _MOST_RUNS} earlier runs are not listed."))
    return parts


def _range(epochs: list[int]) -> str:
    if not epochs:
        return "–"
    first, last = min(epochs), max(epochs)
    return str(first) if first == last else f"{first} to {last}"
