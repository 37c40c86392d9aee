"""People who lie, detected by the rule of examples/fall_detection in single photos.

python -m benchmarks.lying_people --dataset_spec FILE [FILE ...] [--limit N] [--quick] [--json FILE]

An annotated person lies if the rule applies to the annotated joints, and is detected as lying if it
applies to a matching pose (OKS 0.5) whose score starts a track. Measured with and without
`rotation_test`. Without a dataset spec nothing is measured.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import bodyposenet
from bodyposenet import PoseEstimator, Poses
from bodyposenet.evaluation import evaluate_poses
from bodyposenet.evaluation.evaluator import load_test_images
from bodyposenet.specs.dataset import DatasetSpec
from examples.fall_detection.fall_detection import MIN_SCORE, is_lying, postures

from . import harness

_QUICK_IMAGES = 20


def measure(arguments: argparse.Namespace) -> harness.Figures:
    """Count people in the test images of all datasets."""
    figures: dict[str, float] = {}
    limit = _QUICK_IMAGES if arguments.quick else arguments.limit
    for rotation_test in (False, True):
        model = bodyposenet.load(
            rotation_test=rotation_test, complete_pose=False, score_threshold=MIN_SCORE
        )
        for path in arguments.dataset_spec:
            for name, count in _count(model, DatasetSpec.load(path), limit).items():
                key = f"rotation_test_{name}" if rotation_test else name
                figures[key] = figures.get(key, 0) + count
    return figures


def _count(model: PoseEstimator, dataset: DatasetSpec, limit: int | None) -> dict[str, int]:
    """Count the people in the test images of a dataset.

    Returns:
        Numbers of images, of annotated people who lie and who do not, of those detected as such,
        and of detections of lying people that match nobody who lies.
    """
    images, folder = load_test_images(dataset, limit), dataset.images_folder("test")
    skeleton, joints = model.skeleton, dataset.person.keypoints
    truth = [
        is_lying(person)
        for image in images
        for annotated in image.persons
        for person in Poses.from_coco(
            [{"keypoints": annotated.keypoints.ravel().tolist()}], skeleton, joints
        )
    ]
    detected = model([folder / image.file_name for image in images])
    results = {
        expected: [
            result
            for image, poses in zip(images, detected, strict=True)
            for result in _select(poses, expected).to_coco(image.image_id, joints)
        ]
        for expected in (True, False)
    }
    matches = {
        expected: [
            is_lying(Poses.from_coco([person], skeleton, joints)[0])
            for person, _ in evaluate_poses(results[expected], images, joints, skeleton).matches
        ]
        for expected in (True, False)
    }
    return {
        "images": len(images),
        "lying": truth.count(True),
        "lying_detected": matches[True].count(True),
        "others": truth.count(False),
        "others_detected": matches[False].count(False),
        "false_lying": len(results[True]) - matches[True].count(True),
    }


def _select(poses: Poses, expected: bool) -> Poses:
    """Return the people who lie according to the example, or those who do not."""
    return poses[np.array([lies is expected for lies in postures(poses)], bool)]


def _flags() -> argparse.ArgumentParser:
    flags = harness.parser("lying_people", __doc__)
    flags.add_argument(
        "--dataset_spec", type=Path, nargs="+", default=[], metavar="FILE",
        help="count people in the test images of these datasets",
    )  # fmt: skip
    flags.add_argument("--limit", type=int, metavar="N", help="only the first N test images")
    return flags


if __name__ == "__main__":
    harness.run("lying_people", _flags(), measure)
