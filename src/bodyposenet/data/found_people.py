"""A file of people that a model found in, the found people of each annotated image out.

The file is a `detections.json` of `bpnet inference`, `bpnet evaluate` or TAO, whose joints are
taken by name; or a list in COCO's result format, whose joints are the dataset's, in its order.
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

_FORMATS = "Give a detections.json of bpnet inference or evaluate, or results in COCO's format."

_BACKGROUND = "background"
"""TAO's list of joints ends with it."""


class FoundPeople(NamedTuple):
    """The people that a model found in one image.

    Args:
        keypoints: (F, D, 2) float64, the dataset's D joints in image pixels; NaN where missing.
        scores: (F,) float64, one per person, higher is surer: `scores` of a detections.json (0.375
            to 1 from our decoder and TAO's), `score` of COCO's results, as the model gives it.
    """

    keypoints: NDArray[np.float64]
    scores: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Detections:
    """What a file of found people holds.

    Args:
        of_image: Image id -> the people found there.
        left_out: What was not used -> how often.
    """

    of_image: dict[int, FoundPeople]
    left_out: Counter[str]


def read_detections(path: Path, images: Sequence[CocoImage], joints: tuple[str, ...]) -> Detections:
    """Read the people that a model found in the images of a dataset.

    An entry belongs to the image of its `image_id`; or else to the one whose whole `file_name` its
    path ends with; or else to the one of the same base name, where no other image or entry has it.
    An `image_id` beside a path of another base name is another dataset's and does not count. A
    joint is missing where x and y are 0, or where its score is (COCO: its third number).

    Args:
        path: The file.
        images: The images of the dataset.
        joints: The joints that the dataset labels.

    Raises:
        BodyPoseNetError: The file cannot be read, has another format or broken entries, or no
            joint or no image in common with the dataset.
    """
    content = read_json(path, _FORMATS)
    if isinstance(content, list):
        read = partial(_read_result, joints=len(joints))
        return _collect(path, content, read, images)
    if isinstance(content, dict) and isinstance(content.get("images"), list):
        names = _joint_names(path, content)
        columns = _match_joints(path, names, joints)
        read = partial(_read_entry, columns=columns, joints=len(names))
        return _collect(path, content["images"], read, images)
    raise BodyPoseNetError(f"{path}: is no file of found people", _FORMATS)


def _collect(
    path: Path,
    entries: list[Any],
    read: Callable[[Mapping[str, Any]], FoundPeople],
    images: Sequence[CocoImage],
) -> Detections:
    """Read all entries, and give them to their images."""
    left_out: Counter[str] = Counter()
    pieces: dict[int, list[FoundPeople]] = {}
    index = _ImageIndex(images, entries)
    for number, entry in enumerate(entries):
        try:
            if not isinstance(entry, dict):
                raise ValueError(f"is no object: {entry!r:.60}")
            people, image = read(entry), index.find(entry)
            if image is None:
                unlisted = len(people.scores)
                left_out["found people of images that the annotations do not list"] += unlisted
                continue
            if "scores" in entry and image.image_id in pieces:
                raise ValueError(f"an earlier entry is of the image {image.file_name} too")
        except ValueError as error:
            problem = f"{path}: entry {number} (counted from 0) cannot be used: {error}"
            raise BodyPoseNetError(problem, _FORMATS) from error
        left_out["images that the model could not read"] += "error" in entry
        pieces.setdefault(image.image_id, []).append(people)
    if not pieces:
        raise _nothing_in_common(path, entries, images)
    return Detections({image_id: _join(found) for image_id, found in pieces.items()}, left_out)


def _join(pieces: list[FoundPeople]) -> FoundPeople:
    if len(pieces) == 1:
        return pieces[0]
    keypoints, scores = zip(*pieces, strict=True)
    return FoundPeople(np.concatenate(keypoints), np.concatenate(scores))


def _nothing_in_common(
    path: Path, entries: Sequence[Mapping[str, Any]], images: Sequence[CocoImage]
) -> BodyPoseNetError:
    if not entries:
        return BodyPoseNetError(f"{path}: nobody was found in any image", _FORMATS)
    named = _path_of(entries[0]) or f"image_id {entries[0].get('image_id')!r}"
    listed = f"{images[0].file_name} (id {images[0].image_id})" if images else "no image"
    return BodyPoseNetError(
        f"{path}: none of its images is in the annotations; it begins with {named}, they with "
        f"{listed}",
        "Find the people in the images of this dataset and of this mode (-m).",
    )


