"""Framework of the commands' options: one frozen dataclass per command.

Each option is defined once, by the type, the default and the `Option` of a field. The command-line
parser (`option_parser`), the Python functions (`command`) and the reference in the documentation
are derived from it.
"""

from __future__ import annotations

import functools
import inspect
import re
import shlex
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    ParamSpec,
    Protocol,
    TypeVar,
    cast,
    dataclass_transform,
)

import pydantic.dataclasses
from pydantic import ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from bodyposenet.console import progress_bars
from bodyposenet.errors import BodyPoseNetError, closest
from bodyposenet.exit_codes import translate_errors

StrPath = str | Path

_FLAG = re.compile(r"(?<![\w-])--?[A-Za-z][\w-]*")
_COMMAND = re.compile(r"\b(?:bpnet|pip|python|torchrun) ")

Kind = TypeVar("Kind")
Parameters = ParamSpec("Parameters")
Options = TypeVar("Options", bound="CommandOptions")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Need:
    """Condition under which an option has an effect.

    Args:
        words: Description of the condition, such as `--data_type int8`.
        is_met: Function that tests the options of a command.
        in_help: Whether help texts mention the condition.
    """

    words: str
    is_met: Callable[[Any], object]
    in_help: bool = True


class Option:
    """Help text of an options field, and its flags.

    Args:
        *flags: Flags of the command line. If none starts with `--`, `--` and the field's name is
            added.
        help: Help text, one sentence or two.
        metavar: Placeholder of the value in `--help`. Default: the choices, if there are any.
        group: Heading under which `--help` lists the option.
        needs: Condition under which the option has an effect; see `ignored_options`.
        empty: Value if the flag is given without one, as in `-k $KEY` with an unset variable.
        nargs: Number of values as in argparse, `+` or `*`; or None for one value.
        hidden: Whether the option is for Python only, without a flag.
        cli_only: Whether the option is for the command line only, without a keyword argument.
        deprecated: Old flags, which work but are not listed; their use is logged.
    """

    def __init__(
        self,
        *flags: str,
        help: str,
        metavar: str | None = None,
        group: str = "",
        needs: Need | None = None,
        empty: str | None = None,
        nargs: Literal["+", "*"] | None = None,
        hidden: bool = False,
        cli_only: bool = False,
        deprecated: tuple[str, ...] = (),
    ) -> None:
        self.flags = flags
        self.help = help
        self.metavar = metavar
        self.group = group
        self.needs = needs
        self.empty = empty
        self.nargs = nargs
        self.hidden = hidden
        self.cli_only = cli_only
        self.deprecated = deprecated


@dataclass_transform(frozen_default=True, kw_only_default=True)
def options_class(cls: type[Kind]) -> type[Kind]:
    """Turn a class into a frozen dataclass with keyword-only, validated fields (decorator)."""
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)
    make = pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=config)
    return cast("type[Kind]", make(cls))


@options_class
class CommandOptions:
    """Options of every command."""

    progress: Annotated[
        bool, Option(help="Show progress bars on standard error, if it is a terminal.", hidden=True)
    ] = False

    @property
    def prints_results(self) -> bool:
        """Whether results go to standard output, and the summary to standard error."""
        return False


class CommandResult(Protocol):
    """Result of a command."""

    def summary(self) -> str:
        """Return a summary as lines of text, possibly empty."""
        ...


