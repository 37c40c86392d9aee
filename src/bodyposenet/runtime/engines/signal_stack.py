"""Puts back the memory that signal handlers of this thread run on, after a library exchanged it.

OpenVINO's CPU plugin sets a stack of its own while it compiles a model (sigaltstack), leaves it
set, and gives its memory back later: the next signal that Python handles, Ctrl-C or a child's end,
would then crash the process.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class _Stack(ctypes.Structure):
    """`stack_t` of Linux (signal.h)."""

    _fields_ = (
        ("pointer", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("size", ctypes.c_size_t),
    )


@contextmanager
def keeping_signal_stack() -> Iterator[None]:
    """What is set on entering is set again on leaving; does nothing where it is not Linux."""
    exchange = getattr(ctypes.CDLL(None), "sigaltstack", None) if sys.platform == "linux" else None
    before = _Stack()
    if exchange is None or exchange(None, ctypes.byref(before)):
        yield
        return
    try:
        yield
    finally:
        exchange(ctypes.byref(before), None)
