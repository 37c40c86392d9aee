"""Random annotations and noisy results in COCO's format."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bodyposenet.data.coco import CocoImage, read_coco
from bodyposenet.skeleton import COCO_JOINTS, Skeleton, oks_sigmas
from bodyposenet.specs.dataset import VisibilityFlags

COCO = Skeleton("coco", COCO_JOINTS, ((0, 1), (1, 2)))


def annotate(person_id: int, image_id: int, keypoints: np.ndarray, **fields: Any) -> dict[str, Any]:
    """Return an annotation whose box encloses the (17, 3) keypoints; its area is never 0."""
    low, high = keypoints[:, :2].min(axis=0), keypoints[:, :2].max(axis=0)
    width, height = high - low
    return {
        "id": person_id,
        "image_id": image_id,
        "category_id": 1,
        "keypoints": keypoints.ravel().tolist(),
        "num_keypoints": int((keypoints[:, 2] > 0).sum()),
        "bbox": [*low.tolist(), float(width), float(height)],
        "area": float(width * height * 0.6) or 1000.0,
        "iscrowd": 0,
        **fields,
    }


def dataset(images: int, annotations: list[dict[str, Any]]) -> dict[str, Any]:
    """Return an annotation file with images 1, 2, ..."""
    return {
        "images": [
            {"id": number, "file_name": f"{number}.jpg", "height": 480, "width": 640}
            for number in range(1, images + 1)
        ],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person"}],
    }


def read(
    annotations: dict[str, Any],
    joints: tuple[str, ...] = COCO_JOINTS,
    flags: VisibilityFlags | None = None,
) -> list[CocoImage]:
    """Write an annotation file, and read its images."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "annotations.json"
        path.write_text(json.dumps(annotations))
        return read_coco(path, joints, flags=flags).images


def result(image_id: int, keypoints: np.ndarray, score: float = 0.9) -> dict[str, Any]:
    """Return a result with the labeled keypoints of a person."""
    detected = (keypoints[:, 2:] > 0).astype(float)
    return {
        "image_id": image_id,
        "category_id": 1,
        "keypoints": np.hstack([keypoints[:, :2] * detected, detected]).ravel().tolist(),
        "score": score,
    }


def random_people(rng: np.random.Generator, size: float, labeled: float = 0.8) -> np.ndarray:
    """Return (17, 3) keypoints of a person of about `size` pixels."""
    points = rng.uniform(0, 400, 2) + rng.uniform(0, size, (17, 2))
    flags = np.where(rng.random(17) < labeled, rng.integers(1, 3, 17), 0)
    return np.column_stack([points * (flags > 0)[:, None], flags])


def random_scene(
    rng: np.random.Generator, images: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return annotations with crowds, unlabeled people and all sizes, and noisy results."""
    annotations, results = [], []
    sigmas = np.array(oks_sigmas(COCO_JOINTS))[:, None]
    for image_id in range(1, images + 1):
        for _ in range(int(rng.integers(0, 6))):
            size = float(rng.choice([20, 60, 150, 300]))
            person = random_people(rng, size, labeled=float(rng.choice([0.0, 0.3, 0.9])))
            box = [*rng.uniform(0, 400, 2).tolist(), size, size]
            crowd = int(rng.random() < 0.15)
            annotations.append(
                annotate(len(annotations) + 1, image_id, person, bbox=box, iscrowd=crowd)
            )
            if rng.random() < 0.8:
                moved = person.copy()
                noise = rng.normal(0, size * rng.choice([0.3, 1.0, 3.0]), (17, 2)) * sigmas
                moved[:, :2] += noise
                moved[:, 2] = rng.random(17) < 0.9
                results.append(result(image_id, moved, float(rng.random())))
        for _ in range(int(rng.integers(0, 25)) if rng.random() < 0.2 else 1):
            results.append(result(image_id, random_people(rng, 100), float(rng.random())))
    return dataset(images, annotations), results
