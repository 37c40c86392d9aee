"""Annotations of invented people who stand and face the camera, as a COCO document."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from bodyposenet.skeleton import COCO_JOINTS

# x (positive on the person's left) and y of each joint, relative to the height of the person.
_POSE = {
    "nose": (0, 0.08), "eye": (0.02, 0.06), "ear": (0.04, 0.07), "shoulder": (0.11, 0.2),
    "elbow": (0.15, 0.35), "wrist": (0.17, 0.5), "hip": (0.07, 0.52), "knee": (0.08, 0.75),
    "ankle": (0.08, 0.97),
}  # fmt: skip
WIDTH, HEIGHT = 640, 480


def standing_people(count: int = 60, joints: tuple[str, ...] = COCO_JOINTS) -> dict[str, Any]:
    """Return a COCO document of people, two per image."""
    rng = np.random.default_rng(0)
    annotations = []
    for number in range(count):
        height = rng.uniform(150, 250)
        left = 60 + 300 * (number % 2) + rng.uniform(0, 60)
        top = rng.uniform(10, 200)
        pose = [_place(joint) for joint in joints] + rng.normal(0, 0.004, (len(joints), 2))
        points = pose * height + (left + 0.2 * height, top)
        annotations.append(
            {
                "id": number + 1,
                "image_id": number // 2 + 1,
                "category_id": 1,
                "bbox": [left, top, 0.4 * height, height],
                "area": 0.2 * height**2,
                "iscrowd": 0,
                "keypoints": np.column_stack([points, np.full(len(joints), 2)]).ravel().tolist(),
            }
        )
    images = [
        {"id": k + 1, "file_name": f"{k + 1}.jpg", "width": WIDTH, "height": HEIGHT}
        for k in range((count + 1) // 2)
    ]
    category = {"id": 1, "name": "person", "keypoints": list(joints)}
    return {"images": images, "annotations": annotations, "categories": [category]}


def write_document(folder: Path, document: dict[str, Any]) -> Path:
    """Write a COCO document to annotations.json."""
    path = folder / "annotations.json"
    path.write_text(json.dumps(document))
    return path


def keypoints_of(document: dict[str, Any], annotation: int = 0) -> np.ndarray:
    """Return the (D, 3) keypoints of an annotation."""
    return np.array(document["annotations"][annotation]["keypoints"], float).reshape(-1, 3)


def set_keypoints(document: dict[str, Any], keypoints: np.ndarray, annotation: int = 0) -> None:
    """Replace the (D, 3) keypoints of an annotation."""
    document["annotations"][annotation]["keypoints"] = keypoints.ravel().tolist()


def _place(joint: str) -> np.ndarray:
    side, _, part = joint.rpartition("_")
    x, y = _POSE[part]
    return np.array([-x if side == "right" else x, y])
