"""Description of the installation: packages, engines and their devices, processor, threads."""

from __future__ import annotations

import os
import platform
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from statistics import median
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bodyposenet import __version__
from bodyposenet.cpu import quota_cores, usable_cores
from bodyposenet.decoding import DecodingOptions, decode, warm_up
from bodyposenet.demo.pose import Arm, Leg, Pose, posed_body
from bodyposenet.demo.scene import draw_scene
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.inference.engines.base import PRECISIONS
from bodyposenet.inference.models import (
    DEFAULT_INFERENCE_SPEC,
    DEFAULT_MODEL_WEIGHTS,
    build_predictor,
    default_model,
)
from bodyposenet.inference.predictor import Predictor
from bodyposenet.oks import compare_poses, pose_areas
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.specs.pose import DEFAULT_POSE_CONFIGURATION, load_skeleton
from bodyposenet.telemetry import without_telemetry
from bodyposenet.types import Maps, Poses

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
class EngineInfo:
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


def find_engines() -> list[EngineInfo]:
    """Load the runtime of every engine and ask it for its devices."""
    return [
        _find("onnx", "", _find_onnx),
        _find("openvino", "openvino", _find_openvino),
        _find("pytorch", "train", _find_pytorch),
        _find("tensorrt", "tensorrt", _find_tensorrt),
    ]


def _find(name: str, extra: str, find: Callable[[], EngineInfo]) -> EngineInfo:
    ours = f"bodyposenet[{extra}]" if extra else "bodyposenet"
    try:
        return find()
    except ModuleNotFoundError as error:
        return EngineInfo(name, (), f"{error.name} is not installed: pip install '{ours}'")
    except Exception as error:  # a broken installation may fail in any way
        return EngineInfo(name, (), f"cannot be loaded: {error}")


def _find_onnx() -> EngineInfo:
    import onnxruntime

    from bodyposenet.inference.engines import onnx

    problem = ""
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        reason = onnx.cuda_problem()
        problem = f"not on a GPU, although this build is for GPUs: {reason}" if reason else ""
    return EngineInfo("onnx", tuple(onnx.available_devices()), problem)


def _find_openvino() -> EngineInfo:
    with without_telemetry():
        import openvino

    return EngineInfo("openvino", tuple(openvino.Core().available_devices))


def _find_pytorch() -> EngineInfo:
    import torch

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return EngineInfo("pytorch", (*gpus, *mps, "cpu"))


def _find_tensorrt() -> EngineInfo:
    from bodyposenet.inference.engines import tensorrt

    return EngineInfo("tensorrt", (tensorrt.find_device(),))


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


_HEIGHT, _WIDTH, _STRIDE = 320, 448, 8
_PEOPLE = 4
_SIGMA = 7.0
"""Of a joint's peak, in network pixels: that of the training's targets."""
_LARGEST_ERROR = 2.0
"""Network pixels, a quarter of a cell; the original's decoder rounds to whole ones."""
_TURNS = 5

_SEED = 3
"""Of a drawn image with two people whom the default model finds."""
_MIN_SCORE = 0.5
"""Of the people that are compared; engines round differently, which decides on the faintest."""
_MIN_OKS = 0.5
"""Between a drawn person and the pose of them: COCO's loosest threshold."""
_MIN_SIMILARITY = 0.9
"""OKS between the poses of two engines: the model differs too, in INT8 or float."""


@dataclass(frozen=True)
class DecoderCheck:
    """How one mode of the decoder did.

    Args:
        mode: Of the inference spec.
        people: In the maps.
        found: People whose joints were all found, near their places.
        error: Largest distance of a joint of these from its place, in network pixels.
        milliseconds: Median time of decoding.
    """

    mode: str
    people: int
    found: int
    error: float
    milliseconds: float

    @property
    def passed(self) -> bool:
        """Whether everybody was found."""
        return self.found == self.people


