"""Description and self-test of the installation, for `bpnet doctor`.

Describes the system, packages, engines with their devices, and threads. The self-test runs the
decoder on synthetic maps, and the default model on a synthetic image with each engine.
"""
# Not strict, because this module inspects libraries without types.
# pyright: basic

from __future__ import annotations

import os
import platform
import re
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
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
from bodyposenet.specs.pose import DEFAULT_POSE_CONFIGURATION, bundled_skeleton
from bodyposenet.telemetry import without_telemetry
from bodyposenet.types import Maps, Poses

_EXTRAS = ("", "eval", "train", "web", "export", "hdf5", "openvino", "tensorrt", "gpu", "ray")
"""Extras with packages of their own; `""` for the packages of every installation."""

_GPU_BUILD = "onnxruntime-gpu"
"""Package of ONNX Runtime with CUDA."""

_ALTERNATIVES = {"onnxruntime": _GPU_BUILD}
"""Package -> another package that provides the same module."""

_REQUIREMENT = re.compile(r"([\w.-]+)[^;]*(?:;.*extra == ['\"](\w+)['\"])?")

_HEIGHT, _WIDTH, _STRIDE = 320, 448, 8
_PEOPLE = 4

_SIGMA = 7.0
"""Standard deviation of a joint's Gaussian, in network pixels, as in training."""

_LARGEST_ERROR = 2.0
"""Maximum error of a keypoint in network pixels: a quarter of a cell, as `mode: tao` rounds."""

_REPETITIONS = 5
"""Number of runs of which the median time is reported."""

_SEED = 3
"""Seed of a synthetic image with two people, whom the default model detects."""

_MIN_SCORE = 0.5
"""Minimum score of people that are compared between engines. Rounding can add or remove people with
lower scores."""

_MIN_OKS = 0.5
"""Minimum OKS of a detection with a person of the image: COCO's lowest threshold."""

_MIN_SIMILARITY = 0.9
"""Minimum OKS of detections by two engines, which may use INT8 and floating-point weights."""


def describe_system() -> dict[str, str]:
    """Return the versions of this package and Python, the system and the processor."""
    return {
        "bodyposenet": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
    }


