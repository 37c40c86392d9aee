"""Functions on arrays in, machine code out: compiled when first called, then kept on disk.

Importing this module imports numba, which takes a third of a second: import it when decoding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import ParamSpec, TypeVar

from numba import njit
from numba.core.event import Event, Listener, register

from bodyposenet.console import logger

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def compiled(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Compile a function with numba; it leaves Python's lock to other threads while it runs.

    What was compiled is kept in the package's __pycache__ or, where that cannot be written, in
    numba's folder of the user; where there is neither, every process compiles again.
    """
    try:
        kernel = njit(cache=True, nogil=True)(function)
    except RuntimeError:  # numba found no folder to keep it in
        return njit(nogil=True)(function)
    # By itself numba looks at the one file that holds the function, not at those whose functions
    # and constants it uses: what was compiled of an older version would be taken for new.
    kernel._cache._cache_file._source_stamp = _digest_of_sources()  # type: ignore[attr-defined]
    return kernel


@cache
def _digest_of_sources() -> str:
    """Of all that is compiled together: the modules of this room."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.blake2b(b"".join(path.read_bytes() for path in sources)).hexdigest()


class _Announcement(Listener):
    """Says once per process that our functions are being compiled, if they are."""

    def __init__(self) -> None:
        self._said = False

    def on_start(self, event: Event) -> None:
        dispatcher = (event.data or {})["dispatcher"]
        ours = dispatcher.py_func.__module__.startswith("bodyposenet.")
        if ours and not self._said:
            self._said = True
            logger.info(
                "compiling what the decoder uses for the first time: it may take half a minute"
            )

    def on_end(self, event: Event) -> None:
        pass


# numba tells of compilations only, not of what it loads from disk.
register("numba:compile", _Announcement())
