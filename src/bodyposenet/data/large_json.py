"""Parse large JSON files element by element to save memory.

Parsed at once, a JSON file takes up to 30 times its size. This module uses the scanner of Python's
`json`, because ijson and msgspec reject NaN and infinity, which annotation tools written in Python
produce (as of ijson 3.6 and msgspec 0.22).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from bodyposenet.files import translate_json_errors

_SPACE = re.compile(r"[ \t\n\r]*")
_NEXT = re.compile(r"[ \t\n\r]*([,\]])[ \t\n\r]*")
"""Separator between two elements of a list, or end of the list."""

_scan = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # since Python 3.2
"""Maps (text, index) to the value at the index and the end index; raises StopIteration if none."""


class LargeJson:
    """A JSON object whose lists are parsed element by element on access, or a JSON list.

    The whole file is parsed once when it is opened, so that later accesses raise no syntax errors.

    Args:
        path: The file; a byte order mark is allowed.
        remedy: Advice for the error message if the file cannot be read.

    Raises:
        BodyPoseNetError: As `files.read_json`.
    """

    def __init__(self, path: Path, remedy: str) -> None:
        with translate_json_errors(path, remedy):
            content = path.read_bytes()
            self._text = content.decode(json.detect_encoding(content), "surrogatepass")
            self._lists = _find_lists(self._text)

    def has_list(self, name: str | None = None) -> bool:
        """Return whether the object has a list with this name; None: whether it is a list."""
        return name in self._lists

    def elements(self, name: str | None = None) -> Iterable[Any]:
        """Return the elements of a list, which are parsed one at a time in every iteration.

        Args:
            name: Name of the list in the object, or None if the file is a list.

        Returns:
            The elements; empty if there is no such list.
        """
        return _Elements(self._text, self._lists.get(name))


class _Elements:
    """Elements of a list in a JSON text.

    Args:
        text: The text.
        start: Index of the list's first character, or None for no elements.
    """

    def __init__(self, text: str, start: int | None) -> None:
        self._text = text
        self._start = start

    def __iter__(self) -> Iterator[Any]:
        return iter(()) if self._start is None else _Cursor(self._text, self._start).elements()


def _find_lists(text: str) -> dict[str | None, int]:
    """Parse a JSON text and return the start index of each list in an object by name.

    Returns:
        Start indices; that of a text that is a list has the key None.

    Raises:
        json.JSONDecodeError: The text is not valid JSON.
    """
    lists: dict[str | None, int] = {}
    cursor = _Cursor(text, 0)
    if cursor.peek() == "[":
        lists[None] = cursor.at
        for _ in cursor.elements():
            pass
    elif cursor.peek() != "{":
        cursor.value()
    else:
        for name in cursor.names():
            lists.pop(name, None)  # of a repeated name, the last value is used
            if cursor.peek() == "[":
                lists[name] = cursor.at
                for _ in cursor.elements():
                    pass
            else:
                cursor.value()
    if cursor.peek():
        raise cursor.error("Extra data")
    return lists


class _Cursor:
    """A position in a JSON text that advances as values are parsed.

    Args:
        text: The text.
        at: Index of the next character.
    """

    def __init__(self, text: str, at: int) -> None:
        self._text = text
        self.at = at

    def error(self, message: str) -> json.JSONDecodeError:
        """Return a decode error at the current position."""
        return json.JSONDecodeError(message, self._text, self.at)

    def peek(self) -> str:
        """Skip white space and return the next character, or an empty string at the end."""
        self.at = _SPACE.match(self._text, self.at).end()  # type: ignore[union-attr]  # always matches
        return self._text[self.at : self.at + 1]

    def value(self) -> Any:
        """Parse the value at the current position."""
        try:
            value, self.at = _scan(self._text, self.at)
        except StopIteration:
            raise self.error("Expecting value") from None
        return value

    def names(self) -> Iterator[str]:
        """Iterate over the names of an object; the caller parses the value after each name."""
        self.at += 1
        if self.peek() == "}":
            self.at += 1
            return
        while True:
            if self.peek() != '"':
                raise self.error("Expecting property name enclosed in double quotes")
            name = self.value()
            if self.peek() != ":":
                raise self.error("Expecting ':' delimiter")
            self.at += 1
            self.peek()
            yield name
            found = self.peek()
            if found not in (",", "}"):
                raise self.error("Expecting ',' delimiter")
            self.at += 1
            if found == "}":
                return

    def elements(self) -> Iterator[Any]:
        """Iterate over the elements of a list."""
        self.at += 1
        if self.peek() == "]":
            self.at += 1
            return
        while True:
            yield self.value()
            found = _NEXT.match(
                self._text, self.at
            )  # one match: lists can have millions of elements
            if found is None:
                raise self.error("Expecting ',' delimiter")
            self.at = found.end()
            if found[1] == "]":
                return
