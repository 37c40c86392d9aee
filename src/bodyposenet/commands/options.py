"""Options of the commands: one frozen dataclass per command, for the command line and for Python.

A field's type, default and `Option` are all that is said about an option: argparse
(`option_parser`), the Python functions (`command`) and the reference in the docs follow from them.
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
from bodyposenet.exit_codes import explaining

StrPath = str | Path

_FLAG = re.compile(r"(?<![\w-])--?[A-Za-z][\w-]*")
_COMMAND = re.compile(r"\b(?:bpnet|pip|python|torchrun) ")

Kind = TypeVar("Kind")
Parameters = ParamSpec("Parameters")
Options = TypeVar("Options", bound="CommandOptions")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Need:
    """Condition under which options have an effect.

    Args:
        words: The condition in words, as in `--data_type int8`.
        is_met: Whether the options of a command meet it.
    """

    words: str
    is_met: Callable[[Any], object]


class Option:
    """Documentation of a field, and its form on the command line.

    Args:
        *flags: Flags; by default `--` and the field's name, which also follows short flags.
        help: One sentence.
        metavar: Placeholder of the value in `--help`.
        group: Heading under which `--help` lists the option.
        needs: Condition under which the option has an effect; see `ignored_options`.
        empty: Value of the flag without a value, as in `-k` before an unset variable.
        nargs: Number of values behind the flag as in argparse, `+` or `*`; None: one.
        hidden: Python only: there is no flag.
        cli_only: Command line only: the Python function does not take it.
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


@dataclass_transform(frozen_default=True, kw_only_default=True)
def options_class(cls: type[Kind]) -> type[Kind]:
    """Make a class a frozen dataclass with keyword-only, validated fields."""
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
        """Whether the results themselves go to standard output, and all else elsewhere."""
        return False


class CommandResult(Protocol):
    """Result of a command."""

    def summary(self) -> str:
        """Describe the result for people, in lines of text; empty if there is nothing to say."""
        ...


