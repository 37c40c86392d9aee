"""Find people whose left and right joints are exchanged: in the whole dataset, or single people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bodyposenet.data.findings import Finding
from bodyposenet.data.label_statistics import LabeledPeople
from bodyposenet.skeleton import Skeleton, part_of, side_of

# Thresholds for single people; how many people they flag is stated in `data.label_checks`.

_OPPOSITE = -0.7
"""Cosine of the angle between two body axes (left minus right) that point to opposite sides."""
_MIN_AXIS = {"shoulder": 0.1, "hip": 0.07, "eye": 0.02}
"""Length from which the direction of a body axis is meaningful, relative to the person's size."""
_CROSSED = 0.6
"""Ratio of the lengths of a pair of limbs with exchanged ends to their annotated lengths. Much
shorter exchanged limbs are a sign of exchanged labels."""
_OFTEN_CROSSED = ("wrist", "hand", "ankle", "foot")
"""Parts that cross in natural poses, such as folded arms."""

# Thresholds for whole datasets. Of 6,142 people of COCO with a visible face, the left shoulder is
# on the right of the image in 97%; of all people, of Leeds Sports Pose Extended too, in 65% to 72%.

_EXCHANGED = 0.3
"""Share of people with a visible face below which the sides of the dataset are exchanged. About
half are a sign of another mistake, such as y before x."""
_MIN_FACES = 5
"""Number of people with a visible face from which a share of them is meaningful."""
_MIN_PEOPLE_WITHOUT_FACE = 50
_FACING_CAMERA = 0.4
"""Smallest usual share of people whose left side is on the right of the image."""


def check_sides(people: LabeledPeople, skeleton: Skeleton) -> Iterator[Finding]:
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
    if faces.sum() >= _MIN_FACES:
        share = np.mean(shoulders[faces, 0] > 0)
        if share < _EXCHANGED:
            yield Finding(
                "swapped_dataset",
                f"The left side is on the left of the image in {1 - share:.0%} of "
                f"{faces.sum():,} people whose face is visible.",
            )
    elif facing.sum() >= _MIN_PEOPLE_WITHOUT_FACE:
        share = np.mean(shoulders[facing, 0] > 0)
        if share < _FACING_CAMERA:
            yield Finding(
                "from_behind",
                f"The left side is on the left of the image in {1 - share:.0%} of "
                f"{facing.sum():,} people.",
            )


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


def find_exchanged_sides(people: LabeledPeople, skeleton: Skeleton) -> Iterator[Finding]:
    """Yield people with a sign of exchanged left and right joints: the strongest one of each."""
    signs = [
        *_opposite_axes(people, skeleton),
        *_mirrored_faces(people, skeleton),
        *_crossed_limbs(people, skeleton),
    ]
    for _, group in groupby(sorted(signs), key=lambda sign: sign.index):
        sign = max(group, key=lambda each: each.score)
        yield Finding.of_person(
            "swapped_sides", people, sign.index, sign.message, sign.joints, sign.score
        )


def _opposite_axes(people: LabeledPeople, skeleton: Skeleton) -> Iterator[_Exchange]:
    """Yield people whose shoulders point to the opposite side of their hips or their eyes."""
    axes = {}
    for part, axis in _body_axes(people, skeleton).items():
        is_short = _norms(axis) <= _MIN_AXIS[part] * people.sizes
        axes[part] = np.where(is_short[:, None], np.nan, axis)
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


def _cosines(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (P,) cosines of the angles between (P, 2) vectors, 0 where one is 0 or NaN."""
    lengths = _norms(first) * _norms(second)
    return np.nan_to_num((first * second).sum(axis=1) / np.where(lengths > 0, lengths, np.nan))


def _norms(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.linalg.norm(vectors, axis=-1)
