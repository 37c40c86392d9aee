"""Parse spec files (JSON and YAML) and find the lines of their keys, for error messages.

Spec files can come from untrusted sources, so size, nesting and expansion of YAML aliases are
limited.
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
"""Specs have a few kilobytes; PyYAML needs up to 20 s for a megabyte."""
_MAX_DEPTH = 50
_MAX_VALUES = 100_000
"""With YAML aliases expanded, by which a few hundred bytes can represent billions of values."""


class SpecFile:
    """A spec file in JSON (extension .json) or YAML.

    Args:
        path: Path of the file, as given by the user.
        text: Text of the file.
    """

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.text = text
        self.moved: dict[Location, Location] = {}
        """Locations in the file of blocks that were moved, by their location in the content."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a spec file.

        Args:
            path: Path of the file.

        Returns:
            The file with its text, which is not parsed yet.

        Raises:
            BodyPoseNetError: The file is missing, not a text file or larger than 256 kB.
        """
        try:
            with open(path, "rb") as file:
                content = file.read(_MAX_BYTES + 1)
            if len(content) > _MAX_BYTES:
                raise BodyPoseNetError(
                    f"{path}: larger than {_MAX_BYTES // 2**10} kB", "Use a spec in JSON or YAML."
                )
            return cls(path, content.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise BodyPoseNetError(
                f"{path}: not a text file", "Use a spec in JSON or YAML."
            ) from error
        except (OSError, ValueError) as error:  # ValueError: a null character in the name
            raise BodyPoseNetError(
                f"{path}: cannot be read: {getattr(error, 'strerror', error)}",
                "Check the path; it is relative to the working directory.",
            ) from error

    def content(self) -> dict[str, Any]:
        """Parse the file.

        Returns:
            Its keys and values.

        Raises:
            BodyPoseNetError: The file is invalid, too large with its aliases expanded, or has a
                repeated key.
        """
        try:
            content = self._parse()
        except json.JSONDecodeError as error:
            raise self._syntax_error("JSON", error.lineno, error.msg) from error
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise self._syntax_error("YAML", line, error.problem or error.context or "") from error
        except yaml.reader.ReaderError as error:
            line = self.text.count("\n", 0, error.position) + 1
            raise self._syntax_error("YAML", line, f"character {error.character!r}") from error
        except RecursionError as error:
            raise self._too_deep() from error
        except ValueError as error:
            raise BodyPoseNetError(f"{self.path}: a number has too many digits") from error
        if not isinstance(content, dict):
            raise BodyPoseNetError(f"{self.path}: expected keys and values at the top level")
        return content

    def error(self, location: Location, message: str, remedy: str = "") -> BodyPoseNetError:
        """Create an error about a key: `file:line: key: message`."""
        return BodyPoseNetError(f"{self.place(location)}: {message}", remedy)

    def place(self, location: Location) -> str:
        """Return the position of a key: `file:line: key`."""
        path = ".".join(str(part) for part in self._in_file(location))
        return f"{self.path}:{self.line(location)}: {path}"

    def surrogate_error(self, character: str) -> BodyPoseNetError:
        """Create an error for an unpaired surrogate, which is not a character."""
        escape = f"\\u{ord(character):04x}"
        line = self.text.lower().partition(escape)[0].count("\n") + 1
        return BodyPoseNetError(
            f"{self.path}:{line}: unpaired surrogate {escape}", "Write the complete character."
        )

    def line(self, location: Location) -> int:
        """Return the line, from 1, of the longest part of a location that is in the file."""
        node, line = self._node, 1
        for part in self._in_file(location):
            found = _child(node, part)
            if found is None:
                break
            node, line = found
        return line

    def strip_inserted_parts(self, location: Location) -> Location:
        """Return a location without the parts that pydantic inserts, which are not in the file."""
        location = self._in_file(location)
        node, parts = self._node, list(location[-1:])
        for part in location[:-1]:
            found = _child(node, part)
            if found is not None:
                node = found[0]
                parts.insert(-1, part)
        return tuple(parts)

    def text_without(self, key: str) -> str:
        """Return the text without a top-level key, its value and the comments after it.

        If the key is not on separate lines (JSON, flow mappings, merge keys), the rest is
        formatted as JSON.
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
        """Return the location in the file of a block that was moved."""
        for moved_to, moved_from in self.moved.items():
            if location[: len(moved_to)] == moved_to:
                return (*moved_from, *location[len(moved_to) :])
        return location

    def _parse(self) -> Any:
        """Parse JSON or YAML by the extension of the file."""
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
            self._check_repeated_keys(node)
            return loader.construct_document(node)
        finally:
            loader.dispose()

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """Create the dictionary of a JSON object.

        Raises:
            BodyPoseNetError: A key is repeated.
        """
        content: dict[str, Any] = {}
        for key, value in pairs:
            if key in content:
                self._check_repeated_keys(self._node)
                raise BodyPoseNetError(f"{self.path}: repeated key {key!r}")
            content[key] = value
        return content

    def _check_repeated_keys(self, root: yaml.Node | None) -> None:
        """Raise an error about the first repeated key of a YAML tree, if there is one."""
        for key, line in _repeated_keys(root):
            raise BodyPoseNetError(f"{self.path}:{line}: repeated key {key!r}")

    def _check_size(self, root: yaml.Node) -> None:
        """Check depth and number of values of a YAML tree, with aliases expanded.

        Raises:
            BodyPoseNetError: The tree is too deep or too large.
        """
        sizes: dict[int, int] = {}  # number of values by node id; 0 while it is being counted

        def _count(node: yaml.Node, depth: int) -> int:
            """Return the number of values of a node, including the node."""
            if depth > _MAX_DEPTH:
                raise self._too_deep(node.start_mark.line + 1)
            if id(node) not in sizes:
                sizes[id(node)] = 0
                sizes[id(node)] = 1 + sum(_count(child, depth + 1) for child in _children(node))
            elif not sizes[id(node)]:
                raise self._syntax_error(
                    "YAML", node.start_mark.line + 1, "an alias contains itself"
                )
            if sizes[id(node)] > _MAX_VALUES:
                line = node.start_mark.line + 1
                raise BodyPoseNetError(
                    f"{self.path}:{line}: more than {_MAX_VALUES} values with aliases expanded",
                    "Use fewer values or aliases (*name).",
                )
            return sizes[id(node)]

        _count(root, 1)

    def _too_deep(self, line: int = 1) -> BodyPoseNetError:
        """Create an error about too many levels of nesting."""
        return BodyPoseNetError(
            f"{self.path}:{line}: more than {_MAX_DEPTH} levels of nesting",
            "Use fewer levels of blocks or lists.",
        )

    def _syntax_error(self, language: str, line: int, problem: str) -> BodyPoseNetError:
        """Create an error about the syntax of JSON or YAML."""
        return BodyPoseNetError(f"{self.path}:{line}: not valid {language}: {problem}")

    @cached_property
    def _node(self) -> yaml.Node | None:
        """YAML tree of the file, with lines; JSON is also valid YAML, except for tabs.

        None for JSON that is not valid YAML, such as a key with its colon on the next line.
        """
        try:
            return yaml.compose(self.text.replace("\t", " "), Loader=_Loader)
        except (yaml.YAMLError, RecursionError):
            return None


