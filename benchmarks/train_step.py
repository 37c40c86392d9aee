"""Images/s of `bpnet train` with JPEGs, and the share of time that steps wait for data.

python -m benchmarks.train_step [--quick] [--json FILE]

Lightweight OpenPose at 256 x 256, on synthetic 640 x 480 images, with one worker process.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

import yaml

from bodyposenet.data.records import RecordSet
from bodyposenet.demo import write_drawn_dataset
from bodyposenet.files import atomic_write

from . import harness

SHIPPED_SPECS = {
    "vgg": "bpnet_train_m1_coco.yaml",
    "mobilenet": "bpnet_train_lightweight_openpose_coco.yaml",
}
"""Architecture -> train spec in the package."""

_RECORDS = "records/train-fold-000-of-001"


def measure(arguments: argparse.Namespace) -> harness.Figures:
    """Train for two epochs; the second one is measured."""
    images, copies = (16, 1) if arguments.quick else (60, 3)
    batch_size = arguments.batch_size
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        records = write_dataset(folder, images)
        copy_records(folder, copies)
        spec = write_train_spec(folder, "mobilenet", size=256, batch_size=batch_size, workers=1)
        epoch = train(spec, folder / "results")
    return {
        "steps": records * copies // batch_size,
        "batch_size": batch_size,
        "images_per_s": epoch["images_per_s"],
        "data_wait_share": epoch["data_wait_share"],
    }


def write_dataset(folder: Path, images: int) -> int:
    """Draw JPEGs of 640 x 480 and convert them to records, with masks.

    Args:
        folder: Folder to write the dataset to, with the records in `records/`.
        images: Number of images.

    Returns:
        The number of records.
    """
    spec = write_drawn_dataset(folder, images, 0, (480, 640), seed=0)
    _bpnet("dataset_convert", "-d", spec, "-o", folder / "records" / "train", "--generate_masks")
    return len(RecordSet([folder / _RECORDS]))


def copy_records(folder: Path, copies: int) -> None:
    """Copy the record file of `write_dataset`, so that an epoch is `copies` times as long."""
    for number in range(copies):
        shutil.copy(folder / _RECORDS, folder / "records" / f"copy-{number}")


def write_train_spec(
    folder: Path, architecture: str, *, size: int, batch_size: int, workers: int | None
) -> Path:
    """Write a train spec of the package, changed to two epochs of a synthetic dataset.

    Args:
        folder: Folder of `write_dataset` and `copy_records`, in which the spec is written.
        architecture: `vgg` or `mobilenet`.
        size: Height and width of the network's input.
        batch_size: Samples per step.
        workers: Number of worker processes; None for the default of the training.
    """
    shipped = files("bodyposenet") / "resources" / "specs" / SHIPPED_SPECS[architecture]
    spec = yaml.safe_load(shipped.read_text())
    spec |= {"num_epoch": 2, "checkpoint_n_epoch": 2, "validation_every_n_epoch": 2}
    loader = spec["dataloader"]
    loader["pose_config"].pop("target_shape", None)
    loader["image_config"]["image_dims"] = {"height": size, "width": size}
    loader |= {"batch_size": batch_size, "workers": workers}
    loader["dataset_config"] = {
        "root_data_path": str(folder),
        "train_records_folder_path": str(folder / "records"),
        "train_records_path": ["copy-*"],
        "dataset_specs": {"drawn": str(folder / "dataset.json")},
    }
    path = folder / f"{architecture}.yaml"
    with atomic_write(path) as file:
        file.write(yaml.safe_dump(spec).encode())
    return path


def train(spec: Path, results: Path, *flags: str) -> dict[str, float]:
    """Train in a separate process.

    Returns:
        Values of the last epoch in `status.json`: loss, learning_rate, images_per_s,
        data_wait_share.
    """
    _bpnet("train", "-e", spec, "-r", results, *flags)
    lines = [json.loads(line) for line in (results / "status.json").read_text().splitlines()]
    return [line["graphical"] for line in lines if "graphical" in line][-1]


def _bpnet(*arguments: object) -> None:
    command = [sys.executable, "-m", "bodyposenet.cli", *map(str, arguments), "-l", "ERROR"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    flags = harness.parser("train_step", __doc__)
    flags.add_argument("--batch_size", type=int, default=4, metavar="N", help="default: 4")
    harness.run("train_step", flags, measure)
