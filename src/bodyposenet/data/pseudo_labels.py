"""Select the detections of another model that are added to a dataset as pseudo-labels.

Detections of people who are not annotated become labels if their score is high, and masked regions
if it is moderate. This allows training on images in which not everybody is annotated.
`data.detections` reads the files of detections.
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
from bodyposenet.data.detections import ImageDetections
from bodyposenet.data.segmentation import Region, rasterize_regions
from bodyposenet.person_pose import boxes_with_margin
from bodyposenet.specs.dataset import DatasetSpec
from bodyposenet.types import Person

_MIN_KEYPOINTS = 2
"""Fewer keypoints do not define a box."""

_MIN_BOX_IOU = 0.5
"""Boxes that overlap by at least this IoU belong to the same person."""

# Measured with COCO's annotated people in place of detections: 2 of 100 people (whole or upper
# bodies only) are not recognized as themselves, and 8 of 100 are taken for a neighbor. With half of
# the keypoints inside, it is 1 and 14; with a quarter of the area, 16 of 100 upper bodies are not
# recognized.
_MIN_KEYPOINTS_INSIDE = 0.7
"""A detection is the same person as another one if at least this share of its keypoints is inside
the other person's box, unless its own box is much smaller (`_MIN_RELATIVE_AREA`)."""

_MIN_RELATIVE_AREA = 0.1
"""A detection whose box has less than this share of the area of the other box is another person,
such as a child in front of an adult."""

# Many people are annotated only in part, such as a head above a counter, whereas a model detects
# the whole person: then neither boxes nor keypoints inside a box show that it is the same person.
_MAX_KEYPOINT_DISTANCE = 0.1
"""Largest median distance of common keypoints of the same person, relative to the longer side."""


@dataclass(frozen=True)
class PseudoLabelOptions:
    """Which detections become labels, and which become masked regions.

    Args:
        min_label_score: Smallest score of detections that become labels.
        min_mask_score: Smallest score of detections that become masked regions.
        visibility_flag: The dataset's visibility flag for detected keypoints.
    """

    min_label_score: float
    min_mask_score: float
    visibility_flag: int

    @classmethod
    def from_spec(
        cls, spec: DatasetSpec, min_label_score: float, min_mask_score: float
    ) -> PseudoLabelOptions:
        """Create options with a visibility flag of the dataset.

        Args:
            spec: Dataset spec.
            min_label_score: Smallest score of labels.
            min_mask_score: Smallest score of masked regions.

        Returns:
            Options with the flag for visible keypoints, or else one for labeled keypoints.

        Raises:
            BodyPoseNetError: The dataset has no flag for labeled keypoints.
        """
        flags = spec.visibility_flags.classes()
        labeled = sorted((kind, flag) for flag, kind in flags.items() if kind.is_labeled)
        if not labeled:
            spec.fail(
                "visibility_flags",
                "no flag is mapped to visible",
                "Pseudo-labels need such a flag.",
            )
        return cls(min_label_score, min_mask_score, visibility_flag=labeled[0][1])


class PseudoLabels(NamedTuple):
    """Images with pseudo-labels among their people.

    Args:
        images: The images.
        added: Counts of used detections by use.
        skipped: Counts of unused detections by reason.
    """

    images: list[CocoImage]
    added: Counter[str]
    skipped: Counter[str]


