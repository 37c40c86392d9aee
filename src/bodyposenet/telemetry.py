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
    """Import OpenVINO within this, the first time: it reports nothing.

    OpenVINO keeps an id in the user's home and reports to Google Analytics when it is imported,
    unless it finds the package openvino_telemetry missing. It can be told otherwise only by a file
    in the home, which is not ours to write. Outside, the package can be imported as ever.
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
