"""Choice of the GPUs that this process uses."""

from __future__ import annotations

import os
from collections.abc import Sequence

from bodyposenet.errors import BodyPoseNetError


def select_gpus(indices: Sequence[int]) -> str:
    """Choose among the GPUs that this process may use.

    A scheduler hands out GPUs by setting `CUDA_VISIBLE_DEVICES`, to indices or UUIDs; an index then
    means a place in that list.

    Args:
        indices: Which GPUs, counted from 0.

    Returns:
        The new value of `CUDA_VISIBLE_DEVICES`.

    Raises:
        BodyPoseNetError: An index lies outside the list.
    """
    value = os.environ.get("CUDA_VISIBLE_DEVICES")
    if value is None:
        return ",".join(map(str, indices))
    visible = _read_list(value)
    for index in indices:
        if not 0 <= index < len(visible):
            names = "GPU" if len(visible) == 1 else "GPUs"
            raise BodyPoseNetError(
                f"--gpu_index {index}: CUDA_VISIBLE_DEVICES={value} leaves {len(visible)} {names}",
                f"Choose from 0 to {len(visible) - 1}: indices are places in that list."
                if visible
                else "Leave --gpu_index out, or set CUDA_VISIBLE_DEVICES to the GPUs to use.",
            )
    return ",".join(visible[index] for index in indices)


def _read_list(value: str) -> list[str]:
    """The GPUs of a value of `CUDA_VISIBLE_DEVICES`; as in CUDA, an invalid one ends the list."""
    visible = []
    for name in map(str.strip, value.split(",")):
        if not (name.isdecimal() or name.startswith(("GPU-", "MIG-"))):
            break
        visible.append(name)
    return visible
