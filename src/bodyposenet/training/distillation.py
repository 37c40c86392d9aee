"""Knowledge distillation: the maps of a trained network, the teacher, as additional targets.

Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015). A `Teacher` runs on
every training sample. A `PrecomputedTeacher` uses maps of whole photos that were computed
beforehand (`training.precompute_maps`). A teacher in a .tlt file runs on the training device; any
other model, and whatever a user's Python file opens, runs as an `Engine`.
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

from bodyposenet.channel_map import ChannelMap, match_heatmaps, match_pafs
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

_TEACHER_KEY = "distillation.teacher"
_MAPS_KEY = "distillation.maps"
_MODULE_NAME = "bodyposenet_teacher"
"""Name in `sys.modules` of a user's Python file."""

Infer = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Maps (B, H, W, 3) uint8 images to heatmaps (B, K + 1, h, w) and PAFs (B, 2 L, h, w)."""


class Teacher:
    """A teacher that runs on every training sample.

    Provides targets for the joints and limbs that teacher and student have in common. They are
    valid everywhere, also in regions without labels, and for joints that a dataset does not label.

    Args:
        infer: Runs the teacher.
        teacher_skeleton: Skeleton of the teacher's maps.
        skeleton: Skeleton of the network that is trained (the student).
        weight: Weight of the teacher in the loss of each channel that it has; the labels have the
            weight 1 - `weight`.
        device: Training device.
        input_device: Device of the images that `infer` takes.
    """

    def __init__(
        self, infer: Infer, teacher_skeleton: Skeleton, skeleton: Skeleton, weight: float,
        device: torch.device, input_device: torch.device,
    ) -> None:  # fmt: skip
        self.input_device = input_device
        self._infer = infer
        self._device = device
        heatmaps, pafs = _match(teacher_skeleton, skeleton)
        self._known_pafs = pafs.known
        self._select_heatmaps = _ChannelSelector(heatmaps, device)
        self._select_pafs = _ChannelSelector(pafs, device)
        self._weights = _channel_weights(weight, (heatmaps.known, pafs.known), device)

    @property
    def num_limbs(self) -> int:
        """Number of the student's limbs that the teacher has."""
        return int(self._known_pafs.sum()) // 2

    def __call__(self, images: Tensor) -> Targets:
        """Return the maps of the teacher's last stage as targets, weighted by their masks.

        Args:
            images: (B, H, W, 3) uint8, on `input_device`.
        """
        with torch.no_grad():
            heatmaps, pafs = self._infer(images)
        return Targets(
            self._select_heatmaps(heatmaps.to(self._device)),
            self._select_pafs(pafs.to(self._device)),
            *(weight.sqrt() for weight in self._weights),
        )


class PrecomputedTeacher:
    """A teacher whose maps come with the training samples.

    They are valid in the cells inside of the photo, also in regions without labels.

    Args:
        maps: The precomputed maps.
        weight: Weight of the teacher in the loss of each channel that it has; the labels have the
            weight 1 - `weight`.
        device: Training device.
    """

    def __init__(self, maps: TeacherMapSampler, weight: float, device: torch.device) -> None:
        self._weights = _channel_weights(weight, (maps.known_heatmaps, maps.known_pafs), device)

    def __call__(self, batch: Batch) -> Targets:
        """Return the teacher's maps as targets, weighted by their masks.

        Args:
            batch: A batch with teacher maps, on the training device.
        """
        assert batch.teacher_heatmaps is not None
        assert batch.teacher_pafs is not None
        assert batch.teacher_cells is not None
        cells = batch.teacher_cells[:, None].float()
        return Targets(
            batch.teacher_heatmaps,
            batch.teacher_pafs,
            *((weight * cells).sqrt() for weight in self._weights),
        )


def reduce_label_weight(label_targets: Targets, teacher_targets: Targets) -> Targets:
    """Weight the targets of the labels so that, with those of the teacher, weights add up to 1.

    Masks are square roots of weights, as the loss squares them.

    Args:
        label_targets: Targets rendered from the labels.
        teacher_targets: Targets of the teacher.

    Returns:
        The targets of the labels with reduced masks.
    """
    heatmap_mask, paf_mask = (
        (1 - mask.square()).clamp(min=0).sqrt()
        for mask in (teacher_targets.heatmap_mask, teacher_targets.paf_mask)
    )
    return replace(
        label_targets,
        heatmap_mask=label_targets.heatmap_mask * heatmap_mask,
        paf_mask=label_targets.paf_mask * paf_mask,
    )


