"""Reader of Keras' HDF5 files (`.hdf5`): trained and pruned models of TAO 5, and other weights.

TAO 5 writes plain files of `keras.models.Model.save`. The names and shapes of the weights describe
the network in full: stages, kernel sizes, and the output channels of pruned layers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from bodyposenet.encryption import HDF5_MAGIC, MAGIC
from bodyposenet.errors import BodyPoseNetError, first_problem
from bodyposenet.model.network import Normalization
from bodyposenet.specs.network import STRIDE, ModelConfig
from bodyposenet.specs.pose import DEFAULT_POSE_CONFIGURATION, bundled_skeleton

_SUFFIXES = (".hdf5", ".h5")

_MAX_BYTES = 2**30
"""Maximum size of the weights; those of TAO's largest network are a fifth of it."""

# Names of a layer's variables in Keras -> in PyTorch; the last two are those of Keras' VGG19.
_KERAS_PARTS = {
    "kernel": "weight", "bias": "bias", "gamma": "weight", "beta": "bias",
    "moving_mean": "running_mean", "moving_variance": "running_var",
    "W_1": "weight", "b_1": "bias",
}  # fmt: skip

_LAYER = re.compile(
    r"(?:^|/)(block_\w+|channel_reduction_conv|stage\d+/(?:\w+/)?\w+|paf_out|heatmap_out)$"
)
"""Name of a TAO layer at the end of a path."""

_FIRST_LAYER, _LAST_LAYER = "block_1a_conv_1", "channel_reduction_conv"
"""First and last convolution of the backbone."""


def is_keras_file(path: str | Path) -> bool:
    """Return whether a file is an HDF5 file, by its first bytes.

    Files that are neither HDF5 nor a container of this package count by their extension, so that a
    damaged HDF5 file is reported as such.

    Raises:
        BodyPoseNetError: The file cannot be read.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(len(HDF5_MAGIC))
    except OSError as error:
        raise BodyPoseNetError(
            f"{path}: cannot be read: {error.strerror}",
            "Check the path; relative paths start from the working directory.",
        ) from error
    return start == HDF5_MAGIC or (path.suffix.lower() in _SUFFIXES and start != MAGIC)


def read_keras_file(path: Path) -> dict[str, Tensor]:
    """Read the variables of a Keras HDF5 file as PyTorch tensors.

    A variable's path ends in `<layer>/kernel:0`. The layer's name may itself contain slashes, and
    may be nested in groups of any depth (`model_weights`, a nested model). In the files of Keras
    Applications, the variable's name repeats the layer's: `block1_conv1/block1_conv1_W_1:0`.

    Args:
        path: The file.

    Returns:
        float32 tensors by name (`<layer>.weight`), with their axes in PyTorch's order.

    Raises:
        BodyPoseNetError: The file is damaged, or its weights are larger than 1 GiB.
    """
    import h5py

    found: dict[str, h5py.Dataset] = {}

    def collect(place: str, item: h5py.Group | h5py.Dataset) -> None:
        """Collect the weights, without the state of the optimizer."""
        is_weight = not place.startswith("optimizer_weights/")
        if is_weight and isinstance(item, h5py.Dataset) and item.dtype.kind == "f":
            found[place] = item

    try:
        with h5py.File(path) as file:
            file.visititems(collect)
            if sum(4 * math.prod(item.shape) for item in found.values()) > _MAX_BYTES:
                raise ValueError(f"more than {_MAX_BYTES // 2**20} MiB of weights")
            variables = {place: np.asarray(item, np.float32) for place, item in found.items()}
    except (OSError, RuntimeError, LookupError, TypeError, ValueError) as error:
        raise BodyPoseNetError(
            f"{path}: not a readable HDF5 file: {error}", "Copy it again; it may be truncated."
        ) from error
    tensors = {}
    for place, value in variables.items():
        scope, _, variable = place.rpartition("/")
        layer = _LAYER.search(scope)
        part = variable.partition(":")[0].removeprefix(f"{scope}_")
        name = f"{layer[1] if layer else scope}.{_KERAS_PARTS.get(part, part)}"
        axes = (3, 2, 0, 1) if value.ndim == 4 else range(value.ndim)
        tensors[name] = torch.from_numpy(np.ascontiguousarray(value.transpose(axes)))
    return tensors


def is_tao_model(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether tensors are those of a complete vgg BodyPoseNet with TAO's skeleton."""
    skeleton = bundled_skeleton(DEFAULT_POSE_CONFIGURATION)
    maps = {"heat": skeleton.heatmap_channels, "paf": skeleton.paf_channels}
    outputs = [f"stage1/{kind}_branch/out" for kind in maps]
    weights = [tensors.get(f"{name}.weight") for name in (*outputs, _FIRST_LAYER, _LAST_LAYER)]
    if any(weight is None or weight.ndim != 4 for weight in weights):
        return False
    return [len(weight) for weight in weights[:2] if weight is not None] == list(maps.values())


