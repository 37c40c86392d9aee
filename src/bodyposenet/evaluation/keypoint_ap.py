"""Poses against annotations: COCO's average precision and recall for keypoints.

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
"""Poses per image that count, by score (COCO's maxDets)."""


class Metric(NamedTuple):
    """One of COCO's ten figures."""

    kind: Literal["AP", "AR"]
    oks: str
    """Threshold, or range of thresholds, of the object keypoint similarity."""
    area: str
    """Size of the people that count: all, medium (32^2 to 96^2 pixels) or large."""

    @property
    def name(self) -> str:
        """TAO's name of the figure (TAO reference, section 12.6)."""
        if ":" in self.oks:
            return f"{self.kind}_{self.oks}_{self.area}"
        return f"{self.kind}_{float(self.oks):g}"


METRICS: tuple[Metric, ...] = tuple(
    Metric(kind, oks, area)
    for kind in ("AP", "AR")
    for oks, area in (
        ("0.50:0.95", "all"), ("0.50", "all"), ("0.75", "all"),
        ("0.50:0.95", "medium"), ("0.50:0.95", "large"),
    )
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class KeypointAP:
    """The outcome of an evaluation.

    Args:
        values: The ten figures of `METRICS`, each in 0..1, or -1 where no person counts.
        precision: (10, 101) precision at OKS thresholds .50, .55, ... .95 (rows) and at recalls
            0, .01, ... 1; -1 where there is no ground truth.
        joint_errors: One per keypoint of the dataset.
        matches: The people who were found (OKS >= 0.5) and their poses, as COCO's annotations.
        not_evaluated: Keypoints that the dataset labels and the skeleton lacks; they did not count.
        images: How many were evaluated.
        people: How many annotated people count: with labelled keypoints, no crowds.
        poses: How many were found.
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
        """AP over OKS thresholds .50 to .95, people of all sizes: COCO's main figure."""
        return self.values[0]

    def kpis(self) -> dict[str, float]:
        """TAO's names -> figures (TAO reference, section 12.6)."""
        return {metric.name: value for metric, value in zip(METRICS, self.values, strict=True)}

    def table(self) -> list[str]:
        """The lines for the screen: COCO's ten, and what there is to say about them."""
        lines = []
        for (kind, oks, area), value in zip(METRICS, self.values, strict=True):
            title = "Average Precision" if kind == "AP" else "Average Recall"
            why = "  no ground truth of that size" if value < 0 and self.people else ""
            lines.append(
                f" {title:<18} ({kind}) @[ IoU={oks:<9} | area={area:>6} | "
                f"maxDets={MAX_DETECTIONS:>3} ] = {value:0.3f}{why}"
            )
        lines.append(
            f" {self.images:,} images, {self.people:,} people with labelled keypoints, "
            f"{self.poses:,} poses found"
        )
        if not self.people:
            lines.append(" -1 means: no ground truth; no person in these images has keypoints")
        if self.not_evaluated:
            lines.append(
                f" not evaluated, for the skeleton lacks them: {', '.join(self.not_evaluated)}"
            )
        return lines


def evaluate_poses(
    results: Sequence[Mapping[str, Any]],
    images: Sequence[CocoImage],
    joints: Sequence[str],
    skeleton: Skeleton,
    *,
    sigmas: Sequence[float] = (),
    labelled_flags: Collection[int] = COCO_FLAGS.labelled(),
) -> KeypointAP:
    """Compare poses with the people of annotated images.

    Args:
        results: In COCO's result format (see `Poses.to_coco`), D keypoints each, in image pixels.
        images: The images to evaluate, with their people; those without count too.
        joints: Names of the D keypoints in both (the dataset spec's).
        skeleton: The joints that the network can find; the dataset's others do not count.
        sigmas: D OKS sigmas; by default by the joints' names.
        labelled_flags: Flags that mean that a keypoint is labelled; by default COCO's.

    Raises:
        BodyPoseNetError: There are results of an image that is not among the images.
    """
    image_ids = sorted(image.image_id for image in images)
    _check_results(results, image_ids)
    counts = np.array([joint in skeleton.joints for joint in joints])
    truth = ground_truth(images, counts, labelled_flags)
    evaluator = _evaluator(truth, detections(results, image_ids), sigmas or oks_sigmas(joints))
    if images:
        evaluator.run()
    matches = _matches(evaluator)
    return KeypointAP(
        values=tuple(float(value) for value in evaluator.stats) if images else (-1.0,) * 10,
        precision=evaluator.eval["precision"][:, :, 0, 0, 0] if images else -np.ones((10, 101)),
        joint_errors=compute_joint_errors(matches, joints),
        matches=matches,
        not_evaluated=tuple(joint for joint in joints if joint not in skeleton.joints),
        images=len(images),
        people=sum(_is_evaluated(person) for person in truth["annotations"]),
        poses=len(results),
    )


def _check_results(results: Sequence[Mapping[str, Any]], image_ids: Sequence[int]) -> None:
    unknown = {result["image_id"] for result in results}.difference(image_ids)
    if unknown:
        raise BodyPoseNetError(
            f"there are results of images that are not evaluated: {sorted(unknown)[:5]}",
            "Give the annotation file that lists them.",
        )


def _evaluator(
    truth: dict[str, Any], poses: dict[str, Any], sigmas: Sequence[float]
) -> COCOeval_faster:
    """COCO's evaluation, told to be quiet."""
    evaluator = COCOeval_faster(
        COCO(truth, print_function=_say_nothing),
        COCO(poses, print_function=_say_nothing),
        iouType="keypoints",
        kpt_oks_sigmas=list(sigmas),
        print_function=_say_nothing,
    )
    evaluator.params.catIds = [PERSON]
    evaluator.params.maxDets = [MAX_DETECTIONS]
    return evaluator


def _say_nothing(*_: object) -> None:
    pass


def _is_evaluated(person: Mapping[str, Any]) -> bool:
    return person["num_keypoints"] > 0 and not person["iscrowd"]


def _matches(evaluator: COCOeval_faster) -> tuple[Match, ...]:
    people, poses = evaluator.cocoGt.imgToAnns, evaluator.cocoDt.imgToAnns
    return tuple(
        match
        for (image_id, _), oks in evaluator.ious.items()
        if len(oks)
        for match in match_poses(np.asarray(oks), people[image_id], poses[image_id])
    )


PERSON = 1


def ground_truth(
    images: Sequence[CocoImage],
    counts: NDArray[np.bool_],
    labelled_flags: Collection[int],
) -> dict[str, Any]:
    """Write down the people of some images.

    Args:
        images: The images to evaluate.
        counts: (D,) which keypoints count; the others are taken for not labelled.
        labelled_flags: Flags of a labelled keypoint.
    """
    people = (
        {"image_id": image.image_id, **_describe_person(person, counts, labelled_flags)}
        for image in images
        for person in image.persons
    )
    return _dataset(people, [image.image_id for image in images])


def detections(results: Sequence[Mapping[str, Any]], image_ids: Collection[int]) -> dict[str, Any]:
    """Write down results, with the box and area that COCO gives them.

    COCO takes both from all keypoints of a result, found or not.
    """
    poses = []
    for result in results:
        x, y = result["keypoints"][0::3], result["keypoints"][1::3]
        width, height = max(x) - min(x), max(y) - min(y)
        box = [min(x), min(y), width, height]
        poses.append({**result, "bbox": box, "area": width * height})
    return _dataset(poses, image_ids)


def _describe_person(
    person: Person, counts: NDArray[np.bool_], labelled_flags: Collection[int]
) -> dict[str, Any]:
    is_labelled = np.isin(person.keypoints[:, 2], list(labelled_flags))
    keypoints = np.column_stack([person.keypoints[:, :2], is_labelled])
    keypoints[~(is_labelled & counts)] = 0
    return {
        "keypoints": keypoints.ravel().tolist(),
        "num_keypoints": int(keypoints[:, 2].sum()),
        "bbox": list(person.box),
        "area": person.area,
        "iscrowd": int(person.is_crowd),
    }


def _dataset(people: Iterable[Mapping[str, Any]], image_ids: Iterable[int]) -> dict[str, Any]:
    return {
        "images": [{"id": image_id} for image_id in image_ids],
        "categories": [{"id": PERSON, "name": "person"}],
        "annotations": [
            {**person, "id": number, "category_id": PERSON}
            for number, person in enumerate(people, start=1)
        ],
    }
