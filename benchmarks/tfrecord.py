"""Reading speed of training records, compared with the package `tfrecord`.

python -m benchmarks.tfrecord [--quick] [--json FILE]

This package checks all CRCs; `tfrecord` does not.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import deque
from pathlib import Path

import numpy as np
from tfrecord.reader import tfrecord_loader

from bodyposenet.data.records import RecordSet, read_records, write_records
from bodyposenet.types import Record

from . import harness

_FEATURES = {
    "frame/image_id": "int", "frame/height": "int", "frame/width": "int",
    "frame/image_path": "byte", "frame/mask_path": "byte", "dataset": "byte",
    "person/joints": "byte", "person/scales": "byte", "person/centers": "byte",
    "person/person_idx": "int", "person/num_other_people": "int",
}  # fmt: skip


def measure(arguments: argparse.Namespace) -> harness.Figures:
    """Time both readers on the same file, alternately, and random access, as in training."""
    count, turns = (4_000, 5) if arguments.quick else (30_000, 9)
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "records")
        write_records(path, (_random_record(random, number) for number in range(count)))
        records = RecordSet([path])
        order = random.permutation(count).tolist()
        seconds = harness.time_alternately(
            {
                "sequential": lambda: deque(read_records(path), maxlen=0),
                "random": lambda: deque(map(records.__getitem__, order), maxlen=0),
                "package": lambda: deque(tfrecord_loader(str(path), None, _FEATURES), maxlen=0),
                "scan": lambda: RecordSet([path]),
            },
            turns,
        )
    return {
        "records_per_s": count / seconds["sequential"],
        "records_per_s_random_order": count / seconds["random"],
        "records_per_s_scanned": count / seconds["scan"],
        "records_per_s_tfrecord_package": count / seconds["package"],
        "over_tfrecord_package": seconds["package"] / seconds["sequential"],
    }


def _random_record(random: np.random.Generator, number: int) -> Record:
    """Return a random record with 1 to 5 people, 3 on average, as in COCO."""
    people = 1 + number % 5
    return Record(
        image_id=number,
        image_path=f"train2017/{number:012d}.jpg",
        mask_path=f"train_mask2017/{number:012d}.png",
        height=480,
        width=640,
        dataset="coco",
        joints=random.random((people, 17, 3)) * 480,
        scales=random.random(people) * 480,
        centers=random.random((people, 2)) * 480,
        person_index=0,
    )


if __name__ == "__main__":
    harness.run("tfrecord", harness.parser("tfrecord", __doc__), measure)
