"""The feature extractors: normalized images in, features at an eighth of their size out.

Layers carry TAO's names (reference 7.1); those of our own networks are formed like them. What is
called `block_*` is the backbone; `channel_reduction_conv` and what follows belongs to the heads.
"""

from __future__ import annotations

from torch import nn

from bodyposenet.model.layers import Chain, Residual, Widths
from bodyposenet.specs.network import BackboneAttributes, ModelConfig

# Block, output channels, stride. Blocks 1 to 4 are VGG19's; block 6 is TAO's, its index on purpose.
_VGG = (
    ("1a", 64, 1), ("1b", 64, 1),
    ("2a", 128, 2), ("2b", 128, 1),
    ("3a", 256, 2), ("3b", 256, 1), ("3c", 256, 1), ("3d", 256, 1),
    ("4a", 512, 2), ("4b", 512, 1),
    ("6a", 256, 1),
)  # fmt: skip

# Block, output channels, stride, dilation. MobileNet v1 with its last strides turned into dilation
# ("Real-time 2D Multi-Person Pose Estimation on CPU: Lightweight OpenPose", Osokin 2018).
_MOBILENET = (
    ("1b", 64, 1, 1),
    ("2a", 128, 2, 1), ("2b", 128, 1, 1),
    ("3a", 256, 2, 1), ("3b", 256, 1, 1),
    ("4a", 512, 1, 1), ("4b", 512, 1, 2),
    ("4c", 512, 1, 1), ("4d", 512, 1, 1), ("4e", 512, 1, 1), ("4f", 512, 1, 1),
)  # fmt: skip
_MOBILENET_STEM = 32

_FEATURES = 128
_CONTEXT_BLOCKS = "abc"


def build_backbone(spec: ModelConfig, widths: Widths) -> tuple[nn.Sequential, int]:
    """The backbone with its channel reduction.

    Args:
        spec: The model block of the train spec.
        widths: Output channels of narrowed convolutions.

    Returns:
        (N, 3, 8 h, 8 w) normalized images -> (N, C, h, w) features, never negative; and C.
    """
    attributes = spec.backbone_attributes
    chain = Chain(3, widths)
    if attributes.architecture == "mobilenet":
        _add_mobilenet(chain, attributes)
        _add_context(chain, scaled(_FEATURES, attributes), spec.use_bias)
        return chain.build(), chain.channels
    if attributes.mtype == "pooling":
        _add_pooling_vgg(chain)
    else:
        _add_strided_vgg(chain, attributes.use_bias)
    chain.conv("channel_reduction_conv", _FEATURES, bias=spec.use_bias)
    chain.relu("channel_reduction_conv/relu")
    return chain.build(), chain.channels


def scaled(channels: int, attributes: BackboneAttributes) -> int:
    """Channels times the width multiplier, a multiple of 8; unchanged in a vgg."""
    if attributes.architecture == "vgg":
        return channels
    return max(8, round(channels * attributes.width / 8) * 8)


def _add_strided_vgg(chain: Chain, bias: bool) -> None:
    """VGG19's blocks 1 to 4 with strided convolutions and batch normalization."""
    for block, channels, stride in _VGG:
        # TensorFlow's "same" pads even sizes at stride 2 by nothing before and one after.
        if stride == 2:
            chain.add(f"block_{block}_pad", nn.ZeroPad2d((0, 1, 0, 1)))
        padding = 0 if stride == 2 else 1
        chain.conv(f"block_{block}_conv_1", channels, stride=stride, padding=padding, bias=bias)
        chain.norm(f"block_{block}_bn_1", eps=1e-3, momentum=0.01)  # Keras' defaults
        chain.relu(f"block_{block}_relu")


def _add_pooling_vgg(chain: Chain) -> None:
    """VGG19 as published: 2x2 max pooling, biases, no batch normalization."""
    for block, channels, stride in _VGG:
        if stride == 2:
            chain.add(f"block_{block}_pool", nn.MaxPool2d(2))
        chain.conv(f"block_{block}_conv_1", channels)
        chain.relu(f"block_{block}_relu")


def _add_mobilenet(chain: Chain, attributes: BackboneAttributes) -> None:
    """A convolution and depthwise separable blocks, with a way around where shapes allow it."""
    channels = scaled(_MOBILENET_STEM, attributes)
    chain.conv("block_1a_conv_1", channels, stride=2, bias=False)
    chain.norm("block_1a_bn_1")
    chain.relu("block_1a_relu")
    for block, outputs, stride, dilation in _MOBILENET:
        before, channels = channels, scaled(outputs, attributes)
        separable = Chain(chain.channels, chain.widths)
        separable.depthwise(f"block_{block}_dwconv_1", stride=stride, dilation=dilation)
        separable.norm(f"block_{block}_dwbn_1")
        separable.relu(f"block_{block}_dwrelu")
        separable.conv(f"block_{block}_conv_1", channels, 1, bias=False)
        separable.norm(f"block_{block}_bn_1")
        separable.relu(f"block_{block}_relu")
        body = separable.build()
        # The architecture decides, not the widths: pruning narrows both sides of a sum alike.
        chain.add(f"block_{block}", Residual(body) if before == channels and stride == 1 else body)
        chain.channels = separable.channels


def _add_context(chain: Chain, channels: int, bias: bool) -> None:
    """Fewer channels, and a wider view: three separable blocks and a 3x3 convolution."""
    chain.conv("channel_reduction_conv", channels, 1, bias=bias)
    chain.relu("channel_reduction_conv/relu")
    blocks = Chain(chain.channels, chain.widths)
    for block in _CONTEXT_BLOCKS:
        blocks.depthwise(f"context_{block}_dwconv_1")
        blocks.norm(f"context_{block}_dwbn_1")
        blocks.relu(f"context_{block}_dwrelu")
        blocks.conv(f"context_{block}_conv_1", channels, 1, bias=False)
        blocks.norm(f"context_{block}_bn_1")
        blocks.relu(f"context_{block}_relu")
    chain.add("context", Residual(blocks.build()))
    chain.conv("context_conv", channels, bias=False)
    chain.norm("context_bn")
    chain.relu("context_relu")
