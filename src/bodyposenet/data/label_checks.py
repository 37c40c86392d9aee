"""Find suspicious labels: mistakes of annotators and of conversions between annotation formats.

Findings about single people are suspicions for a human to look at (`bpnet browse` shows them);
findings about the whole dataset are usually mistakes of an export or a conversion.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from bodyposenet.data.coco import CocoDataset
from bodyposenet.data.findings import Finding, listed, sort_findings
from bodyposenet.data.label_statistics import LabeledPeople, column_medians
from bodyposenet.data.side_checks import check_sides, find_exchanged_sides
from bodyposenet.skeleton import Skeleton
from bodyposenet.types import Visibility

# Thresholds for single people. They flag 114 of 13,835 people of COCO, real mistakes and some
# turned heads, and 144 of 3,873 people of Leeds Sports Pose Extended, whose crowd-sourced labels
# have many mistakes.

_OUTSIDE_IMAGE = 0.05
"""Distance of a joint from the image, relative to the person's size."""
_OUTSIDE_BOX = 0.5
"""Distance of a joint from the person's box, relative to the person's size."""
_LONG_LIMB = 3.5
"""Length of a limb relative to its median and to the person's other limbs."""
_MIN_LIMBS = 4
"""Number of labeled limbs from which a person's scale can be estimated."""
_SAME_PERSON = 0.02
"""Mean distance of the joints of two people, relative to the size, below which they are one."""
_MIN_COMMON = 3
"""Number of labeled joints that are compared, or that can lie at one point by mistake."""
_ONE_POINT = 0.02
"""Extent of all joints of a person, relative to the person's size."""
_TINY = 16.0
"""Size in pixels: two cells of the network's output."""

# Thresholds for whole datasets.

_MOST = 0.5
_NEARLY_ALL = 0.95
_MISALIGNED = 0.2
"""Share of people with joints far outside of their box; 0 in the sets above."""
_MIN_PEOPLE = 5
"""Number of people from which a share of people is meaningful."""

_CONSEQUENCES = ("outside_box", "long_limb")
"""Kinds of findings that another mistake of the same joint can cause."""


def check_labels(
    dataset: CocoDataset, skeleton: Skeleton, visibility: Mapping[int, Visibility]
) -> list[Finding]:
    """Find suspicious labels in a dataset.

    Args:
        dataset: The annotations.
        skeleton: Joints of the dataset, in its order, and limbs; see `data.dataset_skeleton`.
        visibility: Meaning of the visibility flags, `VisibilityFlags.classes()`.

    Returns:
        Findings, the most severe first; of the same kind, the most suspicious first.
    """
    labeled_flags = [flag for flag, meaning in visibility.items() if meaning.is_labeled]
    people = LabeledPeople.collect(dataset.images, len(skeleton.joints), labeled_flags)
    whole = [*_check_reading(dataset), *_check_flags(people, visibility)]
    if len(people):
        whole += [*_check_joints(people, skeleton), *_check_coordinates(people)]
        whole += check_sides(people, skeleton)
    elif any(image.persons for image in dataset.images):
        whole.append(Finding("no_labels", "No person has a labeled keypoint."))
    kinds = {finding.kind for finding in whole}
    single = _without_consequences(_check_people(people, skeleton, kinds))
    return sort_findings([*whole, *single])


def _check_reading(dataset: CocoDataset) -> Iterator[Finding]:
    """Yield what was skipped and repaired when the file was read."""
    for kind, counts in (("skipped", dataset.skipped), ("repaired", dataset.repairs)):
        for reason, count in counts.items():
            yield Finding(kind, f"{count:,} {reason}.", score=count)


def _check_flags(people: LabeledPeople, visibility: Mapping[int, Visibility]) -> Iterator[Finding]:
    """Check the visibility flags."""
    keypoints = np.array([person.keypoints for person in people.persons]).reshape(-1, 3)
    labeled = people.labeled.ravel()
    used = set(keypoints[labeled, 2].tolist())
    if used == {1} and visibility[1] is not Visibility.VISIBLE:
        yield Finding("binary_visibility", f"All {labeled.sum():,} labeled keypoints have flag 1.")
    ignored = (keypoints[:, :2] != 0).any(axis=1) & ~labeled
    if ignored.any():
        yield Finding(
            "unlabeled_coordinates",
            f"{ignored.sum():,} keypoints have coordinates, but a flag that means not labeled.",
        )


