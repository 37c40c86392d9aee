"""What all benchmarks share: their flags, turns of rivals, the machine's line, table and JSON.

A benchmark is a function from its flags to figures; `run` does the rest.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median

from bodyposenet.files import write_json
from bodyposenet.inference.diagnostics import describe_system

Figures = Mapping[str, float]

ARCHITECTURES = {"vgg": "vgg", "mobilenet": "lightweight_openpose"}
"""Name in the figures -> architecture; until 2026-11-28 `mobilenet` was a network of ours."""


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """The flags that every benchmark has; a benchmark adds its own.

    Args:
        name: Of the benchmark's module.
        description: What it measures.
    """
    flags = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    flags.add_argument("--quick", action="store_true", help="less than a minute on two cores")
    flags.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    return flags


def run(
    name: str,
    flags: argparse.ArgumentParser,
    measure: Callable[[argparse.Namespace], Figures],
    argv: list[str] | None = None,
) -> Figures:
    """Measure, show the figures as a table, and write them as JSON where `--json` asks for it.

    Args:
        name: Of the benchmark.
        flags: From `parser`.
        measure: Flags in, figures out; keys that RESULTS.md and later runs are compared by.
        argv: Arguments; those of the process by default.
    """
    arguments = flags.parse_args(argv)
    figures = measure(arguments)
    report(name, figures, arguments.json)
    return figures


def report(name: str, figures: Figures, json_path: Path | None = None) -> None:
    """Show figures as a table, and write them as JSON where a path is given."""
    width = max(map(len, figures), default=0)
    print(f"{name} on {machine()}")
    for key, value in figures.items():
        print(
            f"  {key:<{width}}  {value:,.4g}"
            if abs(value) < 1000
            else f"  {key:<{width}}  {value:,.0f}"
        )
    if json_path is not None:
        write_json(json_path, {"name": name, "figures": dict(figures), "machine": machine()})


def machine() -> str:
    """This machine in one line: processor, cores, memory, system, Python."""
    described = describe_system()
    return ", ".join(
        [
            described["processor"],
            f"{os.cpu_count()} cores",
            *_memory(),
            described["system"],
            f"Python {described['python']}",
            *_gpu(),
        ]
    )


def _gpu() -> list[str]:
    """The GPU, where a benchmark has loaded torch and there is one."""
    torch = sys.modules.get("torch")
    return [torch.cuda.get_device_name()] if torch and torch.cuda.is_available() else []


def _memory() -> list[str]:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on Windows
        return []
    return [f"{size / 2**30:.0f} GB"]


def take_turns(rivals: Mapping[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """Time functions in turn, so that whatever else the machine does falls on all of them.

    Args:
        rivals: Name -> function. Each runs once before it is timed.
        turns: How often each is timed.

    Returns:
        Name -> median seconds of a call.
    """
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    for function in rivals.values():
        function()
    for _ in range(turns):
        for name, function in rivals.items():
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    return {name: median(taken) for name, taken in seconds.items()}


def run_and_watch(command: Sequence[str]) -> tuple[float, float | None]:
    """Run a command, and watch how much memory it and its children hold together.

    Returns:
        Seconds that it took, and the most memory in MB, looked at ten times a second; None where
        the system has no /proc to tell it.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    peak = 0.0
    start = time.perf_counter()
    with subprocess.Popen(command) as process:
        while process.poll() is None:
            peak = max(peak, resident_mb(process.pid))
            time.sleep(0.1)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return seconds, peak or None


def resident_mb(pid: int) -> float:
    """Memory of a process and all below it; pages that they share count for each of them."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it has just ended, or there is no /proc
        return 0.0
    own = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    return own + sum(resident_mb(int(child)) for child in children)
