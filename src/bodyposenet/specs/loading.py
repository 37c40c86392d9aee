"""Spec files in, checked models out; every error reads `file:line: path: message`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, NoReturn, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    PrivateAttr,
    ValidationError,
)
from pydantic_core import CoreSchema, ErrorDetails, PydanticUseDefault, core_schema

from bodyposenet.console import logger
from bodyposenet.encryption import model_file
from bodyposenet.errors import BodyPoseNetError, closest
from bodyposenet.files import exists
from bodyposenet.specs.spec_file import Location, SpecFile


class NullIsDefault:
    """Marks a key whose null means its default: `Annotated[T, NullIsDefault()]`."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Take null beside what the type takes, and replace it."""
        nullable = core_schema.nullable_schema(handler(source))
        return core_schema.no_info_after_validator_function(_default_for_null, nullable)


def _default_for_null(value: Any) -> Any:
    if value is None:
        raise PydanticUseDefault
    return value


class Block(BaseModel):
    """A part of a spec: unknown keys and wrong types are errors."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        populate_by_name=True,
        protected_namespaces=(),
        allow_inf_nan=False,
    )

    def ignored_keys(self) -> dict[str, str]:
        """Keys that do nothing beside the other values, and why; override it."""
        return {}


class Spec(Block):
    """A whole spec file."""

    also_top_level: ClassVar[dict[str, str]] = {}
    """Blocks that may also stand at the top of the file -> the block of which they are a part."""

    _file: SpecFile = PrivateAttr(default_factory=lambda: SpecFile(Path("spec"), ""))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read and check a spec file (.json, or YAML with any other extension).

        Raises:
            BodyPoseNetError: The file is missing or broken, or a value in it is wrong.
        """
        return cls.from_file(SpecFile.read(Path(path)))

    @classmethod
    def from_file(cls, file: SpecFile) -> Self:
        """Check what a spec file holds.

        Raises:
            BodyPoseNetError: It is broken, or a value in it is wrong.
        """
        content = cls.normalized_content(file)
        try:
            text = json.dumps(content, ensure_ascii=False)
            text.encode()
        except UnicodeEncodeError as error:
            raise file.not_text(error.object[error.start]) from error
        except (TypeError, ValueError) as error:
            raise BodyPoseNetError(f"{file.path}: {error}") from error
        try:
            # As JSON, so that strict checking takes a list for a tuple and 1 for 1.0.
            spec = cls.model_validate_json(text)
        except ValidationError as error:
            raise _explain(file, cls, error) from error
        spec._file = file
        for location, reason in _ignored(spec, ()):
            log_once(f"{file.place(location)} has no effect: {reason}")
        spec.check()
        return spec

    @classmethod
    def normalized_content(cls, file: SpecFile) -> dict[str, Any]:
        """The content of a file, with the blocks that stand `beside` others in their place.

        Raises:
            BodyPoseNetError: The file is broken.
        """
        content = file.content()
        for name, outer in cls.also_top_level.items():
            block = content.get(outer)
            if name in content and isinstance(block, dict) and name not in block:
                content[outer] = block | {name: content.pop(name)}
                file.moved[outer, name] = (name,)
        return content

    def check(self) -> None:
        """Check what no single value shows; override it.

        Raises:
            BodyPoseNetError: Values contradict one another.
        """

    def fail(self, location: str | Location, message: str, remedy: str = "") -> NoReturn:
        """Raise an error at a place in the file, dotted or as its parts.

        Raises:
            BodyPoseNetError: Always.
        """
        parts = tuple(location.split(".")) if isinstance(location, str) else location
        raise self._file.error(parts, message, remedy)

    @property
    def folder(self) -> Path:
        """The folder of the spec file."""
        return self._file.path.parent

    def find_path(self, path: str) -> Path | None:
        """What the spec names, as `existing`; None if it is in neither place."""
        candidates = (Path(path), self.folder / path)
        return next((candidate for candidate in candidates if exists(candidate)), None)

    def existing_path(self, location: str | Location, path: str) -> Path:
        """A file or folder that the spec names: relative to the working directory or to the spec.

        Raises:
            BodyPoseNetError: It is in neither place.
        """
        found = self.find_path(path)
        if found is not None:
            return found
        self.fail(
            location,
            f"no such file or folder: {path}",
            "Paths are relative to the working directory or to the spec.",
        )

    def find_model(self, path: str) -> Path | None:
        """A model file that the spec names, as `find`; else one of TAO's name (`model_file`)."""
        named = self.find_path(path)
        if named is not None:
            return named
        candidates = (model_file(Path(path)), model_file(self.folder / path))
        return next((candidate for candidate in candidates if exists(candidate)), None)

    def existing_model_path(self, location: str | Location, path: str) -> Path:
        """A model file that the spec names, as `find_model`.

        Raises:
            BodyPoseNetError: It is in neither place.
        """
        return self.find_model(path) or self.existing_path(location, path)

    @property
    def text(self) -> str:
        """The file as it was written."""
        return self._file.text


