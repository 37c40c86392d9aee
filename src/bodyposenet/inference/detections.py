"""Detections in image files: the format `detections.json`, and the job that creates its entries.

`detections.json` has TAO's schema with a few more keys. The top level has the pose configuration
(`pose_config_type`, `categories`), `keypoint_names`, `inference_spec`, the input JSON's own keys,
and `images`. Each image has `full_image_path`, its own fields from the input, `width` and `height`
in pixels, `keypoints` (a list of [x, y] per person, [0, 0] for missing joints), `scores` (one per
person) and `keypoint_scores` (a list per person, 0 for missing joints). If poses were drawn, it has
`viz_id` (its index in the input) and `viz_name` (file name of the annotated picture). An image that
could not be read has `error` instead.
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
"""Keys of an entry that fields of the input JSON cannot override."""


class DetectionsEntry(BaseModel):
    """Schema of an entry of `images`; fields of the input JSON are allowed in addition."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)

    full_image_path: str
    width: int = 0
    height: int = 0
    keypoints: list[list[list[float]]] = []
    scores: list[float] = []
    keypoint_scores: list[list[float]] = []
    inferred: list[list[bool]] = []
    viz_id: int = 0
    viz_name: str = ""
    error: str = ""


def describe_image(
    path: Path | str,
    result: Poses | str,
    fields: Mapping[str, Any],
    size: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """Create an entry of `images`.

    Args:
        path: Path or URL of the image.
        result: Poses in the image, or the reason why it could not be read.
        fields: The image's own fields in the input JSON.
        size: Height and width of the image in pixels, in which the poses are given.
    """
    kept = {key: value for key, value in fields.items() if key not in _RESULT_KEYS}
    entry = kept | {"full_image_path": path if isinstance(path, str) else path.as_posix()}
    if size is not None:
        entry |= {"width": size[1], "height": size[0]}
    return entry | (result.to_dict() if isinstance(result, Poses) else {"error": result})


def write_detections(
    path: Path,
    skeleton: Skeleton,
    spec: InferenceSpec,
    images: Sequence[Mapping[str, Any]],
    fields: Mapping[str, Any] | None = None,
) -> None:
    """Write `detections.json`.

    Args:
        path: Path of the file.
        skeleton: Joints and limbs of all poses.
        spec: Inference spec of the poses.
        images: Entries from `describe_image`.
        fields: The input JSON's own keys at the top level. Keys of this schema are replaced.

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
    """Return the file names of the annotated pictures of entries."""
    return {picture for entry in entries if (picture := picture_of(entry))}


def picture_of(entry: Mapping[str, Any]) -> str:
    """Return the file name of an entry's annotated picture, or an empty text if there is none.

    Entries without `viz_name`, such as TAO's, have pictures that are named after `viz_id`.
    """
    if "viz_name" in entry:
        return str(entry["viz_name"])
    return f"{entry['viz_id']}.png" if "viz_id" in entry else ""


def read_pictures(path: Path) -> set[str]:
    """Return the file names of the annotated pictures in a `detections.json` of an earlier run.

    Args:
        path: Path of the `detections.json`. If it is missing or invalid, the result is empty.
    """
    try:
        return pictures_of(read_json(path)["images"])
    except (BodyPoseNetError, KeyError, TypeError):  # missing, or another schema
        return set()


ImageFormat = Literal["png", "jpg", "webp"]

_ENCODING: dict[str, Sequence[int]] = {
    # Uncompressed: 1.7 times the size for photos, but 5 times as fast.
    ".png": (
        cv2.IMWRITE_PNG_COMPRESSION, 0, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE,
    ),
    ".jpg": (cv2.IMWRITE_JPEG_QUALITY, 92),
    ".webp": (cv2.IMWRITE_WEBP_QUALITY, 85),
}  # fmt: skip
"""Parameters of OpenCV's encoder by extension of the picture."""


class ImageItem(NamedTuple):
    """An image and the name of its annotated picture.

    Args:
        number: Index in the input.
        image: The image.
        picture: File name of the annotated picture; the extension determines the format.
    """

    number: int
    image: ImageEntry
    picture: str


def image_items(
    images: Sequence[ImageEntry], image_format: ImageFormat = "png", *, numbered: bool = False
) -> list[ImageItem]:
    """Number the images and name their pictures.

    A picture is named after its image: `a.jpg` becomes `a.png`. If several images have the same
    name (`a.jpg` and `a.png`, or images of several folders; ignoring case), the second one becomes
    `a_2.png`, and so on.

    Args:
        images: Images in the order of the input.
        image_format: Extension of the pictures.
        numbered: Name the pictures by the index of the image as in TAO (`0.png`).
    """
    if numbered:
        return [ImageItem(k, image, f"{k}.{image_format}") for k, image in enumerate(images)]
    return [
        ImageItem(number, image, f"{stem}.{image_format}")
        for number, (image, stem) in enumerate(zip(images, unique_stems(images), strict=True))
    ]


def unique_stems(images: Sequence[ImageEntry]) -> list[str]:
    """Return the file names of images without extensions, made unique as in `image_items`."""
    taken = {image.path.stem.casefold() for image in images}
    counts: dict[str, int] = {}
    stems = []
    for stem in (image.path.stem for image in images):
        count = counts.get(stem.casefold(), 0) + 1
        name = stem
        while count > 1:
            name = f"{stem}_{count}"
            if name.casefold() not in taken:
                break
            count += 1
        counts[stem.casefold()] = count
        taken.add(name.casefold())
        stems.append(name)
    return stems


class _StoredEntry(StoredResult):
    """Stored result of an image: its entry, and the fingerprint of its annotated picture."""

    entry: DetectionsEntry
    picture: list[int] | None


@dataclass(frozen=True)
class DetectionJob:
    """Job that detects the people in images and draws them; see `parallel.executor.ResumableJob`.

    Args:
        drawings: Existing folder for the annotated pictures, or None to draw nothing.
        batch: Batch size.
    """

    drawings: Path | None = None
    batch: int = 1

    def pipeline(self, predictor: Predictor) -> Pipeline[ImageItem, dict[str, Any]]:
        """Create the pipeline from images to their entries in `detections.json`."""
        threshold = predictor.spec.display_score_threshold

        def finish(item: ImageItem, pixels: NDArray[np.uint8], poses: Poses) -> dict[str, Any]:
            """Draw the poses and create the entry."""
            entry = describe_image(item.image.name, poses, item.image.fields, pixels.shape[:2])
            if self.drawings is None:
                return entry
            picture = draw(pixels, poses, score_threshold=threshold)
            _write_picture(self.drawings / item.picture, picture)
            return entry | {"viz_id": item.number, "viz_name": item.picture}

        return Pipeline(predictor, _read, finish, _skip, batch=self.batch)

    def describe(self) -> dict[str, Any]:
        """Return the kind of the job and whether it draws pictures, for the manifest."""
        return {"finds": "people in images", "draws": self.drawings is not None}

    def key(self, item: ImageItem) -> str:
        """Return the name and fingerprint of the file, and all else that the entry depends on."""
        image = item.image
        more = [item.number, item.picture] if self.drawings else []
        return json.dumps([image.name, file_fingerprint(image.path), dict(image.fields), *more])

    def store(self, result: dict[str, Any]) -> dict[str, Any]:
        """Return the entry and the fingerprint of its picture."""
        return {"entry": result, "picture": self._picture_fingerprint(result)}

    def restore(self, stored: dict[str, Any]) -> dict[str, Any]:
        """Return the entry of a stored result."""
        _StoredEntry.check(stored)
        return stored["entry"]

    def is_done(self, stored: dict[str, Any]) -> bool:
        """Return whether the entry is complete and its picture is unchanged.

        It is not if the image could not be read, or if an earlier version stored it, without size.
        """
        _StoredEntry.check(stored)
        entry = stored["entry"]
        if "error" in entry or not {"width", "height"} <= entry.keys():
            return False
        return stored["picture"] == self._picture_fingerprint(entry)

    def _picture_fingerprint(self, entry: dict[str, Any]) -> list[int] | None:
        """Return the fingerprint of an entry's picture, or None if there is none."""
        picture = picture_of(entry)
        return file_fingerprint(self.drawings / picture) if self.drawings and picture else None


def clear_pictures(drawings: Path, entries: Sequence[Mapping[str, Any]], earlier: Set[str]) -> None:
    """Remove annotated pictures of an earlier run that the current run did not write.

    Args:
        drawings: Folder of the pictures.
        entries: Entries of the current `detections.json`.
        earlier: File names in the earlier `detections.json`; see `read_pictures`.
    """
    current = pictures_of(entries)
    present = {file.name: file for file in drawings.glob("*")}
    stale = [present[name] for name in sorted(earlier - current) if name in present]
    for file in stale:
        file.unlink(missing_ok=True)
    if stale:
        logger.info("%s: removed %d pictures of an earlier run", drawings, len(stale))
    if unknown := len(present) - len(stale) - len(current & present.keys()):
        logger.info("%s: kept %d other files", drawings, unknown)


def _read(item: ImageItem) -> NDArray[np.uint8]:
    """Read or download an image."""
    return to_pixels(item.image.address or item.image.path)


def _skip(item: ImageItem, error: BodyPoseNetError) -> dict[str, Any]:
    """Log the error of an image that cannot be read, and create its entry."""
    logger.warning("skipped: %s", mask_passwords(str(error)))
    problem = mask_passwords(error.what)
    return describe_image(item.image.name, problem, item.image.fields)


def _write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    """Encode a picture in the format of its extension and write it."""
    pixels = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    encoded = cv2.imencode(path.suffix, pixels, _ENCODING[path.suffix])[1]
    with atomic_write(path, make_folder=False) as file:
        file.write(encoded.data)
