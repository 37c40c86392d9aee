"""Skeletons: joint names, limbs, and everything that is derived from the names.

Training targets, channel counts, decoder, evaluation and drawing are all defined by a `Skeleton`.
"""

from __future__ import annotations

import colorsys
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bodyposenet.errors import BodyPoseNetError

# OKS sigmas of COCO's keypoints (cocodataset.org, "keypoints-eval"), by the body part without its
# side. COCO has no neck; its sigma is that of the shoulders.
_SIGMAS = {
    "nose": 0.026, "eye": 0.025, "ear": 0.035, "shoulder": 0.079, "elbow": 0.072, "wrist": 0.062,
    "hip": 0.107, "knee": 0.087, "ankle": 0.089, "neck": 0.079,
}  # fmt: skip
_DEFAULT_SIGMA = 0.079

# Joints at the midpoint of two others, for datasets that do not annotate them.
_DERIVED = {"neck": ("left_shoulder", "right_shoulder")}

# One word of a joint name: `left_hand`, `left hand`, `LeftHand`, `LHand`, `lefthand` and `lhand`
# have two each. In lower case, a side is only split from a body part, not in `leftover` or `rear`.
_LOWER = r"[^\W\d_A-Z]"
_PARTS = "shoulder|elbow|wrist|hand|finger|thumb|hip|knee|ankle|foot|heel|toe|eye|paw|leg|arm"
_WORD = re.compile(
    rf"(?<![^\W_])(?:[Ll]eft|[Rr]ight)(?=(?:{_PARTS}|ear|front|back|fore|hind))"
    rf"|(?<![^\W_])[LlRr](?=(?:{_PARTS})(?!{_LOWER}))"
    rf"|(?:[A-Z]?{_LOWER}+|[A-Z]+(?!{_LOWER}))\d*|\d+"
)

# Words for the sides, the less ambiguous pair first.
_SIDES = (("left", "right"), ("l", "r"))


