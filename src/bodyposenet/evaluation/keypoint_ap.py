"""COCO average precision (AP) and average recall (AR) of keypoints, and `evaluate_poses`.

See the TAO reference, section 12.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray

from bodyposenet.data.coco import CocoImage
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.evaluation.joint_errors import JointError, Match, compute_joint_errors, match_poses
from bodyposenet.skeleton import Skeleton, oks_sigmas
from bodyposenet.specs.dataset import COCO_FLAGS
from bodyposenet.types import Person

MAX_DETECTIONS = 20
"""Poses per image that count, those with the highest scores (COCO's maxDets)."""

_PERSON_CATEGORY = 1


class Metric(NamedTuple):
    """An average precision or average recall of COCO's evaluation.

    Args:
        kind: Average precision or average recall.
        oks: Threshold, or range of thresholds, of the object keypoint similarity (OKS).
        area: People that count: all, or those of a size (medium: 32^2 to 96^2 pixels, large), or
            those in images of a level of crowding (see `evaluation.crowdpose`).
    """

    kind: Literal["AP", "AR"]
    oks: str
    area: str

    @property
    def name(self) -> str:
        """TAO's name of the metric (TAO reference, section 12.6)."""
        if ":" in self.oks:
            return f"{self.kind}_{self.oks}_{self.area}"
        return f"{self.kind}_{float(self.oks):g}"

    def line(self, value: float, remark: str = "") -> str:
        """Return a line of a summary in COCO's format.

        Args:
            value: The metric, or -1 without ground truth.
            remark: Remark if there is no ground truth.
        """
        title = "Average Precision" if self.kind == "AP" else "Average Recall"
        suffix = f"  {remark}" if value < 0 and remark else ""
        return (
            f" {title:<18} ({self.kind}) @[ IoU={self.oks:<9} | area={self.area:>6} | "
            f"maxDets={MAX_DETECTIONS:>3} ] = {value:0.3f}{suffix}"
        )


METRICS: tuple[Metric, ...] = tuple(
    Metric(kind, oks, area)
    for kind in ("AP", "AR")
    for oks, area in (
        ("0.50:0.95", "all"), ("0.50", "all"), ("0.75", "all"),
        ("0.50:0.95", "medium"), ("0.50:0.95", "large"),
    )
)  # fmt: skip
"""COCO's ten keypoint metrics, in COCO's order."""


@dataclass(frozen=True, eq=False)
class KeypointAP:
    """Result of an evaluation.

    Args:
        values: The ten `METRICS`, each in 0..1, or -1 without ground truth.
        precision: (10, 101) precision at the OKS thresholds .50, .55, ... .95 (rows) and the
            recalls 0, .01, ... 1; -1 without ground truth.
        joint_errors: Error of each keypoint of the dataset.
        matches: Matched people and poses (OKS >= 0.5), as COCO annotations.
        not_evaluated: Keypoints of the dataset that the skeleton does not have; they do not count.
        images: Number of images.
        people: Number of annotated people that count: with labeled keypoints, and not crowds.
        poses: Number of predicted poses.
    """

    values: tuple[float, ...]
    precision: NDArray[np.float64]
    joint_errors: tuple[JointError, ...]
    matches: tuple[Match, ...]
    not_evaluated: tuple[str, ...]
    images: int
    people: int
    poses: int

    @property
    def ap(self) -> float:
        """AP over OKS thresholds .50 to .95, people of all sizes: COCO's main metric."""
        return self.values[0]

    def kpis(self) -> dict[str, float]:
        """Return the metrics by TAO's names (TAO reference, section 12.6)."""
        return {metric.name: value for metric, value in zip(METRICS, self.values, strict=True)}

    def table(self) -> list[str]:
        """Return the lines of a summary in COCO's format, with remarks about missing values."""
        lines = [
            metric.line(value, remark="no ground truth of that size" if self.people else "")
            for metric, value in zip(METRICS, self.values, strict=True)
        ]
        return lines + self.remarks()

    def remarks(self) -> list[str]:
        """Return the lines of a summary that apply to all metrics: counts, and what is missing."""
        lines = [
            f" {self.images:,} images, {self.people:,} people with labeled keypoints, "
            f"{self.poses:,} predicted poses"
        ]
        if not self.people:
            lines.append(" -1: no ground truth, as no person in these images has labeled keypoints")
        if self.not_evaluated:
            joints = ", ".join(self.not_evaluated)
            lines.append(f" Keypoints that the skeleton lacks were not evaluated: {joints}")
        return lines


def evaluate_poses(
    results: Sequence[Mapping[str, Any]],
    images: Sequence[CocoImage],
    joints: Sequence[str],
    skeleton: Skeleton,
    *,
    sigmas: Sequence[float] = (),
    labeled_flags: Collection[int] = COCO_FLAGS.labeled(),
) -> KeypointAP:
    """Evaluate poses against the annotated people of images.

    Args:
        results: Poses in COCO's result format (see `Poses.to_coco`), D keypoints each, in image
            pixels.
        images: The images to evaluate, with their people. Images without people count too.
        joints: Names of the D keypoints in both (those of the dataset spec).
        skeleton: Skeleton of the model. Keypoints that it lacks do not count.
        sigmas: D sigmas of the OKS; by default, looked up by the names of the keypoints.
        labeled_flags: Visibility flags that mean that a keypoint is labeled; by default COCO's.

    Raises:
        BodyPoseNetError: A result belongs to an image that is not among the images.
    """
    image_ids = sorted(image.image_id for image in images)
    _check_image_ids(results, image_ids)
    found = skeleton.match(joints)
    in_skeleton = np.array([index is not None for index in found])
    truth = _coco_ground_truth(images, in_skeleton, labeled_flags)
    predictions = _coco_predictions(results, image_ids)
    evaluator = _coco_eval(truth, predictions, sigmas or oks_sigmas(joints))
    if images:
        evaluator.run()
    matches = _matches(evaluator)
    return KeypointAP(
        values=tuple(float(value) for value in evaluator.stats) if images else (-1.0,) * 10,
        precision=evaluator.eval["precision"][:, :, 0, 0, 0] if images else -np.ones((10, 101)),
        joint_errors=compute_joint_errors(matches, joints),
        matches=matches,
        not_evaluated=tuple(
            joint for joint, index in zip(joints, found, strict=True) if index is None
        ),
        images=len(images),
        people=sum(_is_evaluated(person) for person in truth["annotations"]),
        poses=len(results),
    )


def _check_image_ids(results: Sequence[Mapping[str, Any]], image_ids: Sequence[int]) -> None:
    """Check that all results belong to the evaluated images."""
    unknown = {result["image_id"] for result in results}.difference(image_ids)
    if unknown:
        raise BodyPoseNetError(
            f"results of images that are not in the annotations: image_id {sorted(unknown)[:5]}",
            "Use the annotation file that lists these images.",
        )


def _coco_eval(
    truth: dict[str, Any], predictions: dict[str, Any], sigmas: Sequence[float]
) -> COCOeval_faster:
    """Set up the COCO evaluator, without its printed output."""
    evaluator = COCOeval_faster(
        COCO(truth, print_function=_no_output),
        COCO(predictions, print_function=_no_output),
        iouType="keypoints",
        kpt_oks_sigmas=list(sigmas),
        print_function=_no_output,
    )
    evaluator.params.catIds = [_PERSON_CATEGORY]
    evaluator.params.maxDets = [MAX_DETECTIONS]
    return evaluator


def _no_output(*_: object) -> None:
    """Replace the print function of the COCO evaluator."""


def _is_evaluated(person: Mapping[str, Any]) -> bool:
    """Return whether an annotated person counts in the metrics."""
    return person["num_keypoints"] > 0 and not person["iscrowd"]


def _matches(evaluator: COCOeval_faster) -> tuple[Match, ...]:
    """Match people and poses of all images."""
    people, poses = evaluator.cocoGt.imgToAnns, evaluator.cocoDt.imgToAnns
    return tuple(
        match
        for (image_id, _), oks in evaluator.ious.items()
        if len(oks)
        for match in match_poses(np.asarray(oks), people[image_id], poses[image_id])
    )


def _coco_ground_truth(
    images: Sequence[CocoImage],
    in_skeleton: NDArray[np.bool_],
    labeled_flags: Collection[int],
) -> dict[str, Any]:
    """Convert the people of images to COCO's annotation format.

    Args:
        images: The images to evaluate.
        in_skeleton: (D,) whether the skeleton has each keypoint; others are marked as not labeled.
        labeled_flags: Visibility flags of labeled keypoints.
    """
    people = (
        {"image_id": image.image_id, **_coco_annotation(person, in_skeleton, labeled_flags)}
        for image in images
        for person in image.persons
    )
    return _coco_dataset(people, [image.image_id for image in images])


def _coco_predictions(
    results: Sequence[Mapping[str, Any]], image_ids: Collection[int]
) -> dict[str, Any]:
    """Convert results to COCO's annotation format, with box and area.

    Like COCO, take both from all keypoints of a result, including those that were not detected.
    """
    poses = []
    for result in results:
        x, y = result["keypoints"][0::3], result["keypoints"][1::3]
        width, height = max(x) - min(x), max(y) - min(y)
        box = [min(x), min(y), width, height]
        poses.append({**result, "bbox": box, "area": width * height})
    return _coco_dataset(poses, image_ids)


def _coco_annotation(
    person: Person, in_skeleton: NDArray[np.bool_], labeled_flags: Collection[int]
) -> dict[str, Any]:
    """Convert a person to COCO's annotation format, with the flags 0 and 1."""
    is_labeled = np.isin(person.keypoints[:, 2], list(labeled_flags))
    keypoints = np.column_stack([person.keypoints[:, :2], is_labeled])
    keypoints[~(is_labeled & in_skeleton)] = 0
    return {
        "keypoints": keypoints.ravel().tolist(),
        "num_keypoints": int(keypoints[:, 2].sum()),
        "bbox": list(person.box),
        "area": person.area,
        "iscrowd": int(person.is_crowd),
    }


def _coco_dataset(people: Iterable[Mapping[str, Any]], image_ids: Iterable[int]) -> dict[str, Any]:
    """Return a dataset in COCO's annotation format."""
    return {
        "images": [{"id": image_id} for image_id in image_ids],
        "categories": [{"id": _PERSON_CATEGORY, "name": "person"}],
        "annotations": [
            {**person, "id": number, "category_id": _PERSON_CATEGORY}
            for number, person in enumerate(people, start=1)
        ],
    }
