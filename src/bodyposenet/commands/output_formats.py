"""Poses in the formats of other tools, for `inference --output_format`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from bodyposenet.commands.inference import InferenceOptions
    from bodyposenet.inference.parallel.executor import Executor
    from bodyposenet.inference.predictor import Predictor
    from bodyposenet.media.inputs import ImageList


def split_names(value: object) -> object:
    """Split names at commas and remove repetitions; other values are returned unchanged."""
    if isinstance(value, str):
        value = (value,)
    if not isinstance(value, list | tuple):
        return value
    words = cast("Sequence[object]", value)
    return tuple(dict.fromkeys(name for word in words for name in str(word).split(",")))


def check_output_formats(options: InferenceOptions) -> None:
    """Check that the output formats can be written.

    Raises:
        BodyPoseNetError: A format does not fit the input, or its folder has other files.
    """
    if not options.output_format:
        return
    from bodyposenet.data.formats import output

    output.check_output_formats(
        options.output_format, options.results_folder,
        is_video=options.is_video, has_tracks=options.track or options.smooth,
    )  # fmt: skip


def check_image_names(options: InferenceOptions, images: ImageList) -> None:
    """Check that the images can be written in the output formats.

    Args:
        options: Options of the command.
        images: The images of the input.

    Raises:
        BodyPoseNetError: The names of images do not fit a format.
    """
    if not options.output_format:
        return
    from bodyposenet.data.formats import output
    from bodyposenet.inference.predictions import image_names

    output.check_image_names(options.output_format, image_names(images.entries))


def write_images_in_formats(
    options: InferenceOptions,
    images: ImageList,
    entries: Sequence[Mapping[str, Any]],
    executor: Executor,
) -> list[Path]:
    """Write the poses in images in the output formats.

    Args:
        options: Options of the command.
        images: The images of the input.
        entries: Their entries in detections.json; fewer if the run ended early.
        executor: Executor of the model.

    Returns:
        The folders of the formats.

    Raises:
        BodyPoseNetError: A file cannot be written.
    """
    if not options.output_format:
        return []
    from bodyposenet.data.formats.output import write_predictions
    from bodyposenet.inference.predictions import image_predictions

    predictions = image_predictions(images.entries, entries, executor.skeleton, executor.spec)
    return write_predictions(options.output_format, options.results_folder, predictions)


def write_video_in_formats(
    options: InferenceOptions, lines: Path, predictor: Predictor
) -> list[Path]:
    """Write the poses in a video in the output formats.

    Args:
        options: Options of the command.
        lines: The detections.jsonl.
        predictor: Predictor of the model.

    Returns:
        The folders of the formats.

    Raises:
        BodyPoseNetError: A file cannot be written.
    """
    if not options.output_format:
        return []
    from bodyposenet.data.formats.output import write_predictions
    from bodyposenet.inference.predictions import video_predictions

    is_file = options.detected_type == "video"
    name = Path(str(options.input)).stem if is_file else "stream"
    predictions = video_predictions(lines, name, predictor.engine.skeleton, predictor.spec)
    return write_predictions(options.output_format, options.results_folder, predictions)


def describe_folders(folders: Sequence[Path]) -> str:
    """Return the end of a summary line, which names the folders of the formats."""
    return f"; in other formats in {', '.join(map(str, folders))}" if folders else ""
