"""Predictions in the formats of other tools: the list of formats, and their folders.

Each format has a folder of its own in the results folder, which a later run replaces as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from bodyposenet.data.formats import (
    coco,
    csv_table,
    cvat,
    deeplabcut,
    label_studio,
    openpose,
    yolo_pose,
)
from bodyposenet.data.formats.predictions import (
    ImagePredictions,
    OutputFormat,
    VideoPredictions,
)
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import atomic_folder, exists, is_folder

OUTPUT_FORMATS = {
    module.OUTPUT_FORMAT.name: module.OUTPUT_FORMAT
    for module in (coco, label_studio, cvat, yolo_pose, openpose, csv_table, deeplabcut)
}
"""All output formats by name, which is also the name of their folder."""


def check_output_formats(
    names: Iterable[str], results_dir: Path, *, is_video: bool, has_tracks: bool
) -> None:
    """Check that predictions can be written in formats, before they are made.

    Args:
        names: Names of the formats.
        results_dir: Folder that will contain the folders of the formats.
        is_video: Whether the predictions are of a video.
        has_tracks: Whether the predictions have track ids.

    Raises:
        BodyPoseNetError: A format is for images or for videos only, or needs tracks; or its folder
            contains files that would be lost.
    """
    for name in names:
        output = OUTPUT_FORMATS[name]
        if is_video and output.write_video is None:
            raise BodyPoseNetError(
                f"--output_format {name}: is for images, but the input is a video",
                "Save frames as images first, for example with ffmpeg -i VIDEO frames/%06d.png.",
            )
        if not is_video and output.write_images is None:
            raise BodyPoseNetError(
                f"--output_format {name}: is for videos, but the input is not one",
                f"Formats for images: {', '.join(_formats_for_images())}.",
            )
        if output.needs_tracks and not has_tracks:
            raise BodyPoseNetError(
                f"--output_format {name}: needs the track ids of people", "Add --track."
            )
        _check_folder(results_dir / name, output)


def check_image_names(names: Iterable[str], image_names: Sequence[str]) -> None:
    """Check that images can be written in formats, before their predictions are made.

    Args:
        names: Names of the formats.
        image_names: Names of the images, see `PredictedImage`.

    Raises:
        BodyPoseNetError: The names of images do not fit a format.
    """
    for name in names:
        check_names = OUTPUT_FORMATS[name].check_names
        if check_names is not None:
            check_names(image_names)


def write_predictions(
    names: Iterable[str], results_dir: Path, predictions: ImagePredictions | VideoPredictions
) -> list[Path]:
    """Write predictions in formats.

    Args:
        names: Names of the formats, see `check_output_formats`.
        results_dir: Folder that will contain the folders of the formats.
        predictions: The predictions.

    Returns:
        The folders of the formats.

    Raises:
        BodyPoseNetError: A file cannot be written.
    """
    folders = []
    for name in names:
        output, folder = OUTPUT_FORMATS[name], results_dir / name
        with atomic_folder(folder) as temporary:
            if isinstance(predictions, ImagePredictions):
                assert output.write_images is not None
                output.write_images(temporary, predictions)
            else:
                assert output.write_video is not None
                output.write_video(temporary, predictions)
        folders.append(folder)
    return folders


def _formats_for_images() -> list[str]:
    return [name for name, output in OUTPUT_FORMATS.items() if output.write_images]


def _check_folder(folder: Path, output: OutputFormat) -> None:
    """Raise an error if a folder has files that are not of an earlier run, or is a file or link."""
    if folder.is_symlink() or (exists(folder) and not is_folder(folder)):
        raise BodyPoseNetError(
            f"{folder}: {'a symbolic link' if folder.is_symlink() else 'not a folder'}, which "
            "cannot be replaced by a folder",
            "Move it, or choose another results folder (-r).",
        )
    earlier = {file for pattern in output.files for file in folder.glob(pattern)}
    others = (file for file in folder.rglob("*") if file not in earlier and not file.is_dir())
    if other := next(others, None):
        raise BodyPoseNetError(
            f"{other}: would be lost, as the folder {folder} is replaced",
            "Move the file, or choose another results folder (-r).",
        )
