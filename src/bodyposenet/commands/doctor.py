"""Check the installation: packages, engines, devices, the decoder and the default model.

Missing optional packages are reported, but only problems that prevent inference are errors.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

from bodyposenet.commands.options import CommandOptions, Option, StrPath, command, options_class
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.results_folder import StatusFile

if TYPE_CHECKING:
    from bodyposenet.commands.diagnostics import DecoderCheck, EngineCheck, EngineInfo, Package


@options_class
class DoctorOptions(CommandOptions):
    """Options of `doctor`."""

    json: Annotated[
        StrPath | None, Option(help="Also write the results to this JSON file.", metavar="FILE")
    ] = None
    results_dir: Annotated[
        StrPath | None,
        Option("-r", help="Folder of status.json. Default: none is written.", metavar="DIR"),
    ] = None


@dataclass(frozen=True)
class DoctorResult:
    """Results of the checks; the fields of the JSON file.

    Args:
        system: Versions, operating system and processor.
        threads: CPU cores, and the number of threads of each library.
        packages: Required and optional packages.
        engines: Engines, and the devices that they support here.
        kernels: Seconds until the decoder was ready, and how many functions were compiled.
        decoder: Check of each decoder mode.
        inference: Check of each engine with the default model on a synthetic image.
    """

    system: dict[str, str]
    threads: dict[str, int]
    packages: list[Package]
    engines: list[EngineInfo]
    kernels: dict[str, float]
    decoder: list[DecoderCheck]
    inference: list[EngineCheck]

    def summary(self) -> str:
        """Return all results as tables."""
        seconds, compiled = self.kernels["seconds"], self.kernels["compiled"]
        how = f"{compiled} functions compiled" if compiled else "all from the cache on disk"
        kernels = {"kernels": f"ready after {seconds:.1f} s, {how}"}
        lines = [
            *_table("system", self.system),
            *_table("packages", {p.name: _describe_package(p) for p in self.packages}),
            *_table("engines", {e.name: e.describe() for e in self.engines}),
            *_table("threads", {name: str(count) for name, count in self.threads.items()}),
            *_table("decoder", kernels | {c.mode: _describe_check(c) for c in self.decoder}),
            *_table("default model", {c.engine: _describe_engine(c) for c in self.inference}),
        ]
        if self.error is None:
            lines.append("no problems found: inference works")
        return "\n".join(lines)

    @property
    def error(self) -> BodyPoseNetError | None:
        """The problem that prevents inference, or None."""
        missing = [p.name for p in self.packages if not p.extra and not p.version]
        wrong = [check.mode for check in self.decoder if not check.passed]
        if missing:
            return BodyPoseNetError(
                f"not installed: {', '.join(missing)}", "pip install --upgrade bodyposenet"
            )
        if not any(engine.devices for engine in self.engines):
            return BodyPoseNetError(
                "no engine works, so no model can be run",
                "pip install --force-reinstall onnxruntime",
            )
        if wrong:
            return BodyPoseNetError(
                f"the decoder does not detect people in ideal maps (mode {', '.join(wrong)})",
                "pip install --force-reinstall numba numpy, then run bpnet doctor again.",
            )
        failed = [check.engine for check in self.inference if not check.passed]
        if failed:
            return BodyPoseNetError(
                f"the default model returns wrong poses with {', '.join(failed)}",
                "Reinstall that runtime, or choose another one with --engine.",
            )
        return None


@command(DoctorOptions)
def doctor(options: DoctorOptions) -> DoctorResult:
    """Check the installation.

    Raises:
        BodyPoseNetError: Inference does not work, or a result cannot be written.
    """
    from bodyposenet.commands import diagnostics
    from bodyposenet.files import write_json

    status = StatusFile(options.results_dir) if options.results_dir else nullcontext()
    with status:
        seconds, compiled = diagnostics.compile_kernels()
        engines = diagnostics.find_engines()
        result = DoctorResult(
            system=diagnostics.describe_system(),
            threads=diagnostics.count_threads(),
            packages=diagnostics.list_packages(),
            engines=engines,
            kernels={"seconds": seconds, "compiled": compiled},
            decoder=[diagnostics.check_decoder(mode) for mode in ("accurate", "tao")],
            inference=diagnostics.check_engines(engines),
        )
        if options.json:
            write_json(options.json, asdict(result))
    return result


def _table(title: str, rows: dict[str, str]) -> list[str]:
    width = max(map(len, rows), default=0)
    return [title, *(f"  {name:<{width}}  {text}" for name, text in rows.items())]


def _describe_package(package: Package) -> str:
    if package.version:
        return package.version
    extra = f"[{package.extra}]" if package.extra else ""
    return f"not installed: pip install 'bodyposenet{extra}'"


def _describe_engine(check: EngineCheck) -> str:
    if check.skipped:
        return f"not checked: {check.skipped}"
    if check.problem:
        return f"WRONG: {check.problem}"
    return (
        f"{check.found} of {check.people} people, OKS {check.similarity:.2f} with the first "
        f"engine, {check.milliseconds:.0f} ms: {'ok' if check.passed else 'WRONG'}"
    )


def _describe_check(check: DecoderCheck) -> str:
    result = "ok" if check.passed else "WRONG"
    return (
        f"{check.found} of {check.people} people, joints within {check.error:.1f} px, "
        f"{check.milliseconds:.1f} ms: {result}"
    )