class Command(Protocol, Generic[Parameters, Result]):
    """A command as a Python function.

    Attributes:
        options: Class of its options.
        run: Function that runs the command with an instance of `options`. An `error` of its result
            is not raised.
    """

    options: type[CommandOptions]
    run: Callable[[Any], Result]

    def __call__(self, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        """Run the command with its options as keyword arguments.

        Raises:
            BodyPoseNetError: An option is unknown, missing or invalid; the command fails; a
                package is missing, a file cannot be used, or there is not enough memory.
        """
        ...


def command(
    options: Callable[Parameters, Options],
) -> Callable[[Callable[[Options], Result]], Command[Parameters, Result]]:
    """Turn a function of an options object into one with keyword arguments (decorator).

    Args:
        options: Class of the options. Its fields define the signature, their help texts the
            docstring.
    """
    kind = cast("type[Options]", options)

    def _decorate(work: Callable[[Options], Result]) -> Command[Parameters, Result]:
        def _run(given: Options) -> Result:
            with translate_errors(work.__name__), progress_bars(given.progress):
                return work(given)

        @functools.wraps(work)
        def _call(*positional: Any, **keywords: Any) -> Result:
            _check_keywords(work.__name__, kind, positional, keywords)
            try:
                result = function.run(build(kind, keywords))
                if error := getattr(result, "error", None):
                    raise error
            except BodyPoseNetError as error:
                error.rewrite(lambda text: _name_keywords(kind, text))
                raise
            return result

        _call.__doc__ = _docstring(work.__doc__ or "", kind)
        _call.__signature__ = _signature(kind, work)  # type: ignore[attr-defined]
        function = cast("Command[Parameters, Result]", _call)
        function.options, function.run = kind, _run
        return function

    return _decorate


@dataclass(frozen=True)
class OptionField:
    """A field of an options class.

    Args:
        name: Keyword argument in Python.
        option: Its `Option`.
        hint: Type without metadata, such as `int | None`.
        type: The same without None; `str` for a union of types.
        default: Default value, or `MISSING` if the option is required.
    """

    name: str
    option: Option
    hint: Any
    type: Any
    default: Any

    @property
    def flags(self) -> tuple[str, ...]:
        """All flags, short ones first."""
        flags = self.option.flags
        if any(flag.startswith("--") for flag in flags):
            return flags
        return (*flags, f"--{self.name}")

    @property
    def flag(self) -> str:
        """The long flag."""
        return next(flag for flag in self.flags if flag.startswith("--"))

    @property
    def is_required(self) -> bool:
        """Whether the option has no default."""
        return self.default is MISSING

    @property
    def choices(self) -> tuple[Any, ...] | None:
        """The allowed values, or None if the type does not list them."""
        return typing.get_args(self.type) if typing.get_origin(self.type) is Literal else None


@functools.cache
def option_fields(kind: type[Any]) -> tuple[OptionField, ...]:
    """Return the options of a class: its own in their order, then those of its bases."""
    hints, plain = typing.get_type_hints(kind, include_extras=True), typing.get_type_hints(kind)
    by_name = {field.name: field for field in fields(kind)}
    order = dict.fromkeys(
        name for base in kind.__mro__ for name in inspect.get_annotations(base) if name in by_name
    )
    return tuple(_option_field(by_name[name], hints[name], plain[name]) for name in order)


def build(
    kind: type[Options],
    values: Mapping[str, Any],
    name_of: Callable[[OptionField], str] = lambda field: field.name,
) -> Options:
    """Create an options object from values.

    Args:
        kind: Class of the options.
        values: Field name -> value; strings are converted to numbers.
        name_of: Function that returns the name of an option for error messages.

    Raises:
        BodyPoseNetError: An option is missing, or a value is invalid.
    """
    by_name = {field.name: field for field in option_fields(kind)}
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = by_name[str(first["loc"][0])]
        raise BodyPoseNetError(f"{name_of(field)}{_problem(first)}", field.option.help) from error


def ignored_options(options: CommandOptions) -> Iterator[tuple[OptionField, Need]]:
    """Yield options that differ from their defaults but have no effect, with their conditions."""
    for field in option_fields(type(options)):
        need = field.option.needs
        if need is None or need.is_met(options):
            continue
        if getattr(options, field.name) != field.default:
            yield field, need


def to_argv(options: CommandOptions) -> list[str]:
    """Convert options to command-line arguments; those with default values are omitted."""
    argv: list[str] = []
    for field in option_fields(type(options)):
        value = getattr(options, field.name)
        if field.option.hidden or value == field.default or value is None:
            continue
        flag = field.flags[0]
        if isinstance(value, bool):
            argv.append(flag if value else f"--no-{field.flag.removeprefix('--')}")
        elif isinstance(value, tuple):
            words = [str(each) for each in cast("tuple[object, ...]", value)]
            argv += [flag, *words] if field.option.nargs else [flag, ",".join(words)]
        else:
            text = str(value)
            argv += [f"{field.flag}={text}"] if text.startswith("-") else [flag, text]
    return argv


def command_line(name: str, options: CommandOptions) -> str:
    """Return the command line of a command with options, quoted for a shell."""
    return shlex.join(["bpnet", name, *to_argv(options)])


def _option_field(field: Field[Any], hint: Any, plain: Any) -> OptionField:
    if typing.get_origin(hint) is not Annotated:
        raise TypeError(f"{field.name} has no Option")
    option = next(entry for entry in typing.get_args(hint)[1:] if isinstance(entry, Option))
    return OptionField(field.name, option, plain, _without_none(plain), _default(field))


def _without_none(hint: Any) -> Any:
    """Return `int` for `int | None`, and `str` for unions of more types, such as `StrPath`."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        rest = [_without_none(arg) for arg in typing.get_args(hint) if arg is not type(None)]
        return rest[0] if len(rest) == 1 else str
    return hint


def _default(field: Field[Any]) -> Any:
    """Return the default of a field, which is nested if pydantic's Field is used."""
    default = field.default
    if isinstance(default, FieldInfo):
        return MISSING if default.is_required() else default.get_default()
    return default


def _problem(error: ErrorDetails) -> str:
    """Describe a validation error; the text follows the option's name."""
    value, context = error["input"], error.get("ctx", {})
    match error["type"]:
        case "missing" | "missing_keyword_only_argument" if len(error["loc"]) == 1:
            return " is missing"
        case "greater_than_equal":
            expected = f"must be at least {context['ge']:g}"
        case "greater_than":
            expected = f"must be greater than {context['gt']:g}"
        case "less_than_equal":
            expected = f"must be at most {context['le']:g}"
        case "less_than":
            expected = f"must be less than {context['lt']:g}"
        case "literal_error":
            expected = f"must be {context['expected']}"
        case _:
            expected = error["msg"].removeprefix("Value error, ")
    shown = f" {value}" if isinstance(value, str | int | float | Path) else f" {value!r}"
    return f"{shown[:100]}: {expected}"


def _check_keywords(
    name: str, kind: type[Any], positional: tuple[Any, ...], keywords: Mapping[str, Any]
) -> None:
    """Reject arguments that a command's Python function does not accept.

    Raises:
        BodyPoseNetError: An argument is positional, or there is no option of its name.
    """
    known = [field.name for field in option_fields(kind) if not field.option.cli_only]
    if positional:
        raise BodyPoseNetError(
            f"{name}() takes keyword arguments only", f"Write {name}({known[0]}=...)."
        )
    for keyword in keywords:
        if keyword not in known:
            close = closest(keyword, known)
            hint = f"Did you mean {close[0]}?" if close else f"Options: {', '.join(known)}."
            raise BodyPoseNetError(f"{name}() has no option {keyword}", hint)


def _name_keywords(kind: type[Any], text: str) -> str:
    """Replace the flags of a command in a text by the names of its keyword arguments.

    Texts that contain a shell command are returned unchanged.
    """
    if _COMMAND.search(text):
        return text
    names = {flag: field.name for field in option_fields(kind) for flag in field.flags}
    return _FLAG.sub(lambda match: names.get(match[0], match[0]), text)


def _signature(kind: type[Any], work: Callable[..., Any]) -> inspect.Signature:
    """Return the signature of a command's Python function."""
    parameters = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, annotation=field.hint,
            default=inspect.Parameter.empty if field.is_required else field.default,
        )
        for field in option_fields(kind)
        if not field.option.cli_only
    ]  # fmt: skip
    result = typing.get_type_hints(work)["return"]
    return inspect.Signature(parameters, return_annotation=result)


def _docstring(text: str, kind: type[Any]) -> str:
    """Return the function's docstring with an `Args` section of the options' help texts."""
    summary, raises, rest = inspect.cleandoc(text).partition("\nRaises:")
    lines = [summary.rstrip(), "", "Args:"]
    lines += [
        f"    {field.name}: {_name_keywords(kind, field.option.help)}"
        for field in option_fields(kind)
        if not field.option.cli_only
    ]
    lines += ["", f"Raises:{rest}"] if raises else []
    return "\n".join(lines)
