"""Results of a long run in, files of them out, so that the next run need not begin again.

The folder holds `manifest.json`, what all results depend on, and `part-00000.jsonl` and so on, with
an object per line: `key`, what was worked on, and `result`. Of lines with one key the last counts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from bodyposenet.errors import BodyPoseNetError, first_problem
from bodyposenet.files import atomic_write, read_json, write_json

_SECONDS_OF_A_PART = 30.0
_RESULTS_OF_A_PART = 1000
BEGIN_AGAIN = "Add --overwrite to begin again, or choose another results folder (-r)."


class _Line(BaseModel):
    model_config = ConfigDict(strict=True)

    key: str
    result: dict[str, Any]


class StoredResult(BaseModel):
    """What a work keeps of one item; a later run checks it before it takes it over."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def check(cls, stored: dict[str, Any]) -> Self:
        """Check what was read from a part.

        Raises:
            BodyPoseNetError: A value is missing or wrong.
        """
        try:
            return cls.model_validate(stored)
        except ValidationError as error:
            raise BodyPoseNetError(
                f"a kept result is damaged: {first_problem(error)}", BEGIN_AGAIN
            ) from error


class ResultStore:
    """The results so far.

    Args:
        folder: Holds the files; it is made.
        manifest: What all results depend on: what JSON can hold.
        overwrite: Begin again, whatever there is.

    Attributes:
        found: Results of earlier runs by key.

    Raises:
        BodyPoseNetError: The folder holds results that depend on something else, or is broken, or
            cannot be written.
    """

    def __init__(
        self, folder: Path, manifest: Mapping[str, Any], *, overwrite: bool = False
    ) -> None:
        self._folder = folder
        self._lines: list[str] = []
        self._written = time.monotonic()
        place = folder / "manifest.json"
        files = sorted(folder.glob("part-*.jsonl"))
        if overwrite:
            for file in (place, *files):
                file.unlink(missing_ok=True)
            files = []
        self.found = _read_parts(place, files, json.loads(json.dumps(manifest)))
        self._next = 1 + max((_number(file) for file in files), default=-1)
        write_json(place, manifest)

    def add(self, key: str, result: str) -> None:
        """Take in a result; it is written with others, after half a minute at the latest.

        Args:
            key: What was worked on.
            result: A JSON object.
        """
        self._lines.append(f'{{"key": {json.dumps(key)}, "result": {result}}}\n')
        late = time.monotonic() - self._written > _SECONDS_OF_A_PART
        if late or len(self._lines) >= _RESULTS_OF_A_PART:
            self.flush()

    def flush(self) -> None:
        """Write what has come in since the last part.

        Raises:
            BodyPoseNetError: The folder cannot be written.
        """
        if self._lines:
            with atomic_write(self._folder / f"part-{self._next:05}.jsonl", durable=True) as file:
                file.write("".join(self._lines).encode())
            self._next += 1
            self._lines.clear()
        self._written = time.monotonic()


def file_fingerprint(path: Path) -> list[int] | None:
    """What another file of this name would differ in: bytes and time of the last change.

    None where there is no such file.
    """
    try:
        found = path.stat()
    except (OSError, ValueError):  # ValueError: what no file can be called
        return None
    return [found.st_size, found.st_mtime_ns]


def _read_parts(
    place: Path, files: list[Path], manifest: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """The results of earlier runs with this manifest, by key."""
    if not files:
        return {}
    former = read_json(place, BEGIN_AGAIN)
    if former != manifest:
        claims = former if isinstance(former, dict) else {}
        differing = [key for key in manifest if claims.get(key) != manifest[key]]
        raise BodyPoseNetError(
            f"{place.parent}: holds the results of a run with another {', '.join(differing)}",
            BEGIN_AGAIN,
        )
    return {key: result for file in files for key, result in _read_lines(file)}


def _read_lines(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise BodyPoseNetError(f"{file}: cannot be read: {error.strerror}", BEGIN_AGAIN) from error
    for number, line in enumerate(lines, start=1):
        try:
            found = _Line.model_validate_json(line)
        except ValidationError as error:
            raise BodyPoseNetError(
                f"{file}:{number}: {first_problem(error)}", BEGIN_AGAIN
            ) from error
        yield found.key, found.result


def _number(file: Path) -> int:
    """The number in the name of a part.

    Raises:
        BodyPoseNetError: There is none.
    """
    digits = file.stem.removeprefix("part-")
    if not digits.isdecimal():
        raise BodyPoseNetError(
            f"{file}: not a file of results: its name has no number", "Remove that file."
        )
    return int(digits)
