"""Keras' HDF5 files: trained and pruned models of TAO 5's BodyPoseNet, and other weights.

TAO 5 writes plain files of `keras.models.Model.save`, which name every layer. With the names and
the shapes of its weights a model is described in full: stages, kernel sizes, pruned out_channels.
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
from bodyposenet.specs.pose import DEFAULT_POSE_CONFIGURATION, load_skeleton

_SUFFIXES = (".hdf5", ".h5")

_LARGEST = 2**30
"""Bytes of weights that are read: TAO's largest network has a fifth of it."""

# Keras' names of a layer's variables, at last its VGG19's; kernels are (rows, columns, in, out).
_KERAS_PARTS = {
    "kernel": "weight", "bias": "bias", "gamma": "weight", "beta": "bias",
    "moving_mean": "running_mean", "moving_variance": "running_var",
    "W_1": "weight", "b_1": "bias",
}  # fmt: skip

_LAYER = re.compile(
    r"(?:^|/)(block_\w+|channel_reduction_conv|stage\d+/(?:\w+/)?\w+|paf_out|heatmap_out)$"
)
"""The name of a TAO layer at the end of a path."""

_FIRST, _FEATURES = "block_1a_conv_1", "channel_reduction_conv"


def is_keras_file(path: str | Path) -> bool:
    """Whether a file is Keras', by its content, or by its name where the content is damaged.

    Raises:
        BodyPoseNetError: It cannot be read.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(len(HDF5_MAGIC))
    except OSError as error:
        raise BodyPoseNetError(
            f"{path}: cannot be read: {error.strerror}",
            "Check the path; it is relative to the working directory.",
        ) from error
    return start == HDF5_MAGIC or (path.suffix.lower() in _SUFFIXES and start != MAGIC)


def read_keras_file(path: Path) -> dict[str, Tensor]:
    """The variables of a Keras HDF5 file, by our names, in torch's order of axes, as float32.

    A variable's path ends in `<layer>/kernel:0`; the layer's own name may hold slashes, and groups
    of any depth (`model_weights`, a nested model) may come before it. In the files of Keras
    Applications the variable repeats the layer: `block1_conv1/block1_conv1_W_1:0`.

    Raises:
        BodyPoseNetError: The file is damaged.
    """
    import h5py

    found: dict[str, h5py.Dataset] = {}

    def collect(place: str, item: h5py.Group | h5py.Dataset) -> None:
        is_weight = not place.startswith("optimizer_weights/")
        if is_weight and isinstance(item, h5py.Dataset) and item.dtype.kind == "f":
            found[place] = item

    try:
        with h5py.File(path) as file:
            file.visititems(collect)
            if sum(4 * math.prod(item.shape) for item in found.values()) > _LARGEST:
                raise ValueError(f"more than {_LARGEST // 2**20} MiB of weights")
            variables = {place: np.asarray(item, np.float32) for place, item in found.items()}
    except (OSError, RuntimeError, LookupError, TypeError, ValueError) as error:
        raise BodyPoseNetError(
            f"{path}: not a readable HDF5 file: {error}", "Copy it again; it may be cut short."
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
    """Whether the tensors of a file are a whole BodyPoseNet on vgg, with TAO's joints and limbs."""
    skeleton = load_skeleton(DEFAULT_POSE_CONFIGURATION)
    maps = {"heat": skeleton.heatmap_channels, "paf": skeleton.paf_channels}
    outputs = [f"stage1/{kind}_branch/out" for kind in maps]
    weights = [tensors.get(f"{name}.weight") for name in (*outputs, _FIRST, _FEATURES)]
    if any(weight is None or weight.ndim != 4 for weight in weights):
        return False
    return [len(weight) for weight in weights[:2] if weight is not None] == list(maps.values())


def describe_tao_model(
    path: Path, tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Describe a model of TAO 5, trained or pruned, as the header of a model file does.

    How its pixels are normalized and the sigma of its heatmaps stand in no such file: they are
    taken to be as in all specs of TAO.

    Args:
        path: The file, for errors.
        tensors: From `read_keras_file`.

    Returns:
        The header (see `checkpoint.model_header`), and the tensors of the network.

    Raises:
        BodyPoseNetError: They are not those of such a model.
    """
    if not is_tao_model(tensors):
        raise BodyPoseNetError(
            f"{path}: a Keras file, but not a whole BodyPoseNet of TAO with the backbone vgg and "
            f"the joints of {DEFAULT_POSE_CONFIGURATION}",
            "Weights for a start are named as pretrained_weights of a training, with load_graph: "
            "false.",
        )
    try:
        spec = _network_spec(tensors)
    except (LookupError, ValueError) as error:
        reason = first_problem(error) if isinstance(error, ValidationError) else error
        raise BodyPoseNetError(
            f"{path}: this version cannot build its network: {reason}",
            "The file may have been edited, or be of another program.",
        ) from error
    pixels = Normalization()
    described = {
        "skeleton": load_skeleton(DEFAULT_POSE_CONFIGURATION).to_pose_configuration(),
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
    counters = {  # of training steps, which Keras does not keep and nothing reads
        name.replace("running_mean", "num_batches_tracked"): torch.tensor(0)
        for name in tensors
        if name.endswith(".running_mean")
    }
    return described, {**tensors, **counters}


def _network_spec(tensors: Mapping[str, Tensor]) -> ModelConfig:
    """The model block of the train spec that gives a network of these layers."""
    stages = max(
        int(found[1]) for found in (re.match(r"stage(\d+)/", name) for name in tensors) if found
    )
    separate = "stage1/paf_branch/conv1.weight" in tensors
    content: dict[str, Any] = {
        "__class_name__": "BpNetModel" if separate else "BpNetLiteModel",
        "backbone_attributes": {"architecture": "vgg", "use_bias": f"{_FIRST}.bias" in tensors},
        "stages": stages,
        "stage1_kernel_sizes": _kernel_sizes(tensors, 1, separate),
        "use_bias": f"{_FEATURES}.bias" in tensors,
        "use_self_attention": any("/attention_conv." in name for name in tensors),
    }
    if stages > 1:
        content["stageT_kernel_sizes"] = _kernel_sizes(tensors, 2, separate)
    return ModelConfig.model_validate(content)


def _kernel_sizes(tensors: Mapping[str, Tensor], stage: int, separate: bool) -> tuple[int, ...]:
    """Of a stage's row of convolutions; in separate branches a hidden 1x1 convolution ends it."""
    row = re.compile(rf"stage{stage}{'/paf_branch' if separate else ''}/conv(\d+)\.weight")
    sizes = {
        int(found[1]): tensor.shape[-1]
        for name, tensor in tensors.items()
        if (found := row.fullmatch(name)) is not None
    }
    ordered = tuple(sizes[number] for number in sorted(sizes))
    return ordered[:-1] if separate else ordered
