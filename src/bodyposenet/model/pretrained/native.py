"""Weights of this package's own files: `.tlt`, and float ONNX files of `bpnet export`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from torch import Tensor

from bodyposenet.encryption import METADATA_KEY
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.model.checkpoint import (
    build_network,
    named_tensors,
    read_description,
    read_tensors,
)
from bodyposenet.model.pretrained.weights import PretrainedWeights
from bodyposenet.specs.network import ModelConfig

_EXPORT_AGAIN = "Export the model again, or give its .tlt file."


def read_tlt(path: Path, key: str) -> PretrainedWeights:
    """Read a `.tlt` file.

    Args:
        path: The file.
        key: Its key, if it is sealed.

    Raises:
        BodyPoseNetError: The file cannot be opened, or does not hold tensors.
    """
    header, tensors = read_tensors(path, key)
    if "network" not in header:  # tensors without a description of a network
        return PretrainedWeights(tensors)
    return describe_weights(path, header, tensors)


def describe_weights(
    path: Path, header: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> PretrainedWeights:
    """Combine the tensors of a model file with the description in its header.

    Args:
        path: The file, for errors.
        header: Header of the file, see `checkpoint.model_header`.
        tensors: Tensors of the file.

    Raises:
        BodyPoseNetError: The header is damaged.
    """
    description = read_description(path, header)
    return PretrainedWeights(
        tensors,
        backbone=description.spec.backbone_attributes,
        normalization=description.normalization,
        skeleton=description.skeleton,
        spec=description.spec,
        out_channels=description.out_channels,
        notes=("the model was pruned",) if "pruned" in header else (),
    )


def read_onnx(path: Path) -> PretrainedWeights:
    """Read a float ONNX file of `bpnet export`, in which batch normalization is folded.

    Args:
        path: The file.

    Raises:
        BodyPoseNetError: The file cannot be read, was not written by `bpnet export`, is quantized,
            or is a vgg, which cannot be trained without batch normalization.
    """
    try:
        model = onnx.load(path)
    except (DecodeError, OSError, ValueError) as error:
        raise BodyPoseNetError(
            f"{path}: not a readable ONNX file: {error}", "Copy it again; it may be truncated."
        ) from error
    header = {entry.key: entry.value for entry in model.metadata_props}.get(METADATA_KEY)
    if header is None:
        raise BodyPoseNetError(
            f"{path}: not an ONNX file that `bpnet export` wrote: its header is missing",
            "Give such a file, or the .tlt file of the model.",
        )
    try:
        content = json.loads(header)
    except ValueError as error:
        raise BodyPoseNetError(f"{path}: its header is damaged: {error}", _EXPORT_AGAIN) from error
    if not isinstance(content, dict):
        raise BodyPoseNetError(f"{path}: its header is damaged: not an object", _EXPORT_AGAIN)
    if str(content.get("data_type", "")).startswith("int8"):
        raise BodyPoseNetError(
            f"{path}: quantized to INT8, which a training cannot start from",
            "Give the fp32 or fp16 export of the model, or its .tlt file.",
        )
    description = read_description(path, content)
    # Looked up by their nodes, which have the layers' names, as equal biases share an initializer.
    constants = {constant.name: constant for constant in model.graph.initializer}
    try:
        tensors = {
            f"{node.name}.{part}": torch.from_numpy(
                onnx.numpy_helper.to_array(constants[name]).astype(np.float32)
            )
            for node in model.graph.node
            if node.op_type == "Conv"
            for part, name in zip(("weight", "bias"), node.input[1:], strict=False)
            if name in constants
        }
    except (TypeError, ValueError) as error:
        raise BodyPoseNetError(f"{path}: damaged weights: {error}", _EXPORT_AGAIN) from error
    spec = _without_norms(path, description.spec)
    with torch.device("meta"):
        network = build_network(path, replace(description, spec=spec))
    for name, tensor in named_tensors(network).items():
        if name.endswith(".bias"):  # the exporter omits biases that are all 0
            tensors.setdefault(name, torch.zeros(tensor.shape))
    return PretrainedWeights(
        tensors,
        backbone=spec.backbone_attributes,
        normalization=description.normalization,
        skeleton=description.skeleton,
        spec=spec,
        out_channels=description.out_channels,
    )


def _without_norms(path: Path, spec: ModelConfig) -> ModelConfig:
    """Return the spec of the network without batch normalization."""
    attributes = spec.backbone_attributes
    if attributes.architecture == "vgg":
        if attributes.mtype == "default":
            raise BodyPoseNetError(
                f"{path}: batch normalization of this vgg is folded into its convolutions",
                "Give its .tlt file: a vgg is trained with batch normalization.",
            )
        return spec
    folded = attributes.model_copy(update={"batch_norm": False})
    return spec.model_copy(update={"backbone_attributes": folded})