def add_pseudo_labels(
    images: Sequence[CocoImage],
    detections: Mapping[int, ImageDetections],
    options: PseudoLabelOptions,
) -> PseudoLabels:
    """Add detections to the people of images, in descending order of score.

    A detection is skipped if 70 % of its keypoints are in a crowd, or if it is the same person as
    an annotated person or a detection with a higher score. Two people are the same if the IoU of
    their boxes is at least 0.5, or if 70 % of the detection's keypoints are inside the other box
    and its own box has at least a tenth of the area. A detection is also the same as an annotated
    person if the median distance of their common keypoints is at most a tenth of the longer side of
    its box.

    Exception: if the IoU of a detection and an annotated person without keypoints is at least 0.5,
    the detection's score is high enough for a label, and it is not the same as anybody else, the
    annotated person gets its keypoints instead of being masked.

    Args:
        images: Images of the dataset.
        detections: Detections by image id.
        options: Scores of labels and masked regions.

    Returns:
        The images in their order, and counts. Added people have `is_pseudo`, a box around their
        keypoints, its area and a negative annotation id; a masked region is a crowd.

    Raises:
        BodyPoseNetError: The segmentation of a crowd is invalid.
    """
    result = PseudoLabels([], Counter(), Counter())
    min_id = min((p.annotation_id for image in images for p in image.persons), default=0)
    ids = count(min(min_id, 0) - 1, -1)
    for image in images:
        if image.image_id in detections:
            candidates = _candidates(
                image, detections[image.image_id], options.min_mask_score, result.skipped
            )
            persons = _add_candidates(image, candidates, options, ids, result)
            image = replace(image, persons=persons)
        result.images.append(image)
    return result


@dataclass(frozen=True, eq=False)
class _Candidates:
    """Detections of an image with sufficient score and keypoints, in descending order of score.

    Args:
        points: (N, D, 2) float64, NaN where a joint is missing or outside of the image.
        boxes: (N, 4) float64, left, top, right, bottom.
        scores: (N,) float64.
    """

    points: NDArray[np.float64]
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]


def _candidates(
    image: CocoImage, detections: ImageDetections, min_score: float, skipped: Counter[str]
) -> _Candidates:
    """Select detections by score and number of keypoints, and count the others in `skipped`."""
    size = np.array([image.width, image.height], np.float64)
    points = detections.keypoints
    inside = ((points >= -0.5) & (points <= size - 0.5)).all(axis=2, keepdims=True)
    points = np.where(inside, points, np.nan)
    has_score = detections.scores >= min_score
    has_keypoints = inside.sum(axis=(1, 2)) >= _MIN_KEYPOINTS
    incomplete = int((has_score & ~has_keypoints).sum())
    skipped["detections with a score below --pseudo_score_low"] += int((~has_score).sum())
    skipped["detections with fewer than two keypoints in the image"] += incomplete
    chosen = np.flatnonzero(has_score & has_keypoints)
    chosen = chosen[np.argsort(-detections.scores[chosen], kind="stable")]
    boxes = boxes_with_margin(points[chosen], size)
    return _Candidates(points[chosen], boxes, detections.scores[chosen])


def _add_candidates(
    image: CocoImage,
    candidates: _Candidates,
    options: PseudoLabelOptions,
    ids: Iterator[int],
    result: PseudoLabels,
) -> tuple[Person, ...]:
    """Return the people of an image with its candidates added; count them in `result` by use."""
    persons, accepted = list(image.persons), []
    matches, is_annotated = _match_annotated(image, candidates)
    is_duplicate = _same_boxes(candidates.points, candidates.boxes, candidates.boxes)
    for index, (points, box) in enumerate(zip(candidates.points, candidates.boxes, strict=True)):
        is_label = candidates.scores[index] >= options.min_label_score
        if is_label and matches[index].any():
            match = int(matches[index].argmax())
            matches[:, match] = 0
            persons[match] = _label(persons[match], points, options.visibility_flag)
            result.added["annotated people with keypoints of a detection"] += 1
        elif is_annotated[index] or is_duplicate[index, accepted].any():
            result.skipped["detections of annotated people, or repeated"] += 1
        else:
            accepted.append(index)
            person = _masked_region(box, len(points), next(ids))
            persons.append(_label(person, points, options.visibility_flag) if is_label else person)
            use = "labels" if is_label else "masked regions"
            result.added[f"detections added as {use}"] += 1
    return tuple(persons)


def _masked_region(box: NDArray[np.float64], joints: int, annotation_id: int) -> Person:
    """Create a crowd without keypoints: masked, except for the labeled people in it."""
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
    """Return the person with detected keypoints."""
    detected = ~np.isnan(points[:, 0])
    labeled = int(detected.sum())
    keypoints = np.zeros((len(points), 3))
    keypoints[detected] = np.column_stack([points[detected], np.full(labeled, flag)])
    return replace(
        person, keypoints=keypoints, num_keypoints=labeled, is_crowd=False, is_pseudo=True
    )


