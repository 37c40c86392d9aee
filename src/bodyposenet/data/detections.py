"""Read files of detections: the people that a model detected in the images of a dataset.

Supported formats are the detections.json of bpnet and TAO, and results in COCO's format.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bodyposenet.console import logger
from bodyposenet.data.coco import CocoImage
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import read_json
from bodyposenet.skeleton import Skeleton

_FORMATS = "Use a detections.json of bpnet inference or evaluate, or results in COCO's format."

_BACKGROUND = "background"
"""Last name in TAO's list of joints."""


class ImageDetections(NamedTuple):
    """Detections of a model in one image.

    Args:
        keypoints: (N, D, 2) float64, the dataset's D joints in image pixels; NaN where missing.
        scores: (N,) float64, one per person: `scores` of a detections.json (between 0.375 and 1 for
            both decoders), or `score` of COCO's results, on any scale.
    """

    keypoints: NDArray[np.float64]
    scores: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Detections:
    """Detections in the images of a dataset.

    Args:
        by_image: Detections by image id.
        skipped: Counts of skipped detections and images by reason.
    """

    by_image: dict[int, ImageDetections]
    skipped: Counter[str]


def read_detections(path: Path, images: Sequence[CocoImage], joints: tuple[str, ...]) -> Detections:
    """Read the detections of a model in the images of a dataset.

    An entry is matched to an image by `image_id`; or else to the image whose whole `file_name` is
    the end of the entry's path; or else by the base name of the path, if it is unique among images
    and entries. An `image_id` next to a path with another base name is ignored, as it is the id of
    another dataset. A joint is missing if x and y are 0 or its score is 0 (COCO: the third number).

    Args:
        path: The detections.json, or results in COCO's format.
        images: Images of the dataset.
        joints: Names of the dataset's joints.

    Returns:
        Detections by image, and counts of what was skipped.

    Raises:
        BodyPoseNetError: The file cannot be read, has another format or invalid entries, or has no
            joint or no image in common with the dataset.
    """
    content = read_json(path, _FORMATS)
    if isinstance(content, list):
        read = partial(_parse_coco_result, joints=len(joints))
        return _collect(path, content, read, images)
    if isinstance(content, dict) and isinstance(content.get("images"), list):
        names = _joint_names(path, content)
        columns = _match_joints(path, names, joints)
        read = partial(_parse_entry, columns=columns, joints=len(names))
        return _collect(path, content["images"], read, images)
    raise BodyPoseNetError(f"{path}: not a file of detections", _FORMATS)


def _collect(
    path: Path,
    entries: list[Any],
    parse: Callable[[Mapping[str, Any]], ImageDetections],
    images: Sequence[CocoImage],
) -> Detections:
    """Parse all entries with a function for one of them, and group the detections by image."""
    skipped: Counter[str] = Counter()
    parts: dict[int, list[ImageDetections]] = {}
    index = _ImageIndex(images, entries)
    for number, entry in enumerate(entries):
        try:
            if not isinstance(entry, dict):
                raise ValueError(f"expected an object, got {entry!r:.60}")
            detections, image = parse(entry), index.find(entry)
            if image is None:
                skipped["detections in images that are not annotated"] += len(detections.scores)
                continue
            if "scores" in entry and image.image_id in parts:
                raise ValueError(f"repeated image {image.file_name}")
        except ValueError as error:
            problem = f"{path}: invalid entry {number} (counted from 0): {error}"
            raise BodyPoseNetError(problem, _FORMATS) from error
        skipped["images that the model could not read"] += "error" in entry
        parts.setdefault(image.image_id, []).append(detections)
    if not parts:
        raise _no_common_image(path, entries, images)
    by_image = {image_id: _concatenate(detections) for image_id, detections in parts.items()}
    return Detections(by_image, skipped)


def _concatenate(parts: list[ImageDetections]) -> ImageDetections:
    """Concatenate the detections of several entries in one image."""
    if len(parts) == 1:
        return parts[0]
    keypoints, scores = zip(*parts, strict=True)
    return ImageDetections(np.concatenate(keypoints), np.concatenate(scores))


def _no_common_image(
    path: Path, entries: Sequence[Mapping[str, Any]], images: Sequence[CocoImage]
) -> BodyPoseNetError:
    """Create an error about a file without detections in annotated images."""
    if not entries:
        return BodyPoseNetError(f"{path}: the file has no detections", _FORMATS)
    first = _image_path(entries[0]) or f"image_id {entries[0].get('image_id')!r}"
    annotated = f"{images[0].file_name} (id {images[0].image_id})" if images else "no image"
    return BodyPoseNetError(
        f"{path}: none of its images is annotated; its first image is {first}, that of the "
        f"annotations is {annotated}",
        "Run the model on the images of this dataset and mode (-m).",
    )


