"""A small evaluation with image files, for tests of the report and of the result files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bodyposenet.data.coco import CocoImage
from bodyposenet.evaluation import evaluate_poses
from bodyposenet.evaluation.comparison import EarlierRun
from bodyposenet.evaluation.details import DetailedResult, evaluate_in_detail
from bodyposenet.evaluation.evaluator import DatasetResult
from bodyposenet.evaluation.protocols import EvaluationProtocol, ProtocolName
from bodyposenet.inference.detections import describe_image
from bodyposenet.skeleton import COCO_JOINTS, Skeleton
from bodyposenet.specs.dataset import DatasetSpec
from bodyposenet.types import Person, Poses

from ..evaluation.scenes import COCO

GRAY = 90
"""Pixel value of all images."""

Annotated = tuple[str, tuple[int, int] | None, tuple[int, int], int]
"""File name, size of the file or None without one, annotated size, and number of people."""

IMAGES: tuple[Annotated, ...] = (
    ("large.png", (600, 960), (600, 960), 0),
    ("a<b>.png", (200, 240), (100, 120), 1),
    ("broken.png", None, (100, 120), 1),
    ("missing.png", None, (100, 120), 3),
    ("far.png", (400, 600), (400, 600), 2),
)
"""A large image without people, one of twice its annotated size, a broken and a missing one, and
one with all people in a corner."""


def random_poses(people: int, seed: int = 0) -> Poses:
    """Return people within 80 x 80 pixels, without the fourth joint."""
    points = np.random.default_rng(seed + people).uniform(10, 90, (people, 17, 2))
    scores = np.ones((people, 17), np.float32)
    points[:, 3], scores[:, 3] = np.nan, 0
    return Poses(points.astype(np.float32), scores, np.ones(people, np.float32), COCO)


def entry(path: Path, poses: Poses | str, size: tuple[int, int] = (100, 120)) -> dict[str, Any]:
    """Return an entry of detections.json."""
    meta = {"file_name": path.name, "height": size[0], "width": size[1]}
    return describe_image(path, poses, {"image_id": 1, "image_meta": meta})


def read_spec(folder: Path, joints: Sequence[str] = COCO_JOINTS) -> DatasetSpec:
    """Write and read a dataset spec."""
    keys = ("images_root_dir_path", "mask_root_dir_path", "annotation_root_dir_path")
    category = {"name": "person", "num_joints": len(joints), "keypoints": list(joints)}
    spec = {
        "dataset": "a<i>set", "root_directory_path": ".", "train_data": dict.fromkeys(keys, ""),
        "categories": [category],
    }  # fmt: skip
    (folder / "spec.json").write_text(json.dumps(spec))
    return DatasetSpec.load(folder / "spec.json")


def annotate_poses(poses: Poses) -> tuple[Person, ...]:
    """Return annotated people at the joints of poses."""
    people = []
    for points, visible in zip(poses.keypoints, poses.visible, strict=True):
        keypoints = np.column_stack([np.nan_to_num(points), 2 * visible]).astype(float)
        box = (10.0, 10.0, 80.0, 80.0)
        people.append(Person(keypoints, box, 4000.0, False, None, int(visible.sum()), 0))
    return tuple(people)


def draw_evaluation(
    folder: Path,
    images: Sequence[Annotated] = IMAGES,
    *,
    protocol: ProtocolName = "coco",
    skeleton: Skeleton = COCO,
    is_compared: bool = False,
) -> DetailedResult:
    """Evaluate poses with some noise.

    Args:
        folder: Existing folder for the images and the dataset spec.
        images: The images.
        protocol: The protocol.
        skeleton: Skeleton of the model; its other joints are not evaluated.
        is_compared: Whether the result is compared with an earlier one without noise.
    """
    annotated, entries, results, perfect = [], [], [], []
    rng = np.random.default_rng(0)
    for image_id, (name, file_size, size, people) in enumerate(images, start=1):
        if file_size is not None:
            cv2.imwrite(str(folder / name), np.full((*file_size, 3), GRAY, np.uint8))
        truth = random_poses(people)
        noise = rng.normal(0, 4, truth.keypoints.shape).astype(np.float32)
        poses = replace(truth, keypoints=(truth.keypoints + noise).clip(0, 99))
        annotated.append(CocoImage(image_id, name, *size, annotate_poses(truth)))
        is_broken = name == "broken.png"
        entries.append(entry(folder / name, "no image" if is_broken else poses, size))
        results += [] if is_broken else poses.to_coco(image_id)
        perfect += truth.to_coco(image_id)
    accuracy = evaluate_poses(results, annotated, COCO_JOINTS, skeleton)
    unreadable = ["\udcff.png: no <image>"]  # file names need not be valid Unicode
    result = DatasetResult(accuracy, results, entries, unreadable, ["a.png: is 240 x 200"])
    earlier = [EarlierRun(Path("earlier<run>"), perfect, COCO_JOINTS)] if is_compared else []
    dataset = EvaluationProtocol(protocol, read_spec(folder), annotated)
    return evaluate_in_detail(dataset, result, skeleton, earlier)
