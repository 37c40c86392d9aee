"""Published weights of lightweight OpenPose, converted to the layer names of `BodyPoseNetwork`.

There are two sources: human-pose-estimation-0001 of the Open Model Zoo (read by `open_model_zoo`),
and the checkpoints of Daniil-Osokin/lightweight-human-pose-estimation.pytorch. The tensors of both
have the names of the latter. Both predict the joints and limbs of `bpnet_18joints.json`, in that
order.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils.fusion import fuse_conv_bn_weights

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.model.architectures.lightweight_openpose import (
    BLOCKS,
    CONTEXT_BLOCKS,
    REFINEMENT_BLOCKS,
)
from bodyposenet.model.network import Normalization
from bodyposenet.model.pretrained.weights import PretrainedWeights
from bodyposenet.specs.network import BackboneAttributes, ModelConfig
from bodyposenet.specs.pose import DEFAULT_POSE_CONFIGURATION, bundled_skeleton

_FIRST = "block_1a_conv_1"
_NORMALIZATION = Normalization((256.0, 256.0, 256.0), (0.5, 0.5, 0.5))
_NORM_EPS = 1e-5
_GRANULARITY = 8
"""Convolution kernels are fastest if the number of channels is a multiple of this."""


def is_lightweight_openpose(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether tensors are those of lightweight OpenPose, by their names."""
    first = tensors.get("model.0.0.weight")
    return "cpm.align.0.weight" in tensors and first is not None and first.ndim == 4


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read a PyTorch checkpoint of the published training code.

    Args:
        path: A file of `torch.save` with the key `state_dict`, such as checkpoint_iter_370000.pth.

    Returns:
        Tensors by the names of the file; the first convolution is converted from BGR to RGB.

    Raises:
        BodyPoseNetError: The file cannot be read, contains code, or is of another network.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise BodyPoseNetError(
            f"{path}: not a PyTorch file of tensors only: {_first_line(error)}",
            "Files that may run code when they are loaded are refused. Save only the state_dict: "
            "torch.save({'state_dict': network.state_dict()}, path).",
        ) from error
    except Exception as error:  # damaged files raise many types
        raise BodyPoseNetError(
            f"{path}: not a readable PyTorch file: {_first_line(error)}",
            "Copy it again; it may be truncated.",
        ) from error
    state = content.get("state_dict", content) if isinstance(content, dict) else {}
    state = state if isinstance(state, dict) else {}
    tensors = {
        str(name).removeprefix("module."): value.float()
        for name, value in state.items()
        if isinstance(value, Tensor)
    }
    if not is_lightweight_openpose(tensors):
        raise BodyPoseNetError(
            f"{path}: not a checkpoint of lightweight OpenPose: it has no state_dict with "
            "model.0.0.weight and cpm.align.0.weight",
            "Give the checkpoint of Daniil-Osokin/lightweight-human-pose-estimation.pytorch.",
        )
    tensors["model.0.0.weight"] = tensors["model.0.0.weight"].flip(1)  # trained on BGR
    return tensors