def load_teacher(spec: TrainSpec, key: str, device: torch.device) -> Teacher | None:
    """Load the teacher that a train spec names in `distillation.teacher`.

    Args:
        spec: The train spec.
        key: Encryption key of the model file; empty for plain files.
        device: Training device.

    Returns:
        The teacher, or None if the spec names none.

    Raises:
        BodyPoseNetError: The model cannot be opened, has no limb in common with the skeleton, or
            does not take images of the training's size.
    """
    if spec.distillation is None or spec.distillation.teacher is None:
        return None
    path = spec.existing_model_path(_TEACHER_KEY, spec.distillation.teacher)
    weight = spec.distillation.weight
    if path.suffix in (".tlt", ".hdf5"):
        network = load_model(path, key)
        infer, skeleton, input_device = (
            _infer_with_network(network, device),
            network.skeleton,
            device,
        )
        _warn_if_sigma_differs(spec, path, network.heatmap_sigma)
    else:
        engine = _open_teacher_engine(spec, path, key)
        infer, skeleton, input_device = (
            _infer_with_engine(engine),
            engine.skeleton,
            torch.device("cpu"),
        )
    teacher = Teacher(infer, skeleton, spec.skeleton, weight, device, input_device)
    if not teacher.num_limbs:
        spec.fail(
            _TEACHER_KEY,
            f"{path} has none of the limbs of the pose configuration",
            "Use a model whose joints have the same names.",
        )
    logger.info(
        "Distillation from %s: %d of %d limbs, weight %g (labels: %g)",
        path, teacher.num_limbs, len(spec.skeleton.limbs), weight, 1 - weight,
    )  # fmt: skip
    return teacher


def open_teacher_maps(spec: TrainSpec) -> TeacherMapSampler | None:
    """Open the precomputed teacher maps that a train spec names in `distillation.maps`.

    Returns:
        The maps, or None if the spec names none.

    Raises:
        BodyPoseNetError: The folder is missing, damaged or empty, or has no limb in common with the
            skeleton.
    """
    if spec.distillation is None or spec.distillation.maps is None:
        return None
    path, weight = spec.existing_path(_MAPS_KEY, spec.distillation.maps), spec.distillation.weight
    if not is_folder(path):
        spec.fail(_MAPS_KEY, f"{path} is not a folder", f"Set it to the folder with {HEADER_FILE}.")
    store = TeacherMapStore.open(path)
    photos = len(store)
    if not photos:
        spec.fail(_MAPS_KEY, f"{path} has no maps", "Compute them, see docs/distillation.md.")
    loader = spec.dataloader
    height = loader.image_config.image_dims.height
    options = TargetOptions.from_spec(loader.label_processor_config, height)
    skeleton = spec.skeleton
    maps = TeacherMapSampler(
        store,
        _match(store.skeleton, skeleton),
        _match(store.skeleton, _mirrored(skeleton)),
        sigma=options.heatmap_sigma / options.stride,
        half_width=options.paf_half_width,
    )
    num_limbs = int(maps.known_pafs.sum()) // 2
    if not num_limbs:
        spec.fail(
            _MAPS_KEY,
            f"{path} has none of the limbs of the pose configuration",
            "Use the maps of a model whose joints have the same names.",
        )
    logger.info(
        "Distillation from the precomputed maps in %s: %d photos, %d of %d limbs, weight %g "
        "(labels: %g)",
        path, photos, num_limbs, len(skeleton.limbs), weight, 1 - weight,
    )  # fmt: skip
    return maps


class _ChannelSelector:
    """Selects and reorders a teacher's channels, and flips the sign of reversed limbs.

    Args:
        channels: The teacher's channel for each of the student's.
        device: Device of the maps.
    """

    def __init__(self, channels: ChannelMap, device: torch.device) -> None:
        self._source = torch.from_numpy(channels.source).to(device)
        self._sign = torch.from_numpy(channels.sign).to(device)[:, None, None]

    def __call__(self, maps: Tensor) -> Tensor:
        """Return the (B, C, h, w) float32 maps of the student's channels."""
        return maps.float()[:, self._source] * self._sign


def _channel_weights(
    weight: float, known: Sequence[NDArray[np.bool_]], device: torch.device
) -> list[Tensor]:
    """Return the (C, 1, 1) weights of each kind of maps: 0 for channels that the teacher lacks."""
    return [weight * torch.from_numpy(mask).to(device).float()[:, None, None] for mask in known]


