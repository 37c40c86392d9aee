"""Time to the first step, and memory, of `bpnet train` on ten million records.

python -m benchmarks.large_index [--quick] [--json FILE]

A file of 10,000 records is linked under 1,000 names, so that the training indexes, checks and
shuffles ten million records; memory is compared with the same training on a single file. Each
training is stopped after its first steps.
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
_STEP_LINE = re.compile(r"Epoch: \[1/\d+\]  \[\d+/\d+\]")
"""Log line of a step in the first epoch."""

_SECONDS_AFTER_FIRST_STEP = 5
"""Long enough for the worker process to read from all parts of the index."""


def measure(arguments: argparse.Namespace) -> harness.Figures:
    """Train on one file, then on all files, each in a separate process."""
    names = 100 if arguments.quick else 1_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = folder / "records" / "copy-0000"
        write_dataset(folder, images=20)
        records = list(read_records(folder / "records" / "train-fold-000-of-001"))
        write_records(first, islice(cycle(records), _RECORDS_PER_FILE))
        spec = _write_spec(folder)
        _, peak_small = _measure_first_steps(spec, folder / "small")
        for number in range(1, names):
            first.with_name(f"copy-{number:04d}").hardlink_to(first)
        seconds, peak = _measure_first_steps(spec, folder / "large")
    figures = {"records": names * _RECORDS_PER_FILE, "seconds_to_first_step": seconds}
    if peak and peak_small:
        figures |= {
            "peak_mb": peak,
            "peak_mb_small": peak_small,
            "mb_over_small": peak - peak_small,
        }
    return figures


def _write_spec(folder: Path) -> Path:
    """Write the spec of a tiny network that logs every step."""
    path = write_train_spec(folder, "mobilenet", size=64, batch_size=8, workers=1)
    spec = yaml.safe_load(path.read_text())
    spec["log_every_n_secs"] = 0.001
    spec["model"]["backbone_attributes"]["width"] = 0.25
    with atomic_write(path) as file:
        file.write(yaml.safe_dump(spec).encode())
    return path


def _measure_first_steps(spec: Path, results: Path) -> tuple[float, float]:
    """Train until the first steps are done.

    Returns:
        Seconds to the end of the first step, and the peak of the resident memory of the training
        and its processes in MB; 0 on systems without /proc.

    Raises:
        RuntimeError: The training ended before its first step.
    """
    command = [sys.executable, "-m", "bodyposenet.cli", "train", "-e", str(spec), "-r", results]
    log = results.with_suffix(".log")
    begun, seconds, peak = time.perf_counter(), None, 0.0
    with open(log, "wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        while seconds is None or time.perf_counter() < begun + seconds + _SECONDS_AFTER_FIRST_STEP:
            if process.poll() is not None:
                raise RuntimeError(f"the training ended before its first step:\n{log.read_text()}")
            peak = max(peak, harness.resident_mb(process.pid))
            if seconds is None and _STEP_LINE.search(log.read_text()):
                seconds = time.perf_counter() - begun
            time.sleep(0.05)
        process.terminate()
    return seconds, peak


if __name__ == "__main__":
    harness.run("large_index", harness.parser("large_index", __doc__), measure)
