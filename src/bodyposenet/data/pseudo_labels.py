"""Annotated images and people that a model found in; images with those people added out.

A found person that overlaps no annotated one becomes labels where the model is sure, and a region
that masks leave out where it is not: so photos train rightly although people are not annotated.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bodyposenet.console import logger
from bodyposenet.data.coco import CocoImage
from bodyposenet.data.regions import Region, rasterize_regions
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import read_json
from bodyposenet.specs.dataset import DatasetSpec
from bodyposenet.types import Person

_LEAST_KEYPOINTS = 2
"""A box needs two points."""

_MARGIN = 0.1
"""Boxes reach farther than keypoints, by this share of their larger side; so in COCO's people."""

_SAME_IOU = 0.5
"""Boxes that overlap so much are of one person."""

# On COCO's annotated people, taken for found ones: 2 in 100 are not known again, whole or their
# upper bodies only, and 8 in 100 are taken for a neighbor. With half of the keypoints inside it is
# 1 and 14; with a quarter of the size, 16 in 100 upper bodies are not known again.
_LEAST_INSIDE = 0.7
"""A found person with this share of its keypoints in the box of another is the same ..."""

_LEAST_SIZE = 0.1
"""... unless its own box is smaller than this share of that one: a child before an adult."""

# Many people are annotated in part, such as the head above a counter, and a model completes them:
# then neither the boxes overlap enough nor do enough keypoints lie within.
_SAME_DISTANCE = 0.1
"""The same where the median distance of common keypoints is at most this share of its side."""


@dataclass(frozen=True)
class PseudoLabelOptions:
    """What becomes of found people.

    Args:
        high: People of at least this score become labels.
        low: People of at least this score, but less than `high`, become masked regions.
        flag: The dataset's visibility flag of the found keypoints.
    """

    high: float
    low: float
    flag: int

    @classmethod
    def from_spec(cls, spec: DatasetSpec, high: float, low: float) -> PseudoLabelOptions:
        """With the dataset's flag of visible keypoints, or else of keypoints that are labelled.

        Raises:
            BodyPoseNetError: The dataset has no such flag.
        """
        flags = spec.visibility_flags.classes()
        labelled = sorted((kind, flag) for flag, kind in flags.items() if kind.is_labelled)
        if not labelled:
            spec.fail("visibility_flags", "no flag is mapped to visible", "Found people need one.")
        return cls(high, low, flag=labelled[0][1])


class Added(NamedTuple):
    """Images with found people among their own.

    Args:
        images: The images.
        done: What was made of found people -> of how many.
        skipped: What was made nothing of, and why -> how often.
    """

    images: list[CocoImage]
    done: Counter[str]
    skipped: Counter[str]


def add_pseudo_labels(
    images: Sequence[CocoImage], found: Mapping[int, ImageDetections], labelling: PseudoLabelOptions
) -> Added:
    """Add found people behind the annotated ones of their images, the surest first.

    Nothing is made of a found person that is annotated already, or is the same as a surer found
    one, or lies in a crowd (70 % of its keypoints). It is the same as another person if the IoU of
    their boxes is 0.5, or if 70 % of its keypoints lie in that box and its own is not far smaller
    (a tenth of the area): a child before an adult is somebody else. It is also the same as an
    annotated person whose keypoints are close to its own: the median distance of those that both
    have is at most a tenth of the longer side of its box.

    But where an annotated person without keypoints has that IoU with a found one that is sure, and
    that is the same as no other, it takes over those keypoints instead of being masked.

    Args:
        images: The images of the dataset.
        found: Image id -> the people found there.
        labelling: What becomes of them.

    Returns:
        The images in their order. Added people have `is_pseudo`, a box around their keypoints, its
        area and a negative annotation id; a masked region is a crowd.

    Raises:
        BodyPoseNetError: The segmentation of a crowd region is broken.
    """
    added = Added([], Counter(), Counter())
    least_id = min((p.annotation_id for image in images for p in image.persons), default=0)
    ids = count(min(least_id, 0) - 1, -1)
    for image in images:
        if image.image_id in found:
            candidates = _candidates(image, found[image.image_id], labelling.low, added.skipped)
            persons = _add_candidates(image, candidates, labelling, ids, added)
            image = replace(image, persons=persons)
        added.images.append(image)
    return added


@dataclass(frozen=True, eq=False)
class _Candidates:
    """The found people of an image that something may become of, the surest first.

    Args:
        points: (F, D, 2) float64, NaN where a joint is missing or outside of the image.
        boxes: (F, 4) float64, left, top, right, bottom.
        scores: (F,) float64.
    """

    points: NDArray[np.float64]
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]


def _candidates(
    image: CocoImage, found: ImageDetections, low: float, skipped: Counter[str]
) -> _Candidates:
    size = np.array([image.width, image.height], np.float64)
    points = found.keypoints
    inside = ((points >= -0.5) & (points <= size - 0.5)).all(axis=2, keepdims=True)
    points = np.where(inside, points, np.nan)
    is_likely = found.scores >= low
    is_whole = inside.sum(axis=(1, 2)) >= _LEAST_KEYPOINTS
    torn = int((is_likely & ~is_whole).sum())
    skipped["found people of a score below --pseudo_score_low"] += int((~is_likely).sum())
    skipped["found people without two keypoints in their image"] += torn
    chosen = np.flatnonzero(is_likely & is_whole)
    chosen = chosen[np.argsort(-found.scores[chosen], kind="stable")]
    return _Candidates(points[chosen], _boxes(points[chosen], size), found.scores[chosen])


