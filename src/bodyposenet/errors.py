"""What a run may end in other than success: a problem that the user can mend, or a request."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from numbers import Integral, Real
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

STOPPED = 75
"""Exit code of a run that was asked to stop: EX_TEMPFAIL of sysexits.h, try again."""


class BodyPoseNetError(Exception):
    """A problem that the user can mend; the command line shows it in two lines, exit code 2.

    Args:
        what: What went wrong and where: the file, the place in it, the value found. Passwords in
            addresses are masked.
        remedy: What to do about it; empty where `what` says it all.
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        what, remedy = mask_passwords(what), mask_passwords(remedy)
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy

    def rewrite(self, change: Callable[[str], str]) -> None:
        """Change the texts, for another kind of reader."""
        self.what, self.remedy = change(self.what), change(self.remedy)
        self.args = (self.what, self.remedy)

    def __str__(self) -> str:
        return f"{self.what}\n{self.remedy}" if self.remedy else self.what


class UnknownJointError(BodyPoseNetError, KeyError):
    """A joint name that the skeleton lacks; a KeyError too, as of any mapping."""


_LOGIN = re.compile(
    r"(?i)(?<=[a-z][a-z0-9+.-]:/)(/?)[^\s/:@]{0,1000}:(?:[^\s/]{0,1000}@|(?!\d*/)\S{0,1000}@)"
)
"""`user:password@` in an address, whose second slash a path leaves out.

Behind the first slash an @ is part of the path, unless the text before it cannot be a port: then
the password has a slash. Lengths are bounded, so that long texts take no quadratic time.
"""

_SECRET = re.compile(
    r"(?i)([?&](?:[a-z0-9]{1,32}[_-]){0,3}"
    r"(?:(?:login|user)?(?:pass?|passwd|password|pwd)|(?:access|api|auth|stream)?(?:key|token)"
    r"|auth|secret)=)[^\s&#]*[^\s&#:]"
)
"""A password in the query of an address, as some cameras take it; `monkey` is none."""


def mask_passwords(text: str) -> str:
    """Mask user names and passwords in the addresses of streams, for logs, errors and results."""
    return _SECRET.sub(r"\1***", _LOGIN.sub(r"\1***@", text))


def check_count(name: str, value: object, least: int) -> None:
    """Check an argument that counts something.

    Args:
        name: Name of the argument.
        value: What was given for it; a whole number of NumPy is fine, True is not.
        least: Smallest value allowed.

    Raises:
        BodyPoseNetError: It is not a whole number, or it is smaller.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise BodyPoseNetError(
            f"{name}: {value!r} is out of range", f"Write a whole number, at least {least}."
        )


def check_score(name: str, value: object) -> None:
    """Check an option that is a score.

    Args:
        name: Of the option.
        value: What was given.

    Raises:
        BodyPoseNetError: It is not a number of 0 to 1.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) <= 1:
        raise BodyPoseNetError(f"{name}: {value!r} is not a score", "Write a number from 0 to 1.")


def check_type(name: str, value: object, kind: type, remedy: str) -> None:
    """Check the type of an argument.

    Args:
        name: Name of the function or the argument.
        value: What was given.
        kind: The type that it must have.
        remedy: What to do about another one.

    Raises:
        BodyPoseNetError: It is of another type.
    """
    if not isinstance(value, kind):
        raise BodyPoseNetError(
            f"{name}: expected {kind.__name__}, got {type(value).__name__}", remedy
        )


def check_switch(name: str, value: object) -> None:
    """Check an argument that is on or off.

    Raises:
        BodyPoseNetError: It is neither True nor False.
    """
    if not isinstance(value, bool):
        raise BodyPoseNetError(f"{name}: {value!r} is not a switch", "Write True or False.")


def closest(word: str, words: Iterable[str]) -> list[str]:
    """Up to three of the words, those that resemble a mistyped one most; none where none does.

    Words that contain it, or are a part of it, come first.
    """
    words = list(words)
    parts = [w for w in words if len(word.strip("-")) > 2 and _is_part(word, w)]
    close = difflib.get_close_matches(word, words, n=3)
    return list(dict.fromkeys([*parts, *close]))[:3]


def _is_part(word: str, other: str) -> bool:
    word, other = word.strip("-"), other.strip("-")
    return len(other) > 2 and (word in other or other in word)


def first_problem(error: ValidationError) -> str:
    """`place: message` of the first value that pydantic finds wrong in a JSON text."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"])) or "JSON"
    return f"{place[:200]}: {first['msg'][:500]}"


class Stopped(Exception):  # noqa: N818 (not an error: somebody wanted it)
    """A signal asked for the end: the state is saved, the same command goes on; exit code STOPPED.

    Args:
        signal: Its name.
        is_reported: Whether another process has printed this already.
    """

    def __init__(self, signal: str, *, is_reported: bool = False) -> None:
        super().__init__(signal)
        self.signal = signal
        self.is_reported = is_reported

    def __str__(self) -> str:
        return f"stopped by {self.signal}; the same command goes on from here"
