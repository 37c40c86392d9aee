"""Write a synthetic dataset in COCO's format: images, annotations and a dataset spec."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bodyposenet.console import progress
from bodyposenet.data.coco_file import annotation_entry
from bodyposenet.demo.scene import draw_scene
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import atomic_write, write_json
from bodyposenet.skeleton import COCO_JOINTS

DATASET_NAME = "drawn"
_JPEG_QUALITY = 92


def write_drawn_dataset(
    folder: Path,
    train_images: int,
    test_images: int,
    size: int | tuple[int, int],
    seed: int,
    joints: tuple[str, ...] = COCO_JOINTS,
) -> Path:
    """Write images of drawn people, their annotations and a dataset spec.

    Args:
        folder: Output folder for train/, test/, annotations/ and dataset.json.
        train_images: Number of training images.
        test_images: Number of test images, which have another seed.
        size: (height, width) of the images in pixels, or one number for square images.
        seed: Random seed; the same seed gives identical files.
        joints: Names of the keypoints to annotate.

    Returns:
        Path of the dataset spec.

    Raises:
        BodyPoseNetError: The folder cannot be written.
    """
    height, width = (size, size) if isinstance(size, int) else size
    folder = Path(folder)
    for split, (name, count) in enumerate((("train", train_images), ("test", test_images))):
        content = _draw_split(folder / name, count, height, width, (seed, split), joints)
        write_json(folder / "annotations" / f"{name}.json", content, indent=None)
    spec = folder / "dataset.json"
    write_json(spec, _dataset_spec(folder, joints))
    return spec


def _draw_split(
    folder: Path,
    count: int,
    height: int,
    width: int,
    seed: tuple[int, int],
    joints: tuple[str, ...],
) -> dict[str, Any]:
    """Write the images of one split and return the content of its annotation file."""
    images, annotations = [], []
    for index in progress(range(count), f"drawing {folder.name} images"):
        pixels, people = draw_scene(np.random.default_rng((*seed, index)), height, width, joints)
        name = f"{index:06d}.jpg"
        _write_jpeg(folder / name, pixels)
        images.append({"id": index + 1, "file_name": name, "height": height, "width": width})
        for person in people:
            numbered = replace(person, annotation_id=len(annotations) + 1)
            annotations.append(annotation_entry(numbered, index + 1, category_id=1))
    return {"images": images, "annotations": annotations, "categories": [_category(joints)]}


def _write_jpeg(path: Path, pixels: np.ndarray) -> None:
    """Write an RGB image as JPEG."""
    encoded, content = cv2.imencode(
        ".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    )
    if not encoded:
        raise BodyPoseNetError(f"{path}: JPEG encoding failed")
    with atomic_write(path) as file:
        file.write(content.tobytes())


def _category(joints: tuple[str, ...]) -> dict[str, Any]:
    """Return the category of people in COCO's format."""
    return {"supercategory": "person", "id": 1, "name": "person", "keypoints": list(joints)}


def _dataset_spec(folder: Path, joints: tuple[str, ...]) -> dict[str, Any]:
    """Return the content of the dataset spec; its filters allow the small people of the images."""
    splits = {
        f"{name}_data": {
            "images_root_dir_path": name,
            "mask_root_dir_path": f"{name}_mask",
            "annotation_root_dir_path": f"annotations/{name}.json",
        }
        for name in ("train", "test")
    }
    return {
        "dataset": DATASET_NAME,
        "root_directory_path": str(folder),
        **splits,
        "categories": [_category(joints) | {"num_joints": len(joints)}],
        "data_filtering_params": {
            "min_acceptable_height": 12,
            "min_acceptable_width": 12,
            "min_acceptable_kpts": 4,
        },
    }
