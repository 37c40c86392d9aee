"""Results folder of a run: its lock, and TAO's status.json."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from bodyposenet.directory_lock import directory_lock
from bodyposenet.errors import BodyPoseNetError, Stopped
from bodyposenet.files import make_directory


class StatusFile:
    """TAO's `status.json`: one JSON object per line, appended during the run.

    See the TAO reference, section 1.1. As a context manager, it writes the start of the run, and
    its success or failure.

    Args:
        results_dir: Folder of the file; created if missing.

    Raises:
        BodyPoseNetError: The folder cannot be written.
    """

    def __init__(self, results_dir: str | Path) -> None:
        self._path = make_directory(results_dir) / "status.json"

    def __enter__(self) -> StatusFile:
        self.write("STARTED", "the run begins")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> None:
        if error is None:
            self.write("SUCCESS", "the run is complete")
            return
        if isinstance(error, Stopped):  # neither success nor failure: the run can be resumed
            self.write("RUNNING", str(error))
            return
        with suppress(BodyPoseNetError):  # the original error is more important
            interrupted = isinstance(error, KeyboardInterrupt)
            message = "interrupted" if interrupted else str(error) or type(error).__name__
            self.write("FAILURE", message, verbosity="ERROR")

    def lines(self) -> list[dict[str, Any]]:
        """Return all lines, including those of earlier runs; invalid lines are skipped."""
        lines: list[dict[str, Any]] = []
        text = self._path.read_text("utf-8", errors="replace") if self._path.exists() else ""
        for line in text.splitlines():
            with suppress(json.JSONDecodeError):
                lines.append(json.loads(line))
        return lines

    def write(
        self, status: str, message: str = "", *, verbosity: str = "INFO", **data: Any
    ) -> None:
        """Append one line.

        Args:
            status: STARTED, RUNNING, SUCCESS, FAILURE or SKIPPED.
            message: Description of the event.
            verbosity: Log level of the message.
            **data: Further fields, for example `kpi={"AP": 0.5}` or `graphical={"loss": 1.0}`.

        Raises:
            BodyPoseNetError: The file cannot be written.
        """
        now = datetime.now()
        line: dict[str, Any] = {
            "date": f"{now.month}/{now.day}/{now.year}",
            "time": f"{now.hour}:{now.minute}:{now.second}",
            "status": status,
            "verbosity": verbosity,
        }
        if message:
            line["message"] = message
        try:
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(json.dumps(line | data) + "\n")
        except OSError as error:
            raise BodyPoseNetError(
                f"{self._path}: cannot be written: {error.strerror}",
                "Free some space or choose another results folder (-r).",
            ) from error


@contextmanager
def results_folder(
    folder: Path, prefix: str = "", status_folder: str | Path | None = None
) -> Generator[StatusFile]:
    """Lock a results folder and write its status.json (context manager).

    Args:
        folder: The folder; it must exist.
        prefix: See `directory_lock`.
        status_folder: Folder of status.json, or None for the locked folder.

    Yields:
        The status file.

    Raises:
        BodyPoseNetError: See `directory_lock`.
    """
    with (
        directory_lock(folder, prefix) as check_in_place,
        StatusFile(status_folder or folder) as status,
    ):
        yield status
        check_in_place()
