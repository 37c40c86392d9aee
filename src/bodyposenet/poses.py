"""Poses: the people detected in one image, and their conversions to other formats."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn, cast, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import read_json, write_json
from bodyposenet.other_libraries import missing_result_attribute
from bodyposenet.person_pose import Keypoint, PersonPose, boxes_around, same_values
from bodyposenet.skeleton import COCO_JOINTS, Skeleton

if TYPE_CHECKING:
    import pandas  # pyright: ignore[reportMissingTypeStubs]

    from bodyposenet.geometry import Affine
    from bodyposenet.media.images import Color, Image

DEFAULT_SCORE_THRESHOLD = 0.6
"""Default minimum score of people who are drawn."""

NO_ID = -1
"""Track id of people without a track, if others have one."""

_PEOPLE_SHOWN = 3
"""Number of people in the repr of `Poses`."""


@dataclass(frozen=True, eq=False, repr=False)
class Poses:
    """The people detected in one image.

    `==` compares skeletons and arrays; NaN equals NaN. Instances are not hashable, because their
    arrays can be changed. Values are converted to the dtypes below, and shapes are checked.

    Args:
        keypoints: (N, K, 2) float32, x and y in image pixels, NaN where a joint is missing.
        keypoint_scores: (N, K) float32 in 0..1, 0 where a joint is missing.
        scores: (N,) float32, the confidence in each person.
        skeleton: Names and limbs of the K joints.
        track_ids: (N,) int64, -1 for people without a track; None if people were not tracked.
        inferred: (N, K) bool, joints that `complete_pose` inferred, or None if it was not used.

    Raises:
        BodyPoseNetError: A shape does not match the number of people or the skeleton.
    """

    keypoints: NDArray[np.float32]
    keypoint_scores: NDArray[np.float32]
    scores: NDArray[np.float32]
    skeleton: Skeleton
    track_ids: NDArray[np.int64] | None = None
    inferred: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        scores = self._convert("scores", np.float32)
        people, joints = scores.shape[:1], (len(self.skeleton.joints),)
        self._check("scores", scores, people or (0,))
        self._check("keypoints", self._convert("keypoints", np.float32), (*people, *joints, 2))
        keypoint_scores = self._convert("keypoint_scores", np.float32)
        self._check("keypoint_scores", keypoint_scores, people + joints)
        if self.track_ids is not None:
            self._check("track_ids", self._convert("track_ids", np.int64), people)
        if self.inferred is not None:
            self._check("inferred", self._convert("inferred", np.bool_), people + joints)

    if not TYPE_CHECKING:  # type checkers would accept any attribute

        def __getattr__(self, name: str) -> NoReturn:
            raise missing_result_attribute("Poses", name)

    def _convert(self, name: str, dtype: DTypeLike) -> NDArray[Any]:
        value = getattr(self, name)
        try:
            array = np.asarray(value, dtype)
        except (TypeError, ValueError, OverflowError) as error:
            raise BodyPoseNetError(f"Poses.{name}: not an array of numbers: {error}") from error
        if array is not value:
            object.__setattr__(self, name, array)
        return array

    def _check(self, name: str, array: NDArray[Any], shape: tuple[int, ...]) -> None:
        if array.shape != shape:
            raise BodyPoseNetError(
                f"Poses.{name}: expected the shape {shape} for {shape[0]} people with the "
                f"{len(self.skeleton.joints)} joints of {self.skeleton.name}, got {array.shape}",
                "N people have keypoints (N, K, 2), keypoint_scores (N, K) and scores (N,).",
            )

    @classmethod
    def empty(cls, skeleton: Skeleton) -> Poses:
        """Return the poses of an image without people."""
        scores = np.zeros((0, len(skeleton.joints)), np.float32)
        return cls(scores[..., None].repeat(2, axis=2), scores, scores[:, 0], skeleton)

    @classmethod
    def concat(cls, parts: Sequence[Poses]) -> Poses:
        """Concatenate the people of several `Poses`.

        Args:
            parts: One or more, of the same skeleton. If only some of them have track ids or
                `inferred`, the people of the others get the id -1 and no inferred joints.

        Raises:
            BodyPoseNetError: `parts` is empty, or the skeletons differ.
        """
        if len({part.skeleton.joints for part in parts}) != 1:
            names = ", ".join(sorted({part.skeleton.name for part in parts}))
            raise BodyPoseNetError(
                f"Poses.concat: expected poses of one skeleton, got {names or 'an empty list'}",
                "Concatenate poses of the same joints; Poses.empty(skeleton) has no people.",
            )
        return cls(
            np.concatenate([part.keypoints for part in parts]),
            np.concatenate([part.keypoint_scores for part in parts]),
            np.concatenate([part.scores for part in parts]),
            parts[0].skeleton,
            _concat_optional([(p.track_ids, p.scores.shape) for p in parts], NO_ID),
            _concat_optional([(p.inferred, p.keypoint_scores.shape) for p in parts], False),
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Poses):
            return NotImplemented
        return same_values(self, other)

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[PersonPose]:
        return (self[person] for person in range(len(self)))

    def __repr__(self) -> str:
        if not len(self):
            return f"Poses(0 people, {self.skeleton.name})"
        people = [
            f"{score:.2f} with {visible.sum()} joints"
            for score, visible in zip(self.scores[:_PEOPLE_SHOWN], self.visible, strict=False)
        ]
        more = ["..."] if len(self) > _PEOPLE_SHOWN else []
        noun = "person" if len(self) == 1 else "people"
        return f"Poses({len(self)} {noun}, {self.skeleton.name}: {', '.join(people + more)})"

    @overload
    def __getitem__(self, index: int | np.integer) -> PersonPose: ...
    @overload
    def __getitem__(self, index: slice | Sequence[int] | NDArray[Any]) -> Poses: ...

    def __getitem__(
        self, index: int | np.integer | slice | Sequence[int] | NDArray[Any]
    ) -> PersonPose | Poses:
        """Return one person for an integer, or `Poses` for any other index.

        Args:
            index: An integer; or a slice, a list of integers, or (N,) bool, such as
                `poses.scores > .5`.

        Raises:
            IndexError: The index is out of range.
        """
        track_ids, inferred = self.track_ids, self.inferred
        if isinstance(index, int | np.integer):
            if not -len(self) <= index < len(self):
                raise IndexError(f"person {index} is out of range: there are {len(self)}")
            return PersonPose(
                self.keypoints[index],
                self.keypoint_scores[index],
                float(self.scores[index]),
                self.skeleton,
                None if track_ids is None else int(track_ids[index]),
                None if inferred is None else inferred[index],
            )
        return Poses(
            self.keypoints[index],
            self.keypoint_scores[index],
            self.scores[index],
            self.skeleton,
            None if track_ids is None else track_ids[index],
            None if inferred is None else inferred[index],
        )

    @property
    def visible(self) -> NDArray[np.bool_]:
        """(N, K) whether each joint was detected or inferred; others are missing, and NaN."""
        return ~np.isnan(self.keypoints[..., 0])

    @property
    def boxes(self) -> NDArray[np.float32]:
        """(N, 4) float32 x1, y1, x2, y2 around the visible joints; NaN for people without any."""
        return boxes_around(self.keypoints)

    def transform(self, affine: Affine) -> Poses:
        """Return the same people with every keypoint mapped by an `Affine`."""
        return replace(self, keypoints=affine.apply(self.keypoints).astype(np.float32))

    def draw(
        self,
        image: Image,
        *,
        score_threshold: float = DEFAULT_SCORE_THRESHOLD,
        color: Color = "rgb",
    ) -> NDArray[np.uint8]:
        """Draw the people on a copy of the image.

        Args:
            image: The image; see `bodyposenet.draw`.
            score_threshold: Minimum score of people who are drawn.
            color: Channel order of the image, if it is an array, and of the result: `rgb` or `bgr`.

        Returns:
            (H, W, 3) uint8, RGB or BGR.

        Raises:
            BodyPoseNetError: The image cannot be read, or an argument is out of range.
        """
        from bodyposenet.media.draw import draw

        return draw(image, self, score_threshold=score_threshold, color=color)

    def to_named(self, person: int = 0) -> dict[str, Keypoint]:
        """Return joint name -> (x, y, score) of the visible joints of one person.

        Args:
            person: Index of the person.
        """
        return {joint: point for joint, point in self[person].items() if point.visible}

    def to_dict(self) -> dict[str, Any]:
        """Return lists for JSON, in TAO's schema; missing joints are [0, 0] with the score 0."""
        result: dict[str, Any] = {
            "keypoints": np.nan_to_num(self.keypoints).astype(float).round(3).tolist(),
            "scores": self.scores.astype(float).round(5).tolist(),
            "keypoint_scores": self.keypoint_scores.astype(float).round(5).tolist(),
        }
        if self.track_ids is not None:
            result["track_ids"] = self.track_ids.tolist()
        if self.inferred is not None:
            result["inferred"] = self.inferred.tolist()
        return result

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], skeleton: Skeleton | None = None) -> Poses:
        """Build poses from the lists of `to_dict`, or from an entry of `detections.json`.

        Args:
            values: The lists; other keys are ignored. Joints at [0, 0] with the score 0 are
                missing.
            skeleton: The skeleton. Default: the pose configuration in `values["skeleton"]`, as
                written by `save`.

        Raises:
            BodyPoseNetError: A key is missing, or the lists do not match the skeleton.
        """
        remedy = "Give what Poses.to_dict returned, or one entry of detections.json."
        if not isinstance(cast(object, values), Mapping):
            given = type(values).__name__
            raise BodyPoseNetError(f"Poses.from_dict: expected a dict, got {given}", remedy)
        try:
            if skeleton is None:
                skeleton = Skeleton.from_pose_configuration(values["skeleton"])
            joints = len(skeleton.joints)
            inferred = values.get("inferred")
            poses = cls(
                _rows(values["keypoints"], joints, 2),
                _rows(values["keypoint_scores"], joints),
                values["scores"],
                skeleton,
                values.get("track_ids"),
                None if inferred is None else _rows(inferred, joints),
            )
        except KeyError as error:
            raise BodyPoseNetError(
                f"Poses.from_dict: the key {error} is missing",
                "Give the skeleton: Poses.from_dict(values, model.skeleton)."
                if error.args == ("skeleton",)
                else "Give what Poses.to_dict returned, or an entry of detections.json.",
            ) from error
        except (AttributeError, IndexError, OverflowError, TypeError, ValueError) as error:
            raise BodyPoseNetError(
                f"Poses.from_dict: not what Poses.to_dict returned: {error}"
            ) from error
        is_missing = (poses.keypoint_scores == 0) & (poses.keypoints == 0).all(axis=-1)
        keypoints = np.where(is_missing[..., None], np.float32(np.nan), poses.keypoints)
        return replace(poses, keypoints=keypoints)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the poses and their skeleton as JSON.

        Args:
            path: The file; it is replaced if it exists, and missing folders are created.

        Raises:
            BodyPoseNetError: The file cannot be written.
        """
        document = {"skeleton": self.skeleton.to_pose_configuration(), **self.to_dict()}
        write_json(os.fspath(path), document, indent=None)

    @classmethod
    def load(cls, path: str | os.PathLike[str], skeleton: Skeleton | None = None) -> Poses:
        """Read a file that `save` wrote.

        Args:
            path: The file.
            skeleton: The skeleton, if the file does not contain it.

        Raises:
            BodyPoseNetError: The file cannot be read or does not contain poses.
        """
        path = os.fspath(path)
        content = read_json(path, "Give a file that Poses.save wrote.")
        try:
            return cls.from_dict(content, skeleton)
        except BodyPoseNetError as error:
            raise BodyPoseNetError(f"{path}: {error.what}", error.remedy) from error

    def to_coco(self, image_id: int, joints: Sequence[str] = COCO_JOINTS) -> list[dict[str, Any]]:
        """Return results in COCO's format, for the joints that a dataset labels.

        Args:
            image_id: COCO image id.
            joints: Joint names of the dataset, matched by `Skeleton.match`; joints that the
                skeleton does not have are missing in the results.

        Returns:
            A dict per person with image_id, category_id, keypoints (x, y, 1 if visible else 0) and
            score.
        """
        visible, triples = self.visible, np.zeros((len(self), len(joints), 3))
        for column, k in enumerate(self.skeleton.match(joints)):
            if k is not None:
                triples[visible[:, k], column, :2] = self.keypoints[visible[:, k], k]
                triples[visible[:, k], column, 2] = 1
        return [
            {
                "image_id": image_id,
                "category_id": 1,
                "keypoints": triples[person].round(3).reshape(-1).tolist(),
                "score": float(self.scores[person]),
            }
            for person in range(len(self))
        ]

    @classmethod
    def from_coco(
        cls,
        results: Sequence[Mapping[str, Any]],
        skeleton: Skeleton,
        joints: Sequence[str] = COCO_JOINTS,
    ) -> Poses:
        """Build poses from COCO results, or from COCO annotations, of one image.

        The score of a keypoint is the third number of its triple, limited to 1: results of
        `to_coco` and annotations give 1, other tools may write a score. The default of a person's
        `score` is 1. Crowd regions are skipped. Joints that the dataset does not have are missing,
        except for derived joints such as the neck between two shoulders.

        Args:
            results: Dicts with `keypoints` (3 numbers per joint) and, optionally, `score`.
            skeleton: Skeleton of the poses.
            joints: Joint names of the dataset, matched by `Skeleton.match`.

        Raises:
            BodyPoseNetError: The results are of several images, or the number of `keypoints` does
                not match `joints`.
        """
        remedy = "Give the results or annotations of one image: [{'keypoints': [...]}, ...]."
        given = cast(object, results)
        is_list = isinstance(given, Sequence) and not isinstance(given, str)
        if not is_list or not all(isinstance(cast(object, one), Mapping) for one in results):
            raise BodyPoseNetError("Poses.from_coco: expected a list of dicts", remedy)
        images = sorted({str(result["image_id"]) for result in results if "image_id" in result})
        if len(images) > 1:
            raise BodyPoseNetError(
                f"Poses.from_coco: expected results of one image, got those of {len(images)}: "
                f"{', '.join(images[:3])} ...",
                "Group them by image_id, and call from_coco for each image.",
            )
        people = [result for result in results if not result.get("iscrowd")]
        triples, scores = np.zeros((len(people), len(joints), 3)), np.zeros(len(people), np.float32)
        for person, result in enumerate(people):
            triples[person], scores[person] = _parse_result(result, len(joints))
        joint_map = skeleton.joints_from(joints)
        points, visible = joint_map.keypoints(triples[..., :2], triples[..., 2] > 0)
        confidences, _ = joint_map.keypoints(triples[..., [2, 2]], triples[..., 2] > 0)
        return cls(
            np.where(visible[..., None], points, np.nan).astype(np.float32),
            np.minimum(confidences[..., 0], 1).astype(np.float32),
            scores,
            skeleton,
        )

    def to_dataframe(self) -> pandas.DataFrame:
        """Return a pandas data frame with one row per person and joint.

        Returns:
            Columns person (its index), joint, x, y, score, person_score, and track_id and inferred
            where the poses have them. x and y are NaN where a joint is missing.

        Raises:
            BodyPoseNetError: pandas is not installed.
        """
        pandas = _require("pandas", "Poses.to_dataframe")
        people, joints = self.keypoint_scores.shape
        columns: dict[str, Any] = {
            "person": np.repeat(list(range(people)), joints),
            "joint": list(self.skeleton.joints) * people,
            "x": self.keypoints[..., 0].ravel(),
            "y": self.keypoints[..., 1].ravel(),
            "score": self.keypoint_scores.ravel(),
            "person_score": np.repeat(self.scores, joints),
        }
        if self.track_ids is not None:
            columns["track_id"] = np.repeat(self.track_ids, joints)
        if self.inferred is not None:
            columns["inferred"] = self.inferred.ravel()
        return pandas.DataFrame(columns)

    def to_supervision(self) -> Any:
        """Return supervision's KeyPoints (0.29 or later), to draw them with its annotators.

        Missing joints lie at 0, 0 and are not `visible`; track ids are in `data["tracker_id"]`.
        `EdgeAnnotator` counts joints from 1: `edges=[(a + 1, b + 1) for a, b in skeleton.limbs]`.

        Raises:
            BodyPoseNetError: supervision is not installed.
        """
        supervision = _require("supervision", "Poses.to_supervision")
        return supervision.KeyPoints(
            xy=np.nan_to_num(self.keypoints),
            class_id=np.zeros(len(self), int),
            keypoint_confidence=self.keypoint_scores,
            detection_confidence=self.scores,
            visible=self.visible,
            data={} if self.track_ids is None else {"tracker_id": self.track_ids},
        )

    @property
    def found(self) -> NDArray[np.bool_]:
        """Deprecated: `visible`."""
        _warn_renamed("found", "visible")
        return self.visible

    def moved(self, to_image: Affine) -> Poses:
        """Deprecated: `transform`."""
        _warn_renamed("moved", "transform")
        return self.transform(to_image)

    def named(self, person: int = 0) -> dict[str, Keypoint]:
        """Deprecated: `to_named`."""
        _warn_renamed("named", "to_named")
        return self.to_named(person)


def _concat_optional(
    parts: Sequence[tuple[NDArray[Any] | None, tuple[int, ...]]], missing: int | bool
) -> NDArray[Any] | None:
    """Concatenate arrays that may be None, each given with its shape."""
    parts = [(array, shape) for array, shape in parts if shape[0]] or parts
    if all(array is None for array, _ in parts):
        return None
    return np.concatenate(
        [np.full(shape, missing) if array is None else array for array, shape in parts]
    )


def _rows(values: Any, *shape: int) -> NDArray[Any]:
    """Convert nested lists to an array; an empty list becomes one of shape (0, *shape)."""
    array = np.asarray(values, np.float32)
    return array if array.size else array.reshape(0, *shape)


def _parse_result(result: Mapping[str, Any], joints: int) -> tuple[NDArray[np.float64], float]:
    """Return (D, 3) x, y and visibility or score of one COCO result, and the person's score."""
    try:
        if "keypoints" not in result:
            raise ValueError("it has no keypoints")
        values = np.asarray(result["keypoints"], np.float64).ravel()
        score = float(result.get("score", 1))
    except (OverflowError, TypeError, ValueError) as error:
        raise BodyPoseNetError(
            f"Poses.from_coco: not a keypoint result of COCO: {error}",
            "Give results with keypoints (3 numbers per joint) and, optionally, a score.",
        ) from error
    if values.size != 3 * joints:
        raise BodyPoseNetError(
            f"Poses.from_coco: expected {3 * joints} values for {joints} keypoints, "
            f"got {values.size}",
            "Give the names of the dataset's joints: from_coco(results, skeleton, joints).",
        )
    return values.reshape(joints, 3), score


def _require(package: str, caller: str) -> ModuleType:
    """Import an optional package.

    Raises:
        BodyPoseNetError: It is not installed.
    """
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        raise BodyPoseNetError(
            f"{caller} needs {package}, which is not installed",
            f"Install it: pip install {package}",
        ) from error


def _warn_renamed(old: str, new: str) -> None:
    warnings.warn(f"Poses.{old} is deprecated; use Poses.{new}", DeprecationWarning, stacklevel=3)
