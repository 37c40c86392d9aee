"""kill -9 at any moment of a training: run again, it ends with the bits of an undisturbed run."""

import os
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


def test_an_unforeseen_exception_ends_a_training_that_has_workers(write_train_spec, tmp_path):
    spec = write_train_spec(**{"dataloader.workers": 1})
    broken = (
        "import sys; from bodyposenet import cli; from bodyposenet.training import progress; "
        "progress.Progress.step = lambda *_, **__: 1 / 0; sys.exit(cli.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", broken, "train", "-e", str(spec), "-r", str(tmp_path / "run")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert run.returncode == 1
    assert "ZeroDivisionError" in run.stderr


def test_a_worker_that_dies_is_a_clear_error(write_train_spec, tmp_path):
    changes = {"num_epoch": 400, "validation_every_n_epoch": 400, "log_every_n_secs": 1e-6}
    spec = write_train_spec(**changes, **{"dataloader.workers": 1})
    with start(spec, tmp_path / "run", stderr=subprocess.PIPE) as run:
        killed, output = False, ""
        for line in run.stderr:
            output += line
            children = Path(f"/proc/{run.pid}/task/{run.pid}/children")
            if "step 2/" in line and not killed:
                if not children.exists():
                    run.kill()
                    pytest.skip("the system does not tell the children of a process")
                for child in children.read_text().split():
                    os.kill(int(child), signal.SIGKILL)
                killed = True
    assert run.returncode == 2
    assert "a process that makes training samples has died" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGINT"])
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