def _joint_names(path: Path, content: Mapping[str, Any]) -> list[str]:
    """The joints of a detections.json; ours names them apart, TAO's in its category."""
    try:
        names = content.get("keypoint_names") or content["categories"][0]["keypoints"]
    except (IndexError, KeyError, TypeError):
        names = None
    if not isinstance(names, list):
        raise BodyPoseNetError(f"{path}: has neither `keypoint_names` nor a category's", _FORMATS)
    return names[:-1] if names[-1:] == [_BACKGROUND] else names


def _match_joints(path: Path, names: list[str], joints: tuple[str, ...]) -> NDArray[np.int64]:
    """(D,) where each joint of the dataset stands among the names of the file, or -1."""
    columns = np.array([names.index(joint) if joint in names else -1 for joint in joints])
    lacking = [joint for joint, column in zip(joints, columns, strict=True) if column < 0]
    if len(lacking) == len(joints):
        raise BodyPoseNetError(
            f"{path}: its joints ({', '.join(map(str, names))}) are none of the dataset's "
            f"({', '.join(joints)})",
            "Give the joints of the dataset spec's category the names that the model has.",
        )
    if lacking:
        logger.warning("%s: has no %s: unlabelled in found people", path, ", ".join(lacking))
    return columns


def _read_entry(entry: Mapping[str, Any], columns: NDArray[np.int64], joints: int) -> FoundPeople:
    """The people of one image of a detections.json, which has so many joints."""
    scores = [] if "error" in entry else entry.get("scores")
    if not isinstance(scores, list):
        raise ValueError("scores must be a list, a number per person")
    people = len(scores)
    if not people:
        return FoundPeople(np.empty((0, len(columns), 2)), np.empty(0))
    points = _numbers(entry, "keypoints", people, joints, 2)
    points[~points.any(axis=2)] = np.nan
    if "keypoint_scores" in entry:
        points[_numbers(entry, "keypoint_scores", people, joints) <= 0] = np.nan
    keypoints = np.where(columns[:, None] < 0, np.nan, points[:, columns])
    return FoundPeople(keypoints, _numbers(entry, "scores", people))


def _read_result(entry: Mapping[str, Any], joints: int) -> FoundPeople:
    """One person in COCO's result format."""
    if type(entry.get("image_id")) is not int:
        raise ValueError(f"image_id must be a whole number, not {entry.get('image_id')!r}")
    triples = _numbers(entry, "keypoints", 3 * joints).reshape(1, joints, 3)
    points, scores = triples[..., :2], triples[..., 2]
    points[(scores <= 0) | ~points.any(axis=2)] = np.nan
    return FoundPeople(points, _numbers(entry, "score").reshape(1))


def _numbers(entry: Mapping[str, Any], key: str, *shape: int) -> NDArray[np.float64]:
    try:
        values = np.asarray(entry.get(key))
    except ValueError:  # lists of different lengths
        values = np.array(None)
    if values.dtype.kind not in "iuf" or values.shape != shape:
        expected = f"{' x '.join(map(str, shape))} numbers" if shape else "a number"
        raise ValueError(f"{key} must be {expected}")
    if not np.isfinite(values).all():
        raise ValueError(f"{key} holds a value that is no finite number")
    return values.astype(np.float64)


def _path_of(entry: Mapping[str, Any]) -> str:
    """The image's path in an entry; empty where there is none."""
    path = entry.get("full_image_path", entry.get("file_name"))
    return _slashed(path) if isinstance(path, str) else ""


def _slashed(path: str) -> str:
    return posixpath.normpath(path.replace("\\", "/"))


class _ImageIndex:
    """Finds the image that an entry is about; see `read_detections`.

    Args:
        images: The images of the dataset.
        entries: All entries of the file.
    """

    def __init__(self, images: Sequence[CocoImage], entries: Iterable[Any]) -> None:
        paths = (_path_of(entry) for entry in entries if isinstance(entry, dict))
        bases_in_file = Counter(map(posixpath.basename, paths))
        self._by_id = {image.image_id: image for image in images}
        self._by_name = {_slashed(image.file_name): image for image in images}
        bases = Counter(map(posixpath.basename, self._by_name))
        self._by_base = {
            base: image
            for name, image in self._by_name.items()
            if bases[base := posixpath.basename(name)] == 1 and bases_in_file[base] == 1
        }

    def find(self, entry: Mapping[str, Any]) -> CocoImage | None:
        """The image of an entry, or None."""
        path, image_id = _path_of(entry), entry.get("image_id")
        base = posixpath.basename(path)
        image = self._by_id.get(image_id) if type(image_id) is int else None
        if image and (not path or posixpath.basename(_slashed(image.file_name)) == base):
            return image
        parts = path.split("/")
        endings = ("/".join(parts[start:]) for start in range(len(parts)))
        return next(
            (self._by_name[name] for name in endings if name in self._by_name),
            self._by_base.get(base),
        )
