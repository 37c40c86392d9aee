"""Import OpenVINO without its telemetry."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_REPORTER = "openvino_telemetry"
_importing = threading.Lock()


@contextmanager
def without_telemetry() -> Iterator[None]:
    """Hide the package openvino_telemetry while OpenVINO is imported (context manager).

    On import, OpenVINO writes an id to the user's home folder and reports to Google Analytics,
    unless openvino_telemetry is missing. The only other way to turn this off is a file in the home
    folder, which a library must not write. Outside of the context, the package can be imported.
    """
    modules: dict[str, Any] = sys.modules
    with _importing:
        before = {name: modules[name] for name in [_REPORTER] if name in modules}
        modules[_REPORTER] = None
        try:
            yield
        finally:
            del modules[_REPORTER]
            modules.update(before)
