"""Output of commands: results, log messages and progress bars."""

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
# Without a handler, Python prints warnings if the program has not configured logging.
logger.addHandler(logging.NullHandler())

Item = TypeVar("Item")

_SECONDS_BETWEEN_LINES = 10.0
_PROGRESS_BARS = ContextVar("progress bars", default=False)


def configure_logging(level: str, log_file: str | Path | None = None) -> None:
    """Send log messages to standard error, or append them to a file.

    Args:
        level: Name of the minimum level.
        log_file: The file; None for standard error.

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
    """Silence a training process other than rank 0.

    Only errors are logged, to standard error but not to the log file; standard output is discarded.
    """
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
            with suppress(OSError):  # the text was printed, even if the disk is full
                handler.stream.write(f"{text}\n")
                handler.flush()


def print_line(text: str) -> bool:
    """Print a line of results on standard output, for a program that reads it.

    Returns:
        Whether it was printed: False if the reader has closed the pipe, as in `... | head -1`.

    Raises:
        BodyPoseNetError: Standard output is a file on a full disk.
    """
    return _print(_encodable(text, sys.stdout), sys.stdout)


def _encodable(text: str, stream: TextIO) -> str:
    """Escape characters that a stream cannot encode, such as those of some file names."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, errors="backslashreplace").decode(encoding)


def _print(text: str, stream: TextIO) -> bool:
    """Print a text; return False if the reader has closed the pipe.

    Raises:
        BodyPoseNetError: Standard output is a file on a full disk.
    """
    try:
        print(text, file=stream, flush=True)
    except OSError as problem:
        # Discard the rest of the stream's buffer, which would fail again at exit.
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())
        # A closed pipe, as in `bpnet evaluate ... | head`, is not an error.
        if stream is not sys.stderr and not isinstance(problem, BrokenPipeError):
            raise BodyPoseNetError(
                f"standard output cannot be written: {problem.strerror}",
                "Free some space, or redirect it to another place.",
            ) from problem
        return False
    return True


@contextmanager
def progress_bars(shown: bool) -> Iterator[None]:
    """Show or hide the progress bars of `progress` within the context."""
    before = _PROGRESS_BARS.set(shown)
    try:
        yield
    finally:
        _PROGRESS_BARS.reset(before)


class _StandardError(logging.StreamHandler):
    """Handler that writes to the current `sys.stderr`, which a progress bar replaces."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record to the current `sys.stderr`."""
        self.stream = sys.stderr
        super().emit(record)


class _LogFile(logging.FileHandler):
    """Log file whose write errors are reported once, without ending the run."""

    _failed = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """Report the first error on standard error."""
        if not self._failed:
            self._failed = True
            print_result(
                f"{self.baseFilename}: log messages are missing: {sys.exc_info()[1]}", error=True
            )


def progress(
    items: Iterable[Item], description: str, total: int | None = None, *, lines: bool = True
) -> Iterator[Item]:
    """Yield the items, with a progress bar on a terminal, or else log messages.

    Bars are shown within `progress_bars(True)` only.

    Args:
        items: The items.
        description: Description of the work.
        total: Number of items. Default: `len(items)`, if it has a length.
        lines: Whether to log the progress; False if the caller reports it.
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