def _check_joints(people: LabeledPeople, skeleton: Skeleton) -> Iterator[Finding]:
    """Check that every joint is labeled in some person."""
    counts = people.labeled.sum(axis=0)
    never = tuple(skeleton.joints[k] for k in np.flatnonzero(counts == 0))
    if never:
        yield Finding("never_labeled", f"Never labeled: {', '.join(never)}.", joints=never)


def _check_coordinates(people: LabeledPeople) -> Iterator[Finding]:
    """Check that keypoints and boxes are in pixels, and boxes are x, y, width, height."""
    if (people.points[people.labeled] <= 1).all() and (people.image_sizes > 2).all():
        yield Finding("normalized_coordinates", "All keypoints have coordinates from 0 to 1.")
        return
    if len(people) < _MIN_PEOPLE:
        return
    low, high = _extents(people)
    corners, sides = people.boxes[:, :2], people.boxes[:, 2:]
    fits_as_sides = _overlap(low, high, corners, corners + sides)
    fits_as_corners = _overlap(low, high, corners, sides)
    # With width and height, some people are farther from the left or top edge than they are large.
    ordered = (sides > corners).all(axis=1) & (sides <= people.image_sizes + 1).all(axis=1)
    better = np.mean(fits_as_corners > fits_as_sides)
    if np.mean(ordered) > _NEARLY_ALL and better > _MOST:
        yield Finding(
            "corner_boxes",
            f"{np.mean(ordered):.0%} of the boxes are valid as two corners, and "
            f"{better:.0%} fit the keypoints better.",
        )
        return
    misaligned = np.mean(_outside_box(people).max(axis=1) > _OUTSIDE_BOX)
    if misaligned > _MISALIGNED:
        yield Finding(
            "misaligned", f"{misaligned:.0%} of the people have joints far outside their box."
        )


def _check_people(
    people: LabeledPeople, skeleton: Skeleton, whole: Collection[str]
) -> Iterator[Finding]:
    """Yield findings about single people, except for those that one about the dataset explains."""
    if {"corner_boxes", "normalized_coordinates", "misaligned"} & set(whole):
        return  # All distances are wrong.
    yield from _find_outside_image(people, skeleton)
    yield from _find_outside_box(people, skeleton)
    if "swapped_dataset" not in whole:
        yield from find_exchanged_sides(people, skeleton)
    yield from _find_tiny(people)
    yield from _find_one_point(people, skeleton)
    yield from _find_duplicates(people)
    yield from _find_long_limbs(people, skeleton)


