"""A step that does not fit in memory in, an error that names the largest batch that does out."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.training.batches import Batch
from bodyposenet.training.step import Step, StepResult


def step_within_memory(step: Step, batches: Sequence[Batch]) -> StepResult:
    """Do a step.

    Raises:
        BodyPoseNetError: The device's memory is too small.
    """
    try:
        return step(batches)
    except RuntimeError as error:
        if not _is_out_of_memory(error):
            raise
    # Out of the handler: the error held on to all that fills the memory.
    size, largest = len(batches[0]), find_largest(step, batches[0])
    fits = f"of these samples, {largest} fit" if largest else "not even one sample fits"
    raise BodyPoseNetError(
        f"the device's memory is too small for batches of {size}: {fits}",
        "Set a smaller dataloader.batch_size (accumulate_steps keeps the samples per step) or "
        "image_dims, or use --use_amp.",
    )


def find_largest(step: Step, batch: Batch) -> int:
    """How many samples of a batch fit in memory, to an eighth of them; 0: not even one."""
    fits, fails = 0, len(batch)
    while fails - fits > max(fits // 8, 1):
        middle = (fits + fails) // 2
        if _fits(step, batch.first(middle)):
            fits = middle
        else:
            fails = middle
    return fits


def _fits(step: Step, batch: Batch) -> bool:
    try:
        step.try_out(batch)
        return True
    except RuntimeError as error:
        if not _is_out_of_memory(error):
            raise
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return False


def _is_out_of_memory(error: RuntimeError) -> bool:
    """On a GPU, or on the CPU, whose allocator has no error of its own."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
