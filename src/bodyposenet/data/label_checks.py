"""Find suspicious labels: mistakes of annotators and of conversions between annotation formats.

Findings about single people are suspicions for a human to look at (`bpnet browse` shows them);
findings about the whole dataset are usually mistakes of an export or a conversion.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bodyposenet.data.coco import CocoDataset, CocoImage
from bodyposenet.data.image_checks import identical_files
from bodyposenet.data.label_statistics import LabeledPeople, column_medians
from bodyposenet.skeleton import Skeleton, part_of, side_of
from bodyposenet.types import Visibility

# Thresholds for single people. They flag 114 of 13,835 people of COCO, real mistakes and some
# turned heads, and 144 of 3,873 people of Leeds Sports Pose Extended, whose crowd-sourced labels
# have many mistakes.

_OUTSIDE_IMAGE = 0.05
"""Distance of a joint from the image, relative to the person's size."""
_OUTSIDE_BOX = 0.5
"""Distance of a joint from the person's box, relative to the person's size."""
_OPPOSITE = -0.7
"""Cosine of the angle between two body axes (left minus right) that point to opposite sides."""
_MIN_AXIS = {"shoulder": 0.1, "hip": 0.07, "eye": 0.02}
"""Length from which the direction of a body axis is meaningful, relative to the person's size."""
_CROSSED = 0.6
"""Ratio of the lengths of a pair of limbs with exchanged ends to their annotated lengths. Much
shorter exchanged limbs are a sign of exchanged labels."""
_OFTEN_CROSSED = ("wrist", "hand", "ankle", "foot")
"""Parts that cross in natural poses, such as folded arms."""
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
_MIN_PEOPLE_WITHOUT_FACE = 50
_FACING_CAMERA = 0.4
"""Smallest usual share of people whose left side is on the right of the image."""


_CONSEQUENCES = ("outside_box", "long_limb")
"""Kinds of findings that another mistake of the same joint can cause."""


class Severity(IntEnum):
    """How certain and how harmful a finding is; the most severe first."""

    ERROR = 0
    """A mistake that spoils training."""
    WARNING = 1
    """Probably a mistake."""
    NOTE = 2
    """Worth knowing."""


@dataclass(frozen=True)
class FindingKind:
    """A kind of suspicious label.

    Args:
        title: Short description.
        severity: Severity of all findings of this kind.
        remedy: What to do.
    """

    title: str
    severity: Severity
    remedy: str


KINDS: Mapping[str, FindingKind] = {
    "no_labels": FindingKind(
        "no labeled keypoints", Severity.ERROR,
        "Check the visibility flags of the annotation file, and visibility_flags of the dataset "
        "spec.",
    ),
    "corner_boxes": FindingKind(
        "boxes as x1, y1, x2, y2", Severity.ERROR,
        "Write boxes as x, y, width, height.",
    ),
    "normalized_coordinates": FindingKind(
        "coordinates from 0 to 1", Severity.ERROR,
        "Multiply x by the width and y by the height of the image.",
    ),
    "misaligned": FindingKind(
        "keypoints outside of many boxes", Severity.ERROR,
        "Check that boxes and keypoints are in pixels of the same image size, and x comes first.",
    ),
    "swapped_dataset": FindingKind(
        "left and right exchanged in most people", Severity.ERROR,
        "Exchange the names of left and right keypoints: left is the person's left, which is on "
        "the right of the image if the person faces the camera.",
    ),
    "from_behind": FindingKind(
        "left and right exchanged, or most people seen from behind", Severity.WARNING,
        "Look at some people: left is the person's left.",
    ),
    "never_labeled": FindingKind(
        "joints that are never labeled", Severity.WARNING,
        "Remove the joints from the dataset spec, or label them; they are not trained.",
    ),
    "unlabeled_coordinates": FindingKind(
        "keypoints with coordinates whose flag means not labeled", Severity.WARNING,
        "If they are labels, correct their flags, or visibility_flags of the dataset spec.",
    ),
    "binary_visibility": FindingKind(
        "visibility flags 0 and 1 only", Severity.NOTE,
        "If 1 means visible, write 2, or map it in visibility_flags of the dataset spec. Occluded "
        "and visible keypoints are trained alike.",
    ),
    "shared_images": FindingKind(
        "same image in train and test data", Severity.WARNING,
        "Remove it from one of them: the accuracy on images of the training is too high.",
    ),
    "repeated_images": FindingKind(
        "same image several times", Severity.WARNING,
        "Merge the annotations into one image, or remove the copies.",
    ),
    "skipped": FindingKind(
        "skipped annotations", Severity.NOTE,
        "Check that they are not people of this dataset.",
    ),
    "repaired": FindingKind(
        "repaired values", Severity.NOTE,
        "Correct the file if a repair is wrong.",
    ),
    "swapped_sides": FindingKind(
        "left and right may be exchanged", Severity.WARNING,
        "Exchange the joints if left is not the person's left.",
    ),
    "outside_image": FindingKind(
        "joints outside of the image", Severity.WARNING,
        "Correct them, or mark them as not labeled.",
    ),
    "outside_box": FindingKind(
        "joints far outside of the box", Severity.WARNING,
        "Correct the joints or the box.",
    ),
    "one_point": FindingKind(
        "joints at the same point", Severity.WARNING,
        "Move them, or mark them as not labeled.",
    ),
    "duplicate_people": FindingKind(
        "person annotated twice", Severity.WARNING,
        "Remove one of the annotations.",
    ),
    "long_limb": FindingKind(
        "unusually long limb", Severity.WARNING,
        "Check both joints.",
    ),
    "tiny_person": FindingKind(
        "labeled person of a few pixels", Severity.NOTE,
        "Check the box; such people are too small to be detected.",
    ),
}  # fmt: skip
"""The kinds of findings: first those about datasets, then those about single people."""


