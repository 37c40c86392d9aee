"""Load and validate spec files; error messages have the form `file:line: key: message`."""

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
    """Annotation of a key for which null means the default: `Annotated[T, NullIsDefault()]`."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Accept null in addition to the type, and replace it by the default."""
        nullable = core_schema.nullable_schema(handler(source))
        return core_schema.no_info_after_validator_function(_default_for_null, nullable)


def _default_for_null(value: Any) -> Any:
    """Return a value, or make pydantic use the default if it is None."""
    if value is None:
        raise PydanticUseDefault
    return value


class Block(BaseModel):
    """Base class of a block of a spec; unknown keys and wrong types are errors."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        populate_by_name=True,
        protected_namespaces=(),
        allow_inf_nan=False,
    )

    def ignored_keys(self) -> dict[str, str]:
        """Return keys without effect and the reasons; to be overridden."""
        return {}


class Spec(Block):
    """Base class of a spec file."""

    also_top_level: ClassVar[dict[str, str]] = {}
    """Blocks that are also accepted at the top level, and the blocks to which they belong."""

    _file: SpecFile = PrivateAttr(default_factory=lambda: SpecFile(Path("spec"), ""))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Load a spec file.

        Args:
            path: The file, JSON with the extension .json, else YAML.

        Returns:
            The spec.

        Raises:
            BodyPoseNetError: The file is missing or invalid, or has invalid values.
        """
        return cls.from_file(SpecFile.read(Path(path)))

    @classmethod
    def from_file(cls, file: SpecFile) -> Self:
        """Validate the content of a spec file.

        Args:
            file: The file.

        Returns:
            The spec.

        Raises:
            BodyPoseNetError: The file is invalid, or has invalid values.
        """
        content = cls.normalized_content(file)
        try:
            text = json.dumps(content, ensure_ascii=False)
            text.encode()
        except UnicodeEncodeError as error:
            raise file.surrogate_error(error.object[error.start]) from error
        except (TypeError, ValueError) as error:
            raise BodyPoseNetError(f"{file.path}: {error}") from error
        try:
            # As JSON, for which strict validation accepts lists as tuples and 1 as 1.0.
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
        """Return the content of a file, with the blocks of `also_top_level` moved into place.

        Raises:
            BodyPoseNetError: The file is invalid.
        """
        content = file.content()
        for name, outer in cls.also_top_level.items():
            block = content.get(outer)
            if name in content and isinstance(block, dict) and name not in block:
                content[outer] = block | {name: content.pop(name)}
                file.moved[outer, name] = (name,)
        return content

    def check(self) -> None:
        """Check that values are consistent with each other; to be overridden.

        Raises:
            BodyPoseNetError: Values are inconsistent.
        """

    def fail(self, location: str | Location, message: str, remedy: str = "") -> NoReturn:
        """Raise an error about a key of the file.

        Args:
            location: The key, with dots or as a tuple of its parts.
            message: What is wrong.
            remedy: What to do about it.

        Raises:
            BodyPoseNetError: Always.
        """
        parts = tuple(location.split(".")) if isinstance(location, str) else location
        raise self._file.error(parts, message, remedy)

    @property
    def path(self) -> Path:
        """Path of the spec file."""
        return self._file.path

    @property
    def folder(self) -> Path:
        """Folder of the spec file."""
        return self.path.parent

    def find_path(self, path: str) -> Path | None:
        """Resolve a path as `existing_path` does; None if it does not exist."""
        candidates = (Path(path), self.folder / path)
        return next((candidate for candidate in candidates if exists(candidate)), None)

    def existing_path(self, location: str | Location, path: str) -> Path:
        """Resolve the path of a file or folder in the spec.

        Args:
            location: Key of the path, for the error message.
            path: Path relative to the working directory or to the folder of the spec.

        Returns:
            The existing path.

        Raises:
            BodyPoseNetError: The path does not exist.
        """
        found = self.find_path(path)
        if found is not None:
            return found
        self.fail(
            location,
            f"file or folder not found: {path}",
            "Correct the path, or run the command in the folder where it starts. Paths are "
            f"relative to the working directory ({Path.cwd()}) or to the folder of the spec.",
        )

    def find_model(self, path: str) -> Path | None:
        """Resolve the path of a model file.

        Args:
            path: Path of the model, or the path that TAO's model would have (`model_file`),
                relative to the working directory or to the folder of the spec.

        Returns:
            The existing path, or None.
        """
        named = self.find_path(path)
        if named is not None:
            return named
        candidates = (model_file(Path(path)), model_file(self.folder / path))
        return next((candidate for candidate in candidates if exists(candidate)), None)

    def existing_model_path(self, location: str | Location, path: str) -> Path:
        """Resolve the path of a model file in the spec, see `find_model` and `existing_path`.

        Raises:
            BodyPoseNetError: The path does not exist.
        """
        return self.find_model(path) or self.existing_path(location, path)

    @property
    def text(self) -> str:
        """Text of the file."""
        return self._file.text


