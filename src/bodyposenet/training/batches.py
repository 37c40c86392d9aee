"""A sample set in, batches of tensors out: the share of each rank, from any step on."""

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
from bodyposenet.training.signals import SIGNALS, leave_with_parent

_MOST_DEFAULT_WORKERS = 16
_TOLD_ONE_BY_ONE = 10


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples side by side, as tensors; see `data.dataset.Sample`.

    Args:
        image: (B, H, W, 3) uint8 RGB.
        mask: (B, H, W) uint8.
        keypoints: (B, P, K, 2) float32 in network pixels.
        labelled: (B, P, K) bool.
        known: (B, K) bool.
        color: (B, 3, 4) float32, a map of colors for each image; None: they stay.
        blur: (B,) float32, deviation in network pixels; None with `color`.
        without_mask: How many records had no mask file.
        unreadable: Why other records took the place of some.
        teacher_heatmaps: (B, K + 1, h, w) float32, precomputed maps of a teacher; None, like the
            next two, where there are none.
        teacher_pafs: (B, 2 L, h, w) float32.
        teacher_cells: (B, h, w) bool, where the teacher's maps count.
        without_maps: How many photos had no teacher maps.
        out_of_scale: How many samples were too large or too small for their teacher maps.
    """

    image: Tensor
    mask: Tensor
    keypoints: Tensor
    labelled: Tensor
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
    def of(cls, samples: Sequence[Sample | BodyPoseNetError]) -> Self | BodyPoseNetError:
        """Stack samples; the first error, if there is one."""
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
        """The batch on a device; from pinned memory the copy runs beside everything else."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Self:
        """The batch where a GPU can fetch it; DataLoader calls this."""
        return self._each(Tensor.pin_memory)

    def first(self, samples: int) -> Self:
        """The first samples of the batch."""
        return self._each(lambda tensor: tensor[:samples])

    def _each(self, function: Callable[[Tensor], Tensor]) -> Self:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
        return replace(self, **{name: function(tensor) for name, tensor in tensors.items()})


class Batches:
    """Batches of a sample set, epoch by epoch.

    Batch i of rank r is batch i x ranks + r of all ranks together, so that any number of ranks
    sees the same samples in the same steps.

    Args:
        samples: The samples.
        batch_size: Samples per batch and rank.
        ranks: Who shares the samples.
        workers: Processes that make samples; None: one per core but one.
        seed: Of the order; None keeps the order of the records and the left-over batch.
        per_step: Batches of a rank per step; an epoch is whole steps, the rest is not used.
        most_unreadable: Share of a rank's samples per epoch that others may replace; one at least,
            but for 0.

    Raises:
        BodyPoseNetError: There are fewer samples than ranks.
    """

    def __init__(
        self,
        samples: SampleSet,
        batch_size: int,
        ranks: DistributedContext,
        *,
        workers: int | None = 0,
        seed: int | None = None,
        per_step: int = 1,
        most_unreadable: float = 0.0,
    ) -> None:
        if workers is None:
            cores = usable_cores() // ranks.on_machine
            workers = min(max(cores - 1, 0), _MOST_DEFAULT_WORKERS)
        ended = multiprocessing.Event()
        atexit.register(ended.set)  # runs before multiprocessing ends the workers
        self._order = _Order(len(samples), batch_size, ranks, seed, per_step)
        share = most_unreadable * len(self) * self._order.batch_size
        self._most_unreadable = max(int(share), 1) if most_unreadable else 0
        self._loader = DataLoader(
            samples,  # type: ignore[arg-type]
            batch_sampler=self._order,
            num_workers=workers,
            collate_fn=Batch.of,
            pin_memory=ranks.device.type == "cuda",
            persistent_workers=workers > 0,
            worker_init_fn=partial(_prepare_worker, ended),
            generator=torch.Generator(),  # leaves the process' random state alone
        )

    def __len__(self) -> int:
        """Batches of this rank in an epoch."""
        return len(self._order)

    @property
    def samples_per_step(self) -> int:
        """Of all ranks together."""
        return self._order.samples_per_step

    def run(self, epochs: range, done: int = 0) -> Iterator[Batch]:
        """The batches of these epochs; workers go on with the next while one is being ended.

        Args:
            epochs: Their numbers; order and augmentation depend on them.
            done: Batches of the first epoch that are left out.

        Raises:
            BodyPoseNetError: Too many images or records cannot be read.
        """
        self._order.epochs, self._order.done = epochs, done
        unreadable = 0
        for number, batch in enumerate(self._loader, done + 1):
            if isinstance(batch, BodyPoseNetError):
                raise batch
            unreadable = self._count_unreadable(batch, unreadable)
            yield batch
            if number % len(self) == 0:
                if unreadable > _TOLD_ONE_BY_ONE:
                    logger.error("%d samples of the epoch could not be read", unreadable)
                unreadable = 0

    def _count_unreadable(self, batch: Batch, before: int) -> int:
        """Tell what could not be read; how much it is in this epoch by now."""
        for number, error in enumerate(batch.unreadable, before + 1):
            if number > self._most_unreadable:
                raise BodyPoseNetError(
                    f"{error.what} (unreadable samples in this epoch: {number}, "
                    f"allowed: {self._most_unreadable})",
                    f"{error.remedy} dataloader.max_unreadable_share can allow more.".strip(),
                )
            if number <= _TOLD_ONE_BY_ONE:
                logger.error("another sample takes the place of one: %s", error.what)
        return before + len(batch.unreadable)


