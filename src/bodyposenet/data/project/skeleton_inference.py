"""Infer a skeleton from joint names: limbs, left/right pairs, sigmas and a derived neck.

Limbs come from the first of these sources that knows the joints: the default model, whose limbs
need the least training; the annotation file; anatomy, by the names; the distances between the
joints of annotated people; the order of the joints.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.skeleton import Skeleton, oks_sigmas, part_of, side_of, words_of
from bodyposenet.specs.pose import DEFAULT_POSE_CONFIGURATION, MAX_KEYPOINTS, bundled_skeleton

_NECK = "neck"
_NECK_PARTS = frozenset({"neck", "thorax", "chest", "withers", "throat", "sternum"})
"""Parts between the shoulders; skeletons with one of them get no derived neck."""

_NEAREST = {
    "eye": ("nose", "snout", "head"),
    "ear": ("eye", "head", "nose", "snout"),
    "mouth": ("nose", "head"),
    "chin": ("mouth", "nose", "head"),
    "jaw": ("chin", "mouth", "nose", "head"),
    "snout": ("head", "neck", "throat"),
    "nose": ("head", "neck", "throat", "thorax", "chest", "shoulder"),
    "head": ("neck", "throat", "thorax", "chest", "shoulder"),
    "top": ("head", "neck", "nose"),
    "throat": ("neck", "withers", "chest"),
    "neck": ("thorax", "chest", "withers", "spine"),
    "shoulder": ("neck", "thorax", "chest", "withers", "throat", "spine"),
    "elbow": ("shoulder", "withers"),
    "wrist": ("elbow", "shoulder"),
    "hand": ("wrist", "elbow"),
    "thumb": ("hand", "wrist"),
    "index": ("hand", "wrist"),
    "pinky": ("hand", "wrist"),
    "finger": ("hand", "wrist"),
    "thorax": ("spine", "pelvis"),
    "chest": ("spine", "pelvis"),
    "withers": ("spine", "tail"),
    "spine": ("pelvis",),
    "hip": ("pelvis", "spine", "tail", "neck", "thorax", "chest"),
    "knee": ("hip", "elbow", "tail"),
    "ankle": ("knee", "hip"),
    "heel": ("ankle", "foot"),
    "foot": ("ankle", "knee"),
    "toe": ("foot", "ankle"),
    "hoof": ("ankle", "wrist", "knee", "elbow"),
    "paw": ("ankle", "wrist", "knee", "elbow"),
    "tail": ("pelvis", "spine", "withers", "neck"),
}
"""Body part -> the parts that it can be connected with, nearest first."""

_LIKE = {
    "hand": "wrist", "palm": "wrist", "foot": "ankle", "heel": "ankle", "toe": "ankle",
    "paw": "ankle", "hoof": "ankle", "pelvis": "hip", "mouth": "nose", "chin": "nose",
    "snout": "nose", "head": "neck", "top": "neck", "thorax": "neck", "chest": "neck",
    "withers": "neck", "throat": "neck",
}  # fmt: skip
"""Body part without a sigma in COCO -> the nearest part with one."""

_MIDDLES = {"hip": "pelvis", "hips": "pelvis", "root": "pelvis", "shoulder": _NECK}
"""Words of a joint without a side -> its body part."""

_LEGS = {
    "front": frozenset({"front", "fore", "f", "shoulder", "elbow", "wrist"}),
    "back": frozenset({"back", "hind", "rear", "b", "hip", "knee", "ankle"}),
}
"""Pair of legs, or of arms and legs -> words that show that a joint belongs to it."""
_MIN_PEOPLE = 5
"""Smallest number of people with both joints labeled whose distances are compared."""
_MAX_PEOPLE = 2000
"""Largest number of people whose distances are compared."""


class Certainty(StrEnum):
    """How certain an inference is."""

    SURE = "sure"
    LIKELY = "likely"
    UNSURE = "please check"


@dataclass(frozen=True)
class Inference:
    """Something that was inferred, for the user to check.

    Args:
        topic: What was inferred, such as "limbs".
        text: The result and the reason for it.
        certainty: How certain it is.
    """

    topic: str
    text: str
    certainty: Certainty = Certainty.SURE


class JointPositions(NamedTuple):
    """Keypoints of annotated people.

    Args:
        points: (P, D, 2) x and y in pixels, NaN where a joint is not labeled.
        sizes: (P,) size of each person in pixels, greater than 0.
    """

    points: NDArray[np.float64]
    sizes: NDArray[np.float64]


@dataclass(frozen=True)
class InferredSkeleton:
    """A skeleton, and how it was inferred.

    Args:
        skeleton: The skeleton; its joints are those of the dataset, and possibly a derived neck.
        inferences: Joints, limbs, sides and sigmas, with reasons.
        is_mirrorable: Whether mirrored images have correct labels, as far as names show.
    """

    skeleton: Skeleton
    inferences: tuple[Inference, ...]
    is_mirrorable: bool


def infer_skeleton(
    name: str,
    joints: Sequence[str],
    limbs: Iterable[tuple[str, str]] = (),
    positions: JointPositions | None = None,
    mirrored: Iterable[tuple[str, str]] = (),
) -> InferredSkeleton:
    """Infer a skeleton.

    Args:
        name: Name of the pose configuration.
        joints: Names of the D joints of the dataset.
        limbs: Limbs of the annotation file as pairs of names, possibly none.
        positions: Annotated people, whose distances between joints are used for joints with
            unknown names; or None.
        mirrored: Pairs of joints that the annotation file declares as mirrored, possibly none.

    Returns:
        The skeleton, with the joints of the dataset in their order.

    Raises:
        BodyPoseNetError: There are fewer than two joints or too many, or a name is empty or occurs
            twice.
    """
    _check_joints(joints)
    derived = _derived_neck(joints)
    builder = _LimbBuilder((*joints, *derived))
    default = bundled_skeleton(DEFAULT_POSE_CONFIGURATION)
    builder.add_default_limbs(default)
    builder.add_file_limbs(limbs)
    builder.connect_by_anatomy()
    if positions is not None:
        builder.connect_by_distance(positions)
    builder.connect_by_order()
    sigmas, sigma_inference = _sigmas(builder.joints)
    skeleton = Skeleton(name, builder.joints, tuple(builder.limbs), sigmas, derived)
    sides, is_mirrorable = _sides(skeleton, mirrored)
    known = sum(index is not None for index in default.match(joints))
    text = f"{len(joints)}, of which the default model has {known}"
    if derived:
        text += "; and a neck between the shoulders, where the default model starts its limbs"
    inferences = (Inference("joints", text), builder.inference(), sides, sigma_inference)
    return InferredSkeleton(skeleton, inferences, is_mirrorable)


def _check_joints(joints: Sequence[str]) -> None:
    """Raise an error if a skeleton cannot have these joints."""
    if len(joints) < 2:
        raise BodyPoseNetError(
            f"expected at least two joints, got {len(joints)}: {', '.join(joints)}",
            "People are assembled along the limbs between joints; annotate at least two joints.",
        )
    if len(joints) > MAX_KEYPOINTS:
        raise BodyPoseNetError(
            f"expected at most {MAX_KEYPOINTS} joints, got {len(joints)}", "Choose some of them."
        )
    if not all(joint.strip() for joint in joints):
        number = next(k for k, joint in enumerate(joints, 1) if not joint.strip())
        raise BodyPoseNetError(f"the name of joint {number} is empty", "Name the joint.")
    twice = sorted({joint for joint in joints if joints.count(joint) > 1})
    if twice:
        raise BodyPoseNetError(
            f"joint names occur twice: {', '.join(twice)}", "Give every joint a name of its own."
        )


def _derived_neck(joints: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return the neck and its two joints, if there are two shoulders and no joint between them."""
    if _NECK_PARTS & {_part(joint) for joint in joints}:
        return {}
    default = bundled_skeleton(DEFAULT_POSE_CONFIGURATION)
    names = dict(zip(default.match(joints), joints, strict=True))
    parents = [names.get(default.joints.index(f"{side}_shoulder")) for side in ("left", "right")]
    left, right = parents
    return {} if left is None or right is None else {_NECK: (left, right)}


