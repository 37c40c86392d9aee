"""CSV table with one row per person and joint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bodyposenet.data.formats.predictions import ImagePredictions, OutputFormat, VideoPredictions
from bodyposenet.files import open_csv
from bodyposenet.poses import NO_ID, Poses

_FILE = "poses.csv"

_PERSON_COLUMNS = ("person", "track_id", "person_score", "joint", "x", "y", "score", "inferred")


def _write_images(folder: Path, predictions: ImagePredictions) -> None:
    """Write poses.csv with the column `image` and those of `_PERSON_COLUMNS`.

    Args:
        folder: Existing folder of the file.
        predictions: The predictions.

    Raises:
        BodyPoseNetError: The file cannot be written.
    """
    with open_csv(folder / _FILE, make_folder=False) as writer:
        writer.writerow(("image", *_PERSON_COLUMNS))
        for image in predictions.images:
            writer.writerows((image.name, *row) for row in _rows(image.poses))


def _write_video(folder: Path, predictions: VideoPredictions) -> None:
    """Write poses.csv with the columns `frame` and `time` in place of `image`.

    Args:
        folder: Existing folder of the file.
        predictions: The predictions.

    Raises:
        BodyPoseNetError: The file cannot be written.
    """
    with open_csv(folder / _FILE, make_folder=False) as writer:
        writer.writerow(("frame", "time", *_PERSON_COLUMNS))
        for frame in predictions.frames:
            writer.writerows((frame.index, frame.time, *row) for row in _rows(frame.poses))


def _rows(poses: Poses) -> Iterator[tuple[Any, ...]]:
    """Yield the values of `_PERSON_COLUMNS`; empty ones for missing joints and tracks."""
    visible, values = poses.visible, poses.to_dict()
    for person in range(len(poses)):
        track = None if poses.track_ids is None else values["track_ids"][person]
        for k, joint in enumerate(poses.skeleton.joints):
            x, y = values["keypoints"][person][k] if visible[person, k] else (None, None)
            yield (
                person, None if track == NO_ID else track, values["scores"][person], joint, x, y,
                values["keypoint_scores"][person][k],
                int(poses.inferred is not None and poses.inferred[person, k]),
            )  # fmt: skip


OUTPUT_FORMAT = OutputFormat("csv", (_FILE,), _write_images, _write_video)
