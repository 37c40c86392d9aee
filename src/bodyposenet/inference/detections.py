"""Writing and reading `detections.json`: TAO's schema with a few more keys.

Top level: the pose configuration (`pose_config_type`, `categories`), `keypoint_names`, the
`inference_spec`, the input JSON's own keys, and `images`. Each of these has `full_image_path`, its
own fields from the input, `keypoints` (a list of [x, y] per person, [0, 0] where a joint is
missing), `scores` (one per person) and `keypoint_scores` (a list per person, 0 where a joint is
missing). If the image was drawn, it also has `viz_id`, its place in the input, and `viz_name`, the
file name of its picture. An image that could not be read has `error` instead.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from bodyposenet.console import logger
from bodyposenet.errors import BodyPoseNetError, mask_passwords
from bodyposenet.files import atomic_write, read_json, write_json
from bodyposenet.inference import detections
from bodyposenet.inference.parallel.result_store import StoredResult, file_fingerprint
from bodyposenet.inference.pipeline import Pipeline
from bodyposenet.inference.predictor import Predictor
from bodyposenet.media.draw import draw
from bodyposenet.media.images import to_pixels
from bodyposenet.media.inputs import ImageEntry
from bodyposenet.poses import Poses
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.inference import InferenceSpec

FILE_NAME = "detections.json"

_RESULT_KEYS = {
    "keypoints", "scores", "keypoint_scores", "inferred", "track_ids", "viz_id", "viz_name",
    "error",
}  # fmt: skip
"""Keys of an entry that the input JSON cannot set."""


class DetectionsEntry(BaseModel):
    """One entry of `images`, to check what was written before; the input's own fields are free."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)

    full_image_path: str
    keypoints: list[list[list[float]]] = []
    scores: list[float] = []
    keypoint_scores: list[list[float]] = []
    inferred: list[list[bool]] = []
    viz_id: int = 0
    viz_name: str = ""
    error: str = ""


def describe_image(
    path: Path | str, found: Poses | str, fields: Mapping[str, Any]
) -> dict[str, Any]:
    """One entry of `images`.

    Args:
        path: The image file, or its address.
        found: The people in it, or why it could not be read.
        fields: What the input says of the image.
    """
    own = {key: value for key, value in fields.items() if key not in _RESULT_KEYS}
    result = found.to_dict() if isinstance(found, Poses) else {"error": found}
    return own | {"full_image_path": path if isinstance(path, str) else path.as_posix()} | result


def write_detections(
    path: Path,
    skeleton: Skeleton,
    spec: InferenceSpec,
    images: Sequence[Mapping[str, Any]],
    fields: Mapping[str, Any] | None = None,
) -> None:
    """Write the file at once.

    Args:
        path: Where to.
        skeleton: The joints and limbs of all poses.
        spec: How the poses were found.
        images: Entries of `describe_image`.
        fields: The input JSON's own keys; those of this schema are replaced.

    Raises:
        BodyPoseNetError: The file cannot be written.
    """
    document = {
        **(fields or {}),
        **skeleton.to_pose_configuration(),
        "keypoint_names": list(skeleton.joints),
        "inference_spec": spec.model_dump(),
        "images": list(images),
    }
    write_json(path, document)


def pictures_of(entries: Iterable[Mapping[str, Any]]) -> set[str]:
    """File names of the pictures of `images` entries."""
    return {picture for entry in entries if (picture := picture_of(entry))}


def picture_of(entry: Mapping[str, Any]) -> str:
    """File name of an entry's picture, empty if there is none.

    Files of versions before 0.2 name pictures by `viz_id` alone.
    """
    if "viz_name" in entry:
        return str(entry["viz_name"])
    return f"{entry['viz_id']}.png" if "viz_id" in entry else ""


def read_pictures(path: Path) -> set[str]:
    """File names of the pictures that a former run listed; empty if there is no such file.

    Args:
        path: The `detections.json` of that run.
    """
    try:
        return pictures_of(read_json(path)["images"])
    except (BodyPoseNetError, KeyError, TypeError):  # none, or not one of ours
        return set()


ImageFormat = Literal["png", "jpg", "webp"]

_ENCODING: dict[str, Sequence[int]] = {
    # Without compression: photos become 1.7 times as large, and are encoded 5 times as fast.
    ".png": (
        cv2.IMWRITE_PNG_COMPRESSION, 0, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE,
    ),
    ".jpg": (cv2.IMWRITE_JPEG_QUALITY, 92),
    ".webp": (cv2.IMWRITE_WEBP_QUALITY, 85),
}  # fmt: skip
"""Extension of a picture -> parameters of its encoder."""


