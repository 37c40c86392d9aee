"""Measure a model's keypoint AP on the test data of a dataset, and report its errors.

TFRecords are not needed. The report, report.html, shows the types of errors and the worst images,
and with --compare_with the differences from another model.

Example: bpnet evaluate -m model.tlt -d dataset.json -r results
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from bodyposenet.commands.model_options import ParallelOptions
from bodyposenet.commands.options import Need, Option, StrPath, command, options_class
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import make_directory, write_json
from bodyposenet.results_folder import results_folder

if TYPE_CHECKING:
    from bodyposenet.evaluation.details import DetailedResult
    from bodyposenet.evaluation.evaluator import DatasetResult
    from bodyposenet.skeleton import Skeleton
    from bodyposenet.specs.dataset import DatasetSpec


@options_class
class EvaluateOptions(ParallelOptions):
    """Options of `evaluate` (guide; TAO reference, section 1.4)."""

    dataset_spec: Annotated[
        StrPath,
        Option(
            "-d",
            help="Dataset spec (JSON or YAML); its test_data are evaluated.",
            metavar="FILE",
        ),
    ]
    dataset: Annotated[
        Literal["coco"],
        Option(
            help="As in TAO; has no effect. The dataset spec names the format of its annotations."
        ),
    ] = "coco"
    results_dir: Annotated[
        StrPath,
        Option("-r", help="Folder of the results. Default: the working directory.", metavar="DIR"),
    ] = "."
    protocol: Annotated[
        Literal["coco", "crowdpose", "pck"],
        Option(
            help="Metrics. coco: AP and AR of COCO. crowdpose: those of CrowdPose, with the AP of "
            "images with few, some and many overlapping people. pck: percentage of correct "
            "keypoints, for datasets without areas."
        ),
    ] = "coco"
    pck_reference: Annotated[
        Literal["box", "torso", "head"],
        Option(
            help="Length of which the PCK threshold is a fraction. box: longer side of the box. "
            "torso: from a shoulder to the other hip. head: from the top of the head to the neck "
            "(PCKh).",
            needs=Need("--protocol pck", lambda options: options.protocol == "pck"),
        ),
    ] = "box"
    compare_with: Annotated[
        tuple[StrPath, ...],
        Option(
            help="Results folders of earlier evaluations of the same test data. The report shows "
            "the differences of the metrics, with confidence intervals, and the images that "
            "changed most.",
            metavar="DIR",
            nargs="+",
        ),
    ] = ()


@dataclass(frozen=True)
class EvaluationResult:
    """Accuracy of a model on a dataset.

    Args:
        ap: COCO's average precision over OKS thresholds .50 to .95, in 0..1; -1 without annotated
            people.
        metrics: Metrics of the protocol, named as in results.json, such as `AP_0.50:0.95_all`; -1
            without annotated people.
        error_types: Share of each type of joints of matched poses: good, jitter, inversion, swap,
            miss and undetected; NaN without matched poses.
        corrected_ap: AP without the errors of each type.
        joint_ap: AP of each keypoint; -1 without labels.
        changes: Changes of the metrics, by folder of `compare_with`.
        files: The files that were written, the HTML page last.
        lines: Table of the metrics, and images that could not be evaluated as annotated.
    """

    ap: float
    metrics: dict[str, float]
    error_types: dict[str, float]
    corrected_ap: dict[str, float]
    joint_ap: dict[str, float]
    changes: dict[str, dict[str, float]]
    files: tuple[Path, ...]
    lines: tuple[str, ...]

    def summary(self) -> str:
        """Return the table and the files."""
        return "\n".join([*self.lines, f"written: {', '.join(map(str, self.files))}"])


@command(EvaluateOptions)
def evaluate(options: EvaluateOptions) -> EvaluationResult:
    """Measure a model's keypoint AP on the test data of a dataset, and report its errors.

    Example:
        >>> result = bodyposenet.evaluate(model_filename="model.tlt", dataset_spec="coco.json")
        >>> result.ap

    Raises:
        BodyPoseNetError: A spec, the model or the data are invalid, no image can be read, or an
            evaluation to compare with is of other images.
    """
    from bodyposenet.evaluation.comparison import read_run
    from bodyposenet.evaluation.details import evaluate_in_detail
    from bodyposenet.evaluation.evaluator import (
        load_test_images,
        predict_test_images,
        score_results,
    )
    from bodyposenet.evaluation.protocols import EvaluationProtocol
    from bodyposenet.inference.detections import FILE_NAME, write_detections
    from bodyposenet.inference.models import find_model
    from bodyposenet.reporting.evaluation_report import write_evaluation_report
    from bodyposenet.reporting.result_files import write_result_files
    from bodyposenet.specs.dataset import DatasetSpec

    results_dir = make_directory(options.results_dir)
    with results_folder(results_dir) as status:
        dataset_spec = DatasetSpec.load(options.dataset_spec)
        executor = options.open_executor(results_dir)
        skeleton, spec = executor.skeleton, executor.spec
        images = load_test_images(dataset_spec)
        protocol = EvaluationProtocol(options.protocol, dataset_spec, images, options.pck_reference)
        protocol.check()
        joints = dataset_spec.person.keypoints
        _check_joints(joints, skeleton, dataset_spec)
        earlier = [read_run(Path(folder), images, joints) for folder in options.compare_with]
        results = predict_test_images(executor, dataset_spec, images)
        result = score_results(results, skeleton, dataset_spec, images)
        _check_images(result, dataset_spec)
        details = evaluate_in_detail(protocol, result, skeleton, earlier)
        detections, coco = results_dir / FILE_NAME, results_dir / "detections_coco_format.json"
        write_detections(detections, skeleton, spec, result.images)
        write_json(coco, result.results, indent=None)
        files = write_result_files(results_dir, details)
        page = write_evaluation_report(
            results_dir, details, skeleton=skeleton, model=find_model(spec, None).name, spec=spec
        )
        status.write("RUNNING", "evaluation", kpi=details.metrics)
    errors = details.analysis.errors
    return EvaluationResult(
        ap=result.accuracy.ap,
        metrics=details.metrics,
        error_types=errors.shares(),
        corrected_ap=dict(errors.corrected_ap),
        joint_ap=dict(details.analysis.joint_ap),
        changes={
            str(one.folder): {each.metric: each.value - each.earlier for each in one.differences}
            for one in details.comparisons
        },
        files=(detections, coco, *files, page),
        lines=tuple(_lines(details)),
    )


def _check_joints(joints: Sequence[str], skeleton: Skeleton, spec: DatasetSpec) -> None:
    """Raise an error if the model has no joint of the dataset."""
    if all(index is None for index in skeleton.match(joints)):
        raise BodyPoseNetError(
            f"{spec.path}: the model has none of the joints of the dataset ({', '.join(joints)}); "
            f"it has {', '.join(skeleton.joints)}",
            "Evaluate a model that was trained for these joints.",
        )


def _check_images(result: DatasetResult, spec: DatasetSpec) -> None:
    """Raise an error if there are no images, or none can be read."""
    if not result.images:
        spec.fail("test_data.annotation_root_dir_path", "the file contains no images")
    if len(result.unreadable) == len(result.images):
        spec.fail(
            "test_data.images_root_dir_path",
            f"no image could be read; first error: {result.unreadable[0]}",
            "Check the folder; it is relative to root_directory_path.",
        )


def _lines(details: DetailedResult) -> list[str]:
    """Return the table of metrics, the comparisons, and the images with problems."""
    result = details.result
    lines = [*details.table()]
    for comparison in details.comparisons:
        lines += comparison.table()
    for problems, meaning in (
        (result.unreadable, "could not be read, and count as images without detections"),
        (
            result.resized,
            "differ in size from their annotation; each line shows whether poses are scaled",
        ),
    ):
        if problems:
            lines += [f"images that {meaning}: {len(problems)}"]
            lines += [f"  {problem}" for problem in problems]
    return lines
