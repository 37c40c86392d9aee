"""Distillation: a trained network whose maps join the targets.

Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015). A teacher runs on
every sample, or its maps of whole photos were computed beforehand
(`data.teacher_map_sampler`). A `.tlt` file runs on the training's device; any other model, and what
a Python file of the user opens, runs behind `Engine`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bodyposenet.channels import ChannelMap, match_heatmaps, match_pafs
from bodyposenet.console import logger
from bodyposenet.data.teacher_map_sampler import TeacherMapSampler
from bodyposenet.data.teacher_map_store import HEADER_FILE, TeacherMapStore
from bodyposenet.encryption import check_plain
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import is_folder
from bodyposenet.inference.engines.base import Engine
from bodyposenet.inference.models import open_engine
from bodyposenet.model.checkpoint import load_model
from bodyposenet.model.loss import Targets
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.model.targets import TargetOptions
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.specs.training import TrainSpec
from bodyposenet.training.batches import Batch

_PLACE = "distillation.teacher"
_MAPS_PLACE = "distillation.maps"
_MODULE = "bodyposenet_teacher"
"""What Python knows a user's file as."""

Infer = Callable[[Tensor], tuple[Tensor, Tensor]]
"""(B, H, W, 3) uint8 images to heatmaps (B, K + 1, h, w) and PAFs (B, 2 L, h, w)."""


class Teacher:
    """Says what a network should answer, for the joints and limbs that it knows itself.

    Its maps count everywhere: also where nobody is labelled, and for joints that a dataset lacks.

    Args:
        infer: Runs it.
        theirs: What its maps are of.
        ours: What the maps of the network that learns are of.
        weight: Share of the loss of a map that compares with the teacher's, where it has one.
        device: Of the training.
        place: Where it takes images.
    """

    def __init__(
        self, infer: Infer, theirs: Skeleton, ours: Skeleton, weight: float,
        device: torch.device, place: torch.device,
    ) -> None:  # fmt: skip
        self.place = place
        self._infer = infer
        self._device = device
        heatmaps, pafs = _match(theirs, ours)
        self._known_pafs = pafs.known
        self._take_heatmaps, self._take_pafs = _Take(heatmaps, device), _Take(pafs, device)
        self._shares = _shares(weight, (heatmaps.known, pafs.known), device)

    @property
    def limbs(self) -> int:
        """How many of our limbs it knows."""
        return int(self._known_pafs.sum()) // 2

    def __call__(self, images: Tensor) -> Targets:
        """Its last stage's maps as targets, with the share of the loss that they have.

        Args:
            images: (B, H, W, 3) uint8, at its `place`.
        """
        with torch.no_grad():
            heatmaps, pafs = self._infer(images)
        return Targets(
            self._take_heatmaps(heatmaps.to(self._device)),
            self._take_pafs(pafs.to(self._device)),
            *(share.sqrt() for share in self._shares),
        )  # fmt: skip


class PrecomputedTeacher:
    """A teacher whose maps come with the samples.

    They count on the cells that lie in the photo, also where nobody is labelled.

    Args:
        maps: What the samples bring.
        weight: Share of the loss of a map that compares with the teacher's, where it has one.
        device: Of the training.
    """

    def __init__(self, maps: TeacherMapSampler, weight: float, device: torch.device) -> None:
        self._shares = _shares(weight, (maps.known_heatmaps, maps.known_pafs), device)

    def __call__(self, batch: Batch) -> Targets:
        """Return the teacher's maps as targets, with the share of the loss that they have.

        Args:
            batch: With teacher maps, on the device.
        """
        assert batch.teacher_heatmaps is not None
        assert batch.teacher_pafs is not None
        assert batch.teacher_cells is not None
        cells = batch.teacher_cells[:, None].float()
        return Targets(
            batch.teacher_heatmaps,
            batch.teacher_pafs,
            *((share * cells).sqrt() for share in self._shares),
        )


