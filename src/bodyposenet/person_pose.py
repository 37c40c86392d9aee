"""One detected person, a mapping from joint names to keypoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bodyposenet.errors import UnknownJointError, closest
from bodyposenet.other_libraries import missing_result_attribute
from bodyposenet.skeleton import Skeleton

_BOX_MARGIN = 0.1
"""Margin of boxes around keypoints, relative to the longer side; as of COCO's people."""


class Keypoint(NamedTuple):
    """One joint of one person.

    Args:
        x: Column in image pixels; NaN where the joint is missing.
        y: Row in image pixels; NaN where the joint is missing.
        score: 0 to 1; 0 where the joint is missing.
    """

    x: float
    y: float
    score: float

    @property
    def visible(self) -> bool:
        """Whether the joint was detected or inferred."""
        return self.x == self.x  # False for NaN


@dataclass(frozen=True, eq=False, repr=False)
class PersonPose(Mapping[str, Keypoint]):
    """One person of `Poses`: a read-only mapping from the skeleton's joint names to `Keypoint`.

    Names are matched by `Skeleton.match`, so `LShoulder` finds `left_shoulder`. The arrays are
    views of those of the `Poses`. `==` compares skeletons and arrays; NaN equals NaN.

    Args:
        keypoints: (K, 2) float32, x and y in image pixels, NaN where a joint is missing.
        keypoint_scores: (K,) float32 in 0..1, 0 where a joint is missing.
        score: Score of the person.
        skeleton: Names and limbs of the K joints.
        track_id: Id of the person in a video; -1 without one, None outside of video.
        inferred: (K,) bool, joints that `complete_pose` inferred, or None if it was not used.
    """

    keypoints: NDArray[np.float32]
    keypoint_scores: NDArray[np.float32]
    score: float
    skeleton: Skeleton
    track_id: int | None = None
    inferred: NDArray[np.bool_] | None = None

    if not TYPE_CHECKING:  # type checkers would accept any attribute

        def __getattr__(self, name: str) -> NoReturn:
            raise missing_result_attribute("PersonPose", name)

    def __getitem__(self, joint: str) -> Keypoint:
        """Return a joint by name; `visible` of a missing one is False.

        Raises:
            UnknownJointError: The skeleton has no such joint.
        """
        index = self._index(joint)
        if index is None:
            joints = self.skeleton.joints
            similar = closest(str(joint), joints)
            raise UnknownJointError(
                f"Unknown joint: {joint!r}",
                f"Did you mean {similar[0]!r}?"
                if similar
                else f"Joints of {self.skeleton.name}: {', '.join(joints)}.",
            )
        x, y = self.keypoints[index].tolist()
        return Keypoint(x, y, float(self.keypoint_scores[index]))

    def _index(self, joint: object) -> int | None:
        return self.skeleton.match([joint])[0] if isinstance(joint, str) else None

    def __contains__(self, joint: object) -> bool:
        return self._index(joint) is not None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PersonPose):
            return NotImplemented
        return same_values(self, other)

    __hash__ = None  # type: ignore[assignment]

    def __iter__(self) -> Iterator[str]:
        return iter(self.skeleton.joints)

    def __len__(self) -> int:
        return len(self.skeleton.joints)

    def __repr__(self) -> str:
        track = "" if self.track_id is None else f", track {self.track_id}"
        return (
            f"PersonPose({self.score:.2f} with {self.visible.sum()} of {len(self)} joints{track})"
        )

    @property
    def visible(self) -> NDArray[np.bool_]:
        """(K,) whether each joint was detected or inferred."""
        return ~np.isnan(self.keypoints[:, 0])

    @property
    def box(self) -> NDArray[np.float32]:
        """(4,) float32 x1, y1, x2, y2 around the visible joints; NaN if there are none."""
        return boxes_around(self.keypoints[None])[0]


def same_values(one: object, other: object) -> bool:
    """Return whether two dataclass instances have equal fields; in arrays, NaN equals NaN."""
    mine, others = vars(one), vars(other)
    return all(_is_same(mine[name], others[name]) for name in mine)


def _is_same(one: Any, other: Any) -> bool:
    if one is None or other is None:
        return one is other
    if isinstance(one, Skeleton):
        return one == other
    return np.array_equal(one, other, equal_nan=True)


def boxes_around(keypoints: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (N, 4) x1, y1, x2, y2 around (N, K, 2) keypoints; NaN if all are NaN."""
    missing, infinity = np.isnan(keypoints), np.float32(np.inf)
    low = np.where(missing, infinity, keypoints).min(axis=1, initial=infinity)
    high = np.where(missing, -infinity, keypoints).max(axis=1, initial=-infinity)
    boxes = np.concatenate([low, high], axis=1)
    boxes[np.isinf(boxes)] = np.nan
    return boxes


def boxes_with_margin(keypoints: NDArray[np.float64], size: ArrayLike) -> NDArray[np.float64]:
    """Return boxes around people, which extend beyond their joints.

    Args:
        keypoints: (N, K, 2) in image pixels, NaN where missing; at least one per person is not.
        size: Width and height of the image, to which the boxes are clipped.

    Returns:
        (N, 4) left, top, right and bottom in image pixels.
    """
    if not len(keypoints):
        return np.empty((0, 4))
    low, high = np.nanmin(keypoints, axis=1), np.nanmax(keypoints, axis=1)
    margin = _BOX_MARGIN * (high - low).max(axis=1, keepdims=True)
    return np.hstack([(low - margin).clip(0, size), (high + margin).clip(0, size)])
