"""Training samples as the network sees them, with their target maps, for `bpnet browse`."""

from __future__ import annotations

import numpy as np

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.media.draw_maps import draw_heatmaps, draw_pafs
from bodyposenet.reporting.label_pictures import SamplePicture
from bodyposenet.specs.training import TrainSpec
from bodyposenet.training.batches import Batch
from bodyposenet.training.samples import dataset_sources, training_samples
from bodyposenet.training.step import TargetGenerator, jittered_images


def preview_samples(spec: TrainSpec, count: int) -> list[SamplePicture]:
    """Make samples of the first epoch, evenly spaced in the records.

    Args:
        spec: The train spec.
        count: Number of samples, at most that of the records.

    Returns:
        The samples after augmentation.

    Raises:
        BodyPoseNetError: Records are missing, or an image cannot be read.
    """
    samples = training_samples(spec, dataset_sources(spec, spec.dataset_specs()))
    indices = np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(int)
    batch = Batch.collate([samples[0, index] for index in indices.tolist()])
    if isinstance(batch, BodyPoseNetError):
        raise batch
    targets = TargetGenerator(spec)(batch)
    images = jittered_images(batch).numpy()
    return [
        SamplePicture(
            f"sample {index + 1:,} of {len(samples):,}",
            images[row],
            batch.mask[row].numpy(),
            batch.keypoints[row].numpy(),
            batch.labeled[row].numpy(),
            draw_heatmaps(images[row], targets.heatmaps[row].numpy()),
            draw_pafs(images[row], targets.pafs[row].numpy()),
        )
        for row, index in enumerate(indices.tolist())
    ]
