"""The words of a command line in, flags and values out; mistakes are told as all others are."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import NoReturn

from bodyposenet.errors import BodyPoseNetError, closest


class Parser(argparse.ArgumentParser):
    """argparse whose errors say what is wrong and what to do, without the usage before it."""

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """Parse; a flag that is mistyped is told before one that is therefore missing.

        Args:
            argv: The words; also kept, as `argv`.

        Raises:
            BodyPoseNetError: A flag is unknown or missing, or its value is wrong.
            SystemExit: --help was asked for.
        """
        self._check_flags(word for word in argv if word.startswith("--"))
        arguments, rest = self.parse_known_args(argv, argparse.Namespace(argv=tuple(argv)))
        self._check_flags(word for word in rest if word.startswith("-"))
        if rest:
            more = f", like {len(rest) - 1} more" if rest[1:] else ""
            raise BodyPoseNetError(
                f"{rest[0]}: belongs to no flag{more}",
                f"Give the folder in place of many files; see {self.prog} --help.",
            )
        return arguments

    def error(self, message: str) -> NoReturn:
        """Tell what argparse has found.

        Raises:
            BodyPoseNetError: Always.
        """
        raise BodyPoseNetError(message, f"See {self.prog} --help.")

    def _check_flags(self, words: Iterable[str]) -> None:
        known = self._option_string_actions  # argparse tells its flags nowhere else
        for flag in (word.partition("=")[0] for word in words):
            if flag not in known and flag != "--":
                close = closest(flag, known)
                hint = f"Did you mean {close[0]}? " if close else ""
                raise BodyPoseNetError(f"there is no flag {flag}", f"{hint}See {self.prog} --help.")