def ignored_key(reason: str) -> Any:
    """Create the field of a key that is accepted without effect; its use is logged once."""
    return Field(default=None, json_schema_extra={"ignored": reason})


@cache
def log_once(line: str) -> None:
    """Log a line at most once per process, as a run can load a spec several times."""
    logger.info("%s", line)


def _explain(file: SpecFile, model: type[Block], error: ValidationError) -> BodyPoseNetError:
    """Create one error with a line for each problem of a file."""
    lines, problems = [], error.errors()
    for problem in problems:
        if any(_is_within(other["loc"], problem["loc"]) for other in problems):
            continue  # pydantic also reports a list with invalid values as too short
        location, message = file.strip_inserted_parts(problem["loc"]), _message(model, problem)
        if problem["type"].startswith("union_tag"):
            location = (*location, "__class_name__")
        lines.append(str(file.error(location, message)))
    return BodyPoseNetError("\n".join(lines))


def _is_within(location: Location, outer: Location) -> bool:
    """Return whether a location is inside of another one."""
    return len(location) > len(outer) and location[: len(outer)] == outer


def _message(model: type[Block], problem: ErrorDetails) -> str:
    """Return a short message about one problem."""
    kind, value = problem["type"], problem["input"]
    if kind == "extra_forbidden":
        return "unknown key" + suggestion(problem["loc"][-1], _sibling_keys(model, problem["loc"]))
    if kind in ("missing", "union_tag_not_found"):
        return "is missing"
    if kind == "union_tag_invalid":
        context = problem.get("ctx", {})
        return f"unknown class {context['tag']!r}; expected one of {context['expected_tags']}"
    message = problem["msg"].removeprefix("Value error, ")
    if kind == "tuple_type":
        message += _example(model, problem["loc"])
    if isinstance(value, dict):
        return message
    got = json.dumps(value, default=str)
    return f"{message} (got {got if len(got) <= 60 else got[:60] + '...'})"


def suggestion(word: str | int, words: Iterable[str]) -> str:
    """Return `, did you mean ...?` with the closest of the words, or an empty string."""
    close = closest(str(word), words)
    return f", did you mean {close[0]}?" if close else ""


def _example(model: type[Block], location: Location) -> str:
    """Return `, as in ...` with the default of a list, or an empty string."""
    for block in _blocks_around(model, location):
        info = block.model_fields.get(str(location[-1]))
        if info is not None and isinstance(info.default, tuple) and info.default:
            return f", as in {json.dumps(info.default)}"
    return ""


def _sibling_keys(model: type[Block], location: Location) -> list[str]:
    """Return the keys of all blocks in which the location can be."""
    blocks = _blocks_around(model, location)
    return [info.alias or name for block in blocks for name, info in block.model_fields.items()]


def _blocks_around(model: type[Block], location: Location) -> list[type[Block]]:
    """Return the blocks that can contain the last part of the location."""
    blocks = [model]
    for part in location[:-1]:
        fields = [block.model_fields[part] for block in blocks if part in block.model_fields]  # type: ignore[index]
        if fields:
            blocks = [found for field in fields for found in _blocks_in(field.annotation)]
    return blocks


def _blocks_in(annotation: Any) -> list[type[Block]]:
    """Return the blocks in a type annotation, at any depth of unions and containers."""
    if isinstance(annotation, type) and issubclass(annotation, Block):
        return [annotation]
    return [block for argument in get_args(annotation) for block in _blocks_in(argument)]


def _ignored(block: Block, location: tuple[str, ...]) -> list[tuple[tuple[str, ...], str]]:
    """Return the locations of keys without effect, and the reasons."""
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