def _match(teacher: Skeleton, student: Skeleton) -> tuple[ChannelMap, ChannelMap]:
    """Match heatmaps and PAFs. The background is used only if both have the same joints."""
    return match_heatmaps(teacher, student, keep_background=False), match_pafs(teacher, student)


def _mirrored(skeleton: Skeleton) -> Skeleton:
    """Return the skeleton with the names of left and right joints exchanged.

    The left hand in a mirrored sample is the right hand in the photo and in the teacher's maps.
    """
    joints = tuple(skeleton.joints[other] for other in skeleton.mirrored)
    return Skeleton(skeleton.name, joints, skeleton.limbs, auxiliary=())


def _warn_if_sigma_differs(spec: TrainSpec, path: Path, sigma: float) -> None:
    """Warn if the teacher was trained with another sigma."""
    expected = spec.dataloader.label_processor_config.heatmap_gaussian_sigma
    if sigma != expected:
        logger.warning(
            "%s was trained with heatmap_gaussian_sigma %g, this training uses %g: the teacher's "
            "heatmaps have wider or narrower peaks than the targets", path, sigma, expected,
        )  # fmt: skip


def _infer_with_network(network: BodyPoseNetwork, device: torch.device) -> Infer:
    """Return a function that runs a network on the training device, without gradients."""
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.eval().requires_grad_(False)

    def infer(images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the maps of the last stage."""
        maps = network(network.normalize(images))
        return maps.heatmaps[-1], maps.pafs[-1]

    return infer


def _infer_with_engine(engine: Engine) -> Infer:
    """Return a function that runs an engine on images on the CPU."""

    def infer(images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the engine's maps as tensors on the CPU."""
        results = engine.infer(images.numpy())
        heatmaps, pafs = [maps.heatmaps for maps in results], [maps.pafs for maps in results]
        return torch.from_numpy(np.stack(heatmaps)), torch.from_numpy(np.stack(pafs))

    return infer


def _open_teacher_engine(spec: TrainSpec, path: Path, key: str) -> Engine:
    """Open an exported model, or the engine of a user's Python file.

    Raises:
        BodyPoseNetError: It cannot be opened, or does not take images of the training's size.
    """
    if path.suffix == ".py":
        check_plain(path, key)
        engine = _open_python_file(spec, path)
    else:
        engine = open_engine(InferenceSpec(), str(path), key, threads=torch.get_num_threads())
        _warn_if_sigma_differs(spec, path, engine.description.heatmap_sigma)
    size = spec.dataloader.image_config.image_dims
    if engine.fixed_shape not in (None, (size.height, size.width)):
        height, width = engine.fixed_shape
        spec.fail(
            _TEACHER_KEY,
            f"{path} takes images of {height} x {width}, but image_dims are "
            f"{size.height} x {size.width}",
            "Export it without --static_input_dims, or change image_config.image_dims.",
        )
    if engine.stride != BodyPoseNetwork.stride:
        spec.fail(
            _TEACHER_KEY,
            f"{path} has a stride of {engine.stride} pixels",
            f"A teacher must have a stride of {BodyPoseNetwork.stride} pixels.",
        )
    return engine


def _open_python_file(spec: TrainSpec, path: Path) -> Engine:
    """Execute a Python file, and return the engine of its function `open_teacher`."""
    logger.warning("%s: executing the Python file %s", _TEACHER_KEY, path.resolve())
    module_spec = spec_from_file_location(_MODULE_NAME, path)
    assert module_spec is not None and module_spec.loader is not None  # The name ends in .py.
    module = sys.modules[_MODULE_NAME] = module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
        engine = module.open_teacher()
        is_engine = all(hasattr(engine, name) for name in ("skeleton", "stride", "infer"))
    except BodyPoseNetError:
        raise
    except Exception as error:  # Of any type, as the code is the user's.
        spec.fail(
            _TEACHER_KEY,
            f"{path}: {type(error).__name__}: {error}",
            "The file must define a function open_teacher() that returns an Engine.",
        )
    if not is_engine:
        spec.fail(
            _TEACHER_KEY,
            f"{path}: open_teacher() returned {type(engine).__name__}",
            "It must return an Engine (bodyposenet.inference.engines.base).",
        )
    return engine
