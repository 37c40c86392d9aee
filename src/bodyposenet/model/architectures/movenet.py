"""MoveNet's backbone with stages for heatmaps and PAFs; the fastest of the architectures.

The backbone is that of MoveNet MultiPose (Google, 2021): MobileNetV2 (Sandler et al. 2018) with 1.5
times the usual width, and the finer levels of its feature pyramid (Lin et al. 2017). MoveNet's own
heads are replaced by light stages of separable convolutions.
Layers named `block_*` are MobileNetV2, `fpn_*` is the pyramid, all others belong to the heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from bodyposenet.model.layers import OutChannels, Residual, SequentialBuilder
from bodyposenet.specs.network import ModelConfig

# Inverted residual blocks: expansion, output channels, number of blocks, stride of the first one.
_GROUPS = (
    (1, 24, 1, 1), (6, 40, 2, 2), (6, 48, 3, 2),
    (6, 96, 4, 2), (6, 144, 3, 1), (6, 240, 3, 2), (6, 480, 1, 1),
)  # fmt: skip
_STEM, _LAST = 48, 1280
_LEVEL32, _LEVEL16, _LEVEL8 = 64, 32, 24

BRANCH_CHANNELS = 128, 128
"""Channels of the hidden convolutions of both branches: in stage 1, and in the others."""

_FEATURES = 128
_INITIAL_BLOCKS = 3
_REFINEMENT_BLOCKS = 3


class UpsampleLike(nn.Module):
    """Bilinear upsampling of features to the size of finer ones.

    Convolutions of stride 2 round sizes up, so the upsampled features may be up to `factor - 1`
    cells larger at the right and the bottom; the excess is cropped.

    Args:
        factor: Ratio of the strides.
    """

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = float(factor)

    def forward(self, features: Tensor, finer: Tensor) -> Tensor:
        """Upsample (N, C, h, w) features to the height and width of `finer`."""
        upsampled = functional.interpolate(
            features, scale_factor=self.factor, mode="bilinear", align_corners=False
        )
        return upsampled.narrow(2, 0, finer.shape[2]).narrow(3, 0, finer.shape[3])


class FeaturePyramid(nn.Module):
    """MobileNetV2 and its feature pyramid: features of strides 8, 16 and 32, joined at stride 8.

    Args:
        out_channels: Output channels of pruned convolutions by layer name.
        spec: The `model` block of the train spec.

    Attributes:
        channels: Channels of the output.
    """

    def __init__(self, out_channels: OutChannels, spec: ModelConfig) -> None:
        super().__init__()
        scaled = spec.backbone_attributes.scaled
        stride8 = SequentialBuilder(3, out_channels)
        stride8.add("block_stem_pad", nn.ZeroPad2d((0, 1, 0, 1)))
        _add_convolution(stride8, "block_stem", scaled(_STEM), spec, kernel=3, stride=2)
        _add_groups(stride8, 0, 3, spec)
        stride16 = SequentialBuilder(stride8.channels, out_channels)
        _add_groups(stride16, 3, 4, spec)
        deep16 = SequentialBuilder(stride16.channels, out_channels)
        _add_groups(deep16, 4, 5, spec)
        stride32 = SequentialBuilder(deep16.channels, out_channels)
        _add_groups(stride32, 5, 7, spec)
        _add_convolution(stride32, "block_last", scaled(_LAST), spec)
        stride32.conv("fpn_lateral32_conv", scaled(_LEVEL32), 1)
        lateral16 = SequentialBuilder(stride16.channels, out_channels)
        lateral16.conv("fpn_lateral16_conv", scaled(_LEVEL32), 1)
        level16 = SequentialBuilder(lateral16.channels, out_channels)
        _add_separable(level16, "fpn_fuse16", scaled(_LEVEL16))
        lateral8 = SequentialBuilder(stride8.channels, out_channels)
        lateral8.conv("fpn_lateral8_conv", scaled(_LEVEL16), 1)
        level8 = SequentialBuilder(lateral8.channels, out_channels)
        _add_separable(level8, "fpn_fuse8", scaled(_LEVEL8))

        self.channels = sum(part.channels for part in (stride8, deep16, stride32, level8))
        self.stride8 = stride8.build()
        self.stride16 = stride16.build()
        self.deep16 = deep16.build()
        self.stride32 = stride32.build()
        self.fpn_enlarge32 = UpsampleLike(2)
        self.lateral16 = lateral16.build()
        self.level16 = level16.build()
        self.fpn_enlarge16 = UpsampleLike(2)
        self.lateral8 = lateral8.build()
        self.level8 = level8.build()
        self.enlarge16 = UpsampleLike(2)
        self.enlarge32 = UpsampleLike(4)

    def forward(self, images: Tensor) -> Tensor:
        """Compute (N, C, h, w) features from (N, 3, 8 h, 8 w) images; h and w may be odd."""
        stride8 = self.stride8(images)
        stride16 = self.stride16(stride8)
        deep16 = self.deep16(stride16)
        stride32 = self.stride32(deep16)
        level16 = self.level16(self.fpn_enlarge32(stride32, stride16) + self.lateral16(stride16))
        level8 = self.level8(self.fpn_enlarge16(level16, stride8) + self.lateral8(stride8))
        coarse = [self.enlarge16(deep16, stride8), self.enlarge32(stride32, stride8)]
        return torch.cat([stride8, *coarse, level8], dim=1)


def add_backbone(builder: SequentialBuilder, spec: ModelConfig) -> None:
    """Add MobileNetV2, its feature pyramid and the channel reduction."""
    pyramid = FeaturePyramid(builder.out_channels, spec)
    builder.add("pyramid", pyramid)
    builder.channels = pyramid.channels
    channels = spec.backbone_attributes.scaled(_FEATURES)
    builder.conv("channel_reduction_conv", channels, 1, bias=spec.use_bias)
    builder.relu("channel_reduction_conv/relu")


def add_trunk(builder: SequentialBuilder, stage: int, spec: ModelConfig) -> int:
    """Add residual separable convolutions, after a 1x1 convolution in the refinement stages.

    Returns:
        The number of the last convolution.
    """
    channels, last = spec.backbone_attributes.scaled(_FEATURES), _INITIAL_BLOCKS
    first, kernel = 1, 3
    if stage > 1:
        builder.conv(f"stage{stage}/conv1", channels, 1, bias=spec.use_bias)
        builder.relu(f"stage{stage}/conv1/relu")
        first, last, kernel = 2, 1 + _REFINEMENT_BLOCKS, 5
    for layer in range(first, last + 1):
        body = SequentialBuilder(builder.channels, builder.out_channels)
        body.depthwise(f"stage{stage}/dwconv{layer}", kernel, bias=spec.use_bias)
        body.relu(f"stage{stage}/dwconv{layer}/relu")
        body.conv(f"stage{stage}/conv{layer}", channels, 1, bias=spec.use_bias)
        body.relu(f"stage{stage}/conv{layer}/relu")
        builder.add(f"stage{stage}/block{layer}", Residual(body.build()))
    return last


def _add_groups(builder: SequentialBuilder, first: int, end: int, spec: ModelConfig) -> None:
    """Add the inverted residual blocks of the groups `first` to `end - 1`."""
    number = sum(blocks for _, _, blocks, _ in _GROUPS[:first])
    for expansion, channels, blocks, stride in _GROUPS[first:end]:
        channels = spec.backbone_attributes.scaled(channels)
        # TensorFlow's "same" padding of even sizes is 0 before and 1 after. Odd sizes, which occur
        # from stride 8 on, need one more for the last cell; it has no effect on even sizes.
        pad = 1 if first == 0 else 2
        _add_block(builder, number, expansion, channels, spec, pad if stride == 2 else None)
        for repeated in range(number + 1, number + blocks):
            body = SequentialBuilder(builder.channels, builder.out_channels)
            _add_block(body, repeated, expansion, channels, spec)
            builder.add(f"block_{repeated}", Residual(body.build()))
        number += blocks


def _add_block(
    builder: SequentialBuilder, number: int, expansion: int, channels: int, spec: ModelConfig,
    halving_pad: int | None = None,
) -> None:  # fmt: skip
    """Add an expansion, a depthwise convolution and a linear projection.

    Args:
        builder: Builder that the block is added to.
        number: Number of the block, from 0.
        expansion: Ratio of the channels of the depthwise convolution to those of the input.
        channels: Output channels.
        spec: The `model` block of the train spec.
        halving_pad: Rows and columns of zeros at the bottom and the right, for a block of stride 2;
            None for stride 1.
    """
    name, has_norms = f"block_{number}", spec.backbone_attributes.batch_norm
    if expansion > 1:
        _add_convolution(builder, f"{name}_expand", builder.channels * expansion, spec)
    if halving_pad is None:
        builder.depthwise(f"{name}_dwconv", bias=not has_norms)
    else:
        builder.add(f"{name}_pad", nn.ZeroPad2d((0, halving_pad, 0, halving_pad)))
        builder.depthwise(f"{name}_dwconv", stride=2, padding=0, bias=not has_norms)
    if has_norms:
        builder.norm(f"{name}_dwbn")
    builder.relu6(f"{name}_dwrelu")
    builder.conv(f"{name}_project_conv", channels, 1, bias=not has_norms)
    if has_norms:
        builder.norm(f"{name}_project_bn")


def _add_convolution(
    builder: SequentialBuilder,
    name: str,
    channels: int,
    spec: ModelConfig,
    kernel: int = 1,
    stride: int = 1,
) -> None:
    """Add a convolution, batch normalization unless it is off, and a ReLU6."""
    has_norms = spec.backbone_attributes.batch_norm
    builder.conv(f"{name}_conv", channels, kernel, stride=stride, padding=0, bias=not has_norms)
    if has_norms:
        builder.norm(f"{name}_bn")
    builder.relu6(f"{name}_relu")


def _add_separable(builder: SequentialBuilder, name: str, channels: int) -> None:
    """Add a separable convolution (depthwise and pointwise) and a ReLU."""
    builder.depthwise(f"{name}_dwconv")
    builder.conv(f"{name}_conv", channels, 1)
    builder.relu(f"{name}_relu")
