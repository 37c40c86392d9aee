"""Compilation of the decoder's inner loops with numba, kept on disk between processes.

Importing this module imports numba, which takes a fifth of a second: import it when decoding.

What a kernel uses decides how long it takes to compile. Plain loops over arrays that the caller
allocates compile in some tenths of a second; sorting, slicing, allocation and errors with formatted
text each add as much again. Kernels are called with one type and layout per argument, so that each
is compiled once.
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

# With numpy's error model no division is checked: nothing here divides by zero.
_njit: Any = partial(njit, error_model="numpy", no_cfunc_wrapper=True)  # type: ignore[call-overload]


def kernel(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Compile a function that Python calls when it is first called; it runs without the GIL.

    The machine code is kept in the package's `__pycache__` or, where that cannot be written, in
    numba's cache folder of the user; where there is neither, every process compiles again.
    """
    try:
        compiled = _njit(cache=True, nogil=True)(function)
    except RuntimeError:  # numba found no folder for its cache
        return _njit(nogil=True)(function)
    # By itself numba checks only the file that holds the function, not those whose functions and
    # constants it uses: machine code of an older version would be taken for current.
    compiled._cache._cache_file._source_stamp = _source_digest()
    return compiled


def jit(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Compile a function as a part of the kernels that call it; Python cannot call it."""
    return _njit(no_cpython_wrapper=True)(function)


@cache
def _source_digest() -> str:
    """The digest of everything that is compiled together: the modules of this package."""
    sources = sorted(Path(__file__).parent.rglob("*.py"))
    return hashlib.blake2b(b"".join(path.read_bytes() for path in sources)).hexdigest()


class _CompilationNotice(Listener):
    """Logs once per process that the package's kernels are being compiled, if they are."""

    def __init__(self) -> None:
        self._logged = False

    def on_start(self, event: Event) -> None:
        dispatcher = (event.data or {})["dispatcher"]
        ours = dispatcher.py_func.__module__.startswith("bodyposenet.")
        if ours and not self._logged:
            self._logged = True
            logger.info("compiling the decoder for the first time: this takes some seconds")

    def on_end(self, event: Event) -> None:
        pass


# numba reports compilations only, not what it loads from disk.
register("numba:compile", _CompilationNotice())
