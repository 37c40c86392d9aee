"""The text of a spec file: its content as plain values, and the line of each of them.

Spec files may come from anywhere: size, nesting and what YAML's aliases expand to are bounded.
"""

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

_MAX_BYTES = 2**18
"""Specs have some kilobytes; PyYAML takes up to 20 s for a megabyte."""
_MAX_DEPTH = 50
_MAX_VALUES = 100_000
"""After YAML's aliases are expanded: a few hundred bytes of them can stand for billions."""


class SpecFile:
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
            BodyPoseNetError: It is missing, not a text file or larger than 256 kB.
        """
        try:
            with open(path, "rb") as file:
                content = file.read(_MAX_BYTES + 1)
            if len(content) > _MAX_BYTES:
                raise BodyPoseNetError(
                    f"{path}: larger than {_MAX_BYTES // 2**10} kB", "Give a JSON or YAML spec."
                )
            return cls(path, content.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise BodyPoseNetError(
                f"{path}: not a text file", "Give a JSON or YAML spec."
            ) from error
        except (OSError, ValueError) as error:  # ValueError: a null character in the name
            raise BodyPoseNetError(
                f"{path}: cannot be read: {getattr(error, 'strerror', error)}",
                "Check the path; it is relative to the working directory.",
            ) from error

    def content(self) -> dict[str, Any]:
        """The keys and values of the file.

        Raises:
            BodyPoseNetError: The file is broken, too large once its aliases are expanded, or gives
                a key twice.
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
            raise self._too_deep() from error
        except ValueError as error:
            raise BodyPoseNetError(f"{self.path}: holds a number too long to be read") from error
        if not isinstance(content, dict):
            raise BodyPoseNetError(f"{self.path}: the file holds no keys and values")
        return content

    def error(self, location: Location, message: str, remedy: str = "") -> BodyPoseNetError:
        """An error at a place in the file: `file:line: path: message`."""
        return BodyPoseNetError(f"{self.place(location)}: {message}", remedy)

    def place(self, location: Location) -> str:
        """A place in the file: `file:line: path`."""
        path = ".".join(str(part) for part in self._in_file(location))
        return f"{self.path}:{self.line(location)}: {path}"

    def not_text(self, character: str) -> BodyPoseNetError:
        """An error for a character that no text can hold: half of a surrogate pair."""
        escape = f"\\u{ord(character):04x}"
        line = self.text.lower().partition(escape)[0].count("\n") + 1
        return BodyPoseNetError(
            f"{self.path}:{line}: {escape} is half of a character", "Write the whole character."
        )

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
            content = json.loads(self.text, object_pairs_hook=self._object)
            if _depth(content) > _MAX_DEPTH:
                raise self._too_deep()
            return content
        loader = _Loader(self.text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            self._check_size(node)
            self._refuse_repeated_keys(node)
            return loader.construct_document(node)
        finally:
            loader.dispose()

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """An object of a JSON file.

        Raises:
            BodyPoseNetError: A key is given twice.
        """
        content: dict[str, Any] = {}
        for key, value in pairs:
            if key in content:
                self._refuse_repeated_keys(self._node)
                raise BodyPoseNetError(f"{self.path}: the key {key!r} is given twice")
            content[key] = value
        return content

    def _refuse_repeated_keys(self, root: yaml.Node | None) -> None:
        for key, line in _repeated_keys(root):
            raise BodyPoseNetError(f"{self.path}:{line}: the key {key!r} is given twice")

    def _check_size(self, root: yaml.Node) -> None:
        """Refuse a tree that is too deep, or too large once its aliases are expanded.

        Raises:
            BodyPoseNetError: It is.
        """
        sizes: dict[int, int] = {}  # of nodes that are complete; 0 where one is being counted

        def size(node: yaml.Node, depth: int) -> int:
            if depth > _MAX_DEPTH:
                raise self._too_deep(node.start_mark.line + 1)
            if id(node) not in sizes:
                sizes[id(node)] = 0
                sizes[id(node)] = 1 + sum(size(child, depth + 1) for child in _children(node))
            elif not sizes[id(node)]:
                raise self._broken("YAML", node.start_mark.line + 1, "an alias within itself")
            if sizes[id(node)] > _MAX_VALUES:
                line = node.start_mark.line + 1
                raise BodyPoseNetError(
                    f"{self.path}:{line}: more than {_MAX_VALUES} values, aliases expanded",
                    "Write fewer values or aliases (*name).",
                )
            return sizes[id(node)]

        size(root, 1)

    def _too_deep(self, line: int = 1) -> BodyPoseNetError:
        return BodyPoseNetError(
            f"{self.path}:{line}: values are nested more than {_MAX_DEPTH} deep",
            "Write fewer levels of blocks or lists.",
        )

    def _broken(self, language: str, line: int, problem: str) -> BodyPoseNetError:
        return BodyPoseNetError(f"{self.path}:{line}: not valid {language}: {problem}")

    @cached_property
    def _node(self) -> yaml.Node | None:
        """The file as a tree that knows its lines; JSON is YAML too, but for tabs.

        None for the rare JSON that no YAML reader takes (a key whose colon is on the next line).
        """
        try:
            return yaml.compose(self.text.replace("\t", " "), Loader=_Loader)
        except (yaml.YAMLError, RecursionError):
            return None


class _Loader(yaml.SafeLoader):
    """YAML where `2e-5` is a float (as in YAML 1.2), `None` is null and a date is a string.

    Explicit tags (`!!int`) other than those of JSON's types are errors, as are values that do not
    fit their tag.
    """

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError) as error:  # PyYAML's own for `!!int x` and `!!bool 1`
            raise yaml.constructor.ConstructorError(
                None, None, f"not a value of the type {node.tag}", node.start_mark
            ) from error


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
_Loader.yaml_constructors = {
    tag: constructor
    for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
    if tag is None
    or tag.rpartition(":")[2] in ("null", "bool", "int", "float", "str", "seq", "map")
}


def _depth(value: Any) -> int:
    """How deep lists and dictionaries are nested: 1 for a plain value."""
    level, depth = [value], 0
    while level:
        depth += 1
        children = [list(item.values()) if isinstance(item, dict) else item for item in level]
        level = [child for item in children if isinstance(item, list) for child in item]
    return depth


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    """The nodes right below a node of YAML's tree; keys are nodes as well."""
    for child in node.value if isinstance(node, yaml.CollectionNode) else ():
        yield from child if isinstance(child, tuple) else (child,)


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
            keys: set[str] = set()
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value in keys:
                    yield key.value, key.start_mark.line + 1
                if isinstance(key, yaml.ScalarNode):
                    keys.add(key.value)
                waiting.append(value)
