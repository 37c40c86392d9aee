"""Lock on a results folder, so that two runs do not overwrite each other's files.

The operating system releases the lock when the process ends; a killed run leaves at most the empty
lock file behind.
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
    """Lock a folder, and remove temporary files that killed runs left there a day ago or earlier.

    Args:
        folder: The folder; it must exist.
        prefix: Lock only files with this prefix; runs with other prefixes may write to the folder
            at the same time.

    Yields:
        A function that checks that the folder was not removed or replaced in the meantime. It is
        also called at the end of the context.

    Raises:
        BodyPoseNetError: Another run has locked the folder, or it was removed during this run.
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
            with suppress(OSError):  # Windows cannot remove open files
                path.unlink()
        _held.remove(descriptor)
        os.close(descriptor)


def _acquire(path: Path) -> int:
    """Open and lock a file; return its descriptor."""
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
            logger.warning(
                "%s: cannot be locked: %s; another run in this folder is not detected",
                path,
                error.strerror,
            )
        if _is_at(descriptor, path):
            return descriptor
        os.close(descriptor)  # the previous run has just removed it


def _check_in_place(descriptor: int, path: Path) -> None:
    """Check that the folder of this path is still the one with the lock.

    Raises:
        BodyPoseNetError: The folder was removed or replaced.
    """
    if not _is_at(descriptor, path):
        raise BodyPoseNetError(
            f"{path.parent}: was removed or replaced during this run; earlier results are lost",
            "Run again, and do not move the folder during the run.",
        )


def _is_at(descriptor: int, path: Path) -> bool:
    """Return whether the open file still has that path."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _close_locks_in_child() -> None:
    """Close the locks in a forked process, which may continue after the run has ended."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_locks_in_child)