def compile_kernels() -> tuple[float, int]:
    """Make the decoder ready.

    Returns:
        Seconds that it took, and how many functions were compiled; the others lay on disk.

    Raises:
        BodyPoseNetError: What compiles them is missing or broken.
    """
    start = time.perf_counter()
    try:
        from numba.core import event

        with event.install_recorder("numba:compile") as recorder:
            warm_up("accurate")
            warm_up("tao")
    except ImportError as error:
        raise BodyPoseNetError(
            f"the decoder cannot be loaded: {error}", "pip install --force-reinstall numba"
        ) from error
    compiled = sum(entry.is_start for _, entry in recorder.buffer)
    return time.perf_counter() - start, compiled


def check_decoder(mode: Literal["accurate", "tao"]) -> DecoderCheck:
    """Decode the maps of some people and compare."""
    skeleton = load_skeleton(DEFAULT_POSE_CONFIGURATION)
    people = _posed_people(skeleton)
    maps = _perfect_maps(people, skeleton)
    options = DecodingOptions.from_spec(InferenceSpec(mode=mode))
    poses, seconds = _time(lambda: decode(maps, skeleton, options))
    distances = np.linalg.norm(poses.keypoints - people[:, None], axis=-1)
    errors = np.nan_to_num(distances, nan=np.inf).max(axis=-1).min(axis=1, initial=np.inf)
    found = errors[errors <= _LARGEST_ERROR]
    error = float(found.max(initial=0.0))
    return DecoderCheck(mode, len(people), len(found), error, 1000 * seconds)


@dataclass(frozen=True)
class EngineCheck:
    """How an engine did with the default model on a drawn image.

    Args:
        engine: Its name.
        people: People in the image.
        found: People whose poses lie near the drawn ones.
        similarity: Lowest OKS of a person's pose with that of the first engine that ran.
        milliseconds: Median time of an image.
        problem: Why it failed; empty if it did not.
        skipped: Why it was not checked; empty if it was.
    """

    engine: str
    people: int = 0
    found: int = 0
    similarity: float = 0.0
    milliseconds: float = 0.0
    problem: str = ""
    skipped: str = ""

    @property
    def passed(self) -> bool:
        """Whether its poses are right, or it was skipped."""
        right = self.found == self.people and self.similarity >= _MIN_SIMILARITY
        return bool(self.skipped) or (not self.problem and right)


def check_engines(engines: Sequence[EngineInfo]) -> list[EngineCheck]:
    """Run a drawn image through every engine that is installed, and compare the poses.

    Args:
        engines: From `installation.find_engines`.
    """
    checks: list[EngineCheck] = []
    reference: Poses | None = None
    for engine in engines:
        if not engine.devices:
            continue
        try:
            check, poses = _check_engine(engine.name, reference)
            reference = poses if reference is None else reference
        except ModuleNotFoundError as error:
            check = EngineCheck(engine.name, skipped=f"it takes {error.name} to open the model")
        except Exception as error:  # a broken installation may fail in any way
            check = EngineCheck(engine.name, problem=str(error))
        checks.append(check)
    return checks


def _check_engine(engine: str, reference: Poses | None) -> tuple[EngineCheck, Poses | None]:
    """Run a drawn image through an engine; the poses are its own reference if there is none."""
    if engine == "tensorrt":
        skipped = "it runs engine files only (bpnet export --engine_file)"
        return EngineCheck(engine, skipped=skipped), None
    predictor = _open_default_model(engine)
    joints = predictor.engine.skeleton.joints
    image, people = draw_scene(np.random.default_rng(_SEED), _HEIGHT, _WIDTH, joints)
    poses, seconds = _time(lambda: predictor(image))
    drawn = np.stack([person.keypoints for person in people])
    truth = np.where(drawn[..., 2:] > 0, drawn[..., :2], np.nan)
    found = int((_best_oks(truth, poses) >= _MIN_OKS).sum())
    reference = poses if reference is None else reference
    sure = reference[reference.scores >= _MIN_SCORE]
    similarity = float(_best_oks(sure.keypoints, poses).min(initial=1.0))
    return EngineCheck(engine, len(people), found, similarity, 1000 * seconds), reference


