"""Evaluation protocols: COCO, CrowdPose and PCK."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from bodyposenet.data.coco import CocoImage
from bodyposenet.evaluation import crowdpose
from bodyposenet.evaluation.analysis import Analysis, analyze
from bodyposenet.evaluation.image_poses import ImagePoses, arrange_images
from bodyposenet.evaluation.keypoint_ap import MAX_DETECTIONS
from bodyposenet.evaluation.oks_scores import OksScores, coco_scores
from bodyposenet.evaluation.pck import (
    PckScores,
    Reference,
    find_reference_joints,
    pck_scores,
)
from bodyposenet.skeleton import Skeleton, oks_sigmas
from bodyposenet.specs.dataset import DatasetSpec

ProtocolName = Literal["coco", "crowdpose", "pck"]


class Scores(Protocol):
    """Metrics of a protocol."""

    def metrics(self, weights: NDArray[np.float64] | None = None) -> dict[str, float]:
        """Return the metrics by name; -1 without ground truth.

        Args:
            weights: (I,) weights of the images. Default: 1.
        """
        ...


@dataclass(frozen=True, eq=False)
class EvaluationProtocol:
    """A protocol, and the dataset to which it is applied.

    Args:
        name: Name of the protocol.
        spec: The dataset spec.
        images: One or more test images, with their people.
        pck_reference: Reference length of the protocol `pck`.
    """

    name: ProtocolName
    spec: DatasetSpec
    images: Sequence[CocoImage]
    pck_reference: Reference = "box"

    @property
    def joints(self) -> tuple[str, ...]:
        """Names of the D keypoints of the dataset."""
        return self.spec.person.keypoints

    @cached_property
    def sigmas(self) -> NDArray[np.float64]:
        """(D,) OKS sigmas."""
        return np.array(self.spec.person.sigmas or oks_sigmas(self.joints))

    def check(self) -> None:
        """Check that the dataset has the joints that the protocol needs.

        Raises:
            BodyPoseNetError: It does not.
        """
        if self.name == "pck":
            find_reference_joints(self.pck_reference, self.joints)

    def arrange(self, results: Sequence[dict[str, Any]], joints: Sequence[str]) -> list[ImagePoses]:
        """Arrange the people and poses of all images, with the areas of the protocol.

        Args:
            results: Poses in COCO's result format.
            joints: Names of the keypoints to evaluate.
        """
        flags = self.spec.visibility_flags.labeled()
        is_evaluated = np.isin(self.joints, joints)
        arranged = arrange_images(self.images, results, len(self.joints), flags)
        arranged = [image.with_joints(is_evaluated) for image in arranged]
        if self.name == "crowdpose":
            return [image.with_box_areas(crowdpose.BOX_AREA_SHARE) for image in arranged]
        return arranged

    def score(self, arranged: Sequence[ImagePoses]) -> OksScores | PckScores:
        """Compute the metrics of the protocol.

        Args:
            arranged: The images, from `arrange`.

        Raises:
            BodyPoseNetError: The dataset lacks joints that the protocol needs.
        """
        if self.name == "pck":
            return pck_scores(arranged, self.joints, self.pck_reference)
        best = [image.best_poses(MAX_DETECTIONS) for image in arranged]
        if self.name == "coco":
            return coco_scores(best, self.sigmas)
        flags = self.spec.visibility_flags.labeled()
        indices = crowdpose.crowd_indices(self.images, flags)
        return crowdpose.crowdpose_scores(best, self.sigmas, indices)

    def analyze(self, arranged: Sequence[ImagePoses]) -> Analysis:
        """Analyze the errors of the poses.

        Args:
            arranged: The images, from `arrange`.
        """
        best = [image.best_poses(MAX_DETECTIONS) for image in arranged]
        mirrored = Skeleton("dataset", self.joints, ()).mirrored
        return analyze(best, self.joints, self.sigmas, mirrored)
