"""Results folder of a run: locked while the run lasts, with TAO's status.json in it."""

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
    """TAO's `status.json`: one JSON object per line, appended as the run goes.

    See the TAO reference, section 1.1.

    As a context manager it writes that the run started, and whether it succeeded.

    Args:
        results_dir: Folder that receives the file; it is made.

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
        if isinstance(error, Stopped):  # neither: it is to go on
            self.write("RUNNING", str(error))
            return
        with suppress(BodyPoseNetError):  # what is on its way out says more than a full disk here
            interrupted = isinstance(error, KeyboardInterrupt)
            message = "interrupted" if interrupted else str(error) or type(error).__name__
            self.write("FAILURE", message, verbosity="ERROR")

    def lines(self) -> list[dict[str, Any]]:
        """What was written so far, by earlier runs too; broken lines are left out."""
        found: list[dict[str, Any]] = []
        text = self._path.read_text(errors="replace") if self._path.exists() else ""
        for line in text.splitlines():
            with suppress(json.JSONDecodeError):
                found.append(json.loads(line))
        return found

    def write(
        self, status: str, message: str = "", *, verbosity: str = "INFO", **data: Any
    ) -> None:
        """Append one line.

        Args:
            status: STARTED, RUNNING, SUCCESS, FAILURE or SKIPPED.
            message: What happened, for people.
            verbosity: The log level of the message.
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
            with open(self._path, "a") as file:
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
    """Keep a folder to this run, whose status.json tells of success if the folder stayed in place.

    Args:
        folder: The folder; it must exist.
        prefix: As of `directory_lock`.
        status_folder: Where the status file is; None: in the folder.

    Yields:
        The status file.

    Raises:
        BodyPoseNetError: As `directory_lock`.
    """
    with (
        directory_lock(folder, prefix) as check_in_place,
        StatusFile(status_folder or folder) as status,
    ):
        yield status
        check_in_place()