def _processor() -> str:
    """Return the name of the processor, or its architecture if the name is unknown."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def count_threads() -> dict[str, int]:
    """Return the number of cores, of usable cores, and of threads of each loaded library."""
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


@dataclass(frozen=True)
class Package:
    """A dependency.

    Args:
        name: Name of the distribution.
        version: Installed version, or None if it is not installed.
        extra: Extra that requires it, or empty if every installation does.
    """

    name: str
    version: str | None
    extra: str


@dataclass(frozen=True)
class EngineInfo:
    """An engine and its devices.

    Args:
        name: Name of the engine, as for `--engine`.
        devices: Devices that it can use; empty if it cannot be loaded.
        problem: Reason why it cannot be loaded or cannot use a GPU that it was built for, or empty.
    """

    name: str
    devices: tuple[str, ...]
    problem: str = ""

    def describe(self) -> str:
        """Format devices and problem in one line."""
        return "; ".join(filter(None, (", ".join(self.devices), self.problem)))


def list_packages() -> list[Package]:
    """List the dependencies, those of every installation first.

    The list is empty if the package itself is not installed.
    """
    try:
        requirements = requires("bodyposenet") or []
    except PackageNotFoundError:  # run from the source tree
        return []
    extra_of: dict[str, str] = {}
    for extra in _EXTRAS:
        for requirement in requirements:
            name, its_extra = _REQUIREMENT.match(requirement).groups(default="")  # type: ignore[union-attr]
            if its_extra == extra:
                extra_of.setdefault(name, extra)
    return [Package(name, _version(name), extra) for name, extra in extra_of.items()]


def _version(package: str) -> str | None:
    """Return the installed version of a package, or None if it is not installed."""
    for name in (package, _ALTERNATIVES.get(package, package)):
        with suppress(PackageNotFoundError):
            return version(name)
    return None


def find_engines() -> list[EngineInfo]:
    """Load the runtime of each engine and list its devices."""
    return [
        _try_engine("onnx", "", _inspect_onnx),
        _try_engine("openvino", "openvino", _inspect_openvino),
        _try_engine("pytorch", "train", _inspect_pytorch),
        _try_engine("tensorrt", "tensorrt", _inspect_tensorrt),
    ]


def _try_engine(name: str, extra: str, inspect: Callable[[], EngineInfo]) -> EngineInfo:
    """Inspect an engine, and describe the reason if it cannot be loaded."""
    requirement = f"bodyposenet[{extra}]" if extra else "bodyposenet"
    try:
        return inspect()
    except ModuleNotFoundError as error:
        return EngineInfo(name, (), f"{error.name} is not installed: pip install '{requirement}'")
    except Exception as error:  # a broken installation may fail in any way
        return EngineInfo(name, (), f"cannot be loaded: {error}")


def _inspect_onnx() -> EngineInfo:
    """List the devices of ONNX Runtime."""
    import onnxruntime

    from bodyposenet.inference.engines import onnx

    problem = ""
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers() or _version(_GPU_BUILD):
        reason = onnx.cuda_problem()
        problem = f"cannot use a GPU: {reason}" if reason else ""
    return EngineInfo("onnx", tuple(onnx.available_devices()), problem)


def _inspect_openvino() -> EngineInfo:
    """List the devices of OpenVINO."""
    with without_telemetry():
        import openvino

    return EngineInfo("openvino", tuple(openvino.Core().available_devices))


def _inspect_pytorch() -> EngineInfo:
    """List the devices of PyTorch."""
    import torch

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return EngineInfo("pytorch", (*gpus, *mps, "cpu"))


def _inspect_tensorrt() -> EngineInfo:
    """Find the GPU of TensorRT."""
    from bodyposenet.inference.engines import tensorrt

    return EngineInfo("tensorrt", (tensorrt.device_name(),))


@dataclass(frozen=True)
class DecoderCheck:
    """Result of the self-test of a decoder.

    Args:
        mode: Mode of the decoder.
        people: Number of people in the maps.
        found: Number of people whose joints were all found near their true positions.
        error: Largest error of a joint of these people, in network pixels.
        milliseconds: Median time of decoding.
    """

    mode: str
    people: int
    found: int
    error: float
    milliseconds: float

    @property
    def passed(self) -> bool:
        """Whether all people were found."""
        return self.found == self.people


def compile_kernels() -> tuple[float, int]:
    """Compile the decoders, or load them from the cache.

    Returns:
        Seconds, and the number of functions that were compiled instead of loaded.

    Raises:
        BodyPoseNetError: numba is missing or damaged.
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
    """Decode synthetic maps of people and compare with their true positions."""
    skeleton = bundled_skeleton(DEFAULT_POSE_CONFIGURATION)
    people = _posed_people(skeleton)
    maps = _ideal_maps(people, skeleton)
    options = DecodingOptions.from_spec(InferenceSpec(mode=mode))
    poses, seconds = _time(lambda: decode(maps, skeleton, options))
    distances = np.linalg.norm(poses.keypoints - people[:, None], axis=-1)
    errors = np.nan_to_num(distances, nan=np.inf).max(axis=-1).min(axis=1, initial=np.inf)
    found = errors[errors <= _LARGEST_ERROR]
    error = float(found.max(initial=0.0))
    return DecoderCheck(mode, len(people), len(found), error, 1000 * seconds)


@dataclass(frozen=True)
class EngineCheck:
    """Result of the self-test of an engine: the default model on a synthetic image.

    Args:
        engine: Name of the engine.
        people: Number of people in the image.
        found: Number of detected people.
        similarity: Lowest OKS of a person's pose with that of the first engine.
        milliseconds: Median time of an image.
        problem: Reason of a failure, or empty.
        skipped: Reason why the engine was not tested, or empty.
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
        """Whether the poses are correct or the engine was skipped."""
        is_correct = self.found == self.people and self.similarity >= _MIN_SIMILARITY
        return bool(self.skipped) or (not self.problem and is_correct)


def check_engines(engines: Sequence[EngineInfo]) -> list[EngineCheck]:
    """Run the default model with each installed engine and compare the poses.

    Args:
        engines: Engines from `find_engines`.
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
            check = EngineCheck(engine.name, skipped=f"opening the model requires {error.name}")
        except Exception as error:  # a broken installation may fail in any way
            check = EngineCheck(engine.name, problem=str(error))
        checks.append(check)
    return checks


