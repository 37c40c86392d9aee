"""The results folder of a run: locked, and with TAO's status.json."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bodyposenet.console import StatusFile
from bodyposenet.directory_lock import directory_lock


@contextmanager
def results_folder(
    folder: Path, prefix: str = "", status_folder: str | Path | None = None
) -> Iterator[StatusFile]:
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
