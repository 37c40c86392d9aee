"""Files: atomic writing, checks of paths, reading and writing of JSON, and writing of CSV.

After a run is killed, each file has either its old or its new content, never a part of it.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import re
import secrets
import shutil
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
_NAME_CHARACTERS = 32
"""Characters of the file's name in its temporary name, which may have at most 255 bytes."""
_STALE_SECONDS = 24 * 60 * 60
"""Age of a temporary file that no running process writes to any more."""


@contextmanager
def atomic_write(
    path: str | Path, *, durable: bool = False, make_folder: bool = True
) -> Iterator[IO[bytes]]:
    """Open a temporary file that replaces `path` on success and is removed after an error.

    If `path` is a symbolic link, its target is replaced. Files that cannot be replaced are written
    directly: devices, pipes, and the file that standard output or standard error is redirected to.
    Exceptions of the caller are raised unchanged.

    Args:
        path: The file to write.
        durable: Whether to flush to disk (fsync), for important results.
        make_folder: Whether to create the folder if it is missing. False for one of many files: if
            the folder is missing then, it was removed together with the earlier files.

    Raises:
        BodyPoseNetError: The file cannot be written, for example because the disk is full.
    """
    path = Path(path)
    stream = _open_stream(path)
    if stream is not None:
        with stream:
            yield stream
        return
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    with _name_in_errors(path):
        if make_folder:
            target.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_name(target)
        file = _open(path, temporary, "xb")
    try:
        yield file
        with _name_in_errors(path):
            file.flush()
            if durable:
                os.fsync(file.fileno())
            file.close()
            temporary.replace(target)
    finally:
        with suppress(OSError, BodyPoseNetError):  # an earlier error is more important
            file.close()
        with suppress(OSError):  # after success, it was renamed
            temporary.unlink()