def _open_default_model(engine: str) -> Predictor:
    """The default model on an engine; PyTorch has to build its network from the float weights."""
    spec = InferenceSpec.load(DEFAULT_INFERENCE_SPEC)
    if engine != "pytorch":
        return build_predictor(spec, default_model(engine), "", engine, None, None)
    from bodyposenet.inference.engines.pytorch import PyTorchEngine, choose_device
    from bodyposenet.model.pretrained import build_pretrained

    network, _ = build_pretrained(DEFAULT_MODEL_WEIGHTS)
    return Predictor(PyTorchEngine(network, choose_device(), PRECISIONS[0]), spec)


def _best_oks(people: NDArray[np.floating], poses: Poses) -> NDArray[np.float64]:
    """(P,) the highest OKS of each of (P, K, 2) people with one of the poses; 0 without any."""
    points = np.asarray(people, np.float64)
    areas = np.broadcast_to(pose_areas(points)[:, None], (len(points), len(poses)))
    sigmas = np.asarray(poses.skeleton.sigmas)
    total, _ = compare_poses(points, poses.keypoints.astype(np.float64), areas, sigmas)
    # A joint that only the person has counts as missed.
    joints = (~np.isnan(points[..., 0])).sum(axis=1, keepdims=True)
    return (total / joints).max(axis=1, initial=0.0)


def _time(function: Callable[[], Poses]) -> tuple[Poses, float]:
    """What a function gives, and its median seconds; the first call is not counted."""
    result, seconds = function(), []
    for _ in range(_TURNS):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return result, median(seconds)


def _posed_people(skeleton: Skeleton) -> NDArray[np.float64]:
    """(P, K, 2) people side by side from left to right, each in another pose."""
    people = []
    for person in range(_PEOPLE):
        turn = 15.0 * (person - (_PEOPLE - 1) / 2)
        arms = {"left": Arm(lift=5 + 3 * person), "right": Arm(lift=14 - 3 * person)}
        pose = Pose(turn, 0.0, 0.0, (0.0, 0.0, 0.0), arms, {"left": Leg(), "right": Leg()})
        points = posed_body(pose, camera_tilt=0.0).points
        x = (person + 0.5) * _WIDTH / _PEOPLE
        places = np.array([points[joint][:2] for joint in skeleton.joints])
        people.append((x, 0.5 * _HEIGHT) + 0.75 * _HEIGHT * places * (1, -1))
    return np.stack(people)


def _perfect_maps(people: NDArray[np.float64], skeleton: Skeleton) -> Maps:
    """What a perfect network would answer (TAO reference, section 6), drawn without torch."""
    rows, columns = np.mgrid[: _HEIGHT // _STRIDE, : _WIDTH // _STRIDE] * _STRIDE
    cells = np.stack([columns, rows], axis=-1) + (_STRIDE - 1) / 2
    squares = ((cells - people[:, :, None, None]) ** 2).sum(axis=-1)
    heat = np.exp(-squares / (2 * _SIGMA**2)).max(axis=0)
    pafs = np.zeros((len(skeleton.limbs), 2, *cells.shape[:2]))
    for field, (start, end) in zip(pafs, skeleton.limbs, strict=True):
        for person in people:
            along = person[end] - person[start]
            length = np.linalg.norm(along)
            unit = along / length
            offsets = cells - person[start]
            ahead, aside = offsets @ unit, offsets @ np.array((-unit[1], unit[0]))
            field[:, (np.abs(aside) <= _STRIDE) & (ahead >= 0) & (ahead <= length)] = unit[:, None]
    heatmaps = np.concatenate([heat, 1 - heat.max(axis=0, keepdims=True)])
    return Maps(
        heatmaps.astype(np.float32),
        pafs.reshape(-1, *cells.shape[:2]).astype(np.float32),
        _STRIDE,
    )