@dataclass(frozen=True)
class Finding:
    """A suspicious label.

    Args:
        kind: Key of `KINDS`.
        message: What was found.
        file_name: Image, or None for the whole dataset.
        annotation_ids: Annotations of the people concerned.
        joints: Names of the joints concerned.
        score: Larger is more suspicious; comparable within the same kind.
    """

    kind: str
    message: str
    file_name: str | None = None
    annotation_ids: tuple[int, ...] = ()
    joints: tuple[str, ...] = ()
    score: float = 0.0

    @property
    def title(self) -> str:
        """Short description of the kind."""
        return KINDS[self.kind].title

    @property
    def severity(self) -> Severity:
        """How certain and harmful the finding is."""
        return KINDS[self.kind].severity

    @property
    def remedy(self) -> str:
        """What to do."""
        return KINDS[self.kind].remedy


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
        whole += _check_sides(people, skeleton)
    elif any(image.persons for image in dataset.images):
        whole.append(Finding("no_labels", "No person has a labeled keypoint."))
    kinds = {finding.kind for finding in whole}
    single = _without_consequences(_check_people(people, skeleton, kinds))
    return sort_findings([*whole, *single])


def check_images(
    images: Sequence[CocoImage],
    folder: Path,
    others: Sequence[CocoImage] = (),
    others_folder: Path | None = None,
) -> list[Finding]:
    """Find image files with identical content: within some data, and in some and other data.

    Images that were encoded again are not recognized.

    Args:
        images: Images of the train (or test) data.
        folder: Their folder.
        others: Images of the test (or train) data.
        others_folder: Their folder.

    Returns:
        A finding per group of identical files, about the first one of `images`.
    """
    names = {folder / image.file_name: image.file_name for image in images}
    other_names = {}
    if others_folder is not None:
        other_names = {others_folder / image.file_name: image.file_name for image in others}
    findings = [
        Finding("shared_images", "the same file is in the other data", names[path])
        for path in names
        if path in other_names
    ]
    for group in identical_files([*names, *other_names]):
        own = [names[path] for path in group if path in names]
        other = [other_names[path] for path in group if path in other_names]
        if own and other:
            message = f"same file as {_listed(other)} of the other data"
            findings.append(Finding("shared_images", message, own[0], score=len(group)))
        if len(own) > 1:
            message = f"same file as {_listed(own[1:])}"
            findings.append(Finding("repeated_images", message, own[0], score=len(own)))
    return sort_findings(findings)