def _boxes(points: NDArray[np.float64], size: NDArray[np.float64]) -> NDArray[np.float64]:
    """Boxes around keypoints, larger by `_MARGIN`, cut off at the image's border."""
    if not len(points):
        return np.empty((0, 4))
    low, high = np.nanmin(points, axis=1), np.nanmax(points, axis=1)
    margin = _MARGIN * (high - low).max(axis=1, keepdims=True)
    return np.hstack([(low - margin).clip(0, size), (high + margin).clip(0, size)])


def _add_candidates(
    image: CocoImage,
    candidates: _Candidates,
    labelling: PseudoLabelOptions,
    ids: Iterator[int],
    added: Added,
) -> tuple[Person, ...]:
    """The people of an image, with what became of its candidates."""
    persons, accepted = list(image.persons), []
    matches, is_known = _compare(image, candidates)
    is_twice = _same_people(candidates.points, candidates.boxes, candidates.boxes)
    for index, (points, box) in enumerate(zip(candidates.points, candidates.boxes, strict=True)):
        is_sure = candidates.scores[index] >= labelling.high
        if is_sure and matches[index].any():
            match = int(matches[index].argmax())
            matches[:, match] = 0
            persons[match] = _label(persons[match], points, labelling.flag)
            added.done["annotated people labelled by found keypoints"] += 1
        elif is_known[index] or is_twice[index, accepted].any():
            added.skipped["found people that annotated or surer found ones overlap"] += 1
        else:
            accepted.append(index)
            person = _masked_region(box, len(points), next(ids))
            persons.append(_label(person, points, labelling.flag) if is_sure else person)
            added.done["found people made " + ("labels" if is_sure else "masked regions")] += 1
    return tuple(persons)


def _masked_region(box: NDArray[np.float64], joints: int, annotation_id: int) -> Person:
    """A found person without keypoints; as a crowd, it is masked but where somebody is labelled."""
    left, top, right, bottom = box.tolist()
    width, height = right - left, bottom - top
    return Person(
        keypoints=np.zeros((joints, 3)),
        box=(left, top, width, height),
        area=width * height,
        is_crowd=True,
        segmentation=None,
        num_keypoints=0,
        annotation_id=annotation_id,
        is_pseudo=True,
    )


def _label(person: Person, points: NDArray[np.float64], flag: int) -> Person:
    """The person with found keypoints."""
    found = ~np.isnan(points[:, 0])
    keypoints = np.zeros((len(points), 3))
    keypoints[found] = np.column_stack([points[found], np.full(found.sum(), flag)])
    labelled = int(found.sum())
    return replace(
        person, keypoints=keypoints, num_keypoints=labelled, is_crowd=False, is_pseudo=True
    )


