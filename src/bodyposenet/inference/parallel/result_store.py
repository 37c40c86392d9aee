"""Store of the results of a long run, from which a later run can resume.

The folder contains `manifest.json` with what all results depend on, and the parts
`part-00000.jsonl` and so on. Each line of a part is an object with the `key` of an item and its
`result`. If a key occurs more than once, its last line is used.
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

_MAX_SECONDS = 30.0
_MAX_RESULTS = 1000
"""A part is written after this time or number of results, whichever is earlier."""

BEGIN_AGAIN = "Add --overwrite to start over, or choose another results folder (-r)."


class _Line(BaseModel):
    """Schema of a line of a part."""

    model_config = ConfigDict(strict=True)

    key: str
    result: dict[str, Any]


class StoredResult(BaseModel):
    """Base of the schemas of stored results, which are checked before they are reused."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def check(cls, stored: dict[str, Any]) -> Self:
        """Validate a stored result.

        Raises:
            BodyPoseNetError: A value is missing or wrong.
        """
        try:
            return cls.model_validate(stored)
        except ValidationError as error:
            raise BodyPoseNetError(
                f"a stored result is damaged: {first_problem(error)}", BEGIN_AGAIN
            ) from error


class ResultStore:
    """Folder of stored results.

    Args:
        folder: Folder of the files, created if missing.
        manifest: What all results depend on, as JSON values.
        overwrite: Delete the results of earlier runs.

    Attributes:
        results: Results of earlier runs by key.

    Raises:
        BodyPoseNetError: The folder has results with another manifest, is damaged, or cannot be
            written.
    """

    def __init__(
        self, folder: Path, manifest: Mapping[str, Any], *, overwrite: bool = False
    ) -> None:
        self._folder = folder
        self._lines: list[str] = []
        self._written = time.monotonic()
        manifest_path = folder / "manifest.json"
        files = sorted(folder.glob("part-*.jsonl"))
        if overwrite:
            for file in (manifest_path, *files):
                file.unlink(missing_ok=True)
            files = []
        self.results = _read_parts(manifest_path, files, json.loads(json.dumps(manifest)))
        self._next = 1 + max((_number(file) for file in files), default=-1)
        write_json(manifest_path, manifest)

    def add(self, key: str, result: str) -> None:
        """Add a result. A part is written every 30 s or 1,000 results.

        Args:
            key: Key of the item.
            result: Result as the text of a JSON object.
        """
        self._lines.append(f'{{"key": {json.dumps(key)}, "result": {result}}}\n')
        is_due = time.monotonic() - self._written > _MAX_SECONDS
        if is_due or len(self._lines) >= _MAX_RESULTS:
            self.flush()

    def flush(self) -> None:
        """Write the results since the last part.

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
    """Return the size and the modification time (ns) of a file, or None if it does not exist."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # ValueError: not a valid file name
        return None
    return [status.st_size, status.st_mtime_ns]


def _read_parts(
    manifest_path: Path, files: list[Path], manifest: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Read the results of earlier runs with this manifest by key."""
    if not files:
        return {}
    former = read_json(manifest_path, BEGIN_AGAIN)
    if former != manifest:
        values = former if isinstance(former, dict) else {}
        differing = [key for key in manifest if values.get(key) != manifest[key]]
        raise BodyPoseNetError(
            f"{manifest_path.parent}: contains the results of a run with another "
            f"{', '.join(differing)}",
            BEGIN_AGAIN,
        )
    return {key: result for file in files for key, result in _read_lines(file)}


def _read_lines(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the keys and results in a part.

    Raises:
        BodyPoseNetError: The part cannot be read or is damaged.
    """
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise BodyPoseNetError(f"{file}: cannot be read: {error.strerror}", BEGIN_AGAIN) from error
    for number, line in enumerate(lines, start=1):
        try:
            entry = _Line.model_validate_json(line)
        except ValidationError as error:
            raise BodyPoseNetError(
                f"{file}:{number}: {first_problem(error)}", BEGIN_AGAIN
            ) from error
        yield entry.key, entry.result


def _number(file: Path) -> int:
    """Return the number in the file name of a part.

    Raises:
        BodyPoseNetError: The file name has no number.
    """
    digits = file.stem.removeprefix("part-")
    if not digits.isdecimal():
        raise BodyPoseNetError(
            f"{file}: not a part of stored results, its name has no number", "Remove that file."
        )
    return int(digits)
