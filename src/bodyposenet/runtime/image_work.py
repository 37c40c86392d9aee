"""Images of the user in, their entries in detections.json and their pictures out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bodyposenet.console import logger
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import replacing
from bodyposenet.media.draw import draw
from bodyposenet.media.source import ImageEntry, read_image
from bodyposenet.runtime import detections
from bodyposenet.runtime.pipeline import Pipeline
from bodyposenet.runtime.predictor import Predictor
from bodyposenet.runtime.scale.kept_results import KeptResult, stamp
from bodyposenet.types import Poses

Numbered = tuple[int, ImageEntry]
"""An image and its place in the input."""


class _KeptEntry(KeptResult):
    """An entry of detections.json, and what its picture is known by."""

    entry: detections.DetectionsEntry
    picture: list[int] | None


@dataclass(frozen=True)
class ImageWork:
    """Finds the people in images, and draws them; see `scale.executor.KeepableWork`.

    Args:
        drawings: Folder that receives pictures, each named by its number; it must exist. None:
            nothing is drawn.
        batch: Images that the network gets at once.
    """

    drawings: Path | None = None
    batch: int = 1

    def pipeline(self, predictor: Predictor) -> Pipeline[Numbered, dict[str, Any]]:
        """Numbered images in, their entries in detections.json out."""
        threshold = predictor.spec.display_score_threshold

        def finish(numbered: Numbered, pixels: NDArray[np.uint8], poses: Poses) -> dict[str, Any]:
            number, image = numbered
            entry = detections.describe_image(image.path, poses, image.fields)
            if self.drawings is None:
                return entry
            path = self.drawings / detections.picture_name(number)
            _write_picture(path, draw(pixels, poses, score_threshold=threshold))
            return entry | {"viz_id": number}

        return Pipeline(predictor, _read, finish, _skip, batch=self.batch)

    def describe(self) -> dict[str, Any]:
        """That people are found, and whether they are drawn."""
        return {"finds": "people in images", "draws": self.drawings is not None}

    def key(self, item: Numbered) -> str:
        """The file, and what else stands in the entry."""
        number, image = item
        more = [number] if self.drawings else []
        return json.dumps([image.path.as_posix(), stamp(image.path), dict(image.fields), *more])

    def store(self, result: dict[str, Any]) -> dict[str, Any]:
        """The entry, and what its picture is known by."""
        return {"entry": result, "picture": self._picture(result)}

    def restore(self, stored: dict[str, Any]) -> dict[str, Any]:
        """The entry."""
        _KeptEntry.check(stored)
        return stored["entry"]

    def is_done(self, stored: dict[str, Any]) -> bool:
        """Whether the image could be worked on, and the picture that was drawn is still there."""
        _KeptEntry.check(stored)
        entry = stored["entry"]
        return "error" not in entry and stored["picture"] == self._picture(entry)

    def _picture(self, entry: dict[str, Any]) -> list[int] | None:
        if self.drawings is None or "viz_id" not in entry:
            return None
        return stamp(self.drawings / detections.picture_name(entry["viz_id"]))


def _read(numbered: Numbered) -> NDArray[np.uint8]:
    return read_image(numbered[1].path)


def _skip(numbered: Numbered, error: BodyPoseNetError) -> dict[str, Any]:
    logger.warning("skipped: %s", error)
    return detections.describe_image(numbered[1].path, error.what, numbered[1].fields)


def _write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
    with replacing(path, make_folder=False) as file:
        file.write(encoded.tobytes())