def _first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its type if the message is empty."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def convert(
    tensors: Mapping[str, Tensor], *, keep_norms: bool, keep_inactive_channels: bool
) -> PretrainedWeights:
    """Convert published tensors to those of the architecture `lightweight_openpose`.

    Args:
        tensors: Tensors by the names of the published code; the input of the first convolution is
            RGB, pixel / 256 - 0.5.
        keep_norms: Whether to keep batch normalization; otherwise, it is folded into the
            convolutions.
        keep_inactive_channels: Whether to keep channels that are always 0 (see
            `_remove_inactive_channels`).
    """
    stages = 2 + max(
        (
            int(found[1])
            for name in tensors
            if (found := re.match(r"refinement_stages\.(\d+)", name))
        ),
        default=-1,
    )
    names = _layer_names(stages)
    converted = {}
    for name, tensor in tensors.items():
        layer, _, part = name.rpartition(".")
        converted[f"{names.get(layer, layer)}.{part}"] = tensor
    for layer in [
        name.removesuffix(".weight") for name in converted if name.endswith("_conv_1.weight")
    ]:
        if layer.startswith("context_"):  # the published context module has no biases
            converted.setdefault(f"{layer}.bias", torch.zeros(len(converted[f"{layer}.weight"])))
            depthwise = layer.replace("_conv_1", "_dwconv_1")
            converted.setdefault(
                f"{depthwise}.bias", torch.zeros(len(converted[f"{depthwise}.weight"]))
            )
    has_norms = any(name.endswith(".running_mean") for name in converted)
    notes: list[str] = []
    if has_norms and not keep_norms:
        converted = _fold_norms(converted)
        notes.append("batch normalization was folded into the convolutions")
    if not (has_norms and keep_norms):
        notes += _remove_inactive_channels(converted, keep_inactive_channels=keep_inactive_channels)
    attributes = BackboneAttributes(
        architecture="lightweight_openpose",
        mtype="open_model_zoo" if "context_reduce_conv.weight" in converted else "default",
        batch_norm=has_norms and keep_norms,
    )
    skeleton = bundled_skeleton(DEFAULT_POSE_CONFIGURATION)
    out_channels = {
        name.removesuffix(".weight"): len(tensor)
        for name, tensor in converted.items()
        if name.endswith(".weight") and tensor.ndim == 4
    }
    outputs = out_channels.get("heatmap_out", out_channels.get("stage1/heat_branch/out"))
    return PretrainedWeights(
        converted,
        backbone=attributes,
        normalization=_NORMALIZATION,
        skeleton=skeleton if outputs == skeleton.heatmap_channels else None,
        spec=ModelConfig(backbone_attributes=attributes, stages=stages),
        out_channels=out_channels,
        notes=tuple(notes),
    )


def _layer_names(stages: int) -> dict[str, str]:
    """Map the published layer names to those of the network."""
    names = {"model.0.0": _FIRST, "model.0.1": "block_1a_bn_1"}
    for index, (block, *_) in enumerate(BLOCKS, start=1):
        for place, layer in ((0, "dwconv_1"), (1, "dwbn_1"), (3, "conv_1"), (4, "bn_1")):
            names[f"model.{index}.{place}"] = f"block_{block}_{layer}"
    names |= {
        "cpm.align.0": "channel_reduction_conv",
        "cpm.reduce.0": "context_reduce_conv",
        "cpm.conv.0": "context_conv",
    }
    for index, block in enumerate(CONTEXT_BLOCKS):
        names[f"cpm.trunk.{index}.0"] = f"context_{block}_dwconv_1"
        names[f"cpm.trunk.{index}.2"] = f"context_{block}_conv_1"
    for index in range(3):
        names[f"initial_stage.trunk.{index}.0"] = f"stage1/conv{index + 1}"
    names |= _branches("initial_stage", 1, 4, is_last=False)
    for stage in range(2, stages + 1):
        published, stage_name = f"refinement_stages.{stage - 2}", f"stage{stage}"
        for index in range(REFINEMENT_BLOCKS):
            block = f"{stage_name}/block{index + 1}"
            names[f"{published}.trunk.{index}.initial.0"] = f"{block}/conv1"
            for layer in (2, 3):
                place = f"{published}.trunk.{index}.trunk.{layer - 2}"
                names |= {f"{place}.0": f"{block}/conv{layer}", f"{place}.1": f"{block}/bn{layer}"}
        names |= _branches(published, stage, 1 + REFINEMENT_BLOCKS, is_last=stage == stages)
    return names