def _compare(
    image: CocoImage, candidates: _Candidates
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Compare found people with the annotated ones of their image.

    Returns:
        (F, A) IoU where the annotated person has no keypoints and may take over the found ones, or
        else 0; and (F,) whether the found person is annotated, with keypoints or without.
    """
    others = np.array([person.box for person in image.persons], np.float64).reshape(-1, 4)
    others[:, 2:] += others[:, :2]
    is_crowd = np.array([person.is_crowd for person in image.persons], bool)
    has_keypoints = np.array([person.num_keypoints > 0 for person in image.persons], bool)
    is_same = _same_people(candidates.points, candidates.boxes, others)
    is_same = (is_same | _same_keypoints(image, candidates)) & ~is_crowd
    in_crowd = _in_crowds(image, candidates.points)
    ious = _ious(candidates.boxes, others)
    is_free = ~in_crowd & ~(is_same & has_keypoints).any(axis=1)
    may_match = is_free[:, None] & ~is_crowd & ~has_keypoints & (ious >= _SAME_IOU)
    return np.where(may_match, ious, 0), in_crowd | is_same.any(axis=1)


def _same_people(
    points: NDArray[np.float64], boxes: NDArray[np.float64], others: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """(F, A) whether a found person is the one of another box; see `add_pseudo_labels`.

    Args:
        points: (F, D, 2) keypoints of the found people, NaN where missing.
        boxes: (F, 4) left, top, right, bottom of the found people.
        others: (A, 4) the same of the others.
    """
    at = points[:, None]
    inside = (at >= others[:, None, :2]) & (at <= others[:, None, 2:])
    share = inside.all(axis=3).sum(axis=2) / (~np.isnan(at[..., 0])).sum(axis=2)
    is_large = _areas(boxes)[:, None] >= _LEAST_SIZE * _areas(others)
    return (_ious(boxes, others) >= _SAME_IOU) | (share >= _LEAST_INSIDE) & is_large


def _same_keypoints(image: CocoImage, candidates: _Candidates) -> NDArray[np.bool_]:
    """(F, A) whether a found person has its keypoints where an annotated one has them."""
    same = np.zeros((len(candidates.points), len(image.persons)), bool)
    sides = (candidates.boxes[:, 2:] - candidates.boxes[:, :2]).max(axis=1, initial=0)
    for index, person in enumerate(image.persons):
        points = person.keypoints[:, :2]
        distances = np.linalg.norm(candidates.points - points, axis=2)
        distances[:, ~points.any(axis=1)] = np.nan  # not labelled
        for found in np.flatnonzero(~np.isnan(distances).all(axis=1)):
            same[found, index] = np.nanmedian(distances[found]) <= _SAME_DISTANCE * sides[found]
    return same


def _ious(boxes: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """(F, A) intersection over union."""
    low = np.maximum(boxes[:, None, :2], others[:, :2])
    high = np.minimum(boxes[:, None, 2:], others[:, 2:])
    both = (high - low).clip(0).prod(axis=2)
    either = _areas(boxes)[:, None] + _areas(others) - both
    return both / np.maximum(either, np.finfo(np.float64).tiny)


def _areas(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)


def _in_crowds(image: CocoImage, points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(F,) whether a found person lies in crowds."""
    crowds = [Region.from_person(person) for person in image.persons if person.is_crowd]
    if not crowds or not len(points):
        return np.zeros(len(points), bool)
    region = rasterize_regions(crowds, image.height, image.width)
    found = ~np.isnan(points[..., 0])
    x, y = np.moveaxis(np.where(found[..., None], points, 0).round().astype(int), -1, 0)
    x, y = x.clip(0, image.width - 1), y.clip(0, image.height - 1)
    return (region[y, x] & found).sum(axis=1) >= _LEAST_INSIDE * found.sum(axis=1)


_FORMATS = "Give a detections.json of bpnet inference or evaluate, or results in COCO's format."

_BACKGROUND = "background"
"""TAO's list of joints ends with it."""


class ImageDetections(NamedTuple):
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
        by_image: Image id -> the people found there.
        skipped: What was not used -> how often.
    """

    by_image: dict[int, ImageDetections]
    skipped: Counter[str]


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
    read: Callable[[Mapping[str, Any]], ImageDetections],
    images: Sequence[CocoImage],
) -> Detections:
    """Read all entries, and give them to their images."""
    skipped: Counter[str] = Counter()
    pieces: dict[int, list[ImageDetections]] = {}
    index = _ImageIndex(images, entries)
    for number, entry in enumerate(entries):
        try:
            if not isinstance(entry, dict):
                raise ValueError(f"is no object: {entry!r:.60}")
            people, image = read(entry), index.find(entry)
            if image is None:
                unlisted = len(people.scores)
                skipped["found people of images that the annotations do not list"] += unlisted
                continue
            if "scores" in entry and image.image_id in pieces:
                raise ValueError(f"an earlier entry is of the image {image.file_name} too")
        except ValueError as error:
            problem = f"{path}: entry {number} (counted from 0) cannot be used: {error}"
            raise BodyPoseNetError(problem, _FORMATS) from error
        skipped["images that the model could not read"] += "error" in entry
        pieces.setdefault(image.image_id, []).append(people)
    if not pieces:
        raise _nothing_in_common(path, entries, images)
    return Detections({image_id: _join(found) for image_id, found in pieces.items()}, skipped)


def _join(pieces: list[ImageDetections]) -> ImageDetections:
    if len(pieces) == 1:
        return pieces[0]
    keypoints, scores = zip(*pieces, strict=True)
    return ImageDetections(np.concatenate(keypoints), np.concatenate(scores))


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


def _read_entry(
    entry: Mapping[str, Any], columns: NDArray[np.int64], joints: int
) -> ImageDetections:
    """The people of one image of a detections.json, which has so many joints."""
    scores = [] if "error" in entry else entry.get("scores")
    if not isinstance(scores, list):
        raise ValueError("scores must be a list, a number per person")
    people = len(scores)
    if not people:
        return ImageDetections(np.empty((0, len(columns), 2)), np.empty(0))
    points = _numbers(entry, "keypoints", people, joints, 2)
    points[~points.any(axis=2)] = np.nan
    if "keypoint_scores" in entry:
        points[_numbers(entry, "keypoint_scores", people, joints) <= 0] = np.nan
    keypoints = np.where(columns[:, None] < 0, np.nan, points[:, columns])
    return ImageDetections(keypoints, _numbers(entry, "scores", people))


def _read_result(entry: Mapping[str, Any], joints: int) -> ImageDetections:
    """One person in COCO's result format."""
    if type(entry.get("image_id")) is not int:
        raise ValueError(f"image_id must be a whole number, not {entry.get('image_id')!r}")
    triples = _numbers(entry, "keypoints", 3 * joints).reshape(1, joints, 3)
    points, scores = triples[..., :2], triples[..., 2]
    points[(scores <= 0) | ~points.any(axis=2)] = np.nan
    return ImageDetections(points, _numbers(entry, "score").reshape(1))


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