def _joint_names(path: Path, content: Mapping[str, Any]) -> list[str]:
    """Return the joint names of a detections.json, from `keypoint_names` (TAO: a category)."""
    try:
        names = content.get("keypoint_names") or content["categories"][0]["keypoints"]
    except (IndexError, KeyError, TypeError):
        names = None
    if not isinstance(names, list):
        raise BodyPoseNetError(
            f"{path}: missing joint names: neither `keypoint_names` nor keypoints of a category",
            _FORMATS,
        )
    return names[:-1] if names[-1:] == [_BACKGROUND] else names


def _match_joints(path: Path, names: list[str], joints: tuple[str, ...]) -> NDArray[np.int64]:
    """Return (D,) int64, the index of each joint of the dataset in the file, or -1."""
    found = Skeleton("", tuple(map(str, names)), ()).match(joints)
    columns = np.array([-1 if index is None else index for index in found])
    missing = [joint for joint, column in zip(joints, columns, strict=True) if column < 0]
    if len(missing) == len(joints):
        raise BodyPoseNetError(
            f"{path}: joints ({', '.join(map(str, names))}) have no name in common with the "
            f"dataset's ({', '.join(joints)})",
            "Rename the keypoints in `categories` of the dataset spec as in the model.",
        )
    if missing:
        logger.warning("%s: the model does not have these joints: %s", path, ", ".join(missing))
    return columns


def _parse_entry(
    entry: Mapping[str, Any], columns: NDArray[np.int64], joints: int
) -> ImageDetections:
    """Parse the entry of an image in a detections.json with this many joints."""
    scores = [] if "error" in entry else entry.get("scores")
    if not isinstance(scores, list):
        raise ValueError("scores must be a list of numbers, one per person")
    people = len(scores)
    if not people:
        return ImageDetections(np.empty((0, len(columns), 2)), np.empty(0))
    points = _parse_numbers(entry, "keypoints", people, joints, 2)
    points[~points.any(axis=2)] = np.nan
    if "keypoint_scores" in entry:
        points[_parse_numbers(entry, "keypoint_scores", people, joints) <= 0] = np.nan
    keypoints = np.where(columns[:, None] < 0, np.nan, points[:, columns])
    return ImageDetections(keypoints, _parse_numbers(entry, "scores", people))


def _parse_coco_result(entry: Mapping[str, Any], joints: int) -> ImageDetections:
    """Parse a person in COCO's result format."""
    if type(entry.get("image_id")) is not int:
        raise ValueError(f"image_id must be an integer, got {entry.get('image_id')!r}")
    triples = _parse_numbers(entry, "keypoints", 3 * joints).reshape(1, joints, 3)
    points, scores = triples[..., :2], triples[..., 2]
    points[(scores <= 0) | ~points.any(axis=2)] = np.nan
    return ImageDetections(points, _parse_numbers(entry, "score").reshape(1))


def _parse_numbers(entry: Mapping[str, Any], key: str, *shape: int) -> NDArray[np.float64]:
    """Return finite numbers of an entry as an array of this shape."""
    try:
        values = np.asarray(entry.get(key))
    except ValueError:  # lists of different lengths
        values = np.array(None)
    if values.dtype.kind not in "iuf" or values.shape != shape:
        expected = f"{' x '.join(map(str, shape))} numbers" if shape else "a number"
        raise ValueError(f"{key} must be {expected}")
    if not np.isfinite(values).all():
        raise ValueError(f"{key} has a value that is not finite")
    return values.astype(np.float64)


def _image_path(entry: Mapping[str, Any]) -> str:
    """Return the image path of an entry, or an empty string."""
    path = entry.get("full_image_path", entry.get("file_name"))
    return _normalized_path(path) if isinstance(path, str) else ""


def _normalized_path(path: str) -> str:
    """Return a path with slashes, without `.` and `..`."""
    return posixpath.normpath(path.replace("\\", "/"))


class _ImageIndex:
    """Index of a dataset's images by id, path and base name, see `read_detections`.

    Args:
        images: Images of the dataset.
        entries: All entries of the file.
    """

    def __init__(self, images: Sequence[CocoImage], entries: Iterable[Any]) -> None:
        paths = (_image_path(entry) for entry in entries if isinstance(entry, dict))
        base_names_in_file = Counter(map(posixpath.basename, paths))
        self._by_id = {image.image_id: image for image in images}
        self._by_name = {_normalized_path(image.file_name): image for image in images}
        base_names = Counter(map(posixpath.basename, self._by_name))
        self._by_base_name = {
            base: image
            for name, image in self._by_name.items()
            if base_names[base := posixpath.basename(name)] == 1 and base_names_in_file[base] == 1
        }

    def find(self, entry: Mapping[str, Any]) -> CocoImage | None:
        """Find the image of an entry; None if it is not in the dataset."""
        path, image_id = _image_path(entry), entry.get("image_id")
        base = posixpath.basename(path)
        image = self._by_id.get(image_id) if type(image_id) is int else None
        if image and (not path or posixpath.basename(_normalized_path(image.file_name)) == base):
            return image
        parts = path.split("/")
        endings = ("/".join(parts[start:]) for start in range(len(parts)))
        return next(
            (self._by_name[name] for name in endings if name in self._by_name),
            self._by_base_name.get(base),
        )
