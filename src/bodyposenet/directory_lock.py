"""A lock on a results folder: two runs that write the same files would ruin both.

The operating system holds the lock for as long as the process lives, so that a killed run leaves
none behind, at most the empty file.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from bodyposenet.console import logger
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import remove_stale_files

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


_TAKEN = errno.EACCES, errno.EAGAIN, errno.EDEADLK
_held: set[int] = set()


@contextmanager
def directory_lock(folder: Path, prefix: str = "") -> Iterator[Callable[[], None]]:
    """Keep a folder to this run, and remove what killed runs left unfinished there a day ago.

    Args:
        folder: The folder; it must exist.
        prefix: Lock only the files whose names begin like this; runs with other prefixes may write
            to the folder at the same time.

    Yields:
        What checks that the folder is still the same, as at the end, before anything that depends
        on it.

    Raises:
        BodyPoseNetError: Another run has the folder, or it was removed while this run wrote to it.
    """
    path = folder / f".{prefix}.lock" if prefix else folder / ".lock"
    descriptor = _acquire(path)
    _held.add(descriptor)
    try:
        if removed := remove_stale_files(folder):
            logger.info("%s: removed %d unfinished files of killed runs", folder, removed)
        check = partial(_check_in_place, descriptor, path)
        yield check
        check()
    finally:
        if _is_at(descriptor, path):
            with suppress(OSError):  # Windows removes no open files
                path.unlink()
        _held.remove(descriptor)
        os.close(descriptor)


def _acquire(path: Path) -> int:
    """Open and lock a file; its descriptor."""
    while True:
        try:
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
            descriptor = os.open(path, flags, 0o666)
        except OSError as error:
            raise BodyPoseNetError(
                f"{path}: cannot be opened, so the folder cannot be locked: {error.strerror}",
                "Remove that file, or choose another results folder (-r).",
            ) from error
        try:
            _lock(descriptor)
        except OSError as error:
            if error.errno in _TAKEN:
                os.close(descriptor)
                raise BodyPoseNetError(
                    f"{path.parent}: another run is writing its results there ({path.name})",
                    "Wait until it has ended, or choose another results folder (-r).",
                ) from error
            logger.warning("%s: a second run here would not be noticed: %s", path, error.strerror)
        if _is_at(descriptor, path):
            return descriptor
        os.close(descriptor)  # the run before has just removed it


def _check_in_place(descriptor: int, path: Path) -> None:
    """Make sure that the lock is in the folder that has the name now.

    Raises:
        BodyPoseNetError: The folder was removed or replaced.
    """
    if not _is_at(descriptor, path):
        raise BodyPoseNetError(
            f"{path.parent}: was removed or replaced while this run was writing to it: what it had "
            "written before is gone",
            "Run again, and keep the folder in its place meanwhile.",
        )


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file still has that path."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _leave_to_parent() -> None:
    """Close the locks in a forked process: it may outlive the run that holds them."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
