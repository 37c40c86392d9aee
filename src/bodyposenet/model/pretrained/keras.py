"""Weights in Keras' HDF5 files: those of TAO 5's BodyPoseNet, and of Keras Applications' VGG19."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bodyposenet.errors import BodyPoseNetError

# Keras' names of a layer's variables, at last its VGG19's; kernels are (rows, columns, in, out).
_KERAS_PARTS = {
    "kernel": "weight", "bias": "bias", "gamma": "weight", "beta": "bias",
    "moving_mean": "running_mean", "moving_variance": "running_var",
    "W_1": "weight", "b_1": "bias",
}  # fmt: skip


def read_keras(path: Path, layers: Iterable[str]) -> dict[str, Tensor]:
    """The variables of a Keras HDF5 file, by our names, in torch's order of axes.

    A variable's path ends in `<layer>/kernel:0`; the layer's own name may hold slashes, and groups
    of any depth (`model_weights`, a nested model) may come before it. In the files of Keras
    Applications the variable repeats the layer: `block1_conv1/block1_conv1_W_1:0`.
    """
    import h5py

    variables: dict[str, np.ndarray] = {}

    def collect(place: str, item: h5py.Group | h5py.Dataset) -> None:
        is_number = isinstance(item, h5py.Dataset) and item.dtype.kind == "f"
        if is_number and not place.startswith("optimizer_weights/"):
            variables[place] = np.asarray(item)

    try:
        with h5py.File(path) as file:
            file.visititems(collect)
    except (OSError, RuntimeError, KeyError) as error:  # what h5py makes of damage
        raise BodyPoseNetError(
            f"{path}: not a readable HDF5 file: {error}", "Copy it again; it may be cut short."
        ) from error
    tensors = {}
    for place, value in variables.items():
        scope, _, variable = place.rpartition("/")
        owners = [name for name in layers if f"/{scope}".endswith(f"/{name}")]
        part = variable.partition(":")[0].removeprefix(f"{scope}_")
        name = f"{max(owners, key=len, default=scope)}.{_KERAS_PARTS.get(part, part)}"
        axes = (3, 2, 0, 1) if value.ndim == 4 else range(value.ndim)
        tensors[name] = torch.from_numpy(np.ascontiguousarray(value.transpose(axes)))
    return tensors
