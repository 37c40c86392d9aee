"""`bpnet train` on ten million records: seconds until its first step, and memory.

python -m benchmarks.large_index [--quick] [--json FILE]

A file of 10,000 records stands in the training's folder under 1,000 names, so that ten million
records are found, checked, shuffled and drawn from; the same training under one name is what the
memory is compared with. Each is ended when it has taken its first steps.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

import yaml

from bodyposenet.data.records import read_records, write_records
from bodyposenet.files import atomic_write

from . import harness
from .train_step import write_dataset, write_train_spec

_RECORDS_PER_FILE = 10_000
_SECONDS_AFTER_FIRST_STEP = 5
"""Long enough for the process that makes samples to draw from all over the index."""


def measure(arguments: argparse.Namespace) -> harness.Figures:
    """Train on one file, then on all of them, each time in a process of its own."""
    names = 100 if arguments.quick else 1_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = folder / "records" / "copy-0000"
        write_dataset(folder, images=20)
        drawn = list(read_records(folder / "records" / "train-fold-000-of-001"))
        write_records(first, islice(cycle(drawn), _RECORDS_PER_FILE))
        spec = _write_spec(folder)
        _, peak_small = _watch_first_steps(spec, folder / "small")
        for number in range(1, names):
            first.with_name(f"copy-{number:04d}").hardlink_to(first)
        seconds, peak = _watch_first_steps(spec, folder / "large")
    figures = {"records": names * _RECORDS_PER_FILE, "seconds_to_first_step": seconds}
    if peak and peak_small:
        figures |= {
            "peak_mb": peak,
            "peak_mb_small": peak_small,
            "mb_over_small": peak - peak_small,
        }
    return figures


def _write_spec(folder: Path) -> Path:
    """The spec of a tiny network, which tells of every step."""
    path = write_train_spec(folder, "mobilenet", size=64, batch_size=8, workers=1)
    spec = yaml.safe_load(path.read_text())
    spec["log_every_n_secs"] = 0.001
    spec["model"]["backbone_attributes"]["width"] = 0.25
    with atomic_write(path) as file:
        file.write(yaml.safe_dump(spec).encode())
    return path


def _watch_first_steps(spec: Path, results: Path) -> tuple[float, float]:
    """Train until the first steps are done.

    Returns:
        Seconds until the first step was done, and the most memory in MB that the training and its
        processes held together; 0 where the system has no /proc to tell it.

    Raises:
        RuntimeError: The training has ended before.
    """
    command = [sys.executable, "-m", "bodyposenet.cli", "train", "-e", str(spec), "-r", results]
    said = results.with_suffix(".log")
    begun, seconds, peak = time.perf_counter(), None, 0.0
    with open(said, "wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        while seconds is None or time.perf_counter() < begun + seconds + _SECONDS_AFTER_FIRST_STEP:
            if process.poll() is not None:
                raise RuntimeError(f"the training has ended:\n{said.read_text()}")
            peak = max(peak, harness.resident_mb(process.pid))
            if seconds is None and re.search(r"\bstep \d+/\d+", said.read_text()):
                seconds = time.perf_counter() - begun
            time.sleep(0.05)
        process.terminate()
    return seconds, peak


if __name__ == "__main__":
    harness.run("large_index", harness.parser("large_index", __doc__), measure)
