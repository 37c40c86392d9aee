"""Collect the invalid entries of an annotation file into one error."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bodyposenet.data.annotations import shorten
from bodyposenet.errors import BodyPoseNetError

PLACE = "_place"
"""Key of an image or annotation that was converted from another format: where it is in the file."""

_MAX_LISTED_ERRORS = 10
_MAX_ERRORS = 10_000
"""After this many errors, reading stops: the file is not an annotation file."""


def place_of(kind: str, entry: Any) -> str:
    """Return where an entry is in its file: its `PLACE`, or else its id.

    Args:
        kind: "image" or "annotation".
        entry: The entry.
    """
    if isinstance(entry, Mapping):
        return entry.get(PLACE) or f"{kind} {shorten(entry.get('id'))}"
    return f"{kind} {shorten(entry)}"


class InvalidEntries:
    """Invalid entries of a file: the first ones and their number.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._count = 0
        self._first: list[str] = []

    def add(self, place: str, error: Exception | str) -> None:
        """Add an invalid entry.

        Args:
            place: Where it is in the file.
            error: What is wrong with it.

        Raises:
            BodyPoseNetError: There are too many invalid entries to continue.
        """
        self._count += 1
        if len(self._first) < _MAX_LISTED_ERRORS:
            self._first.append(f"{place}: {error}")
        if self._count == _MAX_ERRORS:
            self.raise_if_any("; the rest of the file was not read")

    def raise_if_any(self, note: str = "") -> None:
        """Raise one error for all invalid entries, if there are any.

        Args:
            note: Text after the number of entries that are not listed.

        Raises:
            BodyPoseNetError: There are invalid entries.
        """
        if not self._count:
            return
        listed = "\n".join(f"  {error}" for error in self._first)
        others = self._count - len(self._first)
        more = f"\n  and {others} more{note}" if others else ""
        raise BodyPoseNetError(
            f"{self._path}: {self._count} invalid entries:\n{listed}{more}",
            "Correct the entries in the file, or remove them.",
        )
