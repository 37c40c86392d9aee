"""Output of commands: results, log lines and progress bars."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TextIO, TypeVar

from bodyposenet.errors import BodyPoseNetError

logger = logging.getLogger("bodyposenet")
# Without it, Python would print warnings of a program that has not set up logging.
logger.addHandler(logging.NullHandler())

Item = TypeVar("Item")

_SECONDS_BETWEEN_LINES = 10.0
_PROGRESS_BARS = ContextVar("progress bars", default=False)


def configure_logging(level: str, log_file: str | Path | None = None) -> None:
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


def print_result(text: str, *, error: bool = False) -> None:
    """Print a result, and append it to the log file if there is one.

    Args:
        text: One line or more.
        error: Print on standard error.

    Raises:
        BodyPoseNetError: Standard output is a file on a full disk.
    """
    stream = sys.stderr if error else sys.stdout
    text = _encodable(text, stream)
    _print(text, stream)
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler) and handler.stream is not None:
            with suppress(OSError):  # a full disk here must not hide what is said
                handler.stream.write(f"{text}\n")
                handler.flush()


def print_line(text: str) -> bool:
    """Print a line of results on standard output, for a program that reads it.

    Returns:
        Whether it was printed: False if nobody reads any more, as in `bpnet ... | head -1`.

    Raises:
        BodyPoseNetError: Standard output is a file on a full disk.
    """
    return _print(_encodable(text, sys.stdout), sys.stdout)


def _encodable(text: str, stream: TextIO) -> str:
    """A file name may not be text at all, or have characters that a stream's encoding lacks."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, errors="backslashreplace").decode(encoding)


def _print(text: str, stream: TextIO) -> bool:
    """Print a text; whether somebody reads it.

    Raises:
        BodyPoseNetError: Standard output is a file on a full disk.
    """
    try:
        print(text, file=stream, flush=True)
    except OSError as problem:
        # What is left in the stream's buffer would fail again at exit.
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())
        # `bpnet evaluate ... | head`: nobody reads on, the work still counts.
        if stream is not sys.stderr and not isinstance(problem, BrokenPipeError):
            raise BodyPoseNetError(
                f"standard output cannot be written: {problem.strerror}",
                "Free some space, or send it somewhere else.",
            ) from problem
        return False
    return True


@contextmanager
def progress_bars(shown: bool) -> Iterator[None]:
    """Show the progress bars of `progress` while this lasts, or hide them."""
    before = _PROGRESS_BARS.set(shown)
    try:
        yield
    finally:
        _PROGRESS_BARS.reset(before)


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
            print_result(
                f"{self.baseFilename}: log lines are missing: {sys.exc_info()[1]}", error=True
            )


def progress(
    items: Iterable[Item], description: str, total: int | None = None, *, lines: bool = True
) -> Iterator[Item]:
    """Yield the items; show a progress bar on a terminal, and log plain lines elsewhere.

    A bar is shown where `progress_bars` asks for it.

    Args:
        items: What to go through.
        description: What is being done.
        total: How many there are; `len(items)` where it is not given.
        lines: False where the caller says by itself how far it is.
    """
    if total is None and hasattr(items, "__len__"):
        total = len(items)  # type: ignore[arg-type]
    if _PROGRESS_BARS.get() and sys.stderr.isatty() and logger.isEnabledFor(logging.INFO):
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
        with Progress(*columns, console=Console(stderr=True)) as bars:
            yield from bars.track(items, total=total, description=description)
        return
    last = time.monotonic()
    for done, item in enumerate(items):
        yield item
        if lines and time.monotonic() - last >= _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            logger.info("%s: %d%s", description, done + 1, f"/{total}" if total else "")
