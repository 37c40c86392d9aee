"""A batch in, what the network should say of it out: by its labels, and by a trained network."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from bodyposenet.console import logger
from bodyposenet.model.checkpoint import load_model
from bodyposenet.model.color import recolor
from bodyposenet.model.loss import Targets
from bodyposenet.model.network import BodyPoseNetwork, StageMaps
from bodyposenet.model.targets import TargetOptions, cell_mask, channel_weights, render_targets
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.training import TrainSpec
from bodyposenet.training.batches import Batch


class Labels:
    """Makes the targets of batches from their labels.

    Args:
        spec: The train spec; says how targets are drawn.
    """

    def __init__(self, spec: TrainSpec) -> None:
        loader = spec.dataloader
        height = loader.image_config.image_dims.height
        self._skeleton = spec.skeleton
        self._options = TargetOptions.from_spec(loader.label_processor_config, height)
        self._mask_scale = loader.normalization_params.mask_scale[0]
        self._mask_offset = loader.normalization_params.mask_offset[0]

    def __call__(self, batch: Batch) -> Targets:
        """The targets of a batch, on its device."""
        height, width = batch.mask.shape[1:]
        heatmaps, pafs = render_targets(
            batch.keypoints, batch.labelled, self._skeleton, height, width, self._options
        )
        heat_weights, paf_weights = channel_weights(batch.known, self._skeleton)
        mask = cell_mask(batch.mask, self._options.stride) / self._mask_scale - self._mask_offset
        return Targets(heatmaps, pafs, mask * heat_weights, mask * paf_weights)


def read_images(batch: Batch) -> torch.Tensor:
    """The images of a batch, (B, H, W, 3) uint8, in the colors that their augmentation gives."""
    if batch.color is None or batch.blur is None:
        return batch.image
    return recolor(batch.image, batch.color, batch.blur)


class Teacher:
    """A trained network whose maps join the targets (Hinton et al., "Distilling the Knowledge").

    Its maps count everywhere: also where nobody is labelled, and for joints that a dataset lacks.

    Args:
        network: Has the skeleton of the network that learns.
        weight: Share of the loss that compares with its maps.
    """

    def __init__(self, network: BodyPoseNetwork, weight: float) -> None:
        self.weight = weight
        self._network = network.eval().requires_grad_(False)

    def __call__(self, images: torch.Tensor) -> Targets:
        """The last stage's maps of images, (B, H, W, 3) uint8, as targets."""
        with torch.no_grad():
            maps: StageMaps = self._network(self._network.normalize(images))
        everywhere = torch.ones((), device=images.device)
        heatmaps, pafs = maps.heatmaps[-1].float(), maps.pafs[-1].float()
        return Targets(heatmaps, pafs, everywhere, everywhere)


def load_teacher(spec: TrainSpec, key: str, device: torch.device) -> Teacher | None:
    """The teacher that a train spec names; None where it names none.

    Raises:
        BodyPoseNetError: The model cannot be opened, or has another skeleton.
    """
    if spec.distillation is None:
        return None
    place = "distillation.teacher"
    path = spec.existing(place, spec.distillation.teacher)
    network = load_model(path, key)
    differing = _differing(spec.skeleton, network.skeleton)
    if differing:
        spec.fail(
            place,
            f"{path} has other {' and '.join(differing)} than the pose configuration",
            "Name a model that was trained with the same pose configuration.",
        )
    logger.info(
        "%s teaches: the training loss is %g from its maps and %g from the labels",
        path, spec.distillation.weight, 1 - spec.distillation.weight,
    )  # fmt: skip
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Teacher(network, spec.distillation.weight)


def _differing(ours: Skeleton, theirs: Skeleton) -> list[str]:
    parts: Mapping[str, bool] = {
        "joints": ours.joints != theirs.joints,
        "limbs": ours.limbs != theirs.limbs,
    }
    return [name for name, differs in parts.items() if differs]
