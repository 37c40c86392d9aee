"""Lightweight OpenPose: "Real-time 2D Multi-Person Pose Estimation on CPU" (Osokin 2018).

The backbone is MobileNet v1 (Howard et al. 2017) with its last strides replaced by dilation, and a
context module of separable convolutions; the refinement stages have residual blocks. `default` is
the published network (Daniil-Osokin/lightweight-human-pose-estimation.pytorch), `open_model_zoo` is
Intel's human-pose-estimation-0001, whose context module has ELU throughout and one more 1x1
convolution. Layer names follow TAO's: `block_*` is MobileNet, all others belong to the heads.
"""

from __future__ import annotations

from bodyposenet.model.layers import Residual, SequentialBuilder
from bodyposenet.specs.network import BackboneAttributes, ModelConfig

BLOCKS = (
    ("1b", 64, 1, 1),
    ("2a", 128, 2, 1), ("2b", 128, 1, 1),
    ("3a", 256, 2, 1), ("3b", 256, 1, 1),
    ("4a", 512, 1, 1), ("4b", 512, 1, 2),
    ("4c", 512, 1, 1), ("4d", 512, 1, 1), ("4e", 512, 1, 1), ("4f", 512, 1, 1),
)  # fmt: skip
"""Separable blocks after `block_1a`: name, output channels, stride, dilation."""

CONTEXT_BLOCKS = "abc"
REFINEMENT_BLOCKS = 5

_STEM = 32
_FEATURES = 128
_INITIAL_CONVOLUTIONS = 3

BRANCH_CHANNELS = 512, 128
"""Channels of the hidden convolutions of both branches: in stage 1, and in the others."""


def add_backbone(builder: SequentialBuilder, spec: ModelConfig) -> None:
    """Add MobileNet and the context module."""
    attributes = spec.backbone_attributes
    channels = attributes.scaled(_STEM)
    _add_convolution(builder, "block_1a", channels, 3, attributes, stride=2)
    for block, outputs, stride, dilation in BLOCKS:
        name = f"block_{block}"
        builder.depthwise(
            f"{name}_dwconv_1", stride=stride, dilation=dilation, bias=not attributes.batch_norm
        )
        if attributes.batch_norm:
            builder.norm(f"{name}_dwbn_1")
        builder.relu(f"{name}_dwrelu")
        _add_convolution(builder, name, attributes.scaled(outputs), 1, attributes)
    _add_context(builder, spec)


def add_trunk(builder: SequentialBuilder, stage: int, spec: ModelConfig) -> int:
    """Add convolutions in stage 1 and residual blocks in the others; return their number."""
    attributes = spec.backbone_attributes
    channels = attributes.scaled(_FEATURES)
    if stage == 1:
        for layer in range(1, _INITIAL_CONVOLUTIONS + 1):
            builder.conv(f"stage1/conv{layer}", channels, bias=spec.use_bias)
            builder.relu(f"stage1/conv{layer}/relu")
        return _INITIAL_CONVOLUTIONS
    for number in range(1, REFINEMENT_BLOCKS + 1):
        name = f"stage{stage}/block{number}"
        builder.conv(f"{name}/conv1", channels, 1, bias=spec.use_bias)
        builder.relu(f"{name}/conv1/relu")
        body = SequentialBuilder(builder.channels, builder.out_channels)
        for layer, dilation in ((2, 1), (3, 2)):
            body.conv(f"{name}/conv{layer}", channels, dilation=dilation, bias=spec.use_bias)
            if attributes.batch_norm:
                body.norm(f"{name}/bn{layer}")
            body.relu(f"{name}/conv{layer}/relu")
        builder.add(name, Residual(body.build()))
    return REFINEMENT_BLOCKS


def _add_convolution(
    builder: SequentialBuilder,
    name: str,
    channels: int,
    kernel: int,
    attributes: BackboneAttributes,
    stride: int = 1,
) -> None:
    """Add a convolution, batch normalization unless it is off, and a ReLU."""
    builder.conv(f"{name}_conv_1", channels, kernel, stride=stride, bias=not attributes.batch_norm)
    if attributes.batch_norm:
        builder.norm(f"{name}_bn_1")
    builder.relu(f"{name}_relu")


def _add_context(builder: SequentialBuilder, spec: ModelConfig) -> None:
    """Add the channel reduction and the context module, which widens the receptive field."""
    attributes, bias = spec.backbone_attributes, spec.use_bias
    channels = attributes.scaled(_FEATURES)
    is_intel = attributes.mtype == "open_model_zoo"
    builder.conv("channel_reduction_conv", channels, 1, bias=bias)
    if is_intel:
        builder.elu("channel_reduction_conv/elu")
    else:
        builder.relu("channel_reduction_conv/relu")
    body = SequentialBuilder(builder.channels, builder.out_channels)
    if is_intel:
        body.conv("context_reduce_conv", channels, 1, bias=bias)
        body.elu("context_reduce_conv/elu")
    for block in CONTEXT_BLOCKS:
        body.depthwise(f"context_{block}_dwconv_1", bias=bias)
        body.elu(f"context_{block}_dwelu")
        body.conv(f"context_{block}_conv_1", channels, 1, bias=bias)
        body.elu(f"context_{block}_elu")
    builder.add("context", Residual(body.build()))
    builder.conv("context_conv", channels, bias=bias)
    builder.relu("context_conv/relu")
