"""Number of CPU cores available to this process, by its affinity and by cgroup quotas.

A container or a cluster often limits a process to some cores, or to a quota of CPU time (`docker
--cpus`, limits of a Kubernetes pod). Most libraries ignore quotas: they start one thread per core
of the machine, use up the quota early in each period, and wait for the next one.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_ROOT = Path("/")
_CGROUPS = "sys/fs/cgroup"


def usable_cores(root: Path = _ROOT) -> int:
    """Count the CPU cores that this process may use, to choose a number of threads or processes.

    In contrast to `os.cpu_count`, the CPU affinity of the process and the CPU quotas of its cgroups
    (those of a container, for example) are taken into account.

    Args:
        root: Root of the file system, for tests.

    Returns:
        The number of cores, at least 1; a quota of one and a half cores counts as 2.
    """
    return quota_cores(root) or _available_cores()


def quota_cores(root: Path = _ROOT) -> int | None:
    """Count the cores that a quota allows this process to use.

    Args:
        root: Root of the file system, for tests.

    Returns:
        The number of cores, or None if there is no quota, or none below the available cores.
    """
    quota = min(map(_read_quota, _cgroup_folders(root)), default=math.inf)
    return math.ceil(quota) if quota <= _available_cores() - 1 else None


def limit_threads() -> None:
    """Limit the threads of libraries that are loaded later to the quota.

    Environment variables that are set already are not changed.
    """
    cores = quota_cores()
    if cores is not None:
        os.environ.setdefault("OMP_NUM_THREADS", str(cores))  # PyTorch
        os.environ.setdefault("OPENCV_FOR_THREADS_NUM", str(cores))


def _available_cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # on Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cgroup_folders(root: Path) -> Iterator[Path]:
    """Yield the folders of this process's control groups, each followed by its parents.

    In a container, the paths may be those of the host; only the container's own group is visible,
    at the root.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not on Linux
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            mounts = [_CGROUPS, f"{_CGROUPS}/unified"]  # version 2, alone or beside version 1
        elif "cpu" in controllers.split(","):
            mounts = [f"{_CGROUPS}/{controllers}", f"{_CGROUPS}/cpu"]
        else:
            continue
        group = PurePosixPath(path.lstrip("/"))
        for mount in mounts:
            for folder in (group, *group.parents):
                yield root / mount / folder


def _read_quota(folder: Path) -> float:
    """Return the quota of a control group in cores; infinity if it has none."""
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            text = " ".join((folder / name).read_text() for name in names)
            quota, period = map(int, text.split())
        except (OSError, ValueError):  # no such file; "max", without a quota
            continue
        if quota > 0 and period > 0:
            return quota / period
    return math.inf