def _check_engine(engine: str, reference: Poses | None) -> tuple[EngineCheck, Poses | None]:
    """Run the default model with an engine, and compare its poses with the reference.

    Returns:
        The check, and the reference: that of the arguments, or else the poses of this engine; None
        if the engine was skipped.
    """
    if engine == "tensorrt":
        skipped = "it only runs engine files (bpnet export --engine_file)"
        return EngineCheck(engine, skipped=skipped), None
    predictor = _open_default_model(engine)
    joints = predictor.engine.skeleton.joints
    image, people = draw_scene(np.random.default_rng(_SEED), _HEIGHT, _WIDTH, joints)
    poses, seconds = _time(lambda: predictor(image))
    drawn = np.stack([person.keypoints for person in people])
    truth = np.where(drawn[..., 2:] > 0, drawn[..., :2], np.nan)
    found = int((_best_oks(truth, poses) >= _MIN_OKS).sum())
    reference = poses if reference is None else reference
    confident = reference[reference.scores >= _MIN_SCORE]
    similarity = float(_best_oks(confident.keypoints, poses).min(initial=1.0))
    return EngineCheck(engine, len(people), found, similarity, 1000 * seconds), reference


def _open_default_model(engine: str) -> Predictor:
    """Open the default model on an engine; PyTorch builds its network from the float weights."""
    spec = InferenceSpec.load(DEFAULT_INFERENCE_SPEC)
    if engine != "pytorch":
        return build_predictor(spec, default_model(engine), "", engine, None, None)
    from bodyposenet.inference.engines.pytorch import PyTorchEngine, choose_device
    from bodyposenet.model.pretrained import build_pretrained

    network, _ = build_pretrained(DEFAULT_MODEL_WEIGHTS)
    return Predictor(PyTorchEngine(network, choose_device(), PRECISIONS[0]), spec)


def _best_oks(people: NDArray[np.floating], poses: Poses) -> NDArray[np.float64]:
    """Return the (P,) highest OKS of each of (P, K, 2) people with the poses; 0 without poses."""
    points = np.asarray(people, np.float64)
    areas = np.broadcast_to(pose_areas(points)[:, None], (len(points), len(poses)))
    sigmas = np.asarray(poses.skeleton.sigmas)
    total, _ = compare_poses(points, poses.keypoints.astype(np.float64), areas, sigmas)
    # A joint that only the person has is a missed joint.
    joints = (~np.isnan(points[..., 0])).sum(axis=1, keepdims=True)
    return (total / joints).max(axis=1, initial=0.0)


def _time(function: Callable[[], Poses]) -> tuple[Poses, float]:
    """Return the result and the median seconds of a function after one warm-up call."""
    result, seconds = function(), []
    for _ in range(_REPETITIONS):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return result, median(seconds)


def _posed_people(skeleton: Skeleton) -> NDArray[np.float64]:
    """Return (P, K, 2) people side by side in different poses."""
    people = []
    for person in range(_PEOPLE):
        turn = 15.0 * (person - (_PEOPLE - 1) / 2)
        arms = {"left": Arm(lift=5 + 3 * person), "right": Arm(lift=14 - 3 * person)}
        pose = Pose(turn, 0.0, 0.0, (0.0, 0.0, 0.0), arms, {"left": Leg(), "right": Leg()})
        points = posed_body(pose, camera_tilt=0.0).points
        x = (person + 0.5) * _WIDTH / _PEOPLE
        positions = np.array([points[joint][:2] for joint in skeleton.joints])
        people.append((x, 0.5 * _HEIGHT) + 0.75 * _HEIGHT * positions * (1, -1))
    return np.stack(people)


def _ideal_maps(people: NDArray[np.float64], skeleton: Skeleton) -> Maps:
    """Return ideal maps, the training targets (TAO reference, section 6), without torch."""
    rows, columns = np.mgrid[: _HEIGHT // _STRIDE, : _WIDTH // _STRIDE] * _STRIDE
    cells = np.stack([columns, rows], axis=-1) + (_STRIDE - 1) / 2
    squares = ((cells - people[:, :, None, None]) ** 2).sum(axis=-1)
    gaussians = np.exp(-squares / (2 * _SIGMA**2)).max(axis=0)
    pafs = np.zeros((len(skeleton.limbs), 2, *cells.shape[:2]))
    for field, (start, end) in zip(pafs, skeleton.limbs, strict=True):
        for person in people:
            along = person[end] - person[start]
            length = np.linalg.norm(along)
            unit = along / length
            offsets = cells - person[start]
            ahead, aside = offsets @ unit, offsets @ np.array((-unit[1], unit[0]))
            field[:, (np.abs(aside) <= _STRIDE) & (ahead >= 0) & (ahead <= length)] = unit[:, None]
    heatmaps = np.concatenate([gaussians, 1 - gaussians.max(axis=0, keepdims=True)])
    return Maps(
        heatmaps.astype(np.float32),
        pafs.reshape(-1, *cells.shape[:2]).astype(np.float32),
        _STRIDE,
    )
