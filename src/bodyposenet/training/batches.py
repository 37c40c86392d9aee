"""A sample set in, batches on the training device out, each with its targets."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from bodyposenet.console import logger
from bodyposenet.data.dataset import Sample, SampleSet, stack
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.model.loss import Targets
from bodyposenet.model.targets import TargetOptions, cell_mask, channel_weights, render_targets
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.dataloader import NormalizationParams

_MOST_DEFAULT_WORKERS = 8


class Batches:
    """Batches of a sample set, epoch by epoch.

    Args:
        samples: The samples.
        batch_size: Samples per batch; what is left over at the end of an epoch is not used.
        workers: Processes that make samples; None: one per core but one.
        seed: Of the order; None keeps the order of the records and the left-over batch.
    """

    def __init__(
        self, samples: SampleSet, batch_size: int, workers: int | None, seed: int | None
    ) -> None:
        if workers is None:
            workers = min((os.cpu_count() or 1) - 1, _MOST_DEFAULT_WORKERS)
        if batch_size > len(samples):
            logger.info("the batch size is %d: there are no more samples", len(samples))
        self._order = _Order(len(samples), batch_size, seed)
        self._loader = DataLoader(
            samples,  # type: ignore[arg-type]
            batch_sampler=self._order,
            num_workers=workers,
            collate_fn=stack,
            persistent_workers=workers > 0,
            worker_init_fn=_prepare_worker,
            generator=torch.Generator(),  # leaves the process' random state alone
        )

    def __len__(self) -> int:
        return len(self._order)

    def epoch(self, number: int) -> Iterator[Sample]:
        """The batches of an epoch.

        Args:
            number: Of the epoch; order and augmentation depend on it.

        Raises:
            BodyPoseNetError: An image or a record cannot be read.
        """
        self._order.epoch = number
        try:
            for batch in self._loader:
                if isinstance(batch, BodyPoseNetError):
                    raise batch
                yield batch
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise BodyPoseNetError(
                f"a process that makes training samples has died: {error}",
                "It may have run out of memory: set fewer dataloader.workers.",
            ) from error


class _Order:
    """Lists of (epoch, index), one per batch."""

    def __init__(self, samples: int, batch_size: int, seed: int | None) -> None:
        self._samples = samples
        self._batch_size = min(batch_size, samples)
        self._seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        if self._seed is None:
            return -(-self._samples // self._batch_size)
        return self._samples // self._batch_size

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        indices = np.arange(self._samples)
        if self._seed is not None:
            indices = np.random.default_rng((self._seed, self.epoch)).permutation(self._samples)
        for first in range(0, len(self) * self._batch_size, self._batch_size):
            chosen = indices[first : first + self._batch_size]
            yield [(self.epoch, int(index)) for index in chosen]


def _prepare_worker(_: int) -> None:
    cv2.setNumThreads(0)
    threading.Thread(target=_leave_with_parent, args=(os.getppid(),), daemon=True).start()


def _leave_with_parent(parent: int) -> None:
    """End this worker when the training is killed: it could wait forever to hand over samples."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def make_targets(
    batch: Sample,
    device: torch.device,
    skeleton: Skeleton,
    options: TargetOptions,
    normalization: NormalizationParams,
) -> Targets:
    """Draw what the network should say of a batch.

    Args:
        batch: The batch.
        device: Where to draw.
        skeleton: Joints and limbs.
        options: How to draw.
        normalization: Of the mask.
    """
    height, width = batch.mask.shape[1:]
    heatmaps, pafs = render_targets(
        _to(device, batch.keypoints), _to(device, batch.labelled), skeleton, height, width, options
    )
    heat_weights, paf_weights = channel_weights(_to(device, batch.known), skeleton)
    mask = cell_mask(_to(device, batch.mask), options.stride)
    mask = mask / normalization.mask_scale[0] - normalization.mask_offset[0]
    return Targets(heatmaps, pafs, mask * heat_weights, mask * paf_weights)


def _to(device: torch.device, array: np.ndarray) -> Tensor:
    return torch.from_numpy(array).to(device)
