"""The stages of the network, each of which estimates the heatmaps and the PAFs.

A stage is a trunk and two branches of 1x1 convolutions, `cmap` (heatmaps) and `paf`, under TAO's
names (reference 7.1). It takes the features of the backbone, from stage 2 on with the maps of the
stage before. In a BpNetModel there is no trunk: each branch has a row of convolutions.
"""

from __future__ import annotations

from torch import Tensor, nn

from bodyposenet.model.architectures import add_row, add_trunk, branch_channels
from bodyposenet.model.layers import Chain, Gated, Widths
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.network import ModelConfig

# Kind -> the branch's name in its output, the output's name in the last stage, and the activation
# of the self-attention.
_BRANCHES = {
    "cmap": ("heat_branch", "heatmap_out", nn.Sigmoid),
    "paf": ("paf_branch", "paf_out", nn.Tanh),
}


class Stage(nn.Module):
    """One estimate of both kinds of maps.

    Args:
        trunk: What both branches share; empty in a BpNetModel.
        cmap: Trunk -> heatmaps.
        paf: Trunk -> part affinity fields.
    """

    def __init__(self, trunk: nn.Module, cmap: nn.Module, paf: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk
        self.cmap = cmap
        self.paf = paf

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, h, w) -> heatmaps (N, K + 1, h, w) and PAFs (N, 2 L, h, w), raw and linear."""
        shared = self.trunk(features)
        return self.cmap(shared), self.paf(shared)


def build_stage(
    number: int, channels: int, spec: ModelConfig, skeleton: Skeleton, widths: Widths
) -> Stage:
    """One stage.

    Args:
        number: Counted from 1.
        channels: Channels that go in.
        spec: The model block of the train spec.
        skeleton: Sets the channels of the maps.
        widths: Output channels of narrowed convolutions.
    """
    trunk = Chain(channels, widths)
    depth = add_trunk(trunk, number, spec) if spec.has_trunks else 0
    return Stage(
        trunk.build(),
        _build_branch(trunk, "cmap", number, depth, skeleton.heatmap_channels, spec),
        _build_branch(trunk, "paf", number, depth, skeleton.paf_channels, spec),
    )


def _build_branch(
    trunk: Chain, kind: str, number: int, depth: int, outputs: int, spec: ModelConfig
) -> nn.Sequential:
    """A hidden 1x1 convolution, TAO's self-attention from stage 2 on, and the output.

    In a BpNetModel a row of convolutions comes before them.

    Args:
        trunk: What the branch follows.
        kind: `cmap` or `paf`.
        number: Of the stage, from 1.
        depth: Layers of the trunk, which TAO's names go on from.
        outputs: Channels of the maps.
        spec: The model block of the train spec.
    """
    branch_name, final_name, activation = _BRANCHES[kind]
    prefix = f"stage{number}/{kind}"
    branch = Chain(trunk.channels, trunk.widths)
    if not spec.has_trunks:
        prefix = f"stage{number}/{branch_name}"
        depth = add_row(branch, prefix, number, spec)
    channels = branch_channels(number, spec)
    branch.conv(f"{prefix}/conv{depth + 1}", channels, 1, bias=spec.use_bias)
    branch.relu(f"{prefix}/conv{depth + 1}/relu")
    if spec.use_self_attention and number > 1:
        gate = Chain(branch.channels, branch.widths)
        gate.conv(f"{prefix}/attention_conv", branch.channels, bias=spec.use_bias)
        gate.add(f"{prefix}/attention_conv/{activation.__name__.lower()}", activation())
        branch.add(f"{prefix}/attention", Gated(gate.build()))
    is_last = number == spec.stages > 1
    name = final_name if is_last else f"stage{number}/{branch_name}/out"
    branch.conv(name, outputs, 1, bias=spec.use_bias)
    return branch.build()
