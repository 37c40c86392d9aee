"""A batch in, what the network should say of it by its labels out."""

from __future__ import annotations

import torch

from bodyposenet.model.color import recolor
from bodyposenet.model.loss import Targets
from bodyposenet.model.targets import TargetOptions, cell_mask, channel_weights, render_targets
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
