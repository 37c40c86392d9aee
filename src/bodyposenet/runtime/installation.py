"""What this installation consists of and can run on: packages, engines, processor, threads."""

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
    """What there is of an engine.

    Args:
        name: As `--engine` takes it.
        devices: What it can run on; none where it does not run.
        problem: Why it does not run; empty where it does.
    """

    name: str
    devices: tuple[str, ...]
    problem: str = ""


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
        _ask("onnx", "", _onnx_devices),
        _ask("openvino", "openvino", _openvino_devices),
        _ask("pytorch", "train", _pytorch_devices),
        _ask("tensorrt", "tensorrt", _tensorrt_devices),
    ]


def _ask(name: str, extra: str, devices: Callable[[], list[str]]) -> FoundEngine:
    ours = f"bodyposenet[{extra}]" if extra else "bodyposenet"
    try:
        return FoundEngine(name, tuple(devices()))
    except ModuleNotFoundError as error:
        return FoundEngine(name, (), f"{error.name} is not installed: pip install '{ours}'")
    except Exception as error:  # a broken installation may fail in any way
        return FoundEngine(name, (), f"cannot be loaded: {error}")


def _onnx_devices() -> list[str]:
    import onnxruntime

    names = [
        name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()
    ]
    return [name for name in names if name != "Azure"]  # that is no device here


def _openvino_devices() -> list[str]:
    with without_telemetry():
        import openvino

    return openvino.Core().available_devices


def _pytorch_devices() -> list[str]:
    import torch

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return [*gpus, *(["mps"] if torch.backends.mps.is_available() else []), "CPU"]


def _tensorrt_devices() -> list[str]:
    from bodyposenet.runtime.engines import tensorrt

    return [tensorrt.find_device()]


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
