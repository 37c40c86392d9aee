"""What a run says: results, log lines, progress bars and TAO's status.json."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from bodyposenet.errors import BodyPoseNetError, Stopped
from bodyposenet.files import make_directory

logger = logging.getLogger("bodyposenet")

Item = TypeVar("Item")

_SECONDS_BETWEEN_LINES = 10.0


def configure_logging(level: str, log_file: str | None = None) -> None:
    """Send log lines to standard error, or append them to a file.

    Raises:
        BodyPoseNetError: The log file cannot be opened.
    """
    handler: logging.Handler
    try:
        handler = _StandardError()
        if log_file:
            handler = _LogFile(log_file, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise BodyPoseNetError(
            f"{log_file}: cannot be opened: {error.strerror}", "Give --log_file another path."
        ) from error
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    for old in list(logger.handlers):
        logger.removeHandler(old)
        old.close()
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False


def mute() -> None:
    """Show errors only, and write to no log file: for processes beside the first of a training."""
    logger.setLevel(logging.ERROR)
    for handler in list(logger.handlers):
        if isinstance(handler, logging.FileHandler):
            logger.removeHandler(handler)
            handler.close()
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (for the rest of the process)


def say(text: str, *, error: bool = False) -> None:
    """Print a result, and append it to the log file if there is one.

    Args:
        text: One line or more.
        error: Print on standard error.

    Raises:
        BodyPoseNetError: Standard output is a file on a full disk.
    """
    stream = sys.stderr if error else sys.stdout
    # A file name may not be text at all, or have characters that the stream's encoding lacks.
    encoding = stream.encoding or "utf-8"
    text = text.encode(encoding, errors="backslashreplace").decode(encoding)
    try:
        print(text, file=stream, flush=True)
    except OSError as problem:
        # What is left in the stream's buffer would fail again at exit.
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())
        # `bpnet evaluate ... | head`: nobody reads on, the work still counts.
        if not error and not isinstance(problem, BrokenPipeError):
            raise BodyPoseNetError(
                f"standard output cannot be written: {problem.strerror}",
                "Free some space, or send it somewhere else.",
            ) from problem
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler) and handler.stream is not None:
            with suppress(OSError):  # a full disk here must not hide what is said
                handler.stream.write(f"{text}\n")
                handler.flush()


class _StandardError(logging.StreamHandler):
    """Writes to what standard error is at the time: a progress bar puts itself in between."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


class _LogFile(logging.FileHandler):
    """A log file; the run goes on where it cannot be written, and standard error has one line."""

    _failed = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        if not self._failed:
            self._failed = True
            say(f"{self.baseFilename}: log lines are missing: {sys.exc_info()[1]}", error=True)


def track(
    items: Iterable[Item], description: str, total: int | None = None, *, lines: bool = True
) -> Iterator[Item]:
    """Yield the items, showing a progress bar on a terminal and plain lines elsewhere.

    Args:
        items: What to go through.
        description: What is being done.
        total: How many there are; `len(items)` where it is not given.
        lines: False where the caller says by itself how far it is.
    """
    if total is None and hasattr(items, "__len__"):
        total = len(items)  # type: ignore[arg-type]
    if sys.stderr.isatty() and logger.isEnabledFor(logging.INFO):
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True)) as progress:
            yield from progress.track(items, total=total, description=description)
        return
    last = time.monotonic()
    for done, item in enumerate(items):
        yield item
        if lines and time.monotonic() - last >= _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            logger.info("%s: %d%s", description, done + 1, f"/{total}" if total else "")


class StatusFile:
    """TAO's `status.json`: one JSON object per line, appended as the run goes (reference 1.1).

    As a context manager it writes that the run started, and whether it succeeded.

    Args:
        results_dir: Folder that receives the file; it is made.

    Raises:
        BodyPoseNetError: The folder cannot be written.
    """

    def __init__(self, results_dir: str | Path) -> None:
        self._path = make_directory(results_dir) / "status.json"

    def __enter__(self) -> StatusFile:
        self.write("STARTED", "the run begins")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> None:
        if error is None:
            self.write("SUCCESS", "the run is complete")
            return
        if isinstance(error, Stopped):  # neither: it is to go on
            self.write("RUNNING", str(error))
            return
        with suppress(BodyPoseNetError):  # what is on its way out says more than a full disk here
            interrupted = isinstance(error, KeyboardInterrupt)
            message = "interrupted" if interrupted else str(error) or type(error).__name__
            self.write("FAILURE", message, verbosity="ERROR")

    def lines(self) -> list[dict[str, Any]]:
        """What was written so far, by earlier runs too; broken lines are left out."""
        found = []
        text = self._path.read_text(errors="replace") if self._path.exists() else ""
        for line in text.splitlines():
            with suppress(json.JSONDecodeError):
                found.append(json.loads(line))
        return found

    def write(
        self, status: str, message: str = "", *, verbosity: str = "INFO", **data: Any
    ) -> None:
        """Append one line.

        Args:
            status: STARTED, RUNNING, SUCCESS, FAILURE or SKIPPED.
            message: What happened, for people.
            verbosity: The log level of the message.
            **data: Further fields, for example `kpi={"AP": 0.5}` or `graphical={"loss": 1.0}`.

        Raises:
            BodyPoseNetError: The file cannot be written.
        """
        now = datetime.now()
        line: dict[str, Any] = {
            "date": f"{now.month}/{now.day}/{now.year}",
            "time": f"{now.hour}:{now.minute}:{now.second}",
            "status": status,
            "verbosity": verbosity,
        }
        if message:
            line["message"] = message
        try:
            with open(self._path, "a") as file:
                file.write(json.dumps(line | data) + "\n")
        except OSError as error:
            raise BodyPoseNetError(
                f"{self._path}: cannot be written: {error.strerror}",
                "Free some space or choose another results folder (-r).",
            ) from error
