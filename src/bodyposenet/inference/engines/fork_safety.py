"""Safety of engines and of OpenCV in forked processes.

A forked process inherits a runtime's memory but not its threads. Running or destroying a session
there can hang, so both are prevented. OpenCV runs there without its threads.
"""

from __future__ import annotations

import ctypes
import os
import weakref

import cv2

from bodyposenet.errors import BodyPoseNetError

_sessions: weakref.WeakSet[object] = weakref.WeakSet()


def never_destroy_in_forks(session: object) -> None:
    """Register a session that is never destroyed in processes forked from this one.

    Args:
        session: Object with threads of the runtime. It can still be destroyed in this process.
    """
    _sessions.add(session)


def check_not_forked(runtime: str, import_pid: int, remedy: str = "") -> None:
    """Raise an error in a process that was forked from the one that loaded a runtime.

    Args:
        runtime: Display name of the runtime.
        import_pid: Id of the process that imported the engine's module.
        remedy: Alternative to opening the model only in the child process.

    Raises:
        BodyPoseNetError: This process is not the one with that id.
    """
    if os.getpid() == import_pid:
        return
    raise BodyPoseNetError(
        f"{runtime} cannot run in this process: it was forked from one that had loaded {runtime}, "
        f"and threads of {runtime} do not survive a fork",
        "Import and open everything after the fork, in the worker process only; or start processes "
        'with multiprocessing.get_context("spawn")' + (f"; or {remedy}." if remedy else "."),
    )


def _leak_sessions() -> None:
    """Add a reference to each session, so that not even the end of the interpreter destroys it."""
    for session in _sessions:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))
    _sessions.clear()


def _disable_opencv_threads() -> None:
    """Let OpenCV compute without its threads, whose locks may be held forever after a fork.

    With any other number it would lock them or wait for threads that do not exist.
    """
    cv2.setNumThreads(0)


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_leak_sessions)
    os.register_at_fork(after_in_child=_disable_opencv_threads)
