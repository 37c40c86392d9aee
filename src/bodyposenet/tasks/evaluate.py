"""Measure a model's keypoint AP on the test data of a dataset; TFRecords are not needed."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from bodyposenet.console import say
from bodyposenet.files import make_directory, write_json
from bodyposenet.tasks.flags import add_executor_arguments, add_model_arguments, open_executor
from bodyposenet.tasks.results import results_folder

if TYPE_CHECKING:
    from bodyposenet.evaluation.dataset import DatasetResult
    from bodyposenet.specs.dataset import DatasetSpec


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `evaluate` (guide; reference 1.4)."""
    add_model_arguments(parser)
    parser.add_argument(
        "-d", "--dataset_spec", required=True, metavar="FILE",
        help="dataset spec (JSON) whose test_data are evaluated",
    )  # fmt: skip
    parser.add_argument(
        "--dataset", choices=("coco",), default="coco", help="format of the annotations"
    )
    add_executor_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Evaluate.

    Raises:
        BodyPoseNetError: A spec, the model or the data are wrong, or no image can be read.
    """
    from bodyposenet.evaluation.dataset import load_test_images, run_evaluation, score_findings
    from bodyposenet.evaluation.html_report import write_evaluation_page
    from bodyposenet.evaluation.result_files import write_result_files
    from bodyposenet.runtime.detections import FILE_NAME, write_detections
    from bodyposenet.runtime.models import find_model
    from bodyposenet.specs.dataset import DatasetSpec

    results_dir = make_directory(arguments.results_dir or ".")
    with results_folder(results_dir) as status:
        dataset_spec = DatasetSpec.load(arguments.dataset_spec)
        executor = open_executor(arguments, results_dir)
        skeleton, spec = executor.skeleton, executor.spec
        images = load_test_images(dataset_spec)
        findings = run_evaluation(executor, dataset_spec, images)
        result = score_findings(findings, skeleton, dataset_spec, images)
        _check_images(result, dataset_spec)
        write_detections(results_dir / FILE_NAME, skeleton, spec, result.images)
        write_json(results_dir / "detections_coco_format.json", result.results, indent=None)
        files = write_result_files(results_dir, result.accuracy)
        page = write_evaluation_page(
            results_dir, result, dataset=dataset_spec.dataset, skeleton=skeleton,
            model=find_model(spec, None).name, spec=spec,
        )  # fmt: skip
        _show(result)
        say(f"written: {', '.join(str(file) for file in [*files, page])}")
        status.write("RUNNING", "evaluation", kpi=result.accuracy.kpis())


def _check_images(result: DatasetResult, spec: DatasetSpec) -> None:
    """Refuse to report on nothing."""
    if not result.images:
        spec.fail("test_data.annotation_root_dir_path", "the file lists no images")
    if len(result.unreadable) == len(result.images):
        spec.fail(
            "test_data.images_root_dir_path",
            f"no image could be read; the first: {result.unreadable[0]}",
            "Check the folder; it is relative to root_directory_path.",
        )


def _show(result: DatasetResult) -> None:
    """The table, and what the figures must be read with."""
    say("\n".join(result.accuracy.table()))
    for problems, meaning in (
        (result.unreadable, "could not be read and count as images without detections"),
        (
            result.resized,
            "differ from their annotated size; each line tells whether poses are scaled",
        ),
    ):
        if problems:
            say(f"images that {meaning}: {len(problems)}")
            say("\n".join(f"  {problem}" for problem in problems))