@dataclass(frozen=True)
class Skeleton:
    """Joint names and limbs; immutable and hashable.

    Args:
        name: `pose_config_type` of the pose configuration.
        joints: Names of the K joints, in heatmap order.
        limbs: L pairs of joint indices (from, to); limb k has PAF channels 2k (x) and 2k + 1 (y).
        sigmas: K OKS sigmas. Default: those of COCO, by joint name.
        derived: Joint -> the two joints with this midpoint, for datasets without the joint.
            Default: the neck between the shoulders.
        auxiliary: Indices of the auxiliary limbs, which `mode: accurate` assembles last; they never
            start a person. Default: the limbs between a shoulder and an ear.

    Raises:
        BodyPoseNetError: A joint name occurs twice, or a limb does not connect two joints.
    """

    name: str
    joints: tuple[str, ...]
    limbs: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...] = ()
    derived: Mapping[str, tuple[str, str]] = field(
        default_factory=lambda: dict(_DERIVED),
        hash=False,  # a dict has no hash; equal skeletons have equal hashes without it
    )
    auxiliary: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "joints", tuple(self.joints))
        object.__setattr__(self, "limbs", tuple((start, end) for start, end in self.limbs))
        object.__setattr__(self, "sigmas", tuple(self.sigmas))
        if self.auxiliary is not None:
            object.__setattr__(self, "auxiliary", tuple(self.auxiliary))
        twice = sorted({joint for joint in self.joints if self.joints.count(joint) > 1})
        if twice:
            raise BodyPoseNetError(f"skeleton {self.name}: joint names occur twice: {twice}")
        for start, end in self.limbs:
            if start == end or not (0 <= min(start, end) <= max(start, end) < len(self.joints)):
                raise BodyPoseNetError(
                    f"skeleton {self.name}: limb ({start}, {end}) does not connect two of its "
                    f"{len(self.joints)} joints (counted from 0)"
                )
        if not self.sigmas:
            object.__setattr__(self, "sigmas", oks_sigmas(self.joints))
        elif len(self.sigmas) != len(self.joints):
            raise BodyPoseNetError(
                f"skeleton {self.name}: expected {len(self.joints)} sigmas, one per joint, "
                f"got {len(self.sigmas)}"
            )
        if self.auxiliary is None:
            object.__setattr__(self, "auxiliary", self._limbs_between("shoulder", "ear"))
        elif not set(self.auxiliary) <= set(range(len(self.limbs))):
            raise BodyPoseNetError(
                f"skeleton {self.name}: auxiliary {self.auxiliary}: not all are indices of its "
                f"{len(self.limbs)} limbs (counted from 0)"
            )

    @property
    def heatmap_channels(self) -> int:
        """Number of heatmaps, K + 1: one per joint, and the background."""
        return len(self.joints) + 1

    @property
    def paf_channels(self) -> int:
        """Number of PAF channels, 2 L: x and y of each limb."""
        return 2 * len(self.limbs)

    @cached_property
    def mirrored(self) -> tuple[int, ...]:
        """For each joint the index of its counterpart on the other side, or its own index."""
        index = {joint: i for i, joint in enumerate(self.joints)}
        return tuple(index.get(other_side(joint), i) for joint, i in index.items())

    @property
    def unpaired(self) -> tuple[str, ...]:
        """Joints of one side without a counterpart on the other.

        Either the name is misspelled or the joint exists on one side only. In both cases, the
        labels of mirrored training images are wrong.
        """
        sided = (joint for joint in self.joints if side_of(joint))
        return tuple(joint for joint in sided if other_side(joint) not in self.joints)

    @cached_property
    def colors(self) -> tuple[tuple[int, int, int], ...]:
        """RGB color of each limb: warm on the right, cold on the left, green in the middle."""
        hues = {"right": (0.95, 1.13), "left": (0.50, 0.66), "": (0.28, 0.40)}
        sides = [self._limb_side(limb) for limb in self.limbs]
        colors: list[tuple[int, int, int]] = []
        for k, side in enumerate(sides):
            place = sides[:k].count(side) / max(sides.count(side) - 1, 1)
            low, high = hues[side]
            hue = (low + (high - low) * place) % 1.0
            red, green, blue = colorsys.hsv_to_rgb(hue, 0.80, 1.0)
            colors.append((round(255 * red), round(255 * green), round(255 * blue)))
        return tuple(colors)

    def _limbs_between(self, first: str, second: str) -> tuple[int, ...]:
        """Return the indices of limbs that connect two body parts."""
        parts = [{part_of(self.joints[joint]) for joint in limb} for limb in self.limbs]
        return tuple(limb for limb, ends in enumerate(parts) if ends == {first, second})

    def _limb_side(self, limb: tuple[int, int]) -> str:
        sides = {side_of(self.joints[j]) for j in limb} - {""}
        return sides.pop() if len(sides) == 1 else ""

    def to_pose_configuration(self) -> dict[str, Any]:
        """Return the pose configuration in TAO's JSON schema (limb indices counted from 1)."""
        return {
            "pose_config_type": self.name,
            "categories": [
                {
                    "supercategory": "person",
                    "id": 1,
                    "name": "person",
                    "num_joints": len(self.joints),
                    "keypoints": list(self.joints),
                    "skeleton": [[start + 1, end + 1] for start, end in self.limbs],
                    "skeleton_edge_names": [
                        [self.joints[start], self.joints[end]] for start, end in self.limbs
                    ],
                    "sigmas": list(self.sigmas),
                    "derived_joints": {
                        name: list(parents) for name, parents in self.derived.items()
                    },
                    "auxiliary_limbs": [
                        [self.joints[joint] for joint in self.limbs[limb]]
                        for limb in self.auxiliary or ()
                    ],
                }
            ],
        }

    @classmethod
    def from_pose_configuration(cls, configuration: Mapping[str, Any]) -> Skeleton:
        """Create a skeleton from a validated pose configuration (see `specs.pose`)."""
        category = configuration["categories"][0]
        index = {joint: i for i, joint in enumerate(category["keypoints"])}
        names = category.get("skeleton_edge_names")
        if names:
            limbs = tuple((index[start], index[end]) for start, end in names)
        else:
            limbs = tuple((start - 1, end - 1) for start, end in category["skeleton"])
        derived = category.get("derived_joints")
        auxiliary = category.get("auxiliary_limbs", category.get("completing_limbs"))
        return cls(
            name=configuration["pose_config_type"],
            joints=tuple(category["keypoints"]),
            limbs=limbs,
            sigmas=tuple(category.get("sigmas") or ()),
            derived=dict(_DERIVED)
            if derived is None
            else {name: (first, second) for name, (first, second) in derived.items()},
            auxiliary=None
            if auxiliary is None
            else tuple(limbs.index((index[start], index[end])) for start, end in auxiliary),
        )

    @property
    def completing(self) -> tuple[int, ...] | None:
        """Deprecated: `auxiliary`."""
        message = "Skeleton.completing is deprecated; use Skeleton.auxiliary"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        return self.auxiliary

    def joints_from(self, dataset_joints: Sequence[str]) -> JointMap:
        """Return the map from a dataset's joints to this skeleton's.

        Args:
            dataset_joints: Joint names of the dataset, matched by `match`.
        """
        indices = self.match(dataset_joints)
        names = zip(dataset_joints, indices, strict=True)
        return JointMap(self, tuple(j if k is None else self.joints[k] for j, k in names))

    def match(self, joints: Sequence[str]) -> tuple[int | None, ...]:
        """Find joints by names in another notation, such as `LShoulder` for `left_shoulder`.

        An equal name has priority. Otherwise, names match if they have the same side and the same
        other words, in any case and order.

        Args:
            joints: Names in another notation.

        Returns:
            The index of each name in `self.joints`, or None if the skeleton does not have the
            joint, or the match is ambiguous.
        """
        return _match(self.joints, tuple(joints))


