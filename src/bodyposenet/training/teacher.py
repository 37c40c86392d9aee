"""A trained network whose maps join the targets.

Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015). A `.tlt` file runs
on the training's device; any other model, and what a Python file of the user opens, runs behind
`Engine`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bodyposenet.console import logger
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.model.checkpoint import load_model
from bodyposenet.model.loss import Targets
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.runtime.engines.protocol import Engine
from bodyposenet.runtime.models import open_engine
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.specs.training import TrainSpec

_PLACE = "distillation.teacher"

Infer = Callable[[Tensor], tuple[Tensor, Tensor]]
"""(B, H, W, 3) uint8 images to heatmaps (B, K + 1, h, w) and PAFs (B, 2 L, h, w)."""


class Teacher:
    """Says what a network should answer, for the joints and limbs that it knows itself.

    Its maps count everywhere: also where nobody is labelled, and for joints that a dataset lacks.

    Args:
        infer: Runs it.
        theirs: What its maps are of.
        ours: What the maps of the network that learns are of.
        weight: Share of the loss that compares with its maps.
        device: Of the training.
    """

    def __init__(
        self, infer: Infer, theirs: Skeleton, ours: Skeleton, weight: float, device: torch.device
    ) -> None:
        self.weight = weight
        self._infer = infer
        self._device = device
        self._heatmaps = _heatmap_channels(theirs, ours).to(device)
        self._pafs = _paf_channels(theirs, ours).to(device)

    @property
    def limbs(self) -> int:
        """How many of our limbs it knows."""
        return int(self._pafs.known.sum()) // 2

    def __call__(self, images: Tensor) -> Targets:
        """The last stage's maps of images, (B, H, W, 3) uint8, as targets."""
        with torch.no_grad():
            heatmaps, pafs = self._infer(images)
        return Targets(
            self._heatmaps.take(heatmaps.to(self._device)), self._pafs.take(pafs.to(self._device)),
            self._heatmaps.known, self._pafs.known,
        )  # fmt: skip


class _Channels(NamedTuple):
    """Which of the teacher's maps is meant by each of ours.

    Args:
        source: (C,) index of the teacher's map; any, where it has none.
        sign: (C, 1, 1) what its values are multiplied by.
        known: (C, 1, 1) 1 where it has one, else 0.
    """

    source: Tensor
    sign: Tensor
    known: Tensor

    @classmethod
    def of(cls, pairs: list[tuple[int, float] | None]) -> _Channels:
        """From the index and the sign of every map; None where the teacher has none."""
        source, sign = zip(*(pair or (0, 1.0) for pair in pairs), strict=True)
        known = [float(pair is not None) for pair in pairs]
        return cls(
            torch.tensor(source),
            torch.tensor(sign)[:, None, None],
            torch.tensor(known)[:, None, None],
        )

    def to(self, device: torch.device) -> _Channels:
        """The same on a device."""
        return _Channels(*(values.to(device) for values in self))

    def take(self, maps: Tensor) -> Tensor:
        """(B, C', h, w) maps of the teacher, (B, C, h, w) float32 in our order."""
        return maps.float()[:, self.source] * self.sign


def _heatmap_channels(theirs: Skeleton, ours: Skeleton) -> _Channels:
    """Joints by name; the background where both have the same joints."""
    joints = {joint: (index, 1.0) for index, joint in enumerate(theirs.joints)}
    same = set(theirs.joints) == set(ours.joints)
    background = (len(theirs.joints), 1.0) if same else None
    return _Channels.of([*(joints.get(joint) for joint in ours.joints), background])


def _paf_channels(theirs: Skeleton, ours: Skeleton) -> _Channels:
    """Limbs by the names of their ends; one that runs the other way has the opposite sign."""
    limbs: dict[tuple[str, str], tuple[int, float]] = {}
    for index, (start, end) in enumerate(theirs.limbs):
        limbs[theirs.joints[end], theirs.joints[start]] = index, -1.0
        limbs[theirs.joints[start], theirs.joints[end]] = index, 1.0
    found = [limbs.get((ours.joints[start], ours.joints[end])) for start, end in ours.limbs]
    return _Channels.of(
        [limb and (2 * limb[0] + axis, limb[1]) for limb in found for axis in (0, 1)]
    )


def load_teacher(spec: TrainSpec, key: str, device: torch.device) -> Teacher | None:
    """The teacher that a train spec names; None where it names none.

    Raises:
        BodyPoseNetError: The model cannot be opened, knows no limb, or has cells of another size.
    """
    if spec.distillation is None:
        return None
    path, weight = spec.existing(_PLACE, spec.distillation.teacher), spec.distillation.weight
    if path.suffix == ".tlt":
        network = load_model(path, key)
        infer, theirs = _by_network(network, device), network.skeleton
    else:
        engine = _open(spec, path, key)
        infer, theirs = _by_engine(engine), engine.skeleton
    teacher = Teacher(infer, theirs, spec.skeleton, weight, device)
    limbs = teacher.limbs
    if not limbs:
        spec.fail(
            _PLACE,
            f"{path} knows none of the limbs of the pose configuration",
            "Name a model whose joints have the same names.",
        )
    logger.info(
        "%s teaches %d of %d limbs: the training loss is %g from its maps and %g from the labels",
        path, limbs, len(spec.skeleton.limbs), weight, 1 - weight,
    )  # fmt: skip
    return teacher


def _by_network(network: BodyPoseNetwork, device: torch.device) -> Infer:
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.eval().requires_grad_(False)

    def infer(images: Tensor) -> tuple[Tensor, Tensor]:
        maps = network(network.normalize(images))
        return maps.heatmaps[-1], maps.pafs[-1]

    return infer


def _by_engine(engine: Engine) -> Infer:
    def infer(images: Tensor) -> tuple[Tensor, Tensor]:
        found = engine.infer(images.cpu().numpy())
        heatmaps, pafs = [maps.heatmaps for maps in found], [maps.pafs for maps in found]
        return torch.from_numpy(np.stack(heatmaps)), torch.from_numpy(np.stack(pafs))

    return infer


def _open(spec: TrainSpec, path: Path, key: str) -> Engine:
    """Open an exported model, or what the user's own file opens.

    Raises:
        BodyPoseNetError: It cannot be opened, or has cells of another size.
    """
    own = path.suffix == ".py"
    engine = _call_open_teacher(spec, path) if own else open_engine(InferenceSpec(), str(path), key)
    if engine.stride != BodyPoseNetwork.stride:
        spec.fail(
            _PLACE,
            f"{path} has cells of {engine.stride} pixels",
            f"Those of a teacher have {BodyPoseNetwork.stride}.",
        )
    return engine


def _call_open_teacher(spec: TrainSpec, path: Path) -> Engine:
    """What the function `open_teacher` of a Python file gives."""
    described = spec_from_file_location(path.stem, path)
    assert described is not None and described.loader is not None  # it ends in .py
    module = module_from_spec(described)
    try:
        described.loader.exec_module(module)
        return module.open_teacher()
    except BodyPoseNetError:
        raise
    except Exception as error:  # of any kind: the code is the user's
        spec.fail(
            _PLACE,
            f"{path}: {type(error).__name__}: {error}",
            "It must define open_teacher(), which gives an Engine (runtime.engines.protocol).",
        )
