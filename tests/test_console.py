"""Output of commands: log messages, results, progress, and status.json."""

import errno
import io
import json
import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bodyposenet import console
from bodyposenet.console import configure_logging, logger, print_result, progress, progress_bars
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.results_folder import StatusFile


def lines_of(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "status.json").read_text().splitlines()]


def test_status_of_a_run(tmp_path):
    with StatusFile(tmp_path / "new") as status:
        status.write("RUNNING", "epoch 1", graphical={"loss": 1.5}, epoch=1)
    started, running, ended = lines_of(tmp_path / "new")
    assert [line["status"] for line in (started, running, ended)] == [
        "STARTED",
        "RUNNING",
        "SUCCESS",
    ]
    assert running["graphical"] == {"loss": 1.5}
    assert running["epoch"] == 1
    assert re.fullmatch(r"[1-9]\d?/[1-9]\d?/\d{4}", started["date"])
    assert re.fullmatch(r"\d{1,2}:\d{1,2}:\d{1,2}", started["time"])
    assert started["verbosity"] == "INFO"


def test_status_of_a_run_that_fails(tmp_path):
    for error in (BodyPoseNetError("no such file: a", "Give another."), ValueError()):
        with pytest.raises(type(error)), StatusFile(tmp_path):
            raise error
    lines = lines_of(tmp_path)
    assert [line["status"] for line in lines] == ["STARTED", "FAILURE"] * 2
    assert lines[1]["message"] == "no such file: a\nGive another."
    assert lines[1]["verbosity"] == "ERROR"
    assert lines[3]["message"] == "ValueError"


def test_status_is_appended_to_earlier_runs(tmp_path):
    for _ in range(2):
        with StatusFile(tmp_path):
            pass
    assert len(lines_of(tmp_path)) == 4


def test_status_that_cannot_be_written(tmp_path):
    (tmp_path / "status.json").mkdir()
    with pytest.raises(BodyPoseNetError, match=r"status\.json: "):
        StatusFile(tmp_path).write("RUNNING")
    (tmp_path / "file").write_text("")
    with pytest.raises(BodyPoseNetError, match=r"file: "):
        StatusFile(tmp_path / "file")


def test_error_of_the_run_hides_error_of_its_status(tmp_path):
    with pytest.raises(ValueError, match="the reason"), StatusFile(tmp_path / "run"):
        (tmp_path / "run" / "status.json").unlink()
        (tmp_path / "run" / "status.json").mkdir()
        raise ValueError("the reason")


def test_log_lines_go_to_standard_error_or_are_appended_to_a_file(tmp_path, capsys):
    configure_logging("WARNING")
    logger.info("quiet")
    logger.warning("loud")
    assert capsys.readouterr().err == "WARNING: loud\n"
    for text in ("one", "two"):
        configure_logging("INFO", str(tmp_path / "log"))
        logger.info(text)
    assert (tmp_path / "log").read_text() == "INFO: one\nINFO: two\n"
    assert capsys.readouterr().err == ""


def test_results_are_printed_and_appended_to_the_log_file(tmp_path, capsys):
    configure_logging("WARNING", str(tmp_path / "log"))
    logger.info("quiet")
    logger.warning("photo\udcff.jpg")
    print_result("photo\udcff.jpg")
    print_result("wrong", error=True)
    log = (tmp_path / "log").read_text()
    assert log == "WARNING: photo\\udcff.jpg\nphoto\\udcff.jpg\nwrong\n"
    configure_logging("WARNING")
    print_result("elsewhere")
    assert (tmp_path / "log").read_text() == log
    assert capsys.readouterr() == ("photo\\udcff.jpg\nelsewhere\n", "wrong\n")


def test_a_log_file_that_cannot_be_opened(tmp_path):
    with pytest.raises(BodyPoseNetError, match="Is a directory"):
        configure_logging("INFO", str(tmp_path))


def test_progress_without_a_terminal_is_logged(monkeypatch, caplog):
    monkeypatch.setattr(console, "_SECONDS_BETWEEN_LINES", 0.0)
    with caplog.at_level(logging.INFO, "bodyposenet"):
        assert list(progress(range(3), "counting")) == [0, 1, 2]
        assert list(progress(iter("ab"), "reading")) == ["a", "b"]
    assert caplog.messages == [
        "counting: 1/3",
        "counting: 2/3",
        "counting: 3/3",
        "reading: 1",
        "reading: 2",
    ]


def test_progress_on_a_terminal_is_a_bar(monkeypatch, capsys, caplog):
    class Terminal:
        """A stream that is taken for a terminal."""

        def __init__(self, stream) -> None:
            self._stream = stream

        def __getattr__(self, name):
            return getattr(self._stream, name)

        def isatty(self) -> bool:
            return True

    import sys

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Terminal(sys.stderr))
    with caplog.at_level(logging.INFO, "bodyposenet"), progress_bars(True):
        assert list(progress(range(3), "counting", total=3)) == [0, 1, 2]
    written = capsys.readouterr().err
    assert "counting" in written
    assert "3/3" in written


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
@pytest.mark.parametrize("argument", ["doctor", "--help", "--version"])
def test_full_disk_behind_standard_output_is_one_error(argument):
    command = [sys.executable, "-m", "bodyposenet.cli", argument]
    with open("/dev/full", "w") as full:
        run = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert run.returncode == 2
    # `doctor` also logs if it compiles the decoder.
    error, remedy = [line for line in run.stderr.splitlines() if not line.startswith("INFO: ")]
    assert error.startswith("error: ") and "No space left" in error
    assert remedy.startswith(" ")


def test_characters_not_in_the_encoding_are_escaped(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", stream)
    print_result("Łódź.png \ud800")
    assert stream.buffer.getvalue().strip() == b"\\u0141\xf3d\\u017a.png \\ud800"


def test_full_disk_of_the_log_file_is_reported_once(capsys, monkeypatch, tmp_path):
    def fail(text):
        raise OSError(errno.ENOSPC, "No space left on device")

    configure_logging("INFO", str(tmp_path / "log"))
    monkeypatch.setattr(logger.handlers[0].stream, "write", fail)
    logger.info("one")
    logger.info("two")
    assert capsys.readouterr().err.count("No space left") == 1
