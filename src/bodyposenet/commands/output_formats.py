"""Poses in the formats of other tools, for `inference --output_format`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
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


@dataclass(frozen=True)
class OutputFormats:
    """The chosen formats, possibly none; their modules are imported only if there are any.

    Args:
        names: Names of the formats.
        results_dir: Folder that will contain the folders of the formats.
    """

    names: tuple[str, ...]
    results_dir: Path

    def check(self, *, is_video: bool, has_tracks: bool) -> None:
        """Check that the formats can be written.

        Args:
            is_video: Whether the input is a video.
            has_tracks: Whether people have track ids.

        Raises:
            BodyPoseNetError: A format does not fit the input, or its folder has other files.
        """
        if self.names:
            from bodyposenet.data.formats.output import check_output_formats

            check_output_formats(
                self.names, self.results_dir, is_video=is_video, has_tracks=has_tracks
            )

    def check_images(self, images: ImageList) -> None:
        """Check that the images of the input can be written in the formats.

        Raises:
            BodyPoseNetError: The names of images do not fit a format.
        """
        if self.names:
            from bodyposenet.data.formats.output import check_image_names
            from bodyposenet.inference.predictions import image_names

            check_image_names(self.names, image_names(images.entries))

    def write_images(
        self, images: ImageList, entries: Sequence[Mapping[str, Any]], executor: Executor
    ) -> list[Path]:
        """Write the poses in images.

        Args:
            images: The images of the input.
            entries: Their entries in detections.json; fewer if the run ended early.
            executor: Executor of the model.

        Returns:
            The folders of the formats.

        Raises:
            BodyPoseNetError: A file cannot be written.
        """
        if not self.names:
            return []
        from bodyposenet.data.formats.output import write_predictions
        from bodyposenet.inference.predictions import image_predictions

        predictions = image_predictions(images.entries, entries, executor.skeleton, executor.spec)
        return write_predictions(self.names, self.results_dir, predictions)

    def write_video(self, name: str, lines: Path, predictor: Predictor) -> list[Path]:
        """Write the poses in a video.

        Args:
            name: Name of the video, for the names of files.
            lines: The detections.jsonl.
            predictor: Predictor of the model.

        Returns:
            The folders of the formats.

        Raises:
            BodyPoseNetError: A file cannot be written.
        """
        if not self.names:
            return []
        from bodyposenet.data.formats.output import write_predictions
        from bodyposenet.inference.predictions import video_predictions

        predictions = video_predictions(lines, name, predictor.engine.skeleton, predictor.spec)
        return write_predictions(self.names, self.results_dir, predictions)


def describe_folders(folders: Sequence[Path]) -> str:
    """Return the end of a summary line, which names the folders of the formats."""
    return f"; in other formats in {', '.join(map(str, folders))}" if folders else ""
