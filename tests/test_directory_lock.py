"""Locks of results folders, and cleaning up after killed runs."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from bodyposenet.directory_lock import directory_lock
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import atomic_write, temporary_name

HOLD = """
import os, sys, time
from pathlib import Path
from bodyposenet.directory_lock import directory_lock
with directory_lock(Path(sys.argv[1])):
    forks = sys.argv[2] == "fork"
    if not forks or not os.fork():  # the child has closed its copy of the lock when it prints
        print("locked", flush=True)
    time.sleep(60)
"""


def hold(folder, *more: str) -> subprocess.Popen:
    """Start a process that holds the lock."""
    command = [sys.executable, "-c", HOLD, str(folder), *(more or ("",))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    return process


def refused(folder, prefix: str = "") -> bool:
    try:
        with directory_lock(folder, prefix):
            return False
    except BodyPoseNetError as error:
        assert str(folder) in error.what
        assert "-r" in error.remedy
        return True


def test_second_run_fails_until_the_first_has_ended(tmp_path):
    with hold(tmp_path) as process:
        begin = time.monotonic()
        assert refused(tmp_path)
        assert time.monotonic() - begin < 1
        process.terminate()
    assert not refused(tmp_path)
    with directory_lock(tmp_path):
        assert refused(tmp_path)  # also in the same process
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_lock_of_killed_run_is_free_although_its_workers_run(tmp_path):
    with hold(tmp_path, "fork") as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert (tmp_path / ".lock").exists()
        assert not refused(tmp_path)


def test_prefixes_have_separate_locks(tmp_path):
    with directory_lock(tmp_path, "train"):
        assert refused(tmp_path, "train")
        assert not refused(tmp_path, "test")


def test_unfinished_files_of_killed_runs_are_removed_after_a_day(tmp_path, caplog):
    killed = [temporary_name(tmp_path / "train-0"), temporary_name(tmp_path / "a", ".tmp.mp4")]
    others = [tmp_path / name for name in (".train.tmp", "train-0", ".train-0.lock")]
    for file in (*killed, *others):
        file.touch()
        os.utime(file, (0, time.time() - 25 * 60 * 60))
    with caplog.at_level("INFO", "bodyposenet"), directory_lock(tmp_path, "train"):
        assert not any(file.exists() for file in killed)
    assert " 2 " in caplog.text
    assert all(file.exists() for file in others)


@pytest.mark.parametrize("prefix", ["", "train"])
def test_unfinished_files_of_running_processes_are_kept(tmp_path, prefix):
    """They belong to a run with another prefix, or to one that writes files without a lock."""
    with atomic_write(tmp_path / "train_small-0") as file:
        file.write(b"whole")
        with directory_lock(tmp_path, prefix):
            pass
    assert (tmp_path / "train_small-0").read_bytes() == b"whole"


def test_folder_removed_during_the_run_is_an_error(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    with pytest.raises(BodyPoseNetError, match=r"run: "), directory_lock(folder):
        shutil.rmtree(folder)
        folder.mkdir()
        (folder / ".lock").touch()  # the lock of another run
    assert (folder / ".lock").exists()


def test_error_of_the_run_hides_the_removed_folder(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    with pytest.raises(ValueError, match="first"), directory_lock(folder):
        shutil.rmtree(folder)
        raise ValueError("first")


def test_lock_file_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / ".lock").symlink_to(tmp_path / "victim")
    assert refused(tmp_path)
    assert not (tmp_path / "victim").exists()


def test_file_system_without_locks_is_logged(tmp_path, monkeypatch, caplog):
    def fail(_: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("bodyposenet.directory_lock._lock", fail)
    with directory_lock(tmp_path):
        pass
    assert "Operation not supported" in caplog.text
