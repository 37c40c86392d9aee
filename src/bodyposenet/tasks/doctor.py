"""Tell what is installed, which engines and devices there are, and whether the decoder works.

Nothing optional is needed for it; only what keeps inference from working is an error.
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bodyposenet.console import StatusFile, say
from bodyposenet.errors import BodyPoseNetError

if TYPE_CHECKING:
    from bodyposenet.runtime.installation import FoundEngine, Package
    from bodyposenet.runtime.self_test import DecoderCheck


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `doctor`."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all of it there")


@dataclass(frozen=True)
class _Findings:
    """What is told; the fields of the JSON file."""

    system: dict[str, str]
    threads: dict[str, int]
    packages: list[Package]
    engines: list[FoundEngine]
    kernels: dict[str, float]
    decoder: list[DecoderCheck]


def run(arguments: argparse.Namespace) -> None:
    """Look, test, and tell.

    Raises:
        BodyPoseNetError: Inference does not work here, or a result cannot be written.
    """
    from bodyposenet.files import write_json

    status = StatusFile(arguments.results_dir) if arguments.results_dir else nullcontext()
    with status:
        findings = _examine()
        if arguments.json:
            write_json(arguments.json, asdict(findings))
        _judge(findings)


def _examine() -> _Findings:
    """Find out everything, and say each part as soon as it is known."""
    from bodyposenet.runtime import installation, self_test

    system = installation.describe_system()
    _say_table("system", system)
    packages = installation.list_packages()
    _say_table("packages", {package.name: _describe_package(package) for package in packages})
    engines = installation.find_engines()
    _say_table("engines", {e.name: e.problem or ", ".join(e.devices) for e in engines})
    threads = installation.count_threads()
    _say_table("threads", {name: str(count) for name, count in threads.items()})
    seconds, compiled = self_test.compile_kernels()
    origin = f"{compiled} functions were compiled" if compiled else "all of them were on disk"
    _say_table("decoder", {"kernels": f"ready after {seconds:.1f} s, {origin}"})
    checks = [self_test.check_decoder(mode) for mode in ("accurate", "tao")]
    _say_table("", {check.mode: _describe_check(check) for check in checks})
    kernels = {"seconds": seconds, "compiled": compiled}
    return _Findings(system, threads, packages, engines, kernels, checks)


def _say_table(title: str, rows: dict[str, str]) -> None:
    width = max(map(len, rows), default=0)
    lines = [f"  {name:<{width}}  {text}" for name, text in rows.items()]
    say("\n".join([*([title] if title else []), *lines]))


def _describe_package(package: Package) -> str:
    if package.version:
        return package.version
    extra = f"[{package.extra}]" if package.extra else ""
    return f"not installed: pip install 'bodyposenet{extra}'"


def _describe_check(check: DecoderCheck) -> str:
    result = "ok" if check.passed else "WRONG"
    return (
        f"{check.found} of {check.people} people, joints within {check.error:.1f} px, "
        f"{check.milliseconds:.1f} ms: {result}"
    )


def _judge(findings: _Findings) -> None:
    """Say that all is well.

    Raises:
        BodyPoseNetError: No engine runs, a package that all need is missing, or the decoder does
            not find people.
    """
    missing = [p.name for p in findings.packages if not p.extra and not p.version]
    wrong = [check.mode for check in findings.decoder if not check.passed]
    if missing:
        raise BodyPoseNetError(
            f"not installed: {', '.join(missing)}", "pip install --upgrade bodyposenet"
        )
    if not any(engine.devices for engine in findings.engines):
        raise BodyPoseNetError(
            "no engine runs, so no model does", "pip install --force-reinstall onnxruntime"
        )
    if wrong:
        raise BodyPoseNetError(
            f"the decoder does not find people in perfect maps (mode {', '.join(wrong)})",
            "pip install --force-reinstall numba numpy, and run it again.",
        )
    say("everything that inference needs is there")
