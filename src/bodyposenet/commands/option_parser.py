"""Command-line parser that is built from the options class of a command."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from bodyposenet.commands.options import OptionField, option_fields
from bodyposenet.errors import BodyPoseNetError, closest

_NEGATIVE_NUMBER = re.compile(r"-(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?$")
"""Numbers with an exponent too, unlike argparse, which would treat them as flags."""


class OptionParser(argparse.ArgumentParser):
    """Parser of the flags of one command.

    Args:
        program: Name of the command, as in `bpnet train`.
        description: Text above the flags in `--help`.
        *kinds: Options classes whose fields become flags; the first of two fields with the same
            name is used.
        unlisted: Names of fields that `--help` omits.
    """

    def __init__(
        self, program: str, description: str, *kinds: type[Any], unlisted: Iterable[str] = ()
    ) -> None:
        super().__init__(
            prog=program, description=description, allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        self._negative_number_matcher = _NEGATIVE_NUMBER
        self._groups: dict[str, Any] = {}
        self.fields: dict[str, OptionField] = {}
        for kind in kinds:
            for field in option_fields(kind):
                if not field.option.hidden and field.name not in self.fields:
                    self.fields[field.name] = field
                    self._add(field, listed=field.name not in unlisted)

    def parse(self, argv: Sequence[str]) -> Mapping[str, Any]:
        """Parse arguments. A mistyped flag is reported before a missing one.

        Args:
            argv: Arguments of the command.

        Returns:
            Field name -> string, list of strings or bool, of the flags that are given.

        Raises:
            BodyPoseNetError: A flag is unknown or missing, or a value is not one of its choices.
            SystemExit: `--help` was given.
        """
        self._check_flags(word for word in argv if word.startswith("--"))
        values, rest = self.parse_known_args(argv)
        self._check_flags(word for word in rest if word.startswith("-"))
        if rest:
            more = f" (and {len(rest) - 1} more)" if rest[1:] else ""
            raise BodyPoseNetError(
                f"unexpected argument: {rest[0]}{more}",
                "All arguments are values of flags; for several images, give their folder. See "
                f"{self.prog} --help.",
            )
        return vars(values)

    def deprecations(self, argv: Iterable[str]) -> list[str]:
        """Return a message for each deprecated flag in arguments."""
        given = {word.partition("=")[0] for word in argv}
        return [
            f"{old} is deprecated: use {field.flag}"
            for field in self.fields.values()
            for old in field.option.deprecated
            if old in given
        ]

    def error(self, message: str) -> NoReturn:
        """Raise an error that argparse reports.

        Raises:
            BodyPoseNetError: Always.
        """
        raise BodyPoseNetError(message, f"See {self.prog} --help.")

    def _add(self, field: OptionField, *, listed: bool) -> None:
        option = field.option
        target: Any = self
        if option.group:
            if option.group not in self._groups:
                self._groups[option.group] = self.add_argument_group(option.group)
            target = self._groups[option.group]
        settings: dict[str, Any] = {
            "dest": field.name,
            "default": argparse.SUPPRESS,
            "help": _help(field) if listed else argparse.SUPPRESS,
        }
        if field.type is bool:
            settings["action"] = argparse.BooleanOptionalAction if field.default else "store_true"
        else:
            settings |= {"required": field.is_required, "metavar": option.metavar}
            if field.choices:
                settings["choices"] = field.choices
            if option.empty is not None:
                settings |= {"nargs": "?", "const": option.empty}
            elif option.nargs is not None:
                settings |= {"nargs": option.nargs, "action": "extend"}
        target.add_argument(*field.flags, **settings)
        if option.deprecated:
            target.add_argument(*option.deprecated, **settings | {"help": argparse.SUPPRESS})

    def _check_flags(self, words: Iterable[str]) -> None:
        known = self._option_string_actions  # argparse has no public list of its flags
        for flag in (word.partition("=")[0] for word in words):
            if flag not in known and flag != "--":
                close = closest(flag, known)
                hint = f"Did you mean {close[0]}? " if close else ""
                raise BodyPoseNetError(f"unknown flag: {flag}", f"{hint}See {self.prog} --help.")


def _help(field: OptionField) -> str:
    """Return the help text of an option, with its default and the condition of its use."""
    option, default = field.option, field.default
    text = option.help.replace("%", "%%")
    has_no_value = default is None or isinstance(default, bool) or default in ("", ())
    if not (field.is_required or has_no_value or "efault" in text):
        text += f" Default: {default}."
    if option.needs is not None and option.needs.in_help:
        text += f" Only with {option.needs.words}."
    return text
