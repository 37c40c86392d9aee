"""Exceptions, checks of arguments, and helpers for error texts."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from numbers import Integral, Real
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

STOPPED = 75
"""Exit code of a run that a signal stopped: EX_TEMPFAIL of sysexits.h (try again)."""


class BodyPoseNetError(Exception):
    """An error that the user can fix. Commands print both texts and exit with code 2.

    Args:
        what: What is wrong and where: the file, the place in it, the value. Passwords in addresses
            are masked.
        remedy: How to fix it; empty if `what` is enough.
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        what, remedy = mask_passwords(what), mask_passwords(remedy)
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy

    def rewrite(self, change: Callable[[str], str]) -> None:
        """Change both texts in place, for example from flags to keyword arguments.

        Args:
            change: Function from the old to the new text.
        """
        self.what, self.remedy = change(self.what), change(self.remedy)
        self.args = (self.what, self.remedy)

    def __str__(self) -> str:
        return f"{self.what}\n{self.remedy}" if self.remedy else self.what


class UnknownJointError(BodyPoseNetError, KeyError):
    """A joint name that the skeleton does not have; also a KeyError, as of any mapping."""


_LOGIN = re.compile(
    r"(?i)(?<=[a-z][a-z0-9+.-]:/)(/?)[^\s/:@]{0,1000}:(?:[^\s/]{0,1000}@|(?!\d*/)\S{0,1000}@)"
)
"""`user:password@` in an address, also if the address has only one slash after its scheme.

After the first slash, an @ is part of the path, unless the text before it cannot be a port; then
the password contains a slash. Lengths are limited to avoid quadratic run time on long texts.
"""

_SECRET = re.compile(
    r"(?i)([?&](?:[a-z0-9]{1,32}[_-]){0,3}"
    r"(?:(?:login|user)?(?:pass?|passwd|password|pwd)|(?:access|api|auth|stream)?(?:key|token)"
    r"|auth|secret)=)[^\s&#]*[^\s&#:]"
)
"""A password in the query of an address, as some cameras use it; not the key in `monkey=`."""


def mask_passwords(text: str) -> str:
    """Mask user names and passwords in addresses, for logs, errors and results."""
    return _SECRET.sub(r"\1***", _LOGIN.sub(r"\1***@", text))


def check_count(name: str, value: object, least: int) -> None:
    """Check an argument that is a count.

    Args:
        name: Name of the argument.
        value: Its value; NumPy integers are allowed, bool is not.
        least: Smallest value allowed.

    Raises:
        BodyPoseNetError: It is not a whole number, or it is smaller.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise BodyPoseNetError(
            f"{name}: {value!r} is out of range", f"Give a whole number, at least {least}."
        )


def check_score(name: str, value: object) -> None:
    """Check an argument that is a score.

    Args:
        name: Name of the argument.
        value: Its value.

    Raises:
        BodyPoseNetError: It is not a number from 0 to 1.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) <= 1:
        raise BodyPoseNetError(f"{name}: {value!r} is not a score", "Give a number from 0 to 1.")


def check_type(name: str, value: object, kind: type, remedy: str) -> None:
    """Check the type of an argument.

    Args:
        name: Name of the function or the argument.
        value: Its value.
        kind: The expected type.
        remedy: Remedy of the error.

    Raises:
        BodyPoseNetError: It has another type.
    """
    if not isinstance(value, kind):
        raise BodyPoseNetError(
            f"{name}: expected {kind.__name__}, got {type(value).__name__}", remedy
        )


def check_bool(name: str, value: object) -> None:
    """Check an argument that is a bool.

    Raises:
        BodyPoseNetError: It is neither True nor False.
    """
    if not isinstance(value, bool):
        raise BodyPoseNetError(
            f"{name}: expected True or False, got {value!r}", "Give True or False."
        )


def closest(word: str, words: Iterable[str]) -> list[str]:
    """Return up to three words that are similar to a mistyped one, the best first.

    Words that contain it, or are contained in it, come first.
    """
    words = list(words)
    parts = [w for w in words if len(word.strip("-")) > 2 and _is_part(word, w)]
    close = difflib.get_close_matches(word, words, n=3)
    return list(dict.fromkeys([*parts, *close]))[:3]


def _is_part(word: str, other: str) -> bool:
    word, other = word.strip("-"), other.strip("-")
    return len(other) > 2 and (word in other or other in word)


def first_problem(error: ValidationError) -> str:
    """Return `place: message` of the first invalid value of a JSON text."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"])) or "JSON"
    return f"{place[:200]}: {first['msg'][:500]}"


class Stopped(Exception):  # noqa: N818 (not an error)
    """A signal stopped a training run; its state is saved, and the same command resumes it.

    The command exits with code `STOPPED`.

    Args:
        signal: Name of the signal.
        is_reported: Whether another process has printed the message already.
    """

    def __init__(self, signal: str, *, is_reported: bool = False) -> None:
        super().__init__(signal)
        self.signal = signal
        self.is_reported = is_reported

    def __str__(self) -> str:
        return f"stopped by {self.signal}; the same command resumes from here"