def leave_rest(labels: Targets, taught: Targets) -> Targets:
    """Return the labels' targets with the share of the loss that a teacher leaves to them.

    The loss squares the masks, hence the roots.
    """
    heatmaps, pafs = (
        (1 - mask.square()).clamp(min=0).sqrt() for mask in (taught.heatmap_mask, taught.paf_mask)
    )
    return replace(
        labels,
        heatmap_mask=labels.heatmap_mask * heatmaps,
        paf_mask=labels.paf_mask * pafs,
    )


class _Take:
    """Brings a teacher's maps, on a device, into our order.

    Args:
        channels: Where ours come from.
        device: Of the maps.
    """

    def __init__(self, channels: ChannelMap, device: torch.device) -> None:
        self._source = torch.from_numpy(channels.source).to(device)
        self._sign = torch.from_numpy(channels.sign).to(device)[:, None, None]

    def __call__(self, maps: Tensor) -> Tensor:
        """(B, C', h, w) maps of the teacher -> (B, C, h, w) float32."""
        return maps.float()[:, self._source] * self._sign


def _shares(
    weight: float, known: Sequence[NDArray[np.bool_]], device: torch.device
) -> list[Tensor]:
    """(C, 1, 1) of each kind of maps: the teacher's share of the loss, 0 where it has no map."""
    return [weight * torch.from_numpy(each).to(device).float()[:, None, None] for each in known]


def _match(theirs: Skeleton, ours: Skeleton) -> tuple[ChannelMap, ChannelMap]:
    """Match heatmaps and PAFs; a background of other joints is another one."""
    return match_heatmaps(theirs, ours, keep_background=False), match_pafs(theirs, ours)


def load_teacher(spec: TrainSpec, key: str, device: torch.device) -> Teacher | None:
    """The teacher that a train spec runs on every sample; None where it names none.

    Raises:
        BodyPoseNetError: The model cannot be opened, knows no limb, or takes no such images.
    """
    if spec.distillation is None or spec.distillation.teacher is None:
        return None
    path = spec.existing_model_path(_PLACE, spec.distillation.teacher)
    weight = spec.distillation.weight
    if path.suffix in (".tlt", ".hdf5"):
        network = load_model(path, key)
        infer, theirs, place = _by_network(network, device), network.skeleton, device
        _compare_sigmas(spec, path, network.heatmap_sigma)
    else:
        engine = _open(spec, path, key)
        infer, theirs, place = _by_engine(engine), engine.skeleton, torch.device("cpu")
    teacher = Teacher(infer, theirs, spec.skeleton, weight, device, place)
    limbs = teacher.limbs
    if not limbs:
        spec.fail(
            _PLACE,
            f"{path} knows none of the limbs of the pose configuration",
            "Name a model whose joints have the same names.",
        )
    logger.info(
        "%s teaches %d of %d limbs: of their loss %g is from its maps and %g from the labels",
        path, limbs, len(spec.skeleton.limbs), weight, 1 - weight,
    )  # fmt: skip
    return teacher


def _compare_sigmas(spec: TrainSpec, path: Path, theirs: float) -> None:
    ours = spec.dataloader.label_processor_config.heatmap_gaussian_sigma
    if theirs != ours:
        logger.warning(
            "%s was trained with heatmap_gaussian_sigma %g, this training has %g: the teacher's "
            "heatmaps have wider or narrower peaks than the targets", path, theirs, ours,
        )  # fmt: skip