class _LimbBuilder:
    """Adds limbs until they connect all joints.

    Args:
        joints: Names of the joints.
    """

    def __init__(self, joints: tuple[str, ...]) -> None:
        self.joints = joints
        self.limbs: list[tuple[int, int]] = []
        self._groups = list(range(len(joints)))
        """Group of each joint; joints of a group are connected."""
        self._counts: dict[str, int] = {}
        self._certainty = Certainty.SURE
        self._by_default: frozenset[int] = frozenset()

    def add_default_limbs(self, default: Skeleton) -> None:
        """Add the limbs of the default model between joints that it has."""
        joints = {own: index for index, own in enumerate(default.match(self.joints))}
        for start, end in default.limbs:
            if start in joints and end in joints:
                self._add(joints[start], joints[end], "of the default model")
        self._by_default = frozenset(joint for limb in self.limbs for joint in limb)

    def add_file_limbs(self, limbs: Iterable[tuple[str, str]]) -> None:
        """Add limbs of the annotation file, unless the default model has limbs of both joints."""
        for names in limbs:
            if names[0] == names[1] or not set(names) <= set(self.joints):
                continue
            start, end = (self.joints.index(name) for name in names)
            if not self._connected(start, end) or not {start, end} <= self._by_default:
                self._add(start, end, "of the annotation file")

    def connect_by_anatomy(self) -> None:
        """Connect joints that are not connected yet with the nearest body part, by their names."""
        for joint, name in enumerate(self.joints):
            for other in _anatomical_neighbors(name, self.joints):
                if not self._connected(joint, other):
                    self._add(other, joint, "by anatomy", Certainty.LIKELY)

    def connect_by_distance(self, positions: JointPositions) -> None:
        """Connect groups by the pairs of joints whose distance varies least between people."""
        pairs = combinations(range(positions.points.shape[1]), 2)
        spreads = _distance_spreads(positions, (p for p in pairs if not self._connected(*p)))
        for start, end in sorted(spreads, key=lambda pair: (spreads[pair], pair)):
            if not self._connected(start, end):
                self._add(start, end, "by the distances in the annotations", Certainty.LIKELY)

    def connect_by_order(self) -> None:
        """Connect the remaining groups in the order of the joints, both sides alike."""
        mirrored = Skeleton("", self.joints, ()).mirrored
        for start, end in pairwise(range(len(self.joints))):
            ends = (end, mirrored[end]) if mirrored[start] == start else (end,)
            for other in ends:
                if not self._connected(start, other):
                    self._add(start, other, "by the order of the joints only", Certainty.UNSURE)

    def inference(self) -> Inference:
        """Return how many limbs come from where."""
        parts = [f"{count} {source}" for source, count in self._counts.items()]
        return Inference("limbs", ", ".join(parts), self._certainty)

    def _connected(self, start: int, end: int) -> bool:
        return self._groups[start] == self._groups[end]

    def _add(
        self, start: int, end: int, source: str, certainty: Certainty = Certainty.SURE
    ) -> None:
        """Add a limb, unless it exists in one of both directions."""
        if (start, end) in self.limbs or (end, start) in self.limbs:
            return
        self.limbs.append((start, end))
        self._counts[source] = self._counts.get(source, 0) + 1
        if certainty is not Certainty.SURE and self._certainty is not Certainty.UNSURE:
            self._certainty = certainty
        joined, group = self._groups[end], self._groups[start]
        self._groups = [group if other == joined else other for other in self._groups]