class Command(Protocol, Generic[Parameters, Result]):
    """A command as a Python function.

    Attributes:
        options: Class of its options.
        run: Runs it with its options as one value, and leaves a result's `error` to the caller.
    """

    options: type[CommandOptions]
    run: Callable[[Any], Result]

    def __call__(self, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        """Run the command with its options as keyword arguments.

        Raises:
            BodyPoseNetError: An option is unknown, missing or wrong; what the command's own
                function raises; a missing package, a file that cannot be used, or too little
                memory.
        """
        ...


def command(
    options: Callable[Parameters, Options],
) -> Callable[[Callable[[Options], Result]], Command[Parameters, Result]]:
    """Make a function of options a Python function with these options as keyword arguments.

    Args:
        options: Class of the options. Its fields become the signature, their help the docstring.
    """
    kind = cast("type[Options]", options)

    def decorate(work: Callable[[Options], Result]) -> Command[Parameters, Result]:
        def run(given: Options) -> Result:
            with explaining(work.__name__), progress_bars(given.progress):
                return work(given)

        @functools.wraps(work)
        def call(*positional: Any, **keywords: Any) -> Result:
            _check_keywords(work.__name__, kind, positional, keywords)
            try:
                result = function.run(build(kind, keywords))
                if error := getattr(result, "error", None):
                    raise error
            except BodyPoseNetError as error:
                error.rewrite(lambda text: _name_keywords(kind, text))
                raise
            return result

        call.__doc__ = _docstring(work.__doc__ or "", kind)
        call.__signature__ = _signature(kind, work)  # type: ignore[attr-defined]
        function = cast("Command[Parameters, Result]", call)
        function.options, function.run = kind, run
        return function

    return decorate


@dataclass(frozen=True)
class OptionField:
    """A field of an options class.

    Args:
        name: Keyword argument in Python.
        option: Its `Option`.
        hint: Its type without metadata, as in `int | None`.
        type: The same without None; `str` in place of a union of types.
        default: Its default value; `MISSING` if it is required.
    """

    name: str
    option: Option
    hint: Any
    type: Any
    default: Any

    @property
    def flags(self) -> tuple[str, ...]:
        """Flags on the command line, short ones first."""
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
        """Whether there is no default."""
        return self.default is MISSING

    @property
    def choices(self) -> tuple[Any, ...] | None:
        """Values that may be given; None if these are not listed."""
        return typing.get_args(self.type) if typing.get_origin(self.type) is Literal else None


@functools.cache
def option_fields(kind: type[Any]) -> tuple[OptionField, ...]:
    """List the options of a class: its own in their order, then those of its bases."""
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
    """Check values and make options of them.

    Args:
        kind: Class of the options.
        values: Field name -> value; text is converted to numbers.
        name_of: Name of an option in errors.

    Raises:
        BodyPoseNetError: An option is missing, or a value is wrong.
    """
    by_name = {field.name: field for field in option_fields(kind)}
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = by_name[str(first["loc"][0])]
        raise BodyPoseNetError(f"{name_of(field)}{_problem(first)}", field.option.help) from error


def ignored_options(options: CommandOptions) -> Iterator[tuple[OptionField, Need]]:
    """Find options that differ from their defaults but have no effect, with what they need."""
    for field in option_fields(type(options)):
        need = field.option.needs
        if need is None or need.is_met(options):
            continue
        if getattr(options, field.name) != field.default:
            yield field, need


def to_argv(options: CommandOptions) -> list[str]:
    """Write options as arguments of the command line; those with their defaults are left out."""
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
    """Write a command as one would type it in a shell."""
    return shlex.join(["bpnet", name, *to_argv(options)])


def _option_field(field: Field[Any], hint: Any, plain: Any) -> OptionField:
    if typing.get_origin(hint) is not Annotated:
        raise TypeError(f"{field.name} has no Option")
    option = next(entry for entry in typing.get_args(hint)[1:] if isinstance(entry, Option))
    return OptionField(field.name, option, plain, _without_none(plain), _default(field))


def _without_none(hint: Any) -> Any:
    """`int` of `int | None`; unions of more types, such as `StrPath`, become `str`."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        rest = [_without_none(arg) for arg in typing.get_args(hint) if arg is not type(None)]
        return rest[0] if len(rest) == 1 else str
    return hint


def _default(field: Field[Any]) -> Any:
    """Pydantic keeps the default in a field of its own where one is used."""
    default = field.default
    if isinstance(default, FieldInfo):
        return MISSING if default.is_required() else default.get_default()
    return default


def _problem(error: ErrorDetails) -> str:
    """Describe what is wrong with a value, after the option's name."""
    value, context = error["input"], error.get("ctx", {})
    match error["type"]:
        case "missing" | "missing_keyword_only_argument" if len(error["loc"]) == 1:
            return " is missing"
        case "greater_than_equal":
            expected = f"at least {context['ge']:g}"
        case "greater_than":
            expected = f"must be greater than {context['gt']:g}"
        case "less_than_equal":
            expected = f"at most {context['le']:g}"
        case "less_than":
            expected = f"must be less than {context['lt']:g}"
        case "literal_error":
            expected = f"choose from {context['expected']}"
        case _:
            expected = error["msg"].removeprefix("Value error, ")
    shown = f" {value}" if isinstance(value, str | int | float | Path) else f" {value!r}"
    return f"{shown[:100]}: {expected}"


def _check_keywords(
    name: str, kind: type[Any], positional: tuple[Any, ...], keywords: Mapping[str, Any]
) -> None:
    """Refuse arguments that a command's Python function does not take.

    Raises:
        BodyPoseNetError: An argument is positional, or no option has its name.
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

    A text that tells what to type in a shell stays as it is: its flags are of that command.
    """
    if _COMMAND.search(text):
        return text
    names = {flag: field.name for field in option_fields(kind) for flag in field.flags}
    return _FLAG.sub(lambda match: names.get(match[0], match[0]), text)


def _signature(kind: type[Any], work: Callable[..., Any]) -> inspect.Signature:
    """Signature of a command's Python function."""
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
    """The function's docstring with an `Args` section made of the options' help."""
    summary, raises, rest = inspect.cleandoc(text).partition("\nRaises:")
    lines = [summary.rstrip(), "", "Args:"]
    lines += [
        f"    {field.name}: {_name_keywords(kind, field.option.help)}"
        for field in option_fields(kind)
        if not field.option.cli_only
    ]
    lines += ["", f"Raises:{rest}"] if raises else []
    return "\n".join(lines)
