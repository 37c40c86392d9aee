"""Exact resume: compare a training that is killed repeatedly with an uninterrupted one.

python -m benchmarks.resume [--kills N] [--seed N] [--quick] [--json FILE]

A training of a small network on synthetic images, with a worker process and a moving average, saves
its state ten times per second. It is killed (SIGKILL) 20 times, at random moments during startup
and training, and restarted. Its files must be bit-identical to those of an uninterrupted training.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from bodyposenet.files import atomic_write

from . import harness
from .train_step import copy_records, write_dataset, write_train_spec

_EPOCHS = 8
_FILES = ("bpnet_model.tlt", f"model.epoch-{_EPOCHS}.tlt", f"model.epoch-{_EPOCHS}.state")


def measure(arguments: argparse.Namespace) -> harness.Figures:
    """Train without and with kills, and compare the files."""
    kills = arguments.kills or (3 if arguments.quick else 20)
    moments = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_dataset(folder, 8 if arguments.quick else 30)
        copy_records(folder, 1)
        spec = _write_spec(folder)
        uninterrupted, killed = folder / "uninterrupted", folder / "killed"
        starting, training = _run(spec, uninterrupted)
        for _ in range(kills):
            if moments.random() < 0.2:
                _run(spec, killed, kill_after_start=moments.uniform(0, starting))
            else:
                _run(spec, killed, kill_in_training=moments.uniform(0, training / kills))
        _run(spec, killed)
        equal = all(
            (uninterrupted / file).read_bytes() == (killed / file).read_bytes() for file in _FILES
        )
    return {"kills": kills, "runs_bit_equal": float(equal), "seconds_undisturbed": training}


def _write_spec(folder: Path) -> Path:
    """Write a train spec with much state to save and little to compute."""
    path = write_train_spec(folder, "mobilenet", size=128, batch_size=2, workers=1)
    spec = yaml.safe_load(path.read_text())
    spec |= {"num_epoch": _EPOCHS, "validation_every_n_epoch": _EPOCHS, "checkpoint_n_epoch": 3}
    spec |= {"ema_decay": 0.99, "checkpoint_every_n_secs": 0.1, "clip_grad_norm": 100.0}
    spec["model"] |= {"stages": 2}
    spec["model"]["backbone_attributes"]["width"] = 0.125
    with atomic_write(path) as file:
        file.write(yaml.safe_dump(spec).encode())
    return path


def _run(
    spec: Path,
    results: Path,
    *,
    kill_after_start: float | None = None,
    kill_in_training: float | None = None,
) -> tuple[float, float]:
    """Train to the end, or until the process is killed after the given seconds.

    Returns:
        Seconds of startup, and seconds of training.

    Raises:
        RuntimeError: The training failed.
    """
    command = [sys.executable, "-m", "bodyposenet.cli", "train", "-e", spec, "-r", results]
    begun, runs = time.perf_counter(), _runs(results)
    with subprocess.Popen([*map(str, command), "-l", "ERROR"], stdout=subprocess.DEVNULL) as run:
        if kill_after_start is not None:
            time.sleep(kill_after_start)
            run.kill()
        while run.poll() is None and _runs(results) == runs:
            time.sleep(0.01)
        trained = time.perf_counter()
        if kill_in_training is not None:
            time.sleep(kill_in_training)
            run.kill()
    killed = kill_after_start is not None or kill_in_training is not None
    if run.returncode and not killed:
        raise RuntimeError(f"the training ended with exit code {run.returncode}")
    return trained - begun, time.perf_counter() - trained


def _runs(results: Path) -> int:
    """Count the runs that have started training; each first writes its versions."""
    status = results / "status.json"
    lines = status.read_text().splitlines() if status.exists() else []
    return sum("versions" in json.loads(line) for line in lines if line.endswith("}"))


if __name__ == "__main__":
    flags = harness.parser("resume", __doc__)
    flags.add_argument("--kills", type=int, metavar="N", help="number of kills; default: 20")
    flags.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of the random moments; default: 0"
    )
    harness.run("resume", flags, measure)
