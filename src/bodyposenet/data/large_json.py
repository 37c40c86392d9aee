"""Read large JSON files element by element; parsed at once they take up to 30 times their size.

By Python's own `json`: ijson and msgspec refuse NaN and infinity, which annotation tools written in
Python leave behind (tried with ijson 3.6 and msgspec 0.22).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bodyposenet.files import explaining_json

_SPACE = re.compile(r"[ \t\n\r]*")
_NEXT = re.compile(r"[ \t\n\r]*([,\]])[ \t\n\r]*")
"""What stands between two elements of a list, or ends it."""

_scan = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # since Python 3.2
"""(text, index) -> the value there and the index behind it; StopIteration where there is none."""


class LargeJson:
    """A JSON object whose lists are parsed element by element, whenever they are asked for.

    All of it is parsed once when it is opened, so nothing that comes later is a syntax error.

    Args:
        path: The file; it may begin with a byte order mark.
        remedy: What to do if it cannot be read.

    Raises:
        BodyPoseNetError: As `files.read_json`.
    """

    def __init__(self, path: Path, remedy: str) -> None:
        with explaining_json(path, remedy):
            content = path.read_bytes()
            self._text = content.decode(json.detect_encoding(content), "surrogatepass")
            self._lists = _find_lists(self._text)

    def has_list(self, name: str) -> bool:
        """Whether the object has a list of that name."""
        return name in self._lists

    def elements(self, name: str) -> Iterator[Any]:
        """Parse the elements of a list one by one; a list that is missing has none."""
        if name in self._lists:
            yield from _Cursor(self._text, self._lists[name]).elements()


def _find_lists(text: str) -> dict[str, int]:
    """Names of the lists in a JSON object, and where they begin; parses all of the text.

    Raises:
        json.JSONDecodeError: It is not valid JSON.
    """
    lists: dict[str, int] = {}
    cursor = _Cursor(text, 0)
    if cursor.peek() != "{":
        cursor.value()
    else:
        for name in cursor.names():
            lists.pop(name, None)  # of a name that occurs twice the last value counts
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
    """A place in a JSON text that moves on while values are parsed.

    Args:
        text: The text.
        at: Index of the next character.
    """

    def __init__(self, text: str, at: int) -> None:
        self._text = text
        self.at = at

    def error(self, message: str) -> json.JSONDecodeError:
        """The error at this place."""
        return json.JSONDecodeError(message, self._text, self.at)

    def peek(self) -> str:
        """Skip white space and return the next character; nothing at the end."""
        self.at = _SPACE.match(self._text, self.at).end()  # type: ignore[union-attr]  # always matches
        return self._text[self.at : self.at + 1]

    def value(self) -> Any:
        """Parse the value that begins here."""
        try:
            value, self.at = _scan(self._text, self.at)
        except StopIteration:
            raise self.error("Expecting value") from None
        return value

    def names(self) -> Iterator[str]:
        """Move through an object: each name is returned with the cursor before its value."""
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
        """Move through a list and return its elements."""
        self.at += 1
        if self.peek() == "]":
            self.at += 1
            return
        while True:
            yield self.value()
            found = _NEXT.match(self._text, self.at)  # at once: lists may hold millions of elements
            if found is None:
                raise self.error("Expecting ',' delimiter")
            self.at = found.end()
            if found[1] == "]":
                return
