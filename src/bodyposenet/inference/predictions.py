"""Predictions for the writers of other tools' formats, from the results of `inference`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bodyposenet.data.formats.predictions import (
    MODEL_PREFIX,
    ImagePredictions,
    PredictedFrame,
    PredictedImage,
    VideoPredictions,
)
from bodyposenet.inference.detections import unique_stems
from bodyposenet.media.inputs import ImageEntry
from bodyposenet.poses import Poses
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.inference import InferenceSpec

_ID_KEYS = ("image_id", "id")
"""Keys of an image's id in an input JSON."""


def image_predictions(
    images: Sequence[ImageEntry],
    entries: Sequence[Mapping[str, Any]],
    skeleton: Skeleton,
    spec: InferenceSpec,
) -> ImagePredictions:
    """Return the predictions in images; those that could not be read are omitted.

    The id of an image is the integer `image_id` or `id` in the input JSON; or the number that is
    its file name, as in COCO (397133 for 000000397133.jpg); or else its position, from 1. If an id
    is missing or occurs twice, the next of these rules applies to all images.

    Args:
        images: The images of the input.
        entries: Their entries in detections.json; fewer if the run ended early.
        skeleton: Skeleton of the poses.
        spec: Inference spec of the poses.
    """
    described = zip(
        images, entries, image_names(images), unique_stems(images), _image_ids(images), strict=False
    )
    predicted = [
        PredictedImage(
            name, stem, image_id, entry["width"], entry["height"],
            Poses.from_dict(entry, skeleton), image.name if image.address else "",
        )
        for image, entry, name, stem, image_id in described
        if "error" not in entry
    ]  # fmt: skip
    return ImagePredictions(predicted, skeleton, _model_name(spec), _common_folder(images))


def image_names(images: Sequence[ImageEntry]) -> list[str]:
    """Return the name of each image: its path relative to the common folder of all images.

    It is only the file name if there is no common folder.

    Args:
        images: The images of the input.
    """
    folder = _common_folder(images)
    if folder is None:
        return [image.path.name for image in images]
    return [_absolute(image.path).relative_to(folder).as_posix() for image in images]


def video_predictions(
    lines: Path, name: str, skeleton: Skeleton, spec: InferenceSpec
) -> VideoPredictions:
    """Return the predictions in a video, which are read from its JSON lines when iterated over.

    Args:
        lines: The detections.jsonl.
        name: Name of the video, the beginning of file names.
        skeleton: Skeleton of the poses.
        spec: Inference spec of the poses.
    """
    return VideoPredictions(_Frames(lines, name, skeleton), skeleton, _model_name(spec), name)


@dataclass(frozen=True)
class _Frames:
    """The frames in a detections.jsonl; see `video_predictions`."""

    lines: Path
    name: str
    skeleton: Skeleton

    def __iter__(self) -> Iterator[PredictedFrame]:
        with open(self.lines, encoding="utf-8") as file:
            for line in file:
                values = json.loads(line)
                index = values["frame"]
                poses = Poses.from_dict(values, self.skeleton)
                yield PredictedFrame(f"{self.name}_{index:012}", index, values["time"], poses)


def _image_ids(images: Sequence[ImageEntry]) -> list[int]:
    """Return the ids of images, see `image_predictions`."""
    for key in _ID_KEYS:
        given = [image.fields.get(key) for image in images]
        ids = [value for value in given if type(value) is int]
        if len(set(ids)) == len(images):
            return ids
    names = [image.path.stem for image in images]
    numbers = {int(name) for name in names if name.isascii() and name.isdecimal()}
    if len(numbers) == len(images):
        return [int(name) for name in names]
    return list(range(1, len(images) + 1))


def _common_folder(images: Sequence[ImageEntry]) -> Path | None:
    """Return the absolute path of the folder that contains all images, or None if there is none."""
    if any(image.address for image in images):
        return None
    try:
        return Path(os.path.commonpath({_absolute(image.path).parent for image in images}))
    except ValueError:  # on several drives of Windows
        return None


def _absolute(path: Path) -> Path:
    """Return an absolute path without `..`; links are kept, as their names are those of images."""
    return Path(os.path.normpath(path.absolute()))


def _model_name(spec: InferenceSpec) -> str:
    """Return a name of the model for other tools."""
    return f"{MODEL_PREFIX}_{Path(spec.model_path or 'model').stem}"
