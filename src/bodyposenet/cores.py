"""How many cores this process may use: a container or a cluster gives it fewer than there are."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """At least 1."""
    if hasattr(os, "sched_getaffinity"):  # on Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
