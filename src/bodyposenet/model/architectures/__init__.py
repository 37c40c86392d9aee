"""Network architectures, one module each: a backbone, and the trunks of its stages.

- `vgg`: TAO's BodyPoseNet.
- `lightweight_openpose`: Lightweight OpenPose on MobileNet v1.
- `movenet`: MoveNet's backbone, MobileNetV2 with a feature pyramid.

The functions below dispatch on `model.backbone_attributes.architecture` of the train spec. The
branches that predict the maps are the same for all architectures; see `model.network`.
"""

from __future__ import annotations

from torch import nn

from bodyposenet.model.architectures import lightweight_openpose, movenet, vgg
from bodyposenet.model.architectures.vgg import add_convolutions
from bodyposenet.model.layers import OutChannels, SequentialBuilder
from bodyposenet.specs.network import ModelConfig

__all__ = ["add_convolutions", "add_trunk", "branch_channels", "build_backbone"]

_MODULES = {"vgg": vgg, "lightweight_openpose": lightweight_openpose, "movenet": movenet}


def build_backbone(spec: ModelConfig, out_channels: OutChannels) -> tuple[nn.Sequential, int]:
    """Build the feature extractor.

    Args:
        spec: The `model` block of the train spec.
        out_channels: Output channels of pruned convolutions by layer name.

    Returns:
        A module that computes (N, C, h, w) features, which are never negative, from (N, 3, 8 h,
        8 w) normalized images; and C.
    """
    builder = SequentialBuilder(3, out_channels)
    _MODULES[spec.backbone_attributes.architecture].add_backbone(builder, spec)
    return builder.build(), builder.channels


def add_trunk(builder: SequentialBuilder, stage: int, spec: ModelConfig) -> int:
    """Add the layers that both branches of a stage share.

    Args:
        builder: Builder that the layers are added to.
        stage: Number of the stage, from 1.
        spec: The `model` block of the train spec.

    Returns:
        The number of the trunk's last layer; TAO's names of the branches' layers continue from it.
    """
    return _MODULES[spec.backbone_attributes.architecture].add_trunk(builder, stage, spec)


def branch_channels(stage: int, spec: ModelConfig) -> int:
    """Return the channels of the hidden convolutions of a stage's branches."""
    attributes = spec.backbone_attributes
    initial, later = _MODULES[attributes.architecture].BRANCH_CHANNELS
    return attributes.scaled(initial if stage == 1 else later)