class _Order:
    """Lists of (epoch, index), one per batch of this rank."""

    def __init__(
        self,
        samples: int,
        batch_size: int,
        ranks: DistributedContext,
        seed: int | None,
        per_step: int,
    ) -> None:
        together = ranks.count * per_step
        if seed is not None and samples < together:
            raise BodyPoseNetError(
                f"{samples} samples are too few for {together} batches per step",
                "Use fewer GPUs, or a smaller accumulate_steps.",
            )
        self.batch_size = min(batch_size, samples if seed is None else samples // together)
        if self.batch_size < batch_size:
            logger.info("the batch size is %d: there are no more samples", self.batch_size)
        self.samples_per_step = self.batch_size * together
        self.epochs, self.done = range(1), 0
        self._samples, self._seed, self._ranks = samples, seed, ranks
        self._batches = samples // self.samples_per_step * together
        if seed is None:
            self._batches = -(-samples // self.batch_size)

    def __len__(self) -> int:
        return len(self._places())

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for epoch in self.epochs:
            if self._seed is None:
                indices = np.arange(self._samples)
            else:
                indices = np.random.default_rng((self._seed, epoch)).permutation(self._samples)
            done = self.done if epoch == self.epochs[0] else 0
            for place in self._places()[done:]:
                chosen = indices[place * self.batch_size : (place + 1) * self.batch_size]
                yield [(epoch, int(index)) for index in chosen]

    def _places(self) -> range:
        """Which of all batches of an epoch are this rank's."""
        return range(self._ranks.rank, self._batches, self._ranks.count)


@contextmanager
def worker_deaths_explained() -> Iterator[None]:
    """Torch says that a worker has died wherever its owner is, most often within a step.

    Raises:
        BodyPoseNetError: A worker has died.
    """
    try:
        yield
    except (RuntimeError, ConnectionError, EOFError) as error:  # the latter while it hands over
        if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
            raise
        if hasattr(signal, "SIGCHLD"):  # torch would say so again while the others are ended
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        raise BodyPoseNetError(
            f"a process that makes training samples has died: {error}",
            "It may have run out of memory: set fewer dataloader.workers.",
        ) from error


def _prepare_worker(ended: Event, _: int) -> None:
    """A cluster may signal every process; a worker leaves when the training does."""
    cv2.setNumThreads(0)
    for number in SIGNALS:
        signal.signal(number, lambda *_: os._exit(0) if ended.is_set() else None)
    leave_with_parent()  # it could wait forever to hand over samples
