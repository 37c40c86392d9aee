"""Data loading: batches of training samples as tensors, distributed over the ranks."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import partial
from multiprocessing.synchronize import Event
from typing import Any, Self

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from bodyposenet.console import logger
from bodyposenet.cpu import usable_cores
from bodyposenet.data.dataset import Sample, SampleSet, collate
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.training.distributed import DistributedContext
from bodyposenet.training.signals import SIGNALS, exit_with_parent

_MAX_DEFAULT_WORKERS = 16
_MAX_LOGGED_ERRORS = 10
"""Unreadable samples per epoch that are logged one by one; after that, only their number."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Training samples stacked as tensors; see `data.dataset.Sample`.

    Args:
        image: (B, H, W, 3) uint8 RGB.
        mask: (B, H, W) uint8.
        keypoints: (B, P, K, 2) float32, in pixels of the network input.
        labeled: (B, P, K) bool.
        known: (B, K) bool.
        color: (B, 3, 4) float32, color matrix of each image, or None without color augmentation.
        blur: (B,) float32, sigma of each image's blur in pixels, or None like `color`.
        without_mask: Number of samples that have no mask file.
        unreadable: Errors of the samples that could not be read; others take their place.
        teacher_heatmaps: (B, K + 1, h, w) float32, precomputed maps of a teacher; None, like the
            next two, without a precomputed teacher.
        teacher_pafs: (B, 2 L, h, w) float32.
        teacher_cells: (B, h, w) bool, the cells where the teacher's maps are valid.
        without_maps: Number of samples whose photo has no teacher maps.
        out_of_scale: Number of samples that are too large or too small for their teacher maps.
    """

    image: Tensor
    mask: Tensor
    keypoints: Tensor
    labeled: Tensor
    known: Tensor
    color: Tensor | None = None
    blur: Tensor | None = None
    without_mask: int = 0
    unreadable: tuple[BodyPoseNetError, ...] = ()
    teacher_heatmaps: Tensor | None = None
    teacher_pafs: Tensor | None = None
    teacher_cells: Tensor | None = None
    without_maps: int = 0
    out_of_scale: int = 0

    @classmethod
    def collate(cls, samples: Sequence[Sample | BodyPoseNetError]) -> Self | BodyPoseNetError:
        """Stack samples into a batch, or return the first error among them."""
        batch = collate(samples)
        if isinstance(batch, BodyPoseNetError):
            return batch
        values: dict[str, Any] = {field.name: getattr(batch, field.name) for field in fields(cls)}
        for name, value in values.items():
            if isinstance(value, np.ndarray):
                values[name] = torch.from_numpy(value)
        return cls(**values)

    def __len__(self) -> int:
        return len(self.image)

    def to(self, device: torch.device) -> Self:
        """Return the batch on a device. From pinned memory, the copy is asynchronous."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Self:
        """Return the batch in pinned memory; called by the DataLoader."""
        return self._map(Tensor.pin_memory)

    def first(self, count: int) -> Self:
        """Return a batch of the first samples."""
        return self._map(lambda tensor: tensor[:count])

    def _map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Apply a function to all tensors."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
        return replace(self, **{name: function(tensor) for name, tensor in tensors.items()})


