"""Description of the installation: packages, engines and their devices, processor, threads."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from bodyposenet import __version__
from bodyposenet.cpu import quota_cores, usable_cores
from bodyposenet.telemetry import without_telemetry

_EXTRAS = ("", "eval", "train", "export", "openvino", "tensorrt", "ray")
"""Extras that bring packages of their own; `""` is what every installation has."""

_REQUIREMENT = re.compile(r"([\w.-]+)[^;]*(?:;.*extra == ['\"](\w+)['\"])?")


@dataclass(frozen=True)
class Package:
    """A package that we use.

    Args:
        name: As pip knows it.
        version: The one that is installed; None: it is not.
        extra: The extra that brings it; empty: every installation has it.
    """

    name: str
    version: str | None
    extra: str


@dataclass(frozen=True)
class FoundEngine:
    """An engine, and what it can run on.

    Args:
        name: As `--engine` takes it.
        devices: What it can run on; empty if it does not run.
        problem: Why it does not run, or not on the GPU that it was built for; else empty.
    """

    name: str
    devices: tuple[str, ...]
    problem: str = ""

    def describe(self) -> str:
        """Its devices and problem in one line."""
        return "; ".join(filter(None, (", ".join(self.devices), self.problem)))


def list_packages() -> list[Package]:
    """The packages that we use, those of every installation first; none if we are not installed."""
    try:
        requirements = requires("bodyposenet") or []
    except PackageNotFoundError:  # run from its source
        return []
    found: dict[str, str] = {}
    for extra in _EXTRAS:
        for requirement in requirements:
            name, its_extra = _REQUIREMENT.match(requirement).groups(default="")  # type: ignore[union-attr]
            if its_extra == extra:
                found.setdefault(name, extra)
    return [Package(name, _version(name), extra) for name, extra in found.items()]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def find_engines() -> list[FoundEngine]:
    """Load the runtime of every engine and ask it for its devices."""
    return [
        _find("onnx", "", _find_onnx),
        _find("openvino", "openvino", _find_openvino),
        _find("pytorch", "train", _find_pytorch),
        _find("tensorrt", "tensorrt", _find_tensorrt),
    ]


def _find(name: str, extra: str, find: Callable[[], FoundEngine]) -> FoundEngine:
    ours = f"bodyposenet[{extra}]" if extra else "bodyposenet"
    try:
        return find()
    except ModuleNotFoundError as error:
        return FoundEngine(name, (), f"{error.name} is not installed: pip install '{ours}'")
    except Exception as error:  # a broken installation may fail in any way
        return FoundEngine(name, (), f"cannot be loaded: {error}")


def _find_onnx() -> FoundEngine:
    import onnxruntime

    from bodyposenet.runtime.engines import onnx

    problem = ""
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        reason = onnx.cuda_problem()
        problem = f"not on a GPU, although this build is for GPUs: {reason}" if reason else ""
    return FoundEngine("onnx", tuple(onnx.available_devices()), problem)


def _find_openvino() -> FoundEngine:
    with without_telemetry():
        import openvino

    return FoundEngine("openvino", tuple(openvino.Core().available_devices))


def _find_pytorch() -> FoundEngine:
    import torch

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return FoundEngine("pytorch", (*gpus, *mps, "cpu"))


def _find_tensorrt() -> FoundEngine:
    from bodyposenet.runtime.engines import tensorrt

    return FoundEngine("tensorrt", (tensorrt.find_device(),))


def describe_system() -> dict[str, str]:
    """Versions of ours and of Python, the system, the processor."""
    return {
        "bodyposenet": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
    }


def _processor() -> str:
    """The processor's name; the architecture where the system does not tell it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def count_threads() -> dict[str, int]:
    """Cores, those that this process may use, and the threads of each library that is loaded."""
    import cv2

    quota = quota_cores()
    threads = {
        "cores": os.cpu_count() or 1,
        "allowed": usable_cores(),
        **({} if quota is None else {"quota": quota}),
        "opencv": cv2.getNumThreads(),
    }
    if torch := sys.modules.get("torch"):
        threads["torch"] = torch.get_num_threads()
    return threads
