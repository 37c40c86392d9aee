"""Common parts of all benchmarks: flags, alternating timing, memory measurement, reports.

A benchmark is a function from its flags to figures; `run` parses the flags and reports the figures.
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

from bodyposenet.commands.diagnostics import describe_system
from bodyposenet.files import write_json

Figures = Mapping[str, float]

ARCHITECTURES = {"vgg": "vgg", "mobilenet": "lightweight_openpose"}
"""Name in the figures -> architecture; before 2026-11-28 `mobilenet` was another network."""


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Create a parser with the flags of every benchmark.

    Args:
        name: Name of the benchmark's module.
        description: Text of --help.
    """
    flags = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    flags.add_argument(
        "--quick", action="store_true", help="a quick run: less than a minute on two cores"
    )
    flags.add_argument(
        "--json", type=Path, metavar="FILE", help="also write the figures to this file"
    )
    return flags


def add_dataset_flags(flags: argparse.ArgumentParser) -> None:
    """Add the flags of benchmarks that run a network on the test images of a dataset."""
    flags.add_argument(
        "--dataset_spec",
        type=Path,
        metavar="FILE",
        help="evaluate on the test images of this dataset",
    )
    flags.add_argument("--limit", type=int, metavar="N", help="only the first N test images")
    flags.add_argument(
        "--threads", type=int, metavar="N", help="threads of the network; default: all cores"
    )


def run(
    name: str,
    flags: argparse.ArgumentParser,
    measure: Callable[[argparse.Namespace], Figures],
    argv: list[str] | None = None,
) -> Figures:
    """Run a benchmark, print its figures as a table, and write them as JSON with `--json`.

    Args:
        name: Name of the benchmark.
        flags: From `parser`.
        measure: Function from the flags to the figures. RESULTS.md refers to their keys.
        argv: Arguments; default: those of the process.

    Returns:
        The figures.
    """
    arguments = flags.parse_args(argv)
    figures = measure(arguments)
    report(name, figures, arguments.json)
    return figures


def report(name: str, figures: Figures, json_path: Path | None = None) -> None:
    """Print figures as a table, and write them as JSON if a path is given."""
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
    """Describe this machine in one line: processor, cores, memory, system, Python, GPU."""
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
    """Name the GPU, if the benchmark has imported PyTorch and a GPU is available."""
    torch = sys.modules.get("torch")
    return [torch.cuda.get_device_name()] if torch and torch.cuda.is_available() else []


def _memory() -> list[str]:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on Windows
        return []
    return [f"{size / 2**30:.0f} GB"]


def time_alternately(cases: Mapping[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """Time functions alternately, so that other load on the machine affects all of them.

    Args:
        cases: Name -> function. Each is called once before it is timed.
        turns: Number of timed calls of each function.

    Returns:
        Name -> median seconds of a call.
    """
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for function in cases.values():
        function()
    for _ in range(turns):
        for name, function in cases.items():
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    return {name: median(taken) for name, taken in seconds.items()}


def run_measuring_memory(command: Sequence[str]) -> tuple[float, float | None]:
    """Run a command, and measure the memory of the process and its children.

    Returns:
        The duration in seconds, and the peak of the resident memory in MB, sampled ten times per
        second; None on systems without /proc.

    Raises:
        subprocess.CalledProcessError: The command failed.
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
    """Return the resident MB of a process and its descendants; shared pages count repeatedly."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # the process has just ended, or there is no /proc
        return 0.0
    own = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    return own + sum(resident_mb(int(child)) for child in children)
