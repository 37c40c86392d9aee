"""TAO's BodyPoseNet: the first blocks of VGG19, and stages of plain convolutions.

`default` is TAO's variant, with strided convolutions and batch normalization. `pooling` has the
first blocks of VGG19 as published (Simonyan and Zisserman 2015), which ImageNet weights fit.
"""

from __future__ import annotations

from torch import nn

from bodyposenet.model.layers import SequentialBuilder
from bodyposenet.specs.network import ModelConfig

# Block, output channels, stride. Blocks 1 to 4 are VGG19's; block 6 is TAO's, there is no block 5.
_BLOCKS = (
    ("1a", 64, 1), ("1b", 64, 1),
    ("2a", 128, 2), ("2b", 128, 1),
    ("3a", 256, 2), ("3b", 256, 1), ("3c", 256, 1), ("3d", 256, 1),
    ("4a", 512, 2), ("4b", 512, 1),
    ("6a", 256, 1),
)  # fmt: skip
_FEATURES = 128
_TRUNK = 128

BRANCH_CHANNELS = 512, 128
"""Channels of the hidden convolutions of both branches: in stage 1, and in the others."""


def add_backbone(builder: SequentialBuilder, spec: ModelConfig) -> None:
    """Add VGG19's blocks 1 to 4, TAO's block 6 and the channel reduction."""
    if spec.backbone_attributes.mtype == "pooling":
        _add_pooling_blocks(builder)
    else:
        _add_strided_blocks(builder, spec.backbone_attributes.use_bias)
    builder.conv("channel_reduction_conv", _FEATURES, bias=spec.use_bias)
    builder.relu("channel_reduction_conv/relu")


def add_trunk(builder: SequentialBuilder, stage: int, spec: ModelConfig) -> int:
    """Add the convolutions of a stage; return their number."""
    return add_convolutions(builder, f"stage{stage}", stage, spec)


def add_convolutions(builder: SequentialBuilder, prefix: str, stage: int, spec: ModelConfig) -> int:
    """Add the convolutions of a stage's trunk, or of one branch if the stage has no trunk.

    Args:
        builder: Builder that the layers are added to.
        prefix: Prefix of their names, `<prefix>/conv1` and so on.
        stage: Number of the stage, from 1.
        spec: The `model` block of the train spec.

    Returns:
        The number of convolutions.
    """
    kernels = spec.stage1_kernel_sizes if stage == 1 else spec.stageT_kernel_sizes
    for layer, kernel in enumerate(kernels, start=1):
        builder.conv(f"{prefix}/conv{layer}", _TRUNK, kernel, bias=spec.use_bias)
        builder.relu(f"{prefix}/conv{layer}/relu")
    return len(kernels)


def _add_strided_blocks(builder: SequentialBuilder, bias: bool) -> None:
    """Add strided convolutions with batch normalization (Keras' epsilon and momentum)."""
    for block, channels, stride in _BLOCKS:
        # At stride 2, TensorFlow's "same" padding of even sizes is 0 before and 1 after.
        if stride == 2:
            builder.add(f"block_{block}_pad", nn.ZeroPad2d((0, 1, 0, 1)))
        padding = 0 if stride == 2 else 1
        builder.conv(f"block_{block}_conv_1", channels, stride=stride, padding=padding, bias=bias)
        builder.norm(f"block_{block}_bn_1", eps=1e-3, momentum=0.01)
        builder.relu(f"block_{block}_relu")


def _add_pooling_blocks(builder: SequentialBuilder) -> None:
    """Add convolutions with biases and 2x2 max pooling, without batch normalization."""
    for block, channels, stride in _BLOCKS:
        if stride == 2:
            builder.add(f"block_{block}_pool", nn.MaxPool2d(2))
        builder.conv(f"block_{block}_conv_1", channels)
        builder.relu(f"block_{block}_relu")