class BatchLoader:
    """Loads batches of a sample set, epoch by epoch, in worker processes.

    Batch i of rank r is batch i * world_size + r of all ranks together, so that any number of ranks
    trains on the same samples in the same steps.

    Args:
        samples: The samples.
        batch_size: Samples per batch and rank.
        distributed: The ranks that share the samples.
        workers: Number of worker processes, or None for one less than the number of CPU cores.
        seed: Seed of the order, or None to keep the order of the records and the last, smaller
            batch.
        accumulate_steps: Batches of a rank per step. An epoch is a whole number of steps; the
            remaining samples are dropped.
        max_unreadable_share: Largest share of a rank's samples per epoch that may be unreadable and
            are replaced by others. 0 allows none; any other share allows at least one.

    Raises:
        BodyPoseNetError: There are fewer samples than batches per step.
    """

    def __init__(
        self,
        samples: SampleSet,
        batch_size: int,
        distributed: DistributedContext,
        *,
        workers: int | None = 0,
        seed: int | None = None,
        accumulate_steps: int = 1,
        max_unreadable_share: float = 0.0,
    ) -> None:
        if workers is None:
            cores = usable_cores() // distributed.local_world_size
            workers = min(max(cores - 1, 0), _MAX_DEFAULT_WORKERS)
        exiting = multiprocessing.Event()
        atexit.register(exiting.set)  # Runs before multiprocessing terminates the workers.
        self._sampler = _BatchSampler(len(samples), batch_size, distributed, seed, accumulate_steps)
        max_unreadable = max_unreadable_share * len(self) * self._sampler.batch_size
        self._max_unreadable = max(int(max_unreadable), 1) if max_unreadable_share else 0
        self._loader = DataLoader(
            samples,  # type: ignore[arg-type]
            batch_sampler=self._sampler,
            num_workers=workers,
            collate_fn=Batch.collate,
            pin_memory=distributed.device.type == "cuda",
            persistent_workers=workers > 0,
            worker_init_fn=partial(_init_worker, exiting),
            generator=torch.Generator(),  # Keeps the global random state unchanged.
        )

    def __len__(self) -> int:
        """Return the number of batches of this rank in an epoch."""
        return len(self._sampler)

    @property
    def samples_per_step(self) -> int:
        """Samples of all ranks per step of the optimizer."""
        return self._sampler.samples_per_step

    def iterate(self, epochs: range, skip: int = 0) -> Iterator[Batch]:
        """Iterate over the batches of several epochs.

        The workers load batches of the next epoch while the previous one ends.

        Args:
            epochs: Numbers of the epochs, on which the order and the augmentation depend.
            skip: Number of batches of the first epoch to skip.

        Raises:
            BodyPoseNetError: Too many images or records cannot be read.
        """
        self._sampler.epochs, self._sampler.skip = epochs, skip
        unreadable = 0
        for number, batch in enumerate(self._loader, skip + 1):
            if isinstance(batch, BodyPoseNetError):
                raise batch
            unreadable = self._count_unreadable(batch, unreadable)
            yield batch
            if number % len(self) == 0:
                if unreadable > _MAX_LOGGED_ERRORS:
                    logger.error("%d samples of this epoch could not be read", unreadable)
                unreadable = 0

    def _count_unreadable(self, batch: Batch, before: int) -> int:
        """Log the unreadable samples of a batch, and return their number in this epoch so far."""
        for number, error in enumerate(batch.unreadable, before + 1):
            if number > self._max_unreadable:
                raise BodyPoseNetError(
                    f"{error.what} (unreadable samples in this epoch: {number}, "
                    f"allowed: {self._max_unreadable})",
                    f"{error.remedy} To allow more, raise dataloader.max_unreadable_share.".strip(),
                )
            if number <= _MAX_LOGGED_ERRORS:
                logger.error("Unreadable sample, replaced by another one: %s", error.what)
        return before + len(batch.unreadable)


class _BatchSampler:
    """Batch sampler that yields a list of (epoch, index) for every batch of this rank."""

    def __init__(
        self,
        samples: int,
        batch_size: int,
        distributed: DistributedContext,
        seed: int | None,
        accumulate_steps: int,
    ) -> None:
        batches_per_step = distributed.world_size * accumulate_steps
        if seed is not None and samples < batches_per_step:
            raise BodyPoseNetError(
                f"{samples} samples are too few for {batches_per_step} batches per step",
                "Use fewer GPUs, or a smaller accumulate_steps.",
            )
        self.batch_size = min(batch_size, samples if seed is None else samples // batches_per_step)
        if self.batch_size < batch_size:
            logger.info(
                "Batch size reduced to %d: there are only %d samples", self.batch_size, samples
            )
        self.samples_per_step = self.batch_size * batches_per_step
        self.epochs, self.skip = range(1), 0
        self._samples, self._seed, self._distributed = samples, seed, distributed
        self._batches = samples // self.samples_per_step * batches_per_step
        if seed is None:
            self._batches = -(-samples // self.batch_size)

    def __len__(self) -> int:
        return len(self._batch_numbers())

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for epoch in self.epochs:
            if self._seed is None:
                indices = np.arange(self._samples)
            else:
                indices = np.random.default_rng((self._seed, epoch)).permutation(self._samples)
            skip = self.skip if epoch == self.epochs[0] else 0
            for number in self._batch_numbers()[skip:]:
                chosen = indices[number * self.batch_size : (number + 1) * self.batch_size]
                yield [(epoch, int(index)) for index in chosen]

    def _batch_numbers(self) -> range:
        """Return the numbers of this rank's batches among all batches of an epoch."""
        return range(self._distributed.rank, self._batches, self._distributed.world_size)


@contextmanager
def explain_worker_death() -> Iterator[None]:
    """Turn torch's errors about a dead DataLoader worker into one that users can act on.

    Torch raises them in the main process at any moment, most often within a step.

    Raises:
        BodyPoseNetError: A worker has died.
    """
    try:
        yield
    except (RuntimeError, ConnectionError, EOFError) as error:
        # ConnectionError and EOFError: the worker died while it transferred a batch.
        if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
            raise
        if hasattr(signal, "SIGCHLD"):  # Torch raises again while the others terminate.
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        raise BodyPoseNetError(
            f"a DataLoader worker process has died: {error}",
            "It may have run out of memory: reduce dataloader.workers.",
        ) from error


def _init_worker(exiting: Event, _: int) -> None:
    """Set up a worker process.

    Schedulers may send a signal to all processes. Workers ignore it until the training exits, so
    that the current step can be finished and saved.
    """
    cv2.setNumThreads(0)
    for number in SIGNALS:
        signal.signal(number, lambda *_: os._exit(0) if exiting.is_set() else None)
    exit_with_parent()  # A worker whose parent was killed would wait forever to deliver samples.
