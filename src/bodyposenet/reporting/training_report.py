"""HTML report of a training: curves, accuracy, predictions of the last validation, and runs."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bodyposenet.reporting.html import (
    REPORT_FILE,
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

_PICTURE_CAPTION = (
    "From left to right: predicted poses; target and predicted heatmaps; target and predicted part "
    "affinity fields."
)
_MAX_RUNS = 20
_STATUS_TEXTS = {"SUCCESS": "complete", "FAILURE": "failed", "RUNNING": "interrupted"}


def write_training_report(
    results_dir: Path,
    spec_text: str,
    status: StatusFile,
    picture: NDArray[np.uint8] | None,
) -> Path:
    """Write report.html of a training.

    Args:
        results_dir: Results folder.
        spec_text: Text of the train spec, without an encryption key.
        status: Status file with the lines of all runs of the training.
        picture: (H, W, 3) uint8 RGB from `training.validation.draw_predictions`, or None.

    Returns:
        Path of the file.

    Raises:
        BodyPoseNetError: The file cannot be written.
    """
    history = TrainingHistory.read(status.lines())
    pictures = [] if picture is None else [full_width_image(picture, _PICTURE_CAPTION)]
    sections = (
        Section("Curves", _curves(history)),
        Section("Accuracy", _accuracy(history)),
        Section("Predictions of the last validation", pictures),
        Section("Runs", _runs(history)),
        Section("Settings", [preformatted(spec_text)]),
    )
    title = f"Training in {results_dir.resolve().name}"
    return write_page(results_dir / REPORT_FILE, title, _facts(history), sections)


def _facts(history: TrainingHistory) -> dict[str, str]:
    """Return the key facts at the top of the page."""
    facts = {}
    if history.epochs:
        last = list(history.epochs.values())[-1]
        facts["epochs"] = f"{last.epoch} of {last.max_epoch}"
    for name, curve in (
        ("loss", history.epoch_values("loss")),
        ("validation loss", history.validation_values("validation_loss")),
    ):
        if curve:
            facts[name] = f"{list(curve.values())[-1]:.4g}"
    for dataset in history.datasets():
        facts[f"AP on {dataset}"] = _last_and_best(history.validation_values(f"AP_{dataset}"))
    if history.runs:
        facts["time"] = str(sum((run.duration for run in history.runs), timedelta()))
    if speed := history.epoch_values("images_per_s"):
        facts["images per second"] = f"{list(speed.values())[-1]:.1f}"
    return facts


def _last_and_best(curve: dict[int, float]) -> str:
    """Format the last AP, and the best one if it is of an earlier epoch."""
    last, best = max(curve), max(curve, key=lambda epoch: (curve[epoch], epoch))
    if curve[best] < 0:
        return "–"
    value = f"{curve[last]:.3f}"
    return value if best == last else f"{value} (epoch {best}: {curve[best]:.3f})"


def _curves(history: TrainingHistory) -> list[Markup]:
    """Return the plots of the training curves."""
    if not history.epochs:
        return [paragraph("No epoch is finished yet.")]
    return [row([plot(figure) for figure in plot_training_curves(history)])]


def _accuracy(history: TrainingHistory) -> list[Markup]:
    """Return the accuracy table of the last validation."""
    if not history.validations:
        return [paragraph("There was no validation.")]
    last = max(history.validations)
    accuracy = history.validations[last].accuracy
    if not accuracy:
        return [paragraph("The AP was not measured, see the log of the training for the reason.")]
    return [paragraph(f"After epoch {last}."), accuracy_table(accuracy)]


def _runs(history: TrainingHistory) -> list[Markup]:
    """Return the table of runs: start, duration, epochs, end and versions."""
    if not history.runs:
        return []
    rows = [
        (
            f"{run.start:%Y-%m-%d %H:%M}",
            str(run.duration),
            _format_epochs(run.epochs),
            _STATUS_TEXTS.get(run.status, run.status),
            ", ".join(f"{name} {version}" for name, version in run.versions.items()),
        )
        for run in history.runs
    ]
    if history.runs[-1].status == "RUNNING":
        rows[-1] = (*rows[-1][:3], "running", rows[-1][4])  # The run that writes this report.
    parts = [table(("start", "duration", "epochs", "end", "versions"), rows[-_MAX_RUNS:])]
    if len(rows) > _MAX_RUNS:
        parts.append(paragraph(f"{len(rows) - _MAX_RUNS} earlier runs are not listed."))
    return parts


def _format_epochs(epochs: list[int]) -> str:
    """Format the range of epochs of a run."""
    if not epochs:
        return "–"
    first, last = min(epochs), max(epochs)
    return str(first) if first == last else f"{first} to {last}"
