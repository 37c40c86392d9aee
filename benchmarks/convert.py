"""Speed and memory of `bpnet dataset_convert --generate_masks` on a large dataset.

python -m benchmarks.convert [--annotations FILE] [--images N] [--quick] [--json FILE]

The annotations are repeated with new ids until there are N images: 64,000 by default, the number of
images with people in COCO's train2017. Without a file, random annotations are used. The image files
are black and have the file size of COCO's; images of the same size are links to one file, which the
operating system caches.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bodyposenet.files import write_json
from bodyposenet.skeleton import COCO_JOINTS

from . import harness

_BYTES_PER_IMAGE = 160_000


def measure(arguments: argparse.Namespace) -> harness.Figures:
    """Convert once, in a separate process."""
    images = arguments.images or (2_000 if arguments.quick else 64_000)
    source = (
        json.loads(arguments.annotations.read_bytes())
        if arguments.annotations
        else _random_annotations()
    )
    processes = arguments.num_processes or os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        people = _write_dataset(folder, source, images)
        command = [
            sys.executable, "-m", "bodyposenet.cli", "dataset_convert", "--generate_masks",
            "-d", str(folder / "spec.json"), "-o", str(folder / "records" / "train"),
            "--num_processes", str(processes), "-l", "ERROR",
        ]  # fmt: skip
        seconds, peak = harness.run_measuring_memory(command)
    return {
        "images": images,
        "people": people,
        "seconds": seconds,
        "processes": processes,
        "images_per_s_per_core": images / seconds / min(processes, os.cpu_count() or 1),
        **({} if peak is None else {"peak_mb": peak}),
    }


def _write_dataset(folder: Path, source: dict[str, Any], count: int) -> int:
    """Write annotations of `count` images and a dataset spec; return the number of people."""
    people_by_image: dict[int, list[dict[str, Any]]] = {}
    for annotation in source["annotations"]:
        people_by_image.setdefault(annotation["image_id"], []).append(annotation)
    images, annotations = [], []
    for number in range(count):
        image = source["images"][number % len(source["images"])]
        images.append(image | {"id": number, "file_name": f"{number:012d}.jpg"})
        for annotation in people_by_image.get(image["id"], []):
            annotations.append(annotation | {"id": len(annotations), "image_id": number})
    _write_images(folder / "images", images)
    content = {"images": images, "annotations": annotations}
    content["categories"] = [{"id": 1, "name": "person", "keypoints": list(COCO_JOINTS)}]
    write_json(folder / "train.json", content, indent=None)
    split = {
        "images_root_dir_path": "images",
        "mask_root_dir_path": "masks",
        "annotation_root_dir_path": "train.json",
    }
    category = {"name": "person", "num_joints": 17, "keypoints": list(COCO_JOINTS)}
    spec = {
        "dataset": "coco",
        "root_directory_path": str(folder),
        "train_data": split,
        "categories": [category],
    }
    write_json(folder / "spec.json", spec)
    return len(annotations)


def _write_images(folder: Path, images: list[dict[str, Any]]) -> None:
    folder.mkdir()
    first_of_size: dict[tuple[int, int], Path] = {}
    for image in images:
        path, size = folder / image["file_name"], (image["height"], image["width"])
        if size in first_of_size:
            path.symlink_to(first_of_size[size])
            continue
        cv2.imwrite(str(path), np.zeros((*size, 3), np.uint8))
        os.truncate(path, _BYTES_PER_IMAGE)  # pads with zeros
        first_of_size[size] = path


def _random_annotations(images: int = 200) -> dict[str, Any]:
    """Return random annotations: 4 people per image, half of them labeled, and some crowds."""
    random = np.random.default_rng(0)
    result: dict[str, Any] = {"images": [], "annotations": []}
    for image_id in range(images):
        result["images"].append({"id": image_id, "height": 480, "width": 640})
        for person in range(4):
            width, height = random.uniform(30, 200), random.uniform(60, 300)
            x, y = random.uniform(0, 640 - width), random.uniform(0, 480 - height)
            angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
            outline = np.stack([np.cos(angles) * width, np.sin(angles) * height], axis=1) / 2
            labeled = person < 2
            points = random.uniform((x, y), (x + width, y + height), (17, 2)).round(2)
            keypoints = np.concatenate([points, np.full((17, 1), 2)], axis=1) * labeled
            center = np.array([x + width / 2, y + height / 2])
            result["annotations"].append(
                {
                    "image_id": image_id,
                    "category_id": 1,
                    "bbox": [x, y, width, height],
                    "area": width * height * 0.6,
                    "iscrowd": int(person == 3 and image_id % 20 == 0),
                    "keypoints": keypoints.ravel().tolist(),
                    "num_keypoints": 17 * labeled,
                    "segmentation": [(outline + center).round(2).ravel().tolist()],
                }
            )
    return result


if __name__ == "__main__":
    flags = harness.parser("convert", __doc__)
    flags.add_argument("--annotations", type=Path, metavar="FILE", help="COCO keypoint annotations")
    flags.add_argument("--images", type=int, metavar="N", help="number of images; default: 64000")
    flags.add_argument(
        "--num_processes", type=int, metavar="N", help="number of processes; default: all cores"
    )
    harness.run("convert", flags, measure)
