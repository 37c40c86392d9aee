"""The text of a spec file in, its content and the lines of its values out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import yaml

from bodyposenet.errors import BodyPoseNetError

Location = tuple[str | int, ...]


class Source:
    """A spec file: JSON if its name ends so, else YAML.

    Args:
        path: The file, as the user named it.
        text: What it holds.
    """

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.text = text
        self.moved: dict[Location, Location] = {}
        """Blocks that the content has in another place: place -> place in the file."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file.

        Raises:
            BodyPoseNetError: It is missing, or no text.
        """
        try:
            return cls(path, path.read_text(encoding="utf-8-sig"))
        except UnicodeDecodeError as error:
            raise BodyPoseNetError(
                f"{path}: not a text file", "Give a JSON or YAML spec."
            ) from error
        except OSError as error:
            raise BodyPoseNetError(
                f"{path}: cannot be read: {error.strerror}",
                "Check the path; it is relative to the working directory.",
            ) from error

    def content(self) -> dict[str, Any]:
        """The keys and values of the file.

        Raises:
            BodyPoseNetError: The file is broken, or a key is given twice.
        """
        try:
            content = self._parse()
        except json.JSONDecodeError as error:
            raise self._broken("JSON", error.lineno, error.msg) from error
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise self._broken("YAML", line, error.problem or error.context or "") from error
        except yaml.reader.ReaderError as error:
            line = self.text.count("\n", 0, error.position) + 1
            raise self._broken("YAML", line, f"character {error.character!r}") from error
        except RecursionError as error:
            raise BodyPoseNetError(f"{self.path}: nested too deeply") from error
        except ValueError as error:
            raise BodyPoseNetError(f"{self.path}: {error}") from error
        if not isinstance(content, dict):
            raise BodyPoseNetError(f"{self.path}: the file holds no keys and values")
        for key, line in _repeated_keys(self._node):
            raise BodyPoseNetError(f"{self.path}:{line}: the key {key!r} is given twice")
        return content

    def error(self, location: Location, message: str, remedy: str = "") -> BodyPoseNetError:
        """An error at a place in the file: `file:line: path: message`."""
        return BodyPoseNetError(f"{self.place(location)}: {message}", remedy)

    def place(self, location: Location) -> str:
        """A place in the file: `file:line: path`."""
        path = ".".join(str(part) for part in self._in_file(location))
        return f"{self.path}:{self.line(location)}: {path}"

    def line(self, location: Location) -> int:
        """Line of the deepest part of the location that the file holds, from 1."""
        node, line = self._node, 1
        for part in self._in_file(location):
            found = _child(node, part)
            if found is None:
                break
            node, line = found
        return line

    def written(self, location: Location) -> Location:
        """The location without the parts between, which are in no file (pydantic's own)."""
        location = self._in_file(location)
        node, parts = self._node, list(location[-1:])
        for part in location[:-1]:
            found = _child(node, part)
            if found is not None:
                node = found[0]
                parts.insert(-1, part)
        return tuple(parts)

    def without(self, key: str) -> str:
        """The text without a key of the top level, its value and the comments behind it.

        Where the key has no lines of its own (JSON, a flow mapping, a merge), the rest is written
        anew.
        """
        content, node = self.content(), self._node
        if key not in content:
            return self.text
        if isinstance(node, yaml.MappingNode) and not node.flow_style:
            marks = {name.value: name.start_mark for name, _ in node.value}
            starts = [mark.index - mark.column for mark in marks.values()]
            if key in marks and "<<" not in marks:
                place = list(marks).index(key)
                end = node.end_mark.index - node.end_mark.column
                return self.text[: starts[place]] + self.text[[*starts, end][place + 1] :]
        rest = {name: value for name, value in content.items() if name != key}
        return json.dumps(rest, indent=2) + "\n"

    def _in_file(self, location: Location) -> Location:
        """The location as the file has it."""
        for place, written in self.moved.items():
            if location[: len(place)] == place:
                return (*written, *location[len(place) :])
        return location

    def _parse(self) -> Any:
        if self.path.suffix.lower() == ".json":
            return json.loads(self.text)
        return yaml.load(self.text, Loader=_Loader)

    def _broken(self, language: str, line: int, problem: str) -> BodyPoseNetError:
        return BodyPoseNetError(f"{self.path}:{line}: not valid {language}: {problem}")

    @cached_property
    def _node(self) -> yaml.Node | None:
        """The file as a tree that knows its lines; JSON is YAML too, but for tabs.

        None for the rare JSON that no YAML reader takes (a key whose colon is on the next line).
        """
        try:
            return yaml.compose(self.text.replace("\t", " "), Loader=_Loader)
        except yaml.YAMLError:
            return None


class _Loader(yaml.SafeLoader):
    """YAML where `2e-5` is a float (as in YAML 1.2), `None` is null and a date is a string."""


_REPLACED = ("tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _REPLACED]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?((\d+\.\d*|\.\d+)([eE][-+]?\d+)?|\d+[eE][-+]?\d+"
        r"|\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"
    ),
    list("-+.0123456789"),
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^None$"), ["N"])


def _child(node: yaml.Node | None, part: str | int) -> tuple[yaml.Node, int] | None:
    """The value of a key or an index, and its line."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == part:
                return value, key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        value = node.value[part]
        return value, value.start_mark.line + 1
    return None


def _repeated_keys(root: yaml.Node | None) -> Iterator[tuple[str, int]]:
    """Keys that one mapping holds twice, and the line of the second."""
    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting.extend(node.value)
        elif isinstance(node, yaml.MappingNode):
            keys = set()
            for key, value in node.value:
                if key.value in keys:
                    yield key.value, key.start_mark.line + 1
                if isinstance(key, yaml.ScalarNode):
                    keys.add(key.value)
                waiting.append(value)