def _without_consequences(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Skip joints far outside of a box, and long limbs, whose joint is in an earlier finding."""
    reported: dict[tuple[int, ...], set[str]] = {}
    for finding in findings:
        joints = reported.setdefault(finding.annotation_ids, set())
        if finding.kind not in _CONSEQUENCES or not joints & set(finding.joints):
            joints.update(finding.joints)
            yield finding


def _find_outside_image(people: LabeledPeople, skeleton: Skeleton) -> Iterator[Finding]:
    beyond = np.maximum(-people.points, people.points - people.image_sizes[:, None]).max(axis=2)
    yield from _find_far("outside_image", people, skeleton, beyond, _OUTSIDE_IMAGE, "the image")


def _find_outside_box(people: LabeledPeople, skeleton: Skeleton) -> Iterator[Finding]:
    beyond = _outside_box(people) * people.sizes[:, None]
    yield from _find_far("outside_box", people, skeleton, beyond, _OUTSIDE_BOX, "the box")


def _find_far(
    kind: str, people: LabeledPeople, skeleton: Skeleton, beyond: NDArray[np.float64],
    threshold: float, place: str,
) -> Iterator[Finding]:  # fmt: skip
    """Yield people with joints that are (P, D) pixels beyond a place, relative to their size."""
    relative = np.nan_to_num(beyond / people.sizes[:, None], nan=-np.inf)
    for index in np.flatnonzero((relative > threshold).any(axis=1)).tolist():
        far = np.flatnonzero(relative[index] > threshold)
        names = [skeleton.joints[k] for k in far]
        pixels = np.nanmax(beyond[index])
        message = f"{listed(names)}: up to {pixels:.0f} pixels outside of {place}"
        yield Finding.of_person(kind, people, index, message, names, float(relative[index].max()))


def _find_tiny(people: LabeledPeople) -> Iterator[Finding]:
    for index in np.flatnonzero(people.sizes < _TINY).tolist():
        width, height = people.boxes[index, 2:]
        message = f"box of {width:.1f} x {height:.1f} pixels"
        yield Finding.of_person(
            "tiny_person", people, index, message, score=-float(people.sizes[index])
        )


def _find_one_point(people: LabeledPeople, skeleton: Skeleton) -> Iterator[Finding]:
    """Yield people with three or more joints at one point, or whose joints are all close."""
    low, high = _extents(people)
    counts = people.labeled.sum(axis=1)
    is_small = (high - low).max(axis=1) < _ONE_POINT * people.sizes
    ordered = np.sort(people.points[..., 0] + 1j * people.points[..., 1], axis=1)
    has_repeated = (ordered[:, _MIN_COMMON - 1 :] == ordered[:, : 1 - _MIN_COMMON]).any(axis=1)
    for index in np.flatnonzero((counts >= _MIN_COMMON) & (is_small | has_repeated)).tolist():
        joints = np.flatnonzero(people.labeled[index])
        if not is_small[index]:
            points = people.points[index, joints]
            _, group, sizes = np.unique(points, axis=0, return_inverse=True, return_counts=True)
            joints = joints[sizes[group.ravel()] >= _MIN_COMMON]
        names = [skeleton.joints[k] for k in joints]
        yield Finding.of_person("one_point", people, index, listed(names), names, len(names))


def _find_duplicates(people: LabeledPeople) -> Iterator[Finding]:
    """Yield pairs of people in the same image with nearly the same joints."""
    for _, group in groupby(range(len(people)), key=lambda k: people.images[k].image_id):
        members = list(group)
        for place, first in enumerate(members[:-1]):
            others = members[place + 1 :]
            distances = np.linalg.norm(people.points[others] - people.points[first], axis=2)
            common = np.count_nonzero(~np.isnan(distances), axis=1)
            means = np.nansum(distances, axis=1) / np.maximum(common, 1)
            relative = means / np.minimum(people.sizes[others], people.sizes[first])
            same = (common >= _MIN_COMMON) & (relative < _SAME_PERSON)
            for k in np.flatnonzero(same).tolist():
                ids = tuple(people.persons[p].annotation_id for p in (first, others[k]))
                message = f"{common[k]} joints, {means[k]:.1f} pixels apart on average"
                name = people.images[first].file_name
                yield Finding("duplicate_people", message, name, ids, (), -float(relative[k]))


def _find_long_limbs(people: LabeledPeople, skeleton: Skeleton) -> Iterator[Finding]:
    """Yield people with a limb that is long for the limb and for the person's other limbs."""
    lengths = people.limb_lengths(skeleton)
    typical = column_medians(lengths / people.sizes[:, None])
    relative = lengths / np.where(typical > 0, typical, np.nan)
    scales = column_medians(relative.T)
    ratios = relative / np.where(scales > 0, scales, np.nan)[:, None]
    ratios[(~np.isnan(relative)).sum(axis=1) < _MIN_LIMBS] = np.nan
    ratios = np.nan_to_num(ratios)
    for index, limb in np.argwhere(ratios > _LONG_LIMB).tolist():
        if limb != ratios[index].argmax():
            continue
        names = [skeleton.joints[joint] for joint in skeleton.limbs[limb]]
        ratio = float(ratios[index, limb])
        message = f"{' to '.join(names)}: {ratio:.1f} times its usual length"
        yield Finding.of_person("long_limb", people, index, message, names, ratio)


def _outside_box(people: LabeledPeople) -> NDArray[np.float64]:
    """Return (P, D) distances of joints from their box, relative to the size; 0 without a label."""
    low = people.boxes[:, None, :2]
    beyond = np.maximum(low - people.points, people.points - low - people.boxes[:, None, 2:])
    return np.nan_to_num(beyond.max(axis=2)).clip(min=0) / people.sizes[:, None]


def _extents(people: LabeledPeople) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the (P, 2) smallest and largest coordinates of each person's labeled joints."""
    missing = ~people.labeled[..., None]
    low = np.where(missing, np.inf, people.points).min(axis=1)
    return low, np.where(missing, -np.inf, people.points).max(axis=1)


def _overlap(
    low: NDArray[np.float64], high: NDArray[np.float64],
    other_low: NDArray[np.float64], other_high: NDArray[np.float64],
) -> NDArray[np.float64]:  # fmt: skip
    """Return the (P,) IoU of boxes that are given by their corners, (P, 2)."""
    sides = np.clip(np.minimum(high, other_high) - np.maximum(low, other_low), 0, None)
    common = sides.prod(axis=1)
    area = np.clip(high - low, 0, None).prod(axis=1)
    other_area = np.clip(other_high - other_low, 0, None).prod(axis=1)
    return common / np.maximum(area + other_area - common, 1e-9)
