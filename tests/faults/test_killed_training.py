"""kill -9 at any moment of a training: run again, it ends with the bits of an undisturbed run."""

import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from bodyposenet.training.checkpoints import last_checkpoint

PROCESSES = Path("/proc")


def commands():
    for file in PROCESSES.glob("[0-9]*/cmdline"):
        with suppress(OSError):
            yield file.read_text().replace("\0", " ")


def start(spec, results, stderr=subprocess.DEVNULL):
    command = [
        sys.executable,
        "-m",
        "bodyposenet.cli",
        "train",
        "-e",
        str(spec),
        "-r",
        str(results),
    ]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr, text=True)


def kill(run, results, seconds, *, after):
    """Kill a run some seconds after such a file is there; whether it had not ended by itself."""
    while run.poll() is None and not list(results.glob(after)):
        time.sleep(0.02)
    time.sleep(seconds)
    if run.poll() is None:
        run.send_signal(signal.SIGKILL)
    return run.wait() == -signal.SIGKILL


def test_a_killed_run_goes_on_from_where_it_was_saved_last(write_train_spec, tmp_path):
    changes = {"num_epoch": 12, "validation_every_n_epoch": 4, "max_ckpt_to_keep": 2}
    changes |= {"ema_decay": 0.9, "checkpoint_n_epoch": 3, "checkpoint_every_n_secs": 0.01}
    spec = write_train_spec(**changes, **{"dataloader.workers": 1, "dataloader.batch_size": 2})
    assert start(spec, tmp_path / "undisturbed").wait() == 0

    moments, results = random.Random(0), tmp_path / "killed"
    assert kill(start(spec, results), results, 0.1, after="events/*")
    for _ in range(3):
        seconds = moments.uniform(0.0, 0.4)
        kill(start(spec, results), results, seconds, after="*.state")
    assert start(spec, results).wait() == 0
    for name in ("bpnet_model.tlt", "model.epoch-12.tlt", "model.epoch-12.state"):
        assert (results / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()
    assert not list(results.glob(".*.tmp"))
    assert not (results / "latest.state").exists()
    if PROCESSES.is_dir():
        for _ in range(100):  # workers look for their parent once a second
            left = [process for process in commands() if str(results) in process]
            if not left:
                break
            time.sleep(0.1)
        assert not left


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_signal_saves_the_exact_position_and_the_exit_code_says_so(
    write_train_spec, tmp_path, name
):
    changes = {"num_epoch": 2, "validation_every_n_epoch": 2, "checkpoint_n_epoch": 2}
    changes |= {"dataloader.batch_size": 1, "summary_every_n_steps": 1, "log_every_n_secs": 1e-6}
    spec, results = write_train_spec(**changes), tmp_path / "run"
    with start(spec, results, stderr=subprocess.PIPE) as run:
        for line in run.stderr:
            if "step 3/" in line:
                run.send_signal(getattr(signal, name))
            last = line
    assert run.returncode == 75
    assert last == f"stopped by {name}; the same command goes on from here\n"
    position = last_checkpoint(results, "").position
    assert position.epoch == 0 and position.samples >= 3

    assert start(spec, results).wait() == 0
    assert start(spec, tmp_path / "undisturbed").wait() == 0
    for file in ("bpnet_model.tlt", "model.epoch-2.state"):
        assert (results / file).read_bytes() == (tmp_path / "undisturbed" / file).read_bytes()
