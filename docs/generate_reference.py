"""Generate `docs/reference.md`: `python docs/generate_reference.py`.

Names, types and defaults come from the code, descriptions from docstrings and from the options.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import generate_specs

import bodyposenet
from bodyposenet import cli
from bodyposenet.launcher import REFUSALS, LauncherOptions
from bodyposenet.options import OptionField, option_fields
from bodyposenet.specs.inference import InferenceSpec

TARGET = Path(__file__).with_name("reference.md")

HEADER = """\
# Reference

Everything that `import bodyposenet` offers, and every flag of the command line. This page is
generated: `python docs/generate_reference.py`. Examples are in [api.md](api.md).
"""

COMMANDS = """\
## Commands

A command is a sub-task of `bpnet` and a function of the package. The function takes the options as
keyword arguments and returns a result; where the command line exits with 2, it raises
`BodyPoseNetError`. With `progress=True` it shows progress bars.
"""

MADE_BY = {"PoseEstimator": "load"}
"""Class -> function that makes its objects; its constructor is not public."""

LONGEST_DEFAULT = 40
"""Characters of a default that a table shows."""

Row = tuple[str, ...]


def page() -> str:
    """Return the whole page."""
    functions = {task.function: name for name, task in cli.TASKS.items()}
    public = {name: getattr(bodyposenet, name) for name in bodyposenet.__all__}
    parts = [HEADER, contents(public)]
    for name, value in public.items():
        if inspect.isclass(value):
            parts.append(class_section(name, value))
        elif callable(value) and name not in functions:
            parts.append(function_section(name, value))
    parts.append(COMMANDS)
    parts += [command_section(name, name_of in public) for name_of, name in functions.items()]
    parts.append(launcher_section())
    return "\n".join(f"{part.rstrip()}\n" for part in parts)


def contents(public: dict[str, Any]) -> str:
    """Return a table of the public names."""
    rows = [
        (f"`{name}`", "version of the package" if isinstance(value, str) else summary(value))
        for name, value in public.items()
    ]
    return table(("name", ""), rows)


def class_section(name: str, cls: type[Any]) -> str:
    """Return the section of a class: how it is made, and its public members."""
    parts = [f"## `{name}`", summary(cls)]
    if name not in MADE_BY:
        rows = argument_rows(parameters_of(cls), documented(cls))
        parts.append(table(("argument", "type", "default", "meaning"), rows))
    if members := list(member_rows(cls)):
        parts.append(table(("member", "meaning"), members))
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def member_rows(cls: type[Any]) -> Iterator[Row]:
    """Yield the public methods and properties that a class defines."""
    for name, member in vars(cls).items():
        if name.startswith("_") and name != "__call__":
            continue
        if isinstance(member, property):
            shown, meaning = name, summary(member.fget)
        elif isinstance(member, classmethod | staticmethod) or inspect.isfunction(member):
            shown = f"{name.strip('_')}({signature_of(member)})"
            meaning = summary(getattr(cls, name))
        else:
            continue
        if not meaning.startswith("Deprecated"):
            yield f"`{shown}`", meaning


def signature_of(member: Any) -> str:
    """Return the names of a method's arguments, optional ones with their default."""
    function = getattr(member, "__func__", member)
    shown = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in ("self", "cls") or parameter.kind is parameter.VAR_KEYWORD:
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in shown:
            shown.append("*")
        optional = parameter.default is not parameter.empty
        default = f"={plain(parameter.default)}" if optional else ""
        star = "*" if parameter.kind is parameter.VAR_POSITIONAL else ""
        shown.append(f"{star}{parameter.name}{default}")
    return ", ".join(shown)


def function_section(name: str, function: Callable[..., Any]) -> str:
    """Return the section of a function that is not a command."""
    rows = argument_rows(parameters_of(function), documented(function))
    return "\n\n".join(
        [
            f"## `{name}`",
            summary(function),
            table(("argument", "type", "default", "meaning"), rows),
        ]
    )


def command_section(name: str, is_public: bool) -> str:
    """Return the section of a sub-task: its options and its result.

    Args:
        name: Name of the sub-task.
        is_public: Whether the package exports its function.
    """
    command = cli.find_command(name)
    function = cli.TASKS[name].function
    title = f"`bpnet {name}`" + (f", `bodyposenet.{function}`" if is_public else "")
    parts = [f"### {title}\n\n{summary(command)}"]
    groups: dict[str, list[OptionField]] = {}
    for field in option_fields(command.options):
        groups.setdefault(field.option.group, []).append(field)
    head = ("option", "flags", "type", "default", "meaning")
    for group, fields in groups.items():
        rows = [option_row(command.options, field) for field in fields]
        title = f"{group[:1].upper()}{group[1:]}:\n\n" if group else ""
        parts.append(title + table(head, rows))
    result = typing.get_type_hints(command)["return"] if is_public else None
    if result is not None:
        rows = [(f"`{each}`", text) for each, text in documented(result).items()]
        parts.append(f"Result (`{result.__name__}`):\n\n" + table(("attribute", "meaning"), rows))
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def launcher_section() -> str:
    """Return the section of the flags that every sub-task takes."""
    rows = [
        option_row(LauncherOptions, field)
        for field in option_fields(LauncherOptions)
        if not field.option.hidden and field.name not in REFUSALS
    ]
    text = (
        "### Flags of every sub-task\n\nOf the command line only. TAO's launcher also takes "
        + ", ".join(f"`--{name}`" for name in REFUSALS)
        + ", which a sub-task that cannot follow them refuses."
    )
    return text + "\n\n" + table(("option", "flags", "type", "default", "meaning"), rows)


