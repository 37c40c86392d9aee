"""DeepLabCut's tables of tracked individuals in a video, as CSV and HDF5.

Columns have the levels scorer, individuals, bodyparts and coords (x, y, likelihood), as in
DeepLabCut's projects with several animals; rows are frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bodyposenet.console import logger
from bodyposenet.data.formats.predictions import (
    MODEL_PREFIX,
    OutputFormat,
    PredictedFrame,
    VideoPredictions,
)
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import open_csv
from bodyposenet.poses import NO_ID

_HDF5_PACKAGES = ("pandas", "tables")
_HDF5_KEY = "df_with_missing"
"""Key of the table in DeepLabCut's files."""

_LEVELS = ("scorer", "individuals", "bodyparts", "coords")
_COORDS = ("x", "y", "likelihood")

_MAX_HDF5_VALUES = 2**26
"""Maximum number of values of an HDF5 file, which are in memory at once (512 MiB, and copies)."""


def _write_video(folder: Path, predictions: VideoPredictions) -> None:
    """Write VIDEO_MODEL.csv and, if pandas and tables are installed, VIDEO_MODEL.h5.

    Each track is an individual. People without a track id are omitted, and counted in the log.

    Args:
        folder: Existing folder of the files.
        predictions: The predictions, with tracks.

    Raises:
        BodyPoseNetError: A file cannot be written.
    """
    tracks, frames = _count(predictions)
    columns = _columns(predictions, tracks)
    path = folder / f"{predictions.name}_{predictions.model}.csv"
    with open_csv(path, make_folder=False) as writer:
        for number, level in enumerate(_LEVELS):
            writer.writerow((level, *(names[number] for names in columns)))
        for frame in predictions.frames:
            row: list[Any] = [""] * len(columns)
            for place, values in _people(frame, tracks):
                row[place] = ["" if value != value else value for value in values.tolist()]
            writer.writerow((frame.index, *row))
    if missing := _missing_packages():
        logger.warning(
            "deeplabcut: no HDF5 file; missing packages: %s; install them with pip install "
            "'bodyposenet[hdf5]'", ", ".join(missing),
        )  # fmt: skip
        return
    if frames * len(columns) > _MAX_HDF5_VALUES:
        logger.warning(
            "deeplabcut: no HDF5 file, as %d frames with %d individuals do not fit into memory; "
            "the CSV file is complete", frames, len(tracks),
        )  # fmt: skip
        return
    _write_hdf5(path.with_suffix(".h5"), predictions, columns, tracks, frames)


def _missing_packages() -> list[str]:
    """Return the packages that the HDF5 file needs and that are not installed."""
    return [name for name in _HDF5_PACKAGES if find_spec(name) is None]


def _count(predictions: VideoPredictions) -> tuple[dict[int, int], int]:
    """Return track id -> place among the individuals, and the number of frames."""
    ids: set[int] = set()
    frames = omitted = 0
    for frame in predictions.frames:
        frames += 1
        tracks = [] if frame.poses.track_ids is None else frame.poses.track_ids.tolist()
        omitted += tracks.count(NO_ID)
        ids.update(tracks)
    if omitted:
        logger.info("deeplabcut: omitted %d detections without a track id", omitted)
    return {track: place for place, track in enumerate(sorted(ids - {NO_ID}))}, frames


def _columns(
    predictions: VideoPredictions, tracks: dict[int, int]
) -> list[tuple[str, str, str, str]]:
    """Return the names of all levels of each column."""
    return [
        (predictions.model, f"person{track}", joint, coord)
        for track in tracks
        for joint in predictions.skeleton.joints
        for coord in _COORDS
    ]


def _people(
    frame: PredictedFrame, tracks: dict[int, int]
) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Yield the columns and values of each person with a track; NaN where a joint is missing."""
    poses = frame.poses
    if poses.track_ids is None:
        return
    scores = np.where(poses.visible, poses.keypoint_scores, np.nan)
    values = np.concatenate([poses.keypoints, scores[..., None]], axis=2, dtype=np.float64)
    rows = values.round(5).reshape(len(poses), poses.keypoints.shape[1] * len(_COORDS))
    for track, row in zip(poses.track_ids.tolist(), rows, strict=True):
        if track != NO_ID:
            start = tracks[track] * len(row)
            yield slice(start, start + len(row)), row


def _write_hdf5(
    path: Path,
    predictions: VideoPredictions,
    columns: list[tuple[str, str, str, str]],
    tracks: dict[int, int],
    frames: int,
) -> None:
    """Write the table as DeepLabCut does, with pandas."""
    import pandas as pd  # pyright: ignore[reportMissingTypeStubs]

    indices = np.empty(frames, np.int64)
    table = np.full((frames, len(columns)), np.nan)
    for number, frame in enumerate(predictions.frames):
        indices[number] = frame.index
        for place, values in _people(frame, tracks):
            table[number, place] = values
    names: Any = pd.MultiIndex.from_tuples(columns, names=_LEVELS)
    try:
        pd.DataFrame(table, index=indices, columns=names).to_hdf(path, key=_HDF5_KEY, mode="w")
    except OSError as error:
        raise BodyPoseNetError(
            f"{path}: cannot be written: {error}", "Free some space, or choose a writable folder."
        ) from error


OUTPUT_FORMAT = OutputFormat(
    "deeplabcut",
    (f"*_{MODEL_PREFIX}_*.csv", f"*_{MODEL_PREFIX}_*.h5"),
    write_video=_write_video,
    needs_tracks=True,
)