def open_teacher_maps(spec: TrainSpec) -> TeacherMapSampler | None:
    """Open the precomputed teacher maps that a train spec names; None where it names none.

    Raises:
        BodyPoseNetError: The folder is missing, damaged or empty, or shares no limb with the spec.
    """
    if spec.distillation is None or spec.distillation.maps is None:
        return None
    path, weight = spec.existing_path(_MAPS_PLACE, spec.distillation.maps), spec.distillation.weight
    if not is_folder(path):
        spec.fail(_MAPS_PLACE, f"{path} is not a folder", f"Name the folder of {HEADER_FILE}.")
    folder = TeacherMapStore.open(path)
    photos = len(folder)
    if not photos:
        spec.fail(_MAPS_PLACE, f"{path} holds no maps", "Compute them (docs/distillation.md).")
    loader = spec.dataloader
    height = loader.image_config.image_dims.height
    options = TargetOptions.from_spec(loader.label_processor_config, height)
    ours = spec.skeleton
    maps = TeacherMapSampler(
        folder,
        _match(folder.skeleton, ours),
        _match(folder.skeleton, _mirrored(ours)),
        sigma=options.heatmap_sigma / options.stride,
        half_width=options.paf_half_width,
    )
    limbs = int(maps.known_pafs.sum()) // 2
    if not limbs:
        spec.fail(
            _MAPS_PLACE,
            f"{path} has maps of none of the limbs of the pose configuration",
            "Name maps of a model whose joints have the same names.",
        )
    logger.info(
        "%s: maps of %d photos teach %d of %d limbs: of their loss %g is from the maps and %g from "
        "the labels",
        path, photos, limbs, len(ours.limbs), weight, 1 - weight,
    )  # fmt: skip
    return maps


def _mirrored(skeleton: Skeleton) -> Skeleton:
    """The skeleton with each joint's name exchanged for that of the other side.

    In a mirrored sample the left hand is what the teacher, in the photo, calls the right one.
    """
    joints = tuple(skeleton.joints[other] for other in skeleton.mirrored)
    return Skeleton(skeleton.name, joints, skeleton.limbs, auxiliary=())


def _by_network(network: BodyPoseNetwork, device: torch.device) -> Infer:
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.eval().requires_grad_(False)

    def infer(images: Tensor) -> tuple[Tensor, Tensor]:
        maps = network(network.normalize(images))
        return maps.heatmaps[-1], maps.pafs[-1]

    return infer


def _by_engine(engine: Engine) -> Infer:
    def infer(images: Tensor) -> tuple[Tensor, Tensor]:
        found = engine.infer(images.numpy())
        heatmaps, pafs = [maps.heatmaps for maps in found], [maps.pafs for maps in found]
        return torch.from_numpy(np.stack(heatmaps)), torch.from_numpy(np.stack(pafs))

    return infer


def _open(spec: TrainSpec, path: Path, key: str) -> Engine:
    """Open an exported model, or what the user's own file opens.

    Raises:
        BodyPoseNetError: It cannot be opened, or takes no images of the training's.
    """
    if path.suffix == ".py":
        check_plain(path, key)
        engine = _open_own(spec, path)
    else:
        engine = open_engine(InferenceSpec(), str(path), key, threads=torch.get_num_threads())
        _compare_sigmas(spec, path, engine.description.heatmap_sigma)
    size = spec.dataloader.image_config.image_dims
    if engine.fixed_shape not in (None, (size.height, size.width)):
        height, width = engine.fixed_shape
        spec.fail(
            _PLACE,
            f"{path} takes images of {height} x {width}, but they are {size.height} x {size.width}",
            "Export it without --static_input_dims, or change image_config.image_dims.",
        )
    if engine.stride != BodyPoseNetwork.stride:
        spec.fail(
            _PLACE,
            f"{path} has cells of {engine.stride} pixels",
            f"Those of a teacher have {BodyPoseNetwork.stride}.",
        )
    return engine


def _open_own(spec: TrainSpec, path: Path) -> Engine:
    """Execute a Python file, and return what its function `open_teacher` gives."""
    logger.warning("%s: executing the Python file %s", _PLACE, path.resolve())
    described = spec_from_file_location(_MODULE, path)
    assert described is not None and described.loader is not None  # it ends in .py
    module = sys.modules[_MODULE] = module_from_spec(described)
    try:
        described.loader.exec_module(module)
        engine = module.open_teacher()
        is_engine = all(hasattr(engine, name) for name in ("skeleton", "stride", "infer"))
    except BodyPoseNetError:
        raise
    except Exception as error:  # of any kind: the code is the user's
        spec.fail(
            _PLACE,
            f"{path}: {type(error).__name__}: {error}",
            "The file must define open_teacher(), which must open a network.",
        )
    if not is_engine:
        spec.fail(
            _PLACE,
            f"{path}: open_teacher() gives {type(engine).__name__}",
            "It must give an Engine (inference.engines.base).",
        )
    return engine
