"""Generate `docs/commands.md` from the option dataclasses of the commands.

Run `python docs/generate_commands.py` after a change of an option or of a result.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import generate_specs

import bodyposenet
from bodyposenet import cli
from bodyposenet.commands.launcher import REFUSALS, LauncherOptions
from bodyposenet.commands.options import OptionField, option_fields

TARGET = Path(__file__).with_name("commands.md")

HEADER = """\
# Commands

Every command of `bpnet`, with its flags, and the Python function that runs the same command. The
function takes the options as keyword arguments, named like the long flags with underscores, and
returns a result object. Errors with which a command ends with exit code 2 are raised as
`BodyPoseNetError` in Python.

`tao model bpnet COMMAND` is the same as `bpnet COMMAND`. This page is generated:
`python docs/generate_commands.py`.
"""

OPTION_COLUMNS = ("flag", "type", "default", "description")

LONGEST_DEFAULT = 40
"""Maximum length of a default value in a table, in characters."""

Row = tuple[str, ...]


def page() -> str:
    """Return the page as Markdown."""
    sections = [command_section(name) for name in cli.TASKS]
    parts = [HEADER, *sections, launcher_section()]
    return "\n".join(f"{part.rstrip()}\n" for part in parts)


def command_section(name: str) -> str:
    """Return the section of one command: its options, then the attributes of its result."""
    command = cli.find_command(name)
    function = cli.TASKS[name].function
    is_public = function in bodyposenet.__all__
    parts = [f"## {name}", summary(command)]
    if is_public:
        parts.append(f"In Python: `bodyposenet.{function}(...)`.")
    groups: dict[str, list[OptionField]] = {}
    for field in option_fields(command.options):
        groups.setdefault(field.option.group, []).append(field)
    for group, fields in groups.items():
        rows = [option_row(command.options, field) for field in fields]
        title = f"{group[:1].upper()}{group[1:]}:\n\n" if group else ""
        parts.append(title + table(OPTION_COLUMNS, rows))
    result = typing.get_type_hints(command)["return"] if is_public else None
    if result is not None:
        rows = [(f"`{each}`", text) for each, text in documented(result).items()]
        title = f"Result in Python, `{result.__name__}`:\n\n"
        parts.append(title + table(("attribute", "description"), rows))
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def launcher_section() -> str:
    """Return the section of the flags that every command takes."""
    rows = [
        option_row(LauncherOptions, field)
        for field in option_fields(LauncherOptions)
        if not field.option.hidden and field.name not in REFUSALS
    ]
    refused = ", ".join(f"`--{name}`" for name in REFUSALS)
    parts = [
        "## Flags of every command",
        "These flags exist on the command line only.",
        table(OPTION_COLUMNS, rows),
        f"The flags {refused} of TAO's launcher are accepted by the commands that support them; "
        "the others refuse them with an error.",
    ]
    return "\n\n".join(part.rstrip() for part in parts)


def option_row(kind: type[Any], field: OptionField) -> Row:
    """Return the table row of one option.

    Args:
        kind: The option class that has the field.
        field: The field of the option.
    """
    option = field.option
    flags = ", ".join(f"`{flag}`" for flag in field.flags)
    if field.type is bool and field.default:
        flags += f", `--no-{field.name}`"
    description = option.help
    if option.needs is not None and option.needs.in_help:
        description += f" Needs {option.needs.words}."
    if option.cli_only:
        description += " Command line only."
    if option.deprecated:
        description += f" Deprecated name: {', '.join(f'`{flag}`' for flag in option.deprecated)}."
    constraints = typing.get_args(typing.get_type_hints(kind, include_extras=True)[field.name])[1:]
    return (
        f"`{field.name}` (Python only)" if option.hidden else flags,
        type_in_words(field.hint, constraints),
        "required" if field.is_required else f"`{default_in_words(field.default)}`",
        description,
    )


def summary(documented_object: Any) -> str:
    """Return the first sentence of a docstring."""
    text = inspect.cleandoc(documented_object.__doc__ or "").split("\n\n")[0]
    return in_cell(re.split(r"(?<=\.)\s", " ".join(text.split()))[0])


def documented(documented_object: Any) -> dict[str, str]:
    """Return the descriptions in the `Args` section of a docstring, by name."""
    text = inspect.cleandoc(documented_object.__doc__ or "")
    section = re.search(r"(?ms)^Args:\n(.*?)(?=^\S|\Z)", text)
    entries = re.findall(
        r"(?ms)^ {4}\*{0,2}(\w+): (.*?)(?=^ {4}\S|\Z)", section[1] if section else ""
    )
    return {name: in_cell(" ".join(meaning.split())) for name, meaning in entries}


def type_in_words(hint: Any, constraints: Iterable[Any] = ()) -> str:
    """Describe a type annotation: `int ≥ 1 or None`, `"a"` or `"b"`, `list of str`, `path`.

    Args:
        hint: The annotation.
        constraints: Bounds of the number in it, from `typing.Annotated`.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return type_in_words(arguments[0], [*constraints, *arguments[1:]])
    if origin in (Union, types.UnionType):
        words = [type_in_words(each, constraints) for each in arguments]
        if "str" in words and "path" in words:
            words.remove("str")
        return " or ".join(dict.fromkeys(words))
    if origin is Literal:
        return " or ".join(f'`"{value}"`' for value in arguments)
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return f"list of {type_in_words(arguments[0])}"
        return "(" + ", ".join(type_in_words(each) for each in arguments) + ")"
    if hint is types.NoneType:
        return "None"
    name = getattr(origin or hint, "__name__", str(hint))
    if name in ("Path", "PathLike"):
        return "path"
    bounds = generate_specs.bounds_in_words(constraints) if name in ("int", "float") else ""
    return f"{name} {bounds}".rstrip()


def default_in_words(value: Any) -> str:
    """Return a default value as Python writes it, or `...` if that is long."""
    if isinstance(value, bool | int | float | str | tuple | None):
        shown = repr(value)
        return shown if len(shown) <= LONGEST_DEFAULT else "..."
    return "..."


def in_cell(text: str) -> str:
    """Escape the characters that separate table cells."""
    return text.replace("|", "\\|")


def table(columns: Row, rows: Iterable[Row]) -> str:
    """Return a Markdown table with these column headings."""
    lines = [f"| {' | '.join(row)} |" for row in (columns, *rows)]
    return "\n".join([lines[0], "|---" * len(columns) + "|", *lines[1:]]) + "\n"


if __name__ == "__main__":
    TARGET.write_text(page(), encoding="utf-8")
