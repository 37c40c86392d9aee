"""Weights from elsewhere into a network that is built already: `pretrained_weights`.

What matches by name and shape is copied; what does not is reported, never skipped silently.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.model.checkpoint import read_tensors, tensors_of
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.model.vgg19 import is_vgg19, vgg19_front
from bodyposenet.sealing import HDF5_MAGIC

# Keras' names of a layer's variables, at last its VGG19's; kernels are (rows, columns, in, out).
_KERAS_PARTS = {
    "kernel": "weight", "bias": "bias", "gamma": "weight", "beta": "bias",
    "moving_mean": "running_mean", "moving_variance": "running_var",
    "W_1": "weight", "b_1": "bias",
}  # fmt: skip


@dataclass(frozen=True)
class WeightReport:
    """What came of loading weights, by tensor name (`block_1a_conv_1.weight`).

    Args:
        loaded: Copied.
        missing: The network has them, the file does not: they keep their first values.
        mismatched: Name -> shape in the file and in the network: they keep their first values.
        unused: The file has them, the network does not.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    mismatched: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
    unused: tuple[str, ...]

    def lines(self) -> list[str]:
        """One line per kind that is not empty, for the log."""
        mismatched = [
            f"{name} ({'x'.join(map(str, theirs))} in the file, {'x'.join(map(str, ours))} here)"
            for name, (theirs, ours) in self.mismatched.items()
        ]
        kinds = {
            "missing in the file": self.missing,
            "of another shape": mismatched,
            "unknown to the network": self.unused,
        }
        return [f"{len(self.loaded)} tensors loaded"] + [
            f"{len(names)} tensors {kind}: {', '.join(names)}"
            for kind, names in kinds.items()
            if names
        ]


def load_pretrained(network: BodyPoseNetwork, path: str | Path, key: str = "") -> WeightReport:
    """Copy the weights that match by name and shape into the network.

    Args:
        network: Is changed.
        path: A model of ours (`.tlt`), a Keras file of TAO 5 (`.hdf5`, `.h5`), or VGG19: that of
            Keras Applications (`.h5`), or `.safetensors` with the keys `conv1_1.weight` ...
        key: Key of a sealed model.

    Raises:
        BodyPoseNetError: The file cannot be read, or nothing in it matches.
    """
    path = Path(path)
    own = tensors_of(network)
    if _starts_as_hdf5(path) or path.suffix.lower() in (".hdf5", ".h5"):
        theirs = _read_keras(path, list(network.layers()))
    elif path.suffix.lower() == ".safetensors":
        theirs = _read_safetensors(path)
    else:
        _, theirs = read_tensors(path, key)
    if is_vgg19(theirs):
        theirs = vgg19_front(theirs, network, path)
    report = _copy(own, theirs)
    if not report.loaded:
        raise BodyPoseNetError(
            f"{path}: none of its {len(theirs)} tensors fits a layer of the network by name and "
            "shape",
            "Check that model.backbone_attributes in the train spec describes the same network.",
        )
    return report


def _starts_as_hdf5(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(HDF5_MAGIC)) == HDF5_MAGIC
    except OSError as error:
        raise BodyPoseNetError(
            f"{path}: cannot be read: {error.strerror}",
            "Check the path; it is relative to the working directory.",
        ) from error


def _copy(own: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> WeightReport:
    # A counter of training steps, which Keras does not keep and nothing reads.
    names = [name for name in own if not name.endswith(".num_batches_tracked")]
    found = [name for name in names if name in theirs]
    loaded = [name for name in found if own[name].shape == theirs[name].shape]
    for name in loaded:
        own[name].copy_(theirs[name])
    return WeightReport(
        loaded=tuple(loaded),
        missing=tuple(name for name in names if name not in theirs),
        mismatched={
            name: (tuple(theirs[name].shape), tuple(own[name].shape))
            for name in found
            if name not in loaded
        },
        unused=tuple(name for name in theirs if name not in own),
    )


def _read_keras(path: Path, layers: list[str]) -> dict[str, Tensor]:
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


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise BodyPoseNetError(
            f"{path}: not a readable safetensors file: {error}",
            "Copy it again; it may be cut short.",
        ) from error
