"""The network: a backbone and stages that predict heatmaps and part affinity fields.

Like OpenPose (Cao et al. 2017), each stage after the first refines the maps of the one before,
which it receives together with the backbone's features. Layers have TAO's names, which are also the
keys of checkpoints and the node names of exported models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from bodyposenet.model.architectures import (
    add_convolutions,
    add_trunk,
    branch_channels,
    build_backbone,
)
from bodyposenet.model.layers import Gated, OutChannels, SequentialBuilder
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.network import STRIDE, ModelConfig
from bodyposenet.types import HEATMAP_SIGMA, PAD_VALUE


@dataclass(frozen=True)
class Normalization:
    """Normalization of pixels: pixel / image_scale - image_offset, for each RGB channel.

    Args:
        image_scale: Divisors.
        image_offset: Values that are subtracted after the division.
    """

    image_scale: tuple[float, float, float] = (256.0, 256.0, 256.0)
    image_offset: tuple[float, float, float] = (0.5, 0.5, 0.5)


class StageMaps(NamedTuple):
    """Maps of all stages, without activation: (N, K + 1, h, w) heatmaps and (N, 2 L, h, w) PAFs."""

    heatmaps: list[Tensor]
    pafs: list[Tensor]


class BodyPoseNetwork(nn.Module):
    """Pose network: a backbone and one to six stages (TAO reference, section 7).

    Args:
        skeleton: Skeleton, which determines the numbers of heatmaps and PAFs.
        spec: The `model` block of the train spec. Its numbers of channels are replaced by the
            skeleton's.
        normalization: Normalization of the pixels.
        out_channels: Output channels of pruned convolutions by layer name.
        heatmap_sigma: Standard deviation of the Gaussians in the heatmaps that the network is
            trained on, in pixels of the input.

    Attributes:
        frozen: Names of the layers that stay in evaluation mode during training.
    """

    stride = STRIDE
    image_scale: Tensor
    image_offset: Tensor

    def __init__(
        self,
        skeleton: Skeleton,
        spec: ModelConfig,
        normalization: Normalization = Normalization(),
        out_channels: Mapping[str, int] | None = None,
        heatmap_sigma: float = HEATMAP_SIGMA,
    ) -> None:
        super().__init__()
        maps = {
            "heat_channels": skeleton.heatmap_channels,
            "paf_channels": skeleton.paf_channels,
        }
        self.skeleton = skeleton
        self.frozen: frozenset[str] = frozenset()
        self.spec = spec.model_copy(update=maps)
        self.normalization = normalization
        self.heatmap_sigma = heatmap_sigma
        for name in ("image_scale", "image_offset"):
            values = torch.tensor(getattr(normalization, name)).view(1, 3, 1, 1)
            self.register_buffer(name, values, persistent=False)
        self.backbone, features = build_backbone(spec, out_channels or {})
        refinement_inputs = features + sum(maps.values())
        self.stage_list = nn.ModuleList(
            build_stage(
                number,
                features if number == 1 else refinement_inputs,
                spec,
                skeleton,
                out_channels or {},
            )
            for number in range(1, spec.stages + 1)
        )
        self._initialize()

    @property
    def stages(self) -> int:
        """Number of stages."""
        return len(self.stage_list)

    def layers(self) -> dict[str, nn.Conv2d | nn.modules.batchnorm._BatchNorm]:
        """Return the convolutions and batch normalizations by TAO's names, in forward order."""
        return {
            path.rpartition(".")[2]: module
            for path, module in self.named_modules()
            if isinstance(module, nn.Conv2d | nn.modules.batchnorm._BatchNorm)
        }

    def out_channels(self) -> dict[str, int]:
        """Return the number of output channels of each convolution, by layer name."""
        layers = self.layers().items()
        return {name: layer.out_channels for name, layer in layers if isinstance(layer, nn.Conv2d)}

    def outputs(self) -> list[str]:
        """Return the names of the convolutions that predict the maps, of all stages."""
        return [name for name in self.layers() if name.endswith("out")]

    def train(self, mode: bool = True) -> BodyPoseNetwork:
        """Set training or evaluation mode; frozen layers stay in evaluation mode."""
        super().train(mode)
        for name, layer in self.layers().items():
            if name in self.frozen:
                layer.eval()
        return self

    def normalize(self, images: Tensor) -> Tensor:
        """Pad and normalize images.

        Args:
            images: (N, H, W, 3) uint8 RGB, of any size.

        Returns:
            (N, 3, H', W') float32, channels last in memory. H' and W' are H and W rounded up to
            multiples of the stride; the images are padded with gray at the right and the bottom.
        """
        height, width = images.shape[1:3]
        padding = (0, -width % self.stride, 0, -height % self.stride)
        padded = functional.pad(images.permute(0, 3, 1, 2), padding, value=PAD_VALUE)
        pixels = padded.to(torch.float32, memory_format=torch.channels_last)
        return pixels / self.image_scale - self.image_offset

    def forward(self, inputs: Tensor) -> StageMaps:
        """Predict the maps of all stages for (N, 3, 8 h, 8 w) normalized images."""
        features = self.backbone(inputs)
        maps = StageMaps([], [])
        inputs = features
        for stage in self.stage_list:
            if maps.heatmaps:
                inputs = torch.cat([features, maps.heatmaps[-1], maps.pafs[-1]], dim=1)
            heatmaps, pafs = stage(inputs)
            maps.heatmaps.append(heatmaps)
            maps.pafs.append(pafs)
        return maps

    def _initialize(self) -> None:
        """Initialize the weights; biases are 0.

        The original vgg is initialized as in TAO: Glorot uniform (Glorot and Bengio 2010) in the
        backbone, `kernel_initializer` in the stages. All others use He initialization (He et al.,
        "Delving Deep into Rectifiers", 2015); their output layers predict an image without people.
        """
        attributes = self.spec.backbone_attributes
        is_original = attributes.architecture == "vgg" and attributes.mtype == "default"
        outputs = self.outputs()
        for name, layer in self.layers().items():
            if not isinstance(layer, nn.Conv2d):
                continue
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
            if not is_original and name in outputs:
                _initialize_output(layer, is_heatmaps="heat" in name)
            elif not is_original:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            elif name.startswith("block_") or self.spec.kernel_initializer == "xavier":
                nn.init.xavier_uniform_(layer.weight)
            else:
                nn.init.normal_(layer.weight, std=0.01)


