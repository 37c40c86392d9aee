"""Compilation of the decoders' inner loops with numba, cached on disk.

Importing this module imports numba, which takes 0.2 s, so import it only where maps are decoded.

Compilation time depends on what a kernel uses. Plain loops over preallocated arrays compile in a
few tenths of a second; sorting, slicing, allocation and formatted errors add about as much each.
Kernels are always called with the same argument types and layouts, so that each is compiled once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from numba import njit
from numba.core.event import Event, Listener, register

from bodyposenet.console import logger

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

# The error model `numpy` omits checks for division by zero, which does not occur here.
_njit: Any = partial(njit, error_model="numpy", no_cfunc_wrapper=True)  # type: ignore[call-overload]


def kernel(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Compile a function at its first call, as an entry point from Python that releases the GIL.

    The machine code is cached in the package's `__pycache__` or, if that is not writable, in
    numba's cache folder of the user. If neither is writable, every process compiles again.
    """
    try:
        compiled = _njit(cache=True, nogil=True)(function)
    except RuntimeError:  # numba has no writable cache folder
        return _njit(nogil=True)(function)
    # By default, numba invalidates its cache only when the file of the function itself changes, not
    # when the functions and constants that it uses change.
    compiled._cache._cache_file._source_stamp = _source_digest()
    return compiled


def jit(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Compile a function that only kernels call; it has no entry point from Python."""
    return _njit(no_cpython_wrapper=True)(function)


@cache
def _source_digest() -> str:
    """Hash the sources of all modules of this package."""
    sources = sorted(Path(__file__).parent.rglob("*.py"))
    return hashlib.blake2b(b"".join(path.read_bytes() for path in sources)).hexdigest()


class _CompilationNotice(Listener):
    """Logs once per process that kernels of this package are being compiled."""

    def __init__(self) -> None:
        self._logged = False

    def on_start(self, event: Event) -> None:
        """Log the first compilation of a kernel of this package."""
        dispatcher = (event.data or {})["dispatcher"]
        is_own = dispatcher.py_func.__module__.startswith("bodyposenet.")
        if is_own and not self._logged:
            self._logged = True
            logger.info("compiling the decoder for the first time: this takes a few seconds")

    def on_end(self, event: Event) -> None:
        """Ignore the end of a compilation."""


# The event is triggered by compilation only, not by loading from the cache.
register("numba:compile", _CompilationNotice())