def _anatomical_neighbors(joint: str, joints: tuple[str, ...]) -> Iterator[int]:
    """Yield the joints of the nearest body part that a joint can be connected with.

    Of a joint without a side, these can be a left and a right one.
    """
    side, legs = side_of(joint), _legs(joint)
    for part in _NEAREST.get(_part(joint), ()):
        found = [
            index
            for index, other in enumerate(joints)
            if _part(other) == part
            and other != joint
            and (not side or side_of(other) in (side, ""))
            and (not legs or _legs(other) in (legs, ""))
        ]
        if found:
            same_side = [index for index in found if side_of(joints[index]) == side]
            yield from same_side or found
            return


def _part(joint: str) -> str:
    """Return the body part of a joint: the last known word, or else the last word.

    Hips and shoulders without a side are the points between them.
    """
    known = [part for word in words_of(joint) if (part := _known_part(word))]
    part = known[-1] if known else part_of(joint)
    return part if side_of(joint) else _MIDDLES.get(part, part)


def _known_part(word: str) -> str:
    """Return the body part that a word is, starts with or ends with; or an empty text."""
    parts = _NEAREST.keys() | _LIKE.keys()
    if word in parts or word in _LEGS["front"] | _LEGS["back"]:
        return word if word in parts else ""
    return max((p for p in parts if word.startswith(p) or word.endswith(p)), key=len, default="")