@contextmanager
def open_csv(path: Path, *, make_folder: bool = True) -> Iterator[Any]:
    """Open a writer of the `csv` module for a file, in UTF-8 with the line ends of Unix.

    Args:
        path: The file, which is written atomically.
        make_folder: Whether to create its folder if it is missing.

    Raises:
        BodyPoseNetError: The file cannot be written.
    """
    with atomic_write(path, durable=True, make_folder=make_folder) as file:
        text = io.TextIOWrapper(file, "utf-8", "backslashreplace", newline="")
        yield csv.writer(text, lineterminator="\n")
        text.detach()  # writes the rest, and leaves the file open


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Create a temporary folder that replaces `path` on success and is removed after an error.

    Args:
        path: The folder to write; an existing one is removed with all files in it.

    Raises:
        BodyPoseNetError: The folder cannot be written.
    """
    path = Path(path)
    temporary = temporary_name(path)
    try:
        with _name_in_errors(path):
            temporary.mkdir(parents=True)
        yield temporary
        with _name_in_errors(path):
            if path.exists():
                shutil.rmtree(path)
            temporary.rename(path)
    except BodyPoseNetError as error:
        error.rewrite(lambda text: text.replace(str(temporary), str(path)))
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def temporary_name(path: Path, suffix: str = ".tmp") -> Path:
    """Return an unpredictable name in the folder of `path`, for a file opened with mode "x".

    In a folder that others may write to, they could create a link with a predictable name.
    """
    return path.with_name(
        f".{path.name[:_NAME_CHARACTERS]}.{secrets.token_hex(_RANDOM_BYTES)}{suffix}"
    )


def remove_stale_files(folder: Path) -> int:
    """Remove the temporary files and folders that killed runs have left in a folder.

    Only those that were not changed for a day are removed: other runs may write to the folder at
    the same time, also from other machines, whose locks and processes are not visible.

    Returns:
        The number of removed files and folders.
    """
    removed = 0
    oldest = time.time() - _STALE_SECONDS
    for file in folder.glob(".*"):
        with suppress(OSError):  # removed in the meantime, or of another user
            if _TEMPORARY.fullmatch(file.name) and file.lstat().st_mtime < oldest:
                shutil.rmtree(file) if file.is_dir() else file.unlink()
                removed += 1
    return removed


class _Output(io.FileIO):
    """File whose write errors name it.

    Args:
        path: The final path, for error messages.
        file: Path or file descriptor to open.
        mode: See `open`.
    """

    def __init__(self, path: Path, file: Path | int, mode: str) -> None:
        super().__init__(file, mode)
        self._path = path

    def write(self, data: Any, /) -> int:
        """Write bytes; errors name the file."""
        with _name_in_errors(self._path):
            return super().write(data)


def _open(path: Path, file: Path | int, mode: str) -> IO[bytes]:
    return io.BufferedWriter(_Output(path, file, mode))


def _open_stream(path: Path) -> IO[bytes] | None:
    """Open a file that must not be replaced; return None for a regular or missing file.

    Raises:
        BodyPoseNetError: It cannot be written.
    """
    try:
        status = path.stat()
    except (OSError, ValueError):  # ValueError: an invalid file name
        return None
    for descriptor in (1, 2):
        with suppress(OSError):  # closed
            if os.path.samestat(status, os.fstat(descriptor)):
                return _open(path, os.dup(descriptor), "wb")  # appends to the printed text
    if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
        return None
    with _name_in_errors(path):
        return _open(path, path, "wb")


@contextmanager
def _name_in_errors(path: Path) -> Iterator[None]:
    """Turn system errors into `BodyPoseNetError` with the name of the file (context manager)."""
    try:
        yield
    except OSError as error:
        raise BodyPoseNetError(
            f"{path}: cannot be written: {error.strerror or error}",
            "Free some space, or choose a writable folder.",
        ) from error


_NO_SUCH_FILE = (
    errno.ENOENT,
    errno.ENOTDIR,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EINVAL,  # characters that Windows does not allow
)


def exists(path: str | Path) -> bool:
    """Return whether a file or folder exists; False for names that are invalid or too long.

    Raises:
        BodyPoseNetError: There is no permission to access its folder.
    """
    return _status(path) is not None


def is_file(path: str | Path) -> bool:
    """Return whether a regular file exists; see `exists`."""
    status = _status(path)
    return status is not None and stat.S_ISREG(status.st_mode)


def is_folder(path: str | Path) -> bool:
    """Return whether a folder exists; see `exists`."""
    status = _status(path)
    return status is not None and stat.S_ISDIR(status.st_mode)


def _status(path: str | Path) -> os.stat_result | None:
    """Return the status of a file, or None if it does not exist.

    Raises:
        BodyPoseNetError: There is no permission to access its folder.
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
def translate_json_errors(path: str | Path, remedy: str = "") -> Iterator[None]:
    """Turn errors of reading and parsing JSON into `BodyPoseNetError` (context manager).

    Args:
        path: The file.
        remedy: Remedy of the errors.

    Raises:
        BodyPoseNetError: The file is missing, not text or not valid JSON, or a number is too long
            or values are nested too deeply.
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
    except ValueError as error:  # Python does not parse integers of more than 4300 digits
        raise BodyPoseNetError(f"{path}: contains a number that is too long", remedy) from error


def read_json(path: str | Path, remedy: str = "") -> Any:
    """Read a JSON file, with or without a byte order mark.

    Args:
        path: The file.
        remedy: Remedy of the errors.

    Raises:
        BodyPoseNetError: See `translate_json_errors`.
    """
    with translate_json_errors(path, remedy):
        return json.loads(Path(path).read_bytes())


def write_json(path: str | Path, value: Any, *, indent: int | None = 2) -> None:
    """Write a value as JSON (UTF-8), with `atomic_write`.

    Lone surrogates, as in file names that are not valid text, are written as escapes.

    Args:
        path: The file.
        value: The value.
        indent: See `json.dumps`.

    Raises:
        BodyPoseNetError: The file cannot be written.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    with atomic_write(path, durable=True) as file:
        file.write(text.encode(errors="backslashreplace") + b"\n")


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Raise an error if an output exists and may not be overwritten.

    Args:
        path: File or folder to write.
        overwrite: Whether it may be replaced.

    Raises:
        BodyPoseNetError: It exists and may not be replaced.
    """
    if exists(path) and not overwrite:
        raise BodyPoseNetError(f"{path}: already exists", "Give another name, or --overwrite.")


def make_directory(
    path: str | Path,
    remedy: str = "Choose another results folder (-r), or change its permissions.",
) -> Path:
    """Create a results folder and its parents, if they are missing.

    Args:
        path: The folder.
        remedy: Remedy of the error.

    Returns:
        The folder.

    Raises:
        BodyPoseNetError: The folder cannot be created or is not writable.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except (OSError, ValueError) as error:  # ValueError: a null character
        reason = getattr(error, "strerror", None) or error
        raise BodyPoseNetError(f"{path}: results cannot be written: {reason}", remedy) from error
    return path
