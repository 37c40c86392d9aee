"""Posed people, their perfect maps, and the decoder's answer: does it find them, and how fast?"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bodyposenet.data.drawn.pose import Arm, Leg, Pose, posed_body
from bodyposenet.decoding import DecodingOptions, decode, warm_up
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.specs.pose import DEFAULT_POSE_CONFIGURATION, load_skeleton
from bodyposenet.types import Maps, Poses

_HEIGHT, _WIDTH, _STRIDE = 320, 448, 8
_PEOPLE = 4
_SIGMA = 7.0
"""Of a joint's peak, in network pixels: that of the training's targets."""
_LARGEST_ERROR = 2.0
"""Network pixels, a quarter of a cell; the original's decoder rounds to whole ones."""
_TURNS = 5


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
    """What a perfect network would answer (reference 6), drawn without torch."""
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
