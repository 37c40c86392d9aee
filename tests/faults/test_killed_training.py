"""A training that is killed or stopped can be resumed, with the result of an uninterrupted run."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from bodyposenet.directory_lock import directory_lock
from bodyposenet.training.checkpoints import Position, last_checkpoint
from bodyposenet.training.progress import ProgressLogger

PROCESSES = Path("/proc")


def commands():
    for file in PROCESSES.glob("[0-9]*/cmdline"):
        with suppress(OSError):
            yield file.read_text().replace("\0", " ")


KILLED = """
import os, signal, sys
from bodyposenet import cli

name, count = sys.argv[1], int(sys.argv[2])

def kill(event, arguments):
    global count
    if event == "os.rename" and os.fspath(arguments[1]).endswith(name):
        count -= 1
        if count == 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(kill)
sys.exit(cli.main(sys.argv[3:]))
"""
"""Kills the process when it renames a finished file to `name` for the `count`-th time."""


def start(spec, results, code=None, stderr=subprocess.DEVNULL):
    program = ["-m", "bodyposenet.cli"] if code is None else ["-c", *code]
    command = [sys.executable, *program, "train", "-e", str(spec), "-r", str(results)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr, text=True)


def test_a_killed_run_is_resumed_from_its_last_save(write_train_spec, tmp_path, run_bpnet):
    changes = {"num_epoch": 6, "validation_every_n_epoch": 2, "max_ckpt_to_keep": 2}
    changes |= {"ema_decay": 0.9, "checkpoint_n_epoch": 2, "checkpoint_every_n_secs": 1e-6}
    spec = write_train_spec(**changes, **{"dataloader.workers": 1, "dataloader.batch_size": 2})
    assert run_bpnet("train", "-e", spec, "-r", tmp_path / "uninterrupted").code == 0

    uninterrupted, results = tmp_path / "uninterrupted", tmp_path / "killed"
    for name, count in (("latest.state", 1), ("model.epoch-4.tlt", 1)):
        assert start(spec, results, (KILLED, name, str(count))).wait() == -signal.SIGKILL
    assert not (results / "model.epoch-4.tlt").exists()  # only its state was written
    assert run_bpnet("train", "-e", spec, "-r", results).code == 0
    for name in ("bpnet_model.tlt", "model.epoch-6.tlt", "model.epoch-6.state"):
        assert (results / name).read_bytes() == (uninterrupted / name).read_bytes()
    # Incomplete files of the killed run are removed after a day.
    names, expected = (
        {file.name for file in run.glob("[!.]*")} for run in (results, uninterrupted)
    )
    assert names == expected
    day_before = time.time() - 25 * 60 * 60
    for path in results.glob(".*.tmp"):
        os.utime(path, (day_before, day_before))
    with directory_lock(results):
        pass
    assert not list(results.glob(".*"))
    if PROCESSES.is_dir():
        for _ in range(100):  # workers check for their parent once a second
            remaining = [process for process in commands() if str(results) in process]
            if not remaining:
                break
            time.sleep(0.1)
        assert not remaining


def test_an_unexpected_exception_ends_a_training_with_workers(write_train_spec, tmp_path):
    spec = write_train_spec(**{"dataloader.workers": 1})
    broken = (
        "import sys; from bodyposenet import cli; from bodyposenet.training import progress; "
        "progress.ProgressLogger.log_step = lambda *_, **__: 1 / 0; "
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", broken, "train", "-e", str(spec), "-r", str(tmp_path / "run")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert run.returncode == 1
    assert "ZeroDivisionError" in run.stderr


def test_a_killed_worker_is_an_error(write_train_spec, tmp_path):
    changes = {"num_epoch": 400, "validation_every_n_epoch": 400, "log_every_n_secs": 1e-6}
    spec = write_train_spec(**changes, **{"dataloader.workers": 1})
    with start(spec, tmp_path / "run", stderr=subprocess.PIPE) as run:
        killed, output = False, ""
        for line in run.stderr:
            output += line
            children = Path(f"/proc/{run.pid}/task/{run.pid}/children")
            if "[2/" in line and not killed:
                if not children.exists():
                    run.kill()
                    pytest.skip("the system does not list the children of a process")
                for child in children.read_text().split():
                    os.kill(int(child), signal.SIGKILL)
                killed = True
    assert run.returncode == 2
    assert "worker process has died" in output
    assert "Traceback" not in output


def test_a_signal_saves_the_exact_position_and_exits_with_75(
    write_train_spec, run_bpnet, tmp_path, monkeypatch
):
    changes = {"num_epoch": 2, "validation_every_n_epoch": 2, "checkpoint_n_epoch": 2}
    spec = write_train_spec(**changes, **{"dataloader.batch_size": 1})
    assert run_bpnet("train", "-e", spec, "-r", tmp_path / "uninterrupted").code == 0
    step = ProgressLogger.log_step
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):

        def step_and_signal(self, done, *arguments, number=number, **options):
            step(self, done, *arguments, **options)
            if done == 3:
                signal.raise_signal(number)

        results = tmp_path / number.name
        with monkeypatch.context() as patched:
            patched.setattr(ProgressLogger, "log_step", step_and_signal)
            stopped = run_bpnet("train", "-e", spec, "-r", results)
        assert stopped.code == 75
        assert number.name in stopped.err.splitlines()[-1]
        assert last_checkpoint(results, "").position == Position(0, samples=3)
        assert run_bpnet("train", "-e", spec, "-r", results).code == 0
        for file in ("bpnet_model.tlt", "model.epoch-2.state"):
            assert (results / file).read_bytes() == (tmp_path / "uninterrupted" / file).read_bytes()