def _match_annotated(
    image: CocoImage, candidates: _Candidates
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Compare the candidates with the annotated people of their image.

    Returns:
        (N, A) IoU with each annotated person without keypoints that can get those of the candidate,
        0 for all others; and (N,) whether the candidate is annotated, with keypoints or without.
    """
    others = np.array([person.box for person in image.persons], np.float64).reshape(-1, 4)
    others[:, 2:] += others[:, :2]
    is_crowd = np.array([person.is_crowd for person in image.persons], bool)
    has_keypoints = np.array([person.num_keypoints > 0 for person in image.persons], bool)
    is_same = _same_boxes(candidates.points, candidates.boxes, others)
    is_same = (is_same | _same_keypoints(image, candidates)) & ~is_crowd
    in_crowd = _in_crowds(image, candidates.points)
    ious = _ious(candidates.boxes, others)
    is_free = ~in_crowd & ~(is_same & has_keypoints).any(axis=1)
    can_match = is_free[:, None] & ~is_crowd & ~has_keypoints & (ious >= _MIN_BOX_IOU)
    return np.where(can_match, ious, 0), in_crowd | is_same.any(axis=1)


def _same_boxes(
    points: NDArray[np.float64], boxes: NDArray[np.float64], others: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Return whether detections are the people of other boxes, see `add_pseudo_labels`.

    Args:
        points: (N, D, 2) keypoints of the detections, NaN where missing.
        boxes: (N, 4) left, top, right, bottom of the detections.
        others: (A, 4) left, top, right, bottom of the other people.

    Returns:
        (N, A) bool.
    """
    points = points[:, None]
    inside = (points >= others[:, None, :2]) & (points <= others[:, None, 2:])
    share = inside.all(axis=3).sum(axis=2) / (~np.isnan(points[..., 0])).sum(axis=2)
    is_large = _areas(boxes)[:, None] >= _MIN_RELATIVE_AREA * _areas(others)
    return (_ious(boxes, others) >= _MIN_BOX_IOU) | (share >= _MIN_KEYPOINTS_INSIDE) & is_large


def _same_keypoints(image: CocoImage, candidates: _Candidates) -> NDArray[np.bool_]:
    """Return (N, A), whether the keypoints of candidates and annotated people coincide."""
    same = np.zeros((len(candidates.points), len(image.persons)), bool)
    sides = (candidates.boxes[:, 2:] - candidates.boxes[:, :2]).max(axis=1, initial=0)
    for index, person in enumerate(image.persons):
        points = person.keypoints[:, :2]
        distances = np.linalg.norm(candidates.points - points, axis=2)
        distances[:, ~points.any(axis=1)] = np.nan  # not labeled
        for row in np.flatnonzero(~np.isnan(distances).all(axis=1)):
            same[row, index] = np.nanmedian(distances[row]) <= _MAX_KEYPOINT_DISTANCE * sides[row]
    return same


def _in_crowds(image: CocoImage, points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return (N,), whether detections are in a crowd of their image."""
    crowds = [Region.from_person(person) for person in image.persons if person.is_crowd]
    if not crowds or not len(points):
        return np.zeros(len(points), bool)
    region = rasterize_regions(crowds, image.height, image.width)
    is_present = ~np.isnan(points[..., 0])
    x, y = np.moveaxis(np.where(is_present[..., None], points, 0).round().astype(int), -1, 0)
    x, y = x.clip(0, image.width - 1), y.clip(0, image.height - 1)
    inside = (region[y, x] & is_present).sum(axis=1)
    return inside >= _MIN_KEYPOINTS_INSIDE * is_present.sum(axis=1)


def _ious(boxes: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (N, A), the IoU of boxes (N, 4) and (A, 4)."""
    low = np.maximum(boxes[:, None, :2], others[:, :2])
    high = np.minimum(boxes[:, None, 2:], others[:, 2:])
    both = (high - low).clip(0).prod(axis=2)
    either = _areas(boxes)[:, None] + _areas(others) - both
    return both / np.maximum(either, np.finfo(np.float64).tiny)


def _areas(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (N,), the areas of boxes (N, 4)."""
    return (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