class _Loader(yaml.SafeLoader):
    """YAML loader for which `2e-5` is a float (as in YAML 1.2), `None` is null, a date is a string.

    Explicit tags (`!!int`) are allowed for JSON types only, and their values must match.
    """

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Construct the value of a node; a value that does not match its tag is a YAML error."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError) as error:  # of PyYAML for `!!int x` and `!!bool 1`
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
    """Return the depth of nested lists and dictionaries: 1 for a plain value."""
    level, depth = [value], 0
    while level:
        depth += 1
        children = [list(item.values()) if isinstance(item, dict) else item for item in level]
        level = [child for item in children if isinstance(item, list) for child in item]
    return depth


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    """Yield the child nodes of a YAML node, including keys."""
    for child in node.value if isinstance(node, yaml.CollectionNode) else ():
        yield from child if isinstance(child, tuple) else (child,)


def _child(node: yaml.Node | None, part: str | int) -> tuple[yaml.Node, int] | None:
    """Return the value node of a key or an index and its line, or None."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == part:
                return value, key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        value = node.value[part]
        return value, value.start_mark.line + 1
    return None


def _repeated_keys(root: yaml.Node | None) -> Iterator[tuple[str, int]]:
    """Yield repeated keys of mappings, and the line of the repetition."""
    pending, seen = [root], set()
    while pending:
        node = pending.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            pending.extend(node.value)
        elif isinstance(node, yaml.MappingNode):
            keys: set[str] = set()
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value in keys:
                    yield key.value, key.start_mark.line + 1
                if isinstance(key, yaml.ScalarNode):
                    keys.add(key.value)
                pending.append(value)