def describe_tao_model(
    path: Path, tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Make the header that a model file of this package would have for a model of TAO 5.

    TAO's files contain neither the normalization nor the sigma of the heatmaps; they are taken to
    be as in TAO's specs.

    Args:
        path: The file, for errors.
        tensors: Tensors from `read_keras_file`.

    Returns:
        The header (see `checkpoint.model_header`), and all tensors of the network.

    Raises:
        BodyPoseNetError: The tensors are not those of a complete BodyPoseNet.
    """
    if not is_tao_model(tensors):
        raise BodyPoseNetError(
            f"{path}: the Keras file does not hold a complete BodyPoseNet of TAO (backbone vgg, "
            f"joints of {DEFAULT_POSE_CONFIGURATION})",
            "To start a training from other weights, name the file in pretrained_weights of the "
            "train spec, with load_graph: false.",
        )
    try:
        spec = _network_spec(tensors)
    except (LookupError, ValueError) as error:
        reason = first_problem(error) if isinstance(error, ValidationError) else error
        raise BodyPoseNetError(
            f"{path}: this version cannot build its network: {reason}",
            "The file may have been edited, or written by another program.",
        ) from error
    pixels = Normalization()
    described = {
        "skeleton": bundled_skeleton(DEFAULT_POSE_CONFIGURATION).to_pose_configuration(),
        "network": spec.model_dump(mode="json", by_alias=True, exclude_none=True),
        "widths": {
            name.removesuffix(".weight"): len(tensor)
            for name, tensor in tensors.items()
            if name.endswith(".weight") and tensor.ndim == 4
        },
        "normalization": {"image_scale": pixels.image_scale, "image_offset": pixels.image_offset},
        "stride": STRIDE,
        "epoch": 0,
        "spec": "",
    }
    counters = {  # training steps of batch normalization, which are unused; Keras lacks them
        name.replace("running_mean", "num_batches_tracked"): torch.tensor(0)
        for name in tensors
        if name.endswith(".running_mean")
    }
    return described, {**tensors, **counters}


def _network_spec(tensors: Mapping[str, Tensor]) -> ModelConfig:
    """Return the `model` block of a train spec whose network has these layers."""
    stages = max(
        int(found[1]) for found in (re.match(r"stage(\d+)/", name) for name in tensors) if found
    )
    separate = "stage1/paf_branch/conv1.weight" in tensors
    content: dict[str, Any] = {
        "__class_name__": "BpNetModel" if separate else "BpNetLiteModel",
        "backbone_attributes": {
            "architecture": "vgg",
            "use_bias": f"{_FIRST_LAYER}.bias" in tensors,
        },
        "stages": stages,
        "stage1_kernel_sizes": _kernel_sizes(tensors, 1, separate),
        "use_bias": f"{_LAST_LAYER}.bias" in tensors,
        "use_self_attention": any("/attention_conv." in name for name in tensors),
    }
    if stages > 1:
        content["stageT_kernel_sizes"] = _kernel_sizes(tensors, 2, separate)
    return ModelConfig.model_validate(content)


def _kernel_sizes(tensors: Mapping[str, Tensor], stage: int, separate: bool) -> tuple[int, ...]:
    """Return the kernel sizes of a stage, without the 1x1 convolution that ends each branch."""
    pattern = re.compile(rf"stage{stage}{'/paf_branch' if separate else ''}/conv(\d+)\.weight")
    sizes = {
        int(found[1]): tensor.shape[-1]
        for name, tensor in tensors.items()
        if (found := pattern.fullmatch(name)) is not None
    }
    ordered = tuple(sizes[number] for number in sorted(sizes))
    return ordered[:-1] if separate else ordered
