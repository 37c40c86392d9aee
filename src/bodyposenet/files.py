"""Writing files so that a killed run leaves the old file or the new one, never half of one.

And reading JSON files of others, which may hold anything.
"""

from __future__ import annotations

import errno
import io
import json
import os
import re
import secrets
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from bodyposenet.errors import BodyPoseNetError

_RANDOM_BYTES = 8
_TEMPORARY = re.compile(rf"\..*\.[0-9a-f]{{{2 * _RANDOM_BYTES}}}\.tmp(\.\w+)?", re.DOTALL)
_KEPT = 32
"""Characters of a file's name that its temporary name keeps: at most 255 bytes are allowed."""
_SECONDS_TO_GO_STALE = 24 * 60 * 60
"""A run that is alive adds to its files long before."""


@contextmanager
def atomic_write(
    path: str | Path, *, durable: bool = False, make_folder: bool = True
) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path`; on success it takes that name, on failure it vanishes.

    A symbolic link stays one: the file that it points to is replaced. What cannot be replaced is
    written straight: a device, a pipe, and the file that standard output or standard error goes to.
    Errors other than those of this file pass through unchanged.

    Args:
        path: The file to write.
        durable: Also flush to disk (fsync), for results that someone would miss.
        make_folder: Create the folder where it is missing. False for one of many files, whose
            folder can only be missing if somebody removed it with those before.

    Raises:
        BodyPoseNetError: The file cannot be written, because the disk is full, for example.
    """
    path = Path(path)
    stream = _open_stream(path)
    if stream is not None:
        with stream:
            yield stream
        return
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    with _explaining(path):
        if make_folder:
            target.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_name(target)
        file = _open(path, temporary, "xb")
    try:
        yield file
        with _explaining(path):
            file.flush()
            if durable:
                os.fsync(file.fileno())
            file.close()
            temporary.replace(target)
    finally:
        with suppress(OSError, BodyPoseNetError):  # after an error, what is on its way says more
            file.close()
        with suppress(OSError):  # after success it has got its name
            temporary.unlink()


def temporary_name(path: Path, suffix: str = ".tmp") -> Path:
    """Return a name beside `path` that nobody can foresee; such a file must be new ("x").

    In a folder that others may write to, they could put a link under a name that they know.
    """
    return path.with_name(f".{path.name[:_KEPT]}.{secrets.token_hex(_RANDOM_BYTES)}{suffix}")


def remove_stale_files(folder: Path) -> int:
    """Remove the temporary files that killed runs have left in a folder.

    Those are the ones that nobody has written to for a day: other runs may write to the folder at
    the same time, also from other machines, whose locks and processes cannot be seen here.

    Returns:
        How many there were.
    """
    removed = 0
    oldest = time.time() - _SECONDS_TO_GO_STALE
    for file in folder.glob(".*"):
        with suppress(OSError):  # removed meanwhile, or somebody else's
            if _TEMPORARY.fullmatch(file.name) and file.lstat().st_mtime < oldest:
                file.unlink()
                removed += 1
    return removed


class _Output(io.FileIO):
    """A file whose failing writes are errors that name it.

    Args:
        path: The file that is meant, for errors.
        file: What to open: a path or a file descriptor.
        mode: As of `open`.
    """

    def __init__(self, path: Path, file: Path | int, mode: str) -> None:
        super().__init__(file, mode)
        self._path = path

    def write(self, data: Any, /) -> int:
        with _explaining(self._path):
            return super().write(data)


def _open(path: Path, file: Path | int, mode: str) -> IO[bytes]:
    return io.BufferedWriter(_Output(path, file, mode))


def _open_stream(path: Path) -> IO[bytes] | None:
    """Open what a new file must not replace; None for a regular file, or where there is none.

    Raises:
        BodyPoseNetError: It cannot be written.
    """
    try:
        status = path.stat()
    except (OSError, ValueError):  # ValueError: what no file can be called
        return None
    for descriptor in (1, 2):
        with suppress(OSError):  # closed
            if os.path.samestat(status, os.fstat(descriptor)):
                return _open(path, os.dup(descriptor), "wb")  # goes on behind what is printed
    if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
        return None
    with _explaining(path):
        return _open(path, path, "wb")


@contextmanager
def _explaining(path: Path) -> Iterator[None]:
    """Turn the system's errors into ours, which name the file that cannot be written."""
    try:
        yield
    except OSError as error:
        raise BodyPoseNetError(
            f"{path}: cannot be written: {error.strerror or error}",
            "Free some space or choose a folder that you may write to.",
        ) from error


_NO_SUCH_FILE = (
    errno.ENOENT,
    errno.ENOTDIR,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EINVAL,  # characters that Windows has in no name
)


def exists(path: str | Path) -> bool:
    """Whether there is such a file or folder; no name is too long to ask.

    Raises:
        BodyPoseNetError: Its folder may not be entered.
    """
    return _status(path) is not None


def is_file(path: str | Path) -> bool:
    """Whether there is such a file; otherwise as `exists`."""
    status = _status(path)
    return status is not None and stat.S_ISREG(status.st_mode)


def is_folder(path: str | Path) -> bool:
    """Whether there is such a folder; otherwise as `exists`."""
    status = _status(path)
    return status is not None and stat.S_ISDIR(status.st_mode)


def _status(path: str | Path) -> os.stat_result | None:
    """What the system has of a file; None if there is none.

    Raises:
        BodyPoseNetError: Its folder may not be entered.
    """
    try:
        return Path(path).stat()
    except ValueError:  # a null character
        return None
    except OSError as error:
        if error.errno in _NO_SUCH_FILE:
            return None
        raise BodyPoseNetError(
            f"{path}: cannot be read: {error.strerror}", "Check the permissions of its folder."
        ) from error


@contextmanager
def explaining_json(path: str | Path, remedy: str = "") -> Iterator[None]:
    """Turn the errors of reading and parsing a JSON file into ones that name it.

    Args:
        path: The file.
        remedy: What to do where that fails.

    Raises:
        BodyPoseNetError: The file is missing, no text or not valid JSON, or holds a number too long
            or values nested too deeply to be read.
    """
    try:
        yield
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


def read_json(path: str | Path, remedy: str = "") -> Any:
    """Read a JSON file; it may begin with a byte order mark.

    Args:
        path: The file.
        remedy: What to do where that fails.

    Raises:
        BodyPoseNetError: As `explaining_json`.
    """
    with explaining_json(path, remedy):
        return json.loads(Path(path).read_bytes())


def write_json(path: str | Path, value: Any, *, indent: int | None = 2) -> None:
    """Write a value as JSON (UTF-8), replacing the file at once.

    File names that are no text (lone surrogates) become the escapes that JSON has for them.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    with atomic_write(path, durable=True) as file:
        file.write(text.encode(errors="backslashreplace") + b"\n")


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Refuse to write over what exists, before any work is done for it.

    Args:
        path: What is to be written.
        overwrite: Whether it may be replaced.

    Raises:
        BodyPoseNetError: It exists and may not.
    """
    if exists(path) and not overwrite:
        raise BodyPoseNetError(f"{path}: exists already", "Name another one, or give --overwrite.")


def make_directory(
    path: str | Path,
    remedy: str = "Choose another results folder (-r), or change its permissions.",
) -> Path:
    """Make a results folder, with its parents.

    Args:
        path: The folder; it may exist.
        remedy: What to do where that fails.

    Raises:
        BodyPoseNetError: It cannot be made, or something else has that name, or it is read-only.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except (OSError, ValueError) as error:  # ValueError: a null character
        reason = getattr(error, "strerror", None) or error
        raise BodyPoseNetError(
            f"{path}: cannot write results there: {reason}",
            remedy,
        ) from error
    return path