def _initialize_output(layer: nn.Conv2d, is_heatmaps: bool) -> None:
    """Make an output layer predict only background, which is right for most cells."""
    nn.init.normal_(layer.weight, std=0.01 / math.sqrt(layer.in_channels))
    if is_heatmaps and layer.bias is not None:
        nn.init.ones_(layer.bias[-1:])


_BRANCHES = {
    "cmap": ("heat_branch", "heatmap_out", nn.Sigmoid),
    "paf": ("paf_branch", "paf_out", nn.Tanh),
}
"""Branch -> its name in the output layer, the output layer's name in the last stage, and the
activation of the self-attention."""


class Stage(nn.Module):
    """A stage: a shared trunk, and a branch each for heatmaps and PAFs.

    Args:
        trunk: Layers that both branches share; empty in a BpNetModel.
        cmap: Branch that predicts the heatmaps (confidence maps).
        paf: Branch that predicts the part affinity fields.
    """

    def __init__(self, trunk: nn.Module, cmap: nn.Module, paf: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk
        self.cmap = cmap
        self.paf = paf

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Predict (N, K + 1, h, w) heatmaps and (N, 2 L, h, w) PAFs from (N, C, h, w) features."""
        shared = self.trunk(features)
        return self.cmap(shared), self.paf(shared)


def build_stage(
    number: int, channels: int, spec: ModelConfig, skeleton: Skeleton, out_channels: OutChannels
) -> Stage:
    """Build a stage.

    Args:
        number: Number of the stage, from 1.
        channels: Channels of its input.
        spec: The `model` block of the train spec.
        skeleton: Skeleton, which determines the numbers of heatmaps and PAFs.
        out_channels: Output channels of pruned convolutions by layer name.
    """
    trunk = SequentialBuilder(channels, out_channels)
    depth = add_trunk(trunk, number, spec) if spec.has_trunks else 0
    return Stage(
        trunk.build(),
        _build_branch(trunk, "cmap", number, depth, skeleton.heatmap_channels, spec),
        _build_branch(trunk, "paf", number, depth, skeleton.paf_channels, spec),
    )


def _build_branch(
    trunk: SequentialBuilder, kind: str, number: int, depth: int, outputs: int, spec: ModelConfig
) -> nn.Sequential:
    """Build a branch: a 1x1 convolution, TAO's self-attention from stage 2 on, and the output.

    In a BpNetModel, which has no trunks, the stage's other convolutions come first.

    Args:
        trunk: Trunk of the stage.
        kind: `cmap` or `paf`.
        number: Number of the stage, from 1.
        depth: Number of the trunk's layers, from which the numbers in TAO's names continue.
        outputs: Number of maps.
        spec: The `model` block of the train spec.
    """
    branch_name, final_name, activation = _BRANCHES[kind]
    prefix = f"stage{number}/{kind}"
    branch = SequentialBuilder(trunk.channels, trunk.out_channels)
    if not spec.has_trunks:
        prefix = f"stage{number}/{branch_name}"
        depth = add_convolutions(branch, prefix, number, spec)
    channels = branch_channels(number, spec)
    branch.conv(f"{prefix}/conv{depth + 1}", channels, 1, bias=spec.use_bias)
    branch.relu(f"{prefix}/conv{depth + 1}/relu")
    if spec.use_self_attention and number > 1:
        gate = SequentialBuilder(branch.channels, branch.out_channels)
        gate.conv(f"{prefix}/attention_conv", branch.channels, bias=spec.use_bias)
        gate.add(f"{prefix}/attention_conv/{activation.__name__.lower()}", activation())
        branch.add(f"{prefix}/attention", Gated(gate.build()))
    is_last = number == spec.stages > 1
    name = final_name if is_last else f"stage{number}/{branch_name}/out"
    branch.conv(name, outputs, 1, bias=spec.use_bias)
    return branch.build()