def _legs(joint: str) -> str:
    """Return which legs a joint belongs to, "front" or "back"; an empty text for other joints."""
    words = words_of(joint)
    for word in sorted(words, key=lambda word: word in _NEAREST):
        for legs, signs in _LEGS.items():
            if word in signs:
                return legs
    return ""


def _distance_spreads(
    positions: JointPositions, pairs: Iterable[tuple[int, int]]
) -> dict[tuple[int, int], float]:
    """Return a measure of how little connected each pair of joints is.

    It is the product of mean and standard deviation of the distance, relative to the person's
    size: small for joints that are near each other and connected by a bone. With it, 84 to 89 % of
    the limbs between COCO's joints are anatomical, for 50 to 5,000 people; with the standard
    deviation alone, 57 to 94 %. Pairs that few people have are missing.
    """
    points = positions.points[:_MAX_PEOPLE] / positions.sizes[:_MAX_PEOPLE, None, None]
    spreads = {}
    for start, end in pairs:
        distances = np.linalg.norm(points[:, start] - points[:, end], axis=1)
        distances = distances[~np.isnan(distances)]
        if len(distances) >= _MIN_PEOPLE:
            spreads[start, end] = float(distances.mean() * distances.std())
    return spreads


def _sides(skeleton: Skeleton, declared: Iterable[tuple[str, str]]) -> tuple[Inference, bool]:
    """Return the inference about left/right pairs, and whether images can be mirrored.

    Args:
        skeleton: The skeleton, which pairs joints by their names.
        declared: Pairs of joints in the annotation file, possibly none.
    """
    joints, mirrored = skeleton.joints, skeleton.mirrored
    pairs = [pair for pair in enumerate(mirrored) if pair[0] < pair[1]]
    different = [
        " and ".join(pair)
        for pair in declared
        if {*pair} <= {*joints} and mirrored[joints.index(pair[0])] != joints.index(pair[1])
    ]
    if different:
        problem = f"mirrored in the annotation file, but not by name: {', '.join(different)}"
    elif skeleton.unpaired:
        problem = f"no counterpart on the other side: {', '.join(skeleton.unpaired)}"
    elif not pairs:
        problem = "no joint name contains left or right (or l, r)"
    else:
        left, right = pairs[0]
        text = f"{len(pairs)} left/right pairs by name, such as {joints[left]} and {joints[right]}"
        return Inference("sides", text), True
    remedy = "Rename joints like left_hip and right_hip"
    text = f"{problem}; so images are not mirrored in training. {remedy} to change this"
    return Inference("sides", text, Certainty.UNSURE), False


def _sigmas(joints: tuple[str, ...]) -> tuple[tuple[float, ...], Inference]:
    """Return the OKS sigmas of joints, and where they come from."""
    parts = [_part(joint) for joint in joints]
    like = {part: _LIKE[part] for part in parts if part in _LIKE}
    sigmas = oks_sigmas([_LIKE.get(part, joint) for part, joint in zip(parts, joints, strict=True)])
    default = oks_sigmas([""])[0]
    unknown = [
        joint
        for joint, part, sigma in zip(joints, parts, sigmas, strict=True)
        if sigma == default and part not in like and part not in ("neck", "shoulder")
    ]
    texts = ["COCO's, by name"] if len(unknown) + len(like) < len(joints) else []
    if like:
        texts.append(", ".join(f"{part} as {other}" for part, other in like.items()))
    if unknown:
        names = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
        texts.append(f"{default} (as the shoulder) for {names}")
    certainty = Certainty.UNSURE if unknown else Certainty.LIKELY if like else Certainty.SURE
    return sigmas, Inference("sigmas", "; ".join(texts), certainty)
