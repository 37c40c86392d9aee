"""Writing files so that a killed run leaves the old file or the new one, never half of one.

And reading JSON files of others, which may hold anything.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from bodyposenet.errors import BodyPoseNetError

_SECONDS_TO_LEAVE = 10.0
"""What a killed process is given to vanish."""


@contextmanager
def replacing(path: str | Path, *, durable: bool = False) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path`; on success it takes that name, on failure it vanishes.

    Args:
        path: The file to write; its folder is made.
        durable: Also flush to disk (fsync), for results that someone would miss.

    Raises:
        BodyPoseNetError: The folder cannot be written, or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise BodyPoseNetError(
            f"{path}: cannot be written: {error.strerror or error}",
            "Free some space or choose a folder that you may write to.",
        ) from error
    finally:
        with suppress(OSError):  # after success it is gone, and an error has been told already
            temporary.unlink()


def exists(path: str | Path) -> bool:
    """Whether there is such a file or folder; False for a name that is too long, too."""
    try:
        return Path(path).exists()
    except OSError:
        return False


def read_json(path: str | Path, remedy: str = "") -> Any:
    """Read a JSON file; it may begin with a byte order mark.

    Args:
        path: The file.
        remedy: What to do where that fails.

    Raises:
        BodyPoseNetError: It is missing, no text or not valid JSON, or holds a number too long or
            values nested too deeply to be read.
    """
    try:
        return json.loads(Path(path).read_bytes())
    except OSError as error:
        problem = f"{path}: cannot be read: {error.strerror or error}"
        raise BodyPoseNetError(problem, remedy) from error
    except json.JSONDecodeError as error:
        problem = f"{path}:{error.lineno}: not valid JSON: {error.msg}"
        raise BodyPoseNetError(problem, remedy) from error
    except UnicodeDecodeError as error:
        raise BodyPoseNetError(f"{path}: not a text file", remedy) from error
    except RecursionError as error:
        raise BodyPoseNetError(f"{path}: the values are nested too deeply", remedy) from error
    except ValueError as error:  # Python reads no integers of more than 4300 digits
        raise BodyPoseNetError(f"{path}: holds a number too long to be read", remedy) from error


def write_json(path: str | Path, value: Any, *, indent: int | None = 2) -> None:
    """Write a value as JSON (UTF-8), replacing the file at once.

    File names that are no text (lone surrogates) become the escapes that JSON has for them.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    with replacing(path, durable=True) as file:
        file.write(text.encode(errors="backslashreplace") + b"\n")


@contextmanager
def claiming(folder: Path) -> Iterator[None]:
    """Keep a folder to oneself: two trainings that write the same files would ruin both.

    Raises:
        BodyPoseNetError: Another process has it.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=_SECONDS_TO_LEAVE)
    except Timeout as error:
        raise BodyPoseNetError(
            f"{folder}: another process is writing its results there",
            "Wait until it has ended, or choose another results folder (-r).",
        ) from error
    try:
        yield
    finally:
        lock.release()


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Refuse to write over what exists, before any work is done for it.

    Args:
        path: What is to be written.
        overwrite: Whether it may be replaced.

    Raises:
        BodyPoseNetError: It exists and may not.
    """
    if path.exists() and not overwrite:
        raise BodyPoseNetError(f"{path}: exists already", "Name another one, or give --overwrite.")


def make_directory(path: str | Path) -> Path:
    """Make a results folder, with its parents.

    Raises:
        BodyPoseNetError: It cannot be made, or something else has that name, or it is read-only.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise BodyPoseNetError(
            f"{path}: cannot write results there: {error.strerror or error}",
            "Choose another results folder (-r), or change its permissions.",
        ) from error
    return path