def ignored_key(reason: str) -> Any:
    """A key that parses with any value and does nothing; the log names it once."""
    return Field(default=None, json_schema_extra={"ignored": reason})


@cache
def log_once(line: str) -> None:
    """Log a line once, however often a run loads the spec that it is about."""
    logger.info("%s", line)


def _explain(file: SpecFile, model: type[Block], error: ValidationError) -> BodyPoseNetError:
    """All problems of a file in one error, a line each."""
    lines, problems = [], error.errors()
    for problem in problems:
        if any(_is_within(other["loc"], problem["loc"]) for other in problems):
            continue  # a list whose values are wrong is "too short" besides
        location, message = file.written(problem["loc"]), _message(model, problem)
        if problem["type"].startswith("union_tag"):
            location = (*location, "__class_name__")
        lines.append(str(file.error(location, message)))
    return BodyPoseNetError("\n".join(lines))


def _is_within(location: Location, outer: Location) -> bool:
    return len(location) > len(outer) and location[: len(outer)] == outer


def _message(model: type[Block], problem: ErrorDetails) -> str:
    """What is wrong with one value, in a few words."""
    kind, value = problem["type"], problem["input"]
    if kind == "extra_forbidden":
        return "unknown key" + suggestion(problem["loc"][-1], _keys_beside(model, problem["loc"]))
    if kind in ("missing", "union_tag_not_found"):
        return "is missing"
    if kind == "union_tag_invalid":
        context = problem.get("ctx", {})
        return f"unknown class {context['tag']!r}; there are {context['expected_tags']}"
    message = problem["msg"].removeprefix("Value error, ")
    if kind == "tuple_type":
        message += _example(model, problem["loc"])
    if isinstance(value, dict):
        return message
    got = json.dumps(value, default=str)
    return f"{message} (got {got if len(got) <= 60 else got[:60] + '...'})"


def suggestion(word: str | int, words: Iterable[str]) -> str:
    """`, did you mean ...?` where one of the words resembles the given one; else nothing."""
    close = closest(str(word), words)
    return f", did you mean {close[0]}?" if close else ""


def _example(model: type[Block], location: Location) -> str:
    """`, as in ...` with the default of a list; nothing where it has none."""
    for block in _blocks_around(model, location):
        info = block.model_fields.get(str(location[-1]))
        if info is not None and isinstance(info.default, tuple) and info.default:
            return f", as in {json.dumps(info.default)}"
    return ""


def _keys_beside(model: type[Block], location: Location) -> list[str]:
    """The keys of all blocks that the location may lead to."""
    blocks = _blocks_around(model, location)
    return [info.alias or name for block in blocks for name, info in block.model_fields.items()]


def _blocks_around(model: type[Block], location: Location) -> list[type[Block]]:
    """The blocks that may hold the last part of the location."""
    blocks = [model]
    for part in location[:-1]:
        fields = [block.model_fields[part] for block in blocks if part in block.model_fields]  # type: ignore[index]
        if fields:
            blocks = [found for field in fields for found in _blocks_in(field.annotation)]
    return blocks


def _blocks_in(annotation: Any) -> list[type[Block]]:
    """The blocks that an annotation names, at any depth of unions and containers."""
    if isinstance(annotation, type) and issubclass(annotation, Block):
        return [annotation]
    return [block for argument in get_args(annotation) for block in _blocks_in(argument)]


def _ignored(block: Block, location: tuple[str, ...]) -> list[tuple[tuple[str, ...], str]]:
    """Where the file gives keys that do nothing, and why they do nothing."""
    found = []
    reasons = block.ignored_keys()
    for name in block.model_fields_set:
        value, info = getattr(block, name), type(block).model_fields[name]
        place = (*location, info.alias or name)
        extra = info.json_schema_extra
        if isinstance(extra, dict) and "ignored" in extra and value is not None:
            found.append((place, str(extra["ignored"])))
        elif name in reasons:
            found.append((place, reasons[name]))
        elif isinstance(value, Block):
            found.extend(_ignored(value, place))
    return sorted(found)
