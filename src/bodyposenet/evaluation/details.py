"""Detailed evaluation of the poses in a dataset, with the metrics of a protocol and comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bodyposenet.evaluation.analysis import Analysis
from bodyposenet.evaluation.comparison import Comparison, EarlierRun, compare_runs
from bodyposenet.evaluation.evaluator import DatasetResult
from bodyposenet.evaluation.oks_scores import OksScores
from bodyposenet.evaluation.pck import PckScores
from bodyposenet.evaluation.protocols import EvaluationProtocol
from bodyposenet.skeleton import Skeleton


@dataclass(frozen=True, eq=False)
class DetailedResult:
    """Result of an evaluation with all that its report shows.

    Args:
        protocol: The protocol, and the dataset.
        result: The poses, and COCO's metrics.
        scores: Scores of the protocol.
        analysis: Analysis of the errors.
        comparisons: Comparisons with earlier evaluations.
    """

    protocol: EvaluationProtocol
    result: DatasetResult
    scores: OksScores | PckScores
    analysis: Analysis
    comparisons: Sequence[Comparison] = ()

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of the protocol by name; -1 without ground truth."""
        if self.protocol.name == "coco":
            return self.result.accuracy.kpis()
        return self.scores.metrics()

    def table(self) -> list[str]:
        """Return the lines of a summary: the metrics of the protocol, and counts."""
        accuracy, scores = self.result.accuracy, self.scores
        if self.protocol.name == "coco":
            return accuracy.table()
        if isinstance(scores, PckScores):
            reference = f"of the reference length ({scores.reference})"
            lines = [
                f" Percentage of correct keypoints @[ {threshold:g} {reference} ] = {value:0.3f}"
                for threshold, value in zip(
                    scores.thresholds.values(), self.metrics.values(), strict=True
                )
            ]
            if scores.skipped_people:
                lines.append(
                    " People without the reference length, who do not count: "
                    f"{scores.skipped_people:,}"
                )
        else:
            values = zip(scores.definitions, self.metrics.values(), strict=True)
            lines = [
                metric.line(value, "no ground truth in such images") for metric, value in values
            ]
        return [*lines, *accuracy.remarks()]


def evaluate_in_detail(
    protocol: EvaluationProtocol,
    result: DatasetResult,
    skeleton: Skeleton,
    earlier: Sequence[EarlierRun] = (),
) -> DetailedResult:
    """Compute everything that the report of an evaluation shows.

    Args:
        protocol: The protocol, and the dataset.
        result: Result of the evaluation on the images of the protocol.
        skeleton: Skeleton of the model.
        earlier: Earlier evaluations to compare with.

    Raises:
        BodyPoseNetError: The dataset lacks joints that the protocol needs, or the models have no
            joints in common.
    """
    found = zip(protocol.joints, skeleton.match(protocol.joints), strict=True)
    joints = [joint for joint, index in found if index is not None]
    arranged = protocol.arrange(result.results, joints)
    return DetailedResult(
        protocol, result, protocol.score(arranged), protocol.analyze(arranged),
        compare_runs(protocol, result.results, joints, earlier) if earlier else (),
    )  # fmt: skip
