"""Annotated images and people that a model found in; images with those people added out.

A found person that overlaps no annotated one becomes labels where the model is sure, and a region
that masks leave out where it is not: so photos train rightly although people are not annotated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bodyposenet.data.coco import CocoImage
from bodyposenet.data.found_people import FoundPeople
from bodyposenet.data.regions import Region, draw_regions
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
class PseudoLabelling:
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
    def from_spec(cls, spec: DatasetSpec, high: float, low: float) -> PseudoLabelling:
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
        left_out: What was made nothing of, and why -> how often.
    """

    images: list[CocoImage]
    done: Counter[str]
    left_out: Counter[str]


def add_found_people(
    images: Sequence[CocoImage], found: Mapping[int, FoundPeople], labelling: PseudoLabelling
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
            candidates = _candidates(image, found[image.image_id], labelling.low, added.left_out)
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
    image: CocoImage, found: FoundPeople, low: float, left_out: Counter[str]
) -> _Candidates:
    size = np.array([image.width, image.height], np.float64)
    points = found.keypoints
    inside = ((points >= -0.5) & (points <= size - 0.5)).all(axis=2, keepdims=True)
    points = np.where(inside, points, np.nan)
    is_likely = found.scores >= low
    is_whole = inside.sum(axis=(1, 2)) >= _LEAST_KEYPOINTS
    torn = int((is_likely & ~is_whole).sum())
    left_out["found people of a score below --pseudo_score_low"] += int((~is_likely).sum())
    left_out["found people without two keypoints in their image"] += torn
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
    labelling: PseudoLabelling,
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
            added.left_out["found people that annotated or surer found ones overlap"] += 1
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
    """(F, A) whether a found person is the one of another box; see `add_found_people`.

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
    crowds = [Region.of(person) for person in image.persons if person.is_crowd]
    if not crowds or not len(points):
        return np.zeros(len(points), bool)
    region = draw_regions(crowds, image.height, image.width)
    found = ~np.isnan(points[..., 0])
    x, y = np.moveaxis(np.where(found[..., None], points, 0).round().astype(int), -1, 0)
    x, y = x.clip(0, image.width - 1), y.clip(0, image.height - 1)
    return (region[y, x] & found).sum(axis=1) >= _LEAST_INSIDE * found.sum(axis=1)