def sort_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Sort findings: the most severe kinds first; of the same kind, the most suspicious first."""
    order = {kind: number for number, kind in enumerate(KINDS)}
    return sorted(findings, key=lambda each: (each.severity, order[each.kind], -each.score))


def group_findings(findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    """Group sorted findings by kind."""
    return {kind: list(group) for kind, group in groupby(findings, key=lambda each: each.kind)}


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
            f"{_percent(np.mean(ordered))} of the boxes are valid as two corners, and "
            f"{_percent(better)} fit the keypoints better.",
        )
        return
    misaligned = np.mean(_outside_box(people).max(axis=1) > _OUTSIDE_BOX)
    if misaligned > _MISALIGNED:
        yield Finding(
            "misaligned", f"{_percent(misaligned)} of the people have joints far outside their box."
        )


def _check_sides(people: LabeledPeople, skeleton: Skeleton) -> Iterator[Finding]:
    """Check in most people that the left side is on the right of the image.

    It is in people who face the camera. Without joints of the face, nobody knows who does, but most
    people in most photos do.
    """
    axes = _body_axes(people, skeleton)
    shoulders = axes.get("shoulder", axes.get("hip"))
    if shoulders is None:
        return
    facing = ~np.isnan(shoulders[:, 0])
    faces = facing & _faces_camera(people, skeleton)
    if faces.sum() >= _MIN_PEOPLE:
        share = np.mean(shoulders[faces, 0] > 0)
        if share < _MOST:
            yield Finding(
                "swapped_dataset",
                f"The left side is on the left of the image in {_percent(1 - share)} of "
                f"{faces.sum():,} people whose face is visible.",
            )
    elif facing.sum() >= _MIN_PEOPLE_WITHOUT_FACE:
        share = np.mean(shoulders[facing, 0] > 0)
        if share < _FACING_CAMERA:
            yield Finding(
                "from_behind",
                f"The left side is on the left of the image in {_percent(1 - share)} of "
                f"{facing.sum():,} people.",
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
        yield from _find_swapped(people, skeleton)
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


def _finding(
    kind: str, people: LabeledPeople, index: int, message: str, joints: Sequence[str] = (),
    score: float = 0.0,
) -> Finding:  # fmt: skip
    """Create a finding about one person."""
    ids = (people.persons[index].annotation_id,)
    return Finding(kind, message, people.images[index].file_name, ids, tuple(joints), score)


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
        message = f"{_listed(names)}: up to {pixels:.0f} pixels outside of {place}"
        yield _finding(kind, people, index, message, names, float(relative[index].max()))


def _find_tiny(people: LabeledPeople) -> Iterator[Finding]:
    for index in np.flatnonzero(people.sizes < _TINY).tolist():
        width, height = people.boxes[index, 2:]
        message = f"box of {width:.1f} x {height:.1f} pixels"
        yield _finding("tiny_person", people, index, message, score=-float(people.sizes[index]))


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
        yield _finding("one_point", people, index, _listed(names), names, len(names))


def _find_duplicates(people: LabeledPeople) -> Iterator[Finding]:
    """Yield pairs of people in the same image with nearly the same joints."""
    for _, group in groupby(range(len(people)), key=lambda k: people.images[k].image_id):
        members = list(group)
        for place, first in enumerate(members[:-1]):
            others = members[place + 1 :]
            distances = _norms(people.points[others] - people.points[first])
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
        message = f"{' to '.join(names)}: {ratios[index, limb]:.1f} times its usual length"
        yield _finding("long_limb", people, index, message, names, float(ratios[index, limb]))


class _Exchange(NamedTuple):
    """A sign of exchanged sides of a person.

    Args:
        index: Index of the person.
        score: Larger is more suspicious.
        joints: Names of the joints.
        message: The sign.
    """

    index: int
    score: float
    joints: tuple[str, ...]
    message: str


def _find_swapped(people: LabeledPeople, skeleton: Skeleton) -> Iterator[Finding]:
    """Yield people with a sign of exchanged left and right joints: the strongest one of each."""
    signs = [
        *_opposite_axes(people, skeleton),
        *_mirrored_faces(people, skeleton),
        *_crossed_limbs(people, skeleton),
    ]
    for _, group in groupby(sorted(signs), key=lambda sign: sign.index):
        sign = max(group, key=lambda each: each.score)
        yield _finding("swapped_sides", people, sign.index, sign.message, sign.joints, sign.score)


def _opposite_axes(people: LabeledPeople, skeleton: Skeleton) -> Iterator[_Exchange]:
    """Yield people whose shoulders point to the opposite side of their hips or their eyes."""
    axes = {
        part: np.where(
            _norms(axis)[:, None] > _MIN_AXIS[part] * people.sizes[:, None], axis, np.nan
        )
        for part, axis in _body_axes(people, skeleton).items()
        if part in _MIN_AXIS
    }
    for first, second in (("shoulder", "hip"), ("shoulder", "eye")):
        if first not in axes or second not in axes:
            continue
        cosines = _cosines(axes[first], axes[second])
        names = _side_names(skeleton, first) + _side_names(skeleton, second)
        for index in np.flatnonzero(cosines < _OPPOSITE).tolist():
            message = f"{first}s and {second}s point to opposite sides"
            yield _Exchange(index, float(-cosines[index]), names, message)


def _mirrored_faces(people: LabeledPeople, skeleton: Skeleton) -> Iterator[_Exchange]:
    """Yield people whose face is visible, but whose left eye is on the wrong side of it."""
    axes = _body_axes(people, skeleton)
    if "eye" not in axes or "shoulder" not in axes:
        return
    eyes, shoulders = (_side_names(skeleton, part) for part in ("eye", "shoulder"))
    upward = _middle(people, skeleton, eyes) - _middle(people, skeleton, shoulders)
    to_the_right = np.column_stack([-upward[:, 1], upward[:, 0]])
    cosines = _cosines(axes["eye"], to_the_right)
    is_wide = _norms(axes["eye"]) > _MIN_AXIS["eye"] * people.sizes
    mirrored = _faces_camera(people, skeleton) & is_wide & (cosines < _OPPOSITE)
    for index in np.flatnonzero(mirrored).tolist():
        message = "the left eye is on the wrong side of the face"
        yield _Exchange(index, float(-cosines[index]), eyes, message)


def _crossed_limbs(people: LabeledPeople, skeleton: Skeleton) -> Iterator[_Exchange]:
    """Yield people with a pair of limbs that are much shorter if their ends are exchanged."""
    mirrored, joints = skeleton.mirrored, skeleton.joints
    for start, end in skeleton.limbs:
        other_start, other_end = mirrored[start], mirrored[end]
        sides = {side_of(joints[start]), side_of(joints[end])}
        if sides != {"left"} or start == other_start or end == other_end:
            continue
        if {part_of(joints[start]), part_of(joints[end])} & set(_OFTEN_CROSSED):
            continue
        a, b, c, d = (people.points[:, joint] for joint in (start, end, other_start, other_end))
        annotated, exchanged = _norms(a - b) + _norms(c - d), _norms(a - d) + _norms(c - b)
        ratios = exchanged / np.where(annotated > 0, annotated, np.nan)
        names = tuple(joints[joint] for joint in (end, other_end))
        for index in np.flatnonzero(np.nan_to_num(ratios, nan=1.0) < _CROSSED).tolist():
            limb = f"{part_of(joints[start])} to {part_of(joints[end])}"
            yield _Exchange(index, float(1 - ratios[index]), names, f"limbs cross: {limb}")


def _side_names(skeleton: Skeleton, part: str) -> tuple[str, ...]:
    """Return the names of the left and the right joint of a body part, or () without both."""
    for joint, other in enumerate(skeleton.mirrored):
        name = skeleton.joints[joint]
        if joint != other and part_of(name) == part and side_of(name) == "left":
            return name, skeleton.joints[other]
    return ()


def _body_axes(people: LabeledPeople, skeleton: Skeleton) -> dict[str, NDArray[np.float64]]:
    """Return (P, 2) vectors from the right to the left joint of eyes, shoulders and hips.

    NaN where a joint is not labeled; without the parts that the skeleton does not have.
    """
    axes = {}
    for part in ("eye", "shoulder", "hip"):
        names = _side_names(skeleton, part)
        if names:
            left, right = (people.points[:, skeleton.joints.index(name)] for name in names)
            axes[part] = left - right
    return axes


def _middle(people: LabeledPeople, skeleton: Skeleton, names: Sequence[str]) -> NDArray[np.float64]:
    """Return the (P, 2) mean of joints."""
    return people.points[:, [skeleton.joints.index(name) for name in names]].mean(axis=1)


def _faces_camera(people: LabeledPeople, skeleton: Skeleton) -> NDArray[np.bool_]:
    """Return (P,) whether nose and both eyes are labeled, so that the face is visible."""
    eyes = _side_names(skeleton, "eye")
    noses = [joint for joint in skeleton.joints if part_of(joint) == "nose"]
    if not eyes or not noses:
        return np.zeros(len(people), bool)
    columns = [skeleton.joints.index(name) for name in (*eyes, *noses)]
    return np.all(people.labeled[:, columns], axis=1)


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
    areas = [
        np.clip(b - a, 0, None).prod(axis=1) for a, b in ((low, high), (other_low, other_high))
    ]
    return common / np.maximum(areas[0] + areas[1] - common, 1e-9)


def _cosines(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (P,) cosines of the angles between (P, 2) vectors, 0 where one is 0 or NaN."""
    lengths = _norms(first) * _norms(second)
    return np.nan_to_num((first * second).sum(axis=1) / np.where(lengths > 0, lengths, np.nan))


def _norms(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.linalg.norm(vectors, axis=-1)


def _percent(share: np.floating | float) -> str:
    return f"{100 * share:.0f}%"


def _listed(names: Sequence[str], most: int = 4) -> str:
    """List the first names, and the number of the others."""
    more = [f"{len(names) - most} more"] if len(names) > most else []
    return ", ".join([*names[:most], *more])