class ImageItem(NamedTuple):
    """One image to work on.

    Args:
        number: Its place in the input, from 0.
        image: The file and what the input says of it.
        picture: File name of its annotated picture; the extension sets the format.
    """

    number: int
    image: ImageEntry
    picture: str


def image_items(
    images: Sequence[ImageEntry], image_format: ImageFormat = "png", *, numbered: bool = False
) -> list[ImageItem]:
    """Number the images and name their pictures.

    A picture is named after its image: `a.jpg` gives `a.png`. If several images share a name
    (`a.jpg` and `a.png`, or images of several folders; upper and lower case count as equal), the
    second one gives `a_2.png`, and so on.

    Args:
        images: In the order of the input.
        image_format: Extension of the pictures.
        numbered: Name the pictures by the images' numbers, as TAO does: `0.png`.
    """
    if numbered:
        return [ImageItem(k, image, f"{k}.{image_format}") for k, image in enumerate(images)]
    taken = {image.path.stem.casefold() for image in images}
    given: dict[str, int] = {}
    items = []
    for number, image in enumerate(images):
        stem = image.path.stem
        count = given.get(stem.casefold(), 0) + 1
        name = stem
        while count > 1:
            name = f"{stem}_{count}"
            if name.casefold() not in taken:
                break
            count += 1
        given[stem.casefold()] = count
        taken.add(name.casefold())
        items.append(ImageItem(number, image, f"{name}.{image_format}"))
    return items


class _KeptEntry(StoredResult):
    """An entry of detections.json, and what its picture is known by."""

    entry: detections.DetectionsEntry
    picture: list[int] | None


@dataclass(frozen=True)
class DetectionJob:
    """Detects the people in images, and draws them; see `scale.executor.ResumableJob`.

    Args:
        drawings: Folder that receives the pictures; it must exist. None: nothing is drawn.
        batch: Images that the network gets at once.
    """

    drawings: Path | None = None
    batch: int = 1

    def pipeline(self, predictor: Predictor) -> Pipeline[ImageItem, dict[str, Any]]:
        """The pipeline from images to their entries in detections.json."""
        threshold = predictor.spec.display_score_threshold

        def finish(item: ImageItem, pixels: NDArray[np.uint8], poses: Poses) -> dict[str, Any]:
            entry = detections.describe_image(item.image.name, poses, item.image.fields)
            if self.drawings is None:
                return entry
            picture = draw(pixels, poses, score_threshold=threshold)
            _write_picture(self.drawings / item.picture, picture)
            return entry | {"viz_id": item.number, "viz_name": item.picture}

        return Pipeline(predictor, _read, finish, _skip, batch=self.batch)

    def describe(self) -> dict[str, Any]:
        """That people are found, and whether they are drawn."""
        return {"finds": "people in images", "draws": self.drawings is not None}

    def key(self, item: ImageItem) -> str:
        """The file, and what else stands in the entry."""
        image = item.image
        more = [item.number, item.picture] if self.drawings else []
        return json.dumps([image.name, file_fingerprint(image.path), dict(image.fields), *more])

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
        picture = detections.picture_of(entry)
        return file_fingerprint(self.drawings / picture) if self.drawings and picture else None


def clear_pictures(drawings: Path, entries: Sequence[Mapping[str, Any]], former: Set[str]) -> None:
    """Remove the pictures that the former detections.json listed and this one does not.

    Args:
        drawings: Their folder.
        entries: Of the present detections.json.
        former: File names that the former one listed.
    """
    ours = detections.pictures_of(entries)
    present = {file.name: file for file in drawings.glob("*")}
    stale = [present[name] for name in sorted(former - ours) if name in present]
    for file in stale:
        file.unlink(missing_ok=True)
    if stale:
        logger.info("%s: removed %d pictures of the former run", drawings, len(stale))
    if unknown := len(present) - len(stale) - len(ours & present.keys()):
        logger.info("%s: %d other files are left as they are", drawings, unknown)


def _read(item: ImageItem) -> NDArray[np.uint8]:
    return to_pixels(item.image.address or item.image.path)


def _skip(item: ImageItem, error: BodyPoseNetError) -> dict[str, Any]:
    logger.warning("skipped: %s", mask_passwords(str(error)))
    problem = mask_passwords(error.what)
    return detections.describe_image(item.image.name, problem, item.image.fields)


def _write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    pixels = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    encoded = cv2.imencode(path.suffix, pixels, _ENCODING[path.suffix])[1]
    with atomic_write(path, make_folder=False) as file:
        file.write(encoded.data)
