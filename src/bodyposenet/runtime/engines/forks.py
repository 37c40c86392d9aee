"""Forked processes: which runtimes refuse to run in them, and how inherited sessions are kept.

A fork copies the memory of a process, but only the thread that forks. The threads of a runtime are
missing in the child: what needs them waits forever, above all the destructor of a session.
"""

from __future__ import annotations

import ctypes
import os
import weakref

from bodyposenet.errors import BodyPoseNetError

_sessions: weakref.WeakSet[object] = weakref.WeakSet()


def keep_in_forks(session: object) -> None:
    """Have a session never destroyed in processes that are forked off this one.

    Args:
        session: Holds the runtime's threads; it is not kept alive in this process.
    """
    _sessions.add(session)


def refuse_fork(runtime: str, importer: int, remedy: str = "") -> None:
    """Refuse to run in a process that was forked off one that had loaded the runtime.

    Args:
        runtime: Its name, for people.
        importer: Id of the process that imported its engine.
        remedy: Another way out than to open the model in the child only.

    Raises:
        BodyPoseNetError: This is another process.
    """
    if os.getpid() == importer:
        return
    raise BodyPoseNetError(
        f"{runtime} cannot run in this process: it was forked off one that had loaded {runtime}, "
        f"and {runtime}'s threads do not survive a fork",
        "Import and open everything after the fork, in the worker process only; or start processes "
        'with multiprocessing.get_context("spawn")' + (f"; or {remedy}." if remedy else "."),
    )


def _keep_all() -> None:
    """Count one reference too many, so that not even the interpreter's end destroys a session."""
    for session in _sessions:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))
    _sessions.clear()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_keep_all)