@dataclass(frozen=True)
class JointMap:
    """Map from a dataset's joints to a skeleton's joints, by exact name.

    Args:
        skeleton: The skeleton to map to.
        dataset_joints: Names of the D joints of the dataset.
    """

    skeleton: Skeleton
    dataset_joints: tuple[str, ...]

    @cached_property
    def _sources(self) -> tuple[tuple[int, ...], ...]:
        """For each joint of the skeleton: the dataset's joint, two to average, or none."""
        index = {joint: i for i, joint in enumerate(self.dataset_joints)}
        sources: list[tuple[int, ...]] = []
        for joint in self.skeleton.joints:
            parents = self.skeleton.derived.get(joint, ())
            if joint in index:
                sources.append((index[joint],))
            elif parents and all(parent in index for parent in parents):
                sources.append(tuple(index[parent] for parent in parents))
            else:
                sources.append(())
        return tuple(sources)

    @cached_property
    def known(self) -> NDArray[np.bool_]:
        """(K,) whether the dataset has each joint, directly or derived."""
        return np.array([bool(source) for source in self._sources])

    @cached_property
    def _columns(self) -> NDArray[np.intp]:
        """(3, S): joints that the dataset has, and the two dataset joints to average for each."""
        rows = [(joint, own[0], own[-1]) for joint, own in enumerate(self._sources) if own]
        return np.array(rows, np.intp).reshape(-1, 3).T

    def keypoints(
        self, points: NDArray[np.floating], labeled: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Map keypoints; a derived joint is labeled only if both of its parents are.

        Args:
            points: (P, D, 2) coordinates.
            labeled: (P, D) whether each joint is labeled.

        Returns:
            (P, K, 2) coordinates, 0 if unlabeled, and (P, K) whether they are labeled.
        """
        shape = (len(points), len(self.skeleton.joints))
        mapped, is_labeled = np.zeros((*shape, 2)), np.zeros(shape, dtype=bool)
        joints, first, second = self._columns
        is_labeled[:, joints] = labeled[:, first] & labeled[:, second]
        mapped[:, joints] = (points[:, first] + points[:, second]) / 2
        mapped[~is_labeled] = 0.0
        return mapped, is_labeled


def words_of(joint: str) -> list[str]:
    """Split a joint name at spaces, `_`, `-` and capitals into lower-case words."""
    return [word.lower() for word in _WORD.findall(joint)]


def side_of(joint: str) -> str:
    """Return `left` or `right` if the joint name has a side, else an empty string."""
    pair = _side_words(joint)
    if not pair:
        return ""
    return "left" if pair[0] in words_of(joint) else "right"


def other_side(joint: str) -> str:
    """Return the name of the joint on the other side of the body; the same one without a side."""
    swap = dict(zip(_side_words(joint), reversed(_side_words(joint)), strict=True))
    return _WORD.sub(lambda word: _match_case(word[0], swap.get(word[0].lower(), word[0])), joint)


def part_of(joint: str) -> str:
    """Return the last word of a joint's name that is not a side: `right_ear` -> `ear`."""
    sides = _side_words(joint)
    return next((word for word in reversed(words_of(joint)) if word not in sides), "")


def oks_sigmas(joints: Sequence[str]) -> tuple[float, ...]:
    """Return the OKS sigmas of joints by name: those of COCO, or the shoulder's for other parts."""
    return tuple(
        next((_SIGMAS[word] for word in words_of(joint) if word in _SIGMAS), _DEFAULT_SIGMA)
        for joint in joints
    )


@lru_cache(maxsize=64)
def _match(own: tuple[str, ...], joints: tuple[str, ...]) -> tuple[int | None, ...]:
    """See `Skeleton.match`."""
    own_keys, keys = [_key(joint) for joint in own], [_key(joint) for joint in joints]

    def _find(joint: str, key: tuple[str, ...]) -> int | None:
        if joint in own:
            return own.index(joint)
        is_unique = own_keys.count(key) == keys.count(key) == 1
        return own_keys.index(key) if is_unique else None

    return tuple(_find(joint, key) for joint, key in zip(joints, keys, strict=True))


def _key(joint: str) -> tuple[str, ...]:
    """Normalize a name: its side, then its other words in sorted order."""
    sides = _side_words(joint)
    return (side_of(joint), *sorted(word for word in words_of(joint) if word not in sides))


def _side_words(joint: str) -> tuple[str, ...]:
    """Return the pair of side words that the name uses, or an empty tuple."""
    words = words_of(joint)
    return next((pair for pair in _SIDES if pair[0] in words or pair[1] in words), ())


def _match_case(template: str, word: str) -> str:
    """Return the word in the capitalization of the template."""
    if word == template:
        return word
    if template.isupper():
        return word.upper()
    return word.capitalize() if template.istitle() else word


COCO_JOINTS = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
    "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip",
    "left_knee", "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip
"""COCO's 17 keypoints, in its order."""