def option_row(kind: type[Any], field: OptionField) -> Row:
    """Return the row of an option."""
    option = field.option
    flags = ", ".join(f"`{flag}`" for flag in field.flags)
    if field.type is bool and field.default:
        flags += f", `--no-{field.name}`"
    meaning = option.help if option.needs is None else f"{option.help} Needs {option.needs.words}."
    if option.cli_only:
        meaning += " Command line only."
    metadata = typing.get_args(typing.get_type_hints(kind, include_extras=True)[field.name])[1:]
    return (
        f"`{field.name}`",
        "" if option.hidden else flags,
        " ".join([type_of(field.hint), *generate_specs.bounds_in_words(metadata)]),
        "required" if field.is_required else f"`{plain(field.default)}`",
        meaning,
    )


def argument_rows(
    parameters: Iterable[inspect.Parameter], meanings: dict[str, str]
) -> Iterator[Row]:
    """Yield the rows of a function's arguments."""
    for parameter in parameters:
        if parameter.kind is parameter.VAR_KEYWORD:
            yield from keyword_rows(parameter.annotation)
            continue
        required = parameter.default is parameter.empty
        yield (
            f"`{parameter.name}`",
            type_of(parameter.annotation),
            "required" if required else f"`{plain(parameter.default)}`",
            meanings.get(parameter.name, ""),
        )


def keyword_rows(annotation: Any) -> Iterator[Row]:
    """Yield the rows of keyword arguments that are keys of the inference spec."""
    (keywords,) = typing.get_args(annotation)
    meanings = generate_specs.field_docstrings(InferenceSpec)
    for name, hint in typing.get_type_hints(keywords).items():
        field = InferenceSpec.model_fields.get(name)
        default = "" if field is None else plain(field.get_default(call_default_factory=True))
        yield f"`{name}`", type_of(hint), f"`{default}`", in_cell(meanings.get(name, ""))


def parameters_of(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return the parameters of a function or a class, with their types."""
    target = function.__init__ if inspect.isclass(function) else function
    parameters = inspect.signature(function).parameters.values()
    try:
        hints = typing.get_type_hints(target, include_extras=True)
    except NameError:  # of a type that is imported for type checkers only
        return list(parameters)
    return [each.replace(annotation=hints.get(each.name, Any)) for each in parameters]


def summary(documented_object: Any) -> str:
    """Return the first sentence of a docstring."""
    text = inspect.cleandoc(documented_object.__doc__ or "").split("\n\n")[0]
    return in_cell(re.split(r"(?<=\.)\s", " ".join(text.split()))[0])


def documented(documented_object: Any) -> dict[str, str]:
    """Return the `Args` of a docstring: name -> meaning."""
    text = inspect.cleandoc(documented_object.__doc__ or "")
    section = re.search(r"(?ms)^Args:\n(.*?)(?=^\S|\Z)", text)
    entries = re.findall(
        r"(?ms)^ {4}\*{0,2}(\w+): (.*?)(?=^ {4}\S|\Z)", section[1] if section else ""
    )
    return {name: in_cell(" ".join(meaning.split())) for name, meaning in entries}


def type_of(hint: Any) -> str:
    """Return a type as one reads it: `int`, `"a"` or `"b"`, path, None."""
    if isinstance(hint, str):
        return hint.replace(" | ", " or ")
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return " ".join([type_of(arguments[0]), *generate_specs.bounds_in_words(arguments[1:])])
    if origin in (Union, types.UnionType):
        words = [type_of(each) for each in arguments]
        if "str" in words and "path" in words:  # whatever names a file
            words.remove("str")
        return " or ".join(dict.fromkeys(words))
    if origin is Literal:
        return ", ".join(f'`"{value}"`' for value in arguments)
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return f"several {type_of(arguments[0])}"
        return "(" + ", ".join(type_of(each) for each in arguments) + ")"
    if hint is types.NoneType:
        return "None"
    name = getattr(origin or hint, "__name__", str(hint))
    return "path" if name in ("Path", "PathLike") else name


def plain(value: Any) -> str:
    """Return a default as Python writes it, without the name of its class."""
    if isinstance(value, bool | int | float | str | tuple | None):
        shown = repr(value)
        return shown if len(shown) <= LONGEST_DEFAULT else "..."
    return "..."  # made anew for every call


def in_cell(text: str) -> str:
    """Escape what would end a cell."""
    return text.replace("|", "\\|")


def table(head: Row, rows: Iterable[Row]) -> str:
    """Return a table in Markdown."""
    lines = [f"| {' | '.join(row)} |" for row in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]]) + "\n"


if __name__ == "__main__":
    TARGET.write_text(page(), encoding="utf-8")