def _branches(published: str, stage: int, layer: int, *, is_last: bool) -> dict[str, str]:
    """Map the published layer names of a stage's two branches."""
    heatmaps, pafs = f"stage{stage}/heat_branch/out", f"stage{stage}/paf_branch/out"
    return {
        f"{published}.heatmaps.0.0": f"stage{stage}/cmap/conv{layer}",
        f"{published}.heatmaps.1.0": "heatmap_out" if is_last else heatmaps,
        f"{published}.pafs.0.0": f"stage{stage}/paf/conv{layer}",
        f"{published}.pafs.1.0": "paf_out" if is_last else pafs,
    }


def _fold_norms(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Fold every batch normalization into the convolution before it."""
    folded = dict(tensors)
    for name in tensors:
        if not name.endswith(".running_mean"):
            continue
        norm = name.removesuffix(".running_mean")
        layer = re.sub(r"bn(?=_1$|\d$)", "conv", norm)
        weight, bias = fuse_conv_bn_weights(
            folded[f"{layer}.weight"], folded.get(f"{layer}.bias"),
            folded.pop(f"{norm}.running_mean"), folded.pop(f"{norm}.running_var"), _NORM_EPS,
            folded.pop(f"{norm}.weight"), folded.pop(f"{norm}.bias"),
        )  # fmt: skip
        folded.pop(f"{norm}.num_batches_tracked", None)
        folded[f"{layer}.weight"], folded[f"{layer}.bias"] = weight.detach(), bias.detach()
    return folded


def _remove_inactive_channels(
    tensors: dict[str, Tensor], *, keep_inactive_channels: bool
) -> list[str]:
    """Remove channels between MobileNet's blocks that are 0 for every image; the maps stay equal.

    Such a channel has a kernel of zeros and, before its ReLU, a bias of at most 0. The output of
    the depthwise convolution after it is then its own bias everywhere, including the border, and is
    folded into the next bias. The number of channels of a block stays a multiple of 8. Inactive
    channels that remain get depthwise kernels of 0, because the original ones may be so large that
    they impair the scales of INT8.

    Args:
        tensors: Tensors by the names of the network, modified in place.
        keep_inactive_channels: Whether to remove no channel, only set their depthwise kernels to 0.

    Returns:
        A note for each block from which channels were removed.
    """
    notes = []
    blocks = [block for block, *_ in BLOCKS]
    for block, following in zip(blocks, [*blocks[1:], None], strict=True):
        producer = f"block_{block}_conv_1"
        weight, bias = tensors[f"{producer}.weight"], tensors[f"{producer}.bias"]
        inactive = (weight.flatten(1).abs().amax(1) == 0) & (bias <= 0)
        consumer = "channel_reduction_conv"
        if following is not None:
            depthwise = f"block_{following}_dwconv_1"
            consumer = f"block_{following}_conv_1"
            constant = tensors[f"{depthwise}.bias"].relu() * inactive
            columns = tensors[f"{consumer}.weight"][:, :, 0, 0]
            tensors[f"{consumer}.bias"] = tensors[f"{consumer}.bias"] + columns @ constant
            tensors[f"{depthwise}.weight"] = tensors[f"{depthwise}.weight"].clone()
            tensors[f"{depthwise}.weight"][inactive] = 0
            tensors[f"{depthwise}.bias"] = tensors[f"{depthwise}.bias"].masked_fill(inactive, 0)
        removable = int(inactive.sum()) // _GRANULARITY * _GRANULARITY
        if keep_inactive_channels or removable == 0:
            continue
        kept = torch.ones(len(weight), dtype=torch.bool)
        kept[inactive.nonzero()[:removable, 0]] = False
        for part in ("weight", "bias"):
            tensors[f"{producer}.{part}"] = tensors[f"{producer}.{part}"][kept]
            if following is not None:
                tensors[f"{depthwise}.{part}"] = tensors[f"{depthwise}.{part}"][kept]
        tensors[f"{consumer}.weight"] = tensors[f"{consumer}.weight"][:, kept]
        notes.append(f"{removable} channels of {producer} that are always 0 were removed")
    return notes
