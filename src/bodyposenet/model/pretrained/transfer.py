"""Copy weights into a network, with the channels of its maps and its input as it has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from bodyposenet.channels import ChannelMap, match_heatmaps, match_pafs
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.model.checkpoint import named_tensors
from bodyposenet.model.network import BodyPoseNetwork, Stage
from bodyposenet.model.pretrained.weights import PretrainedWeights, change_normalization
from bodyposenet.skeleton import Skeleton


@dataclass(frozen=True)
class WeightReport:
    """The outcome of loading weights, by tensor name (`block_1a_conv_1.weight`).

    Args:
        loaded: Copied.
        missing: The network has them, the file does not: they keep their first values.
        mismatched: Name -> shape in the file and in the network: they keep their first values.
        unused: The file has them, the network does not.
        new_maps: Joints and limbs that the file does not know: their channels keep their first
            values.
        notes: What was changed while reading.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    mismatched: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
    unused: tuple[str, ...]
    new_maps: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """One line per kind that is not empty, for the log."""
        mismatched = [
            f"{name} ({'x'.join(map(str, theirs))} in the file, {'x'.join(map(str, ours))} here)"
            for name, (theirs, ours) in self.mismatched.items()
        ]
        kinds = {
            "missing in the file": self.missing,
            "of another shape": mismatched,
            "unknown to the network": self.unused,
        }
        lines = [f"{len(self.loaded)} tensors loaded", *self.notes]
        if self.new_maps:
            lines.append(f"new joints and limbs: {', '.join(self.new_maps)}")
        return lines + [
            f"{len(names)} tensors {kind}: {', '.join(names)}"
            for kind, names in kinds.items()
            if names
        ]


def copy_weights(weights: PretrainedWeights, network: BodyPoseNetwork, path: Path) -> WeightReport:
    """Copy what matches by name and shape, the maps' channels by the names of joints and limbs.

    Args:
        weights: What a file holds.
        network: Is changed.
        path: The file, for errors.

    Raises:
        BodyPoseNetError: The first convolution cannot take the network's input.
    """
    ours = named_tensors(network)
    theirs, new_maps = _with_our_maps(weights, network, ours)
    theirs = _with_our_input(weights, network, theirs, path)
    # A counter of training steps, which Keras does not keep and nothing reads.
    names = [name for name in ours if not name.endswith(".num_batches_tracked")]
    found = [name for name in names if name in theirs]
    loaded = [name for name in found if ours[name].shape == theirs[name].shape]
    for name in loaded:
        ours[name].copy_(theirs[name])
    return WeightReport(
        loaded=tuple(loaded),
        missing=tuple(name for name in names if name not in theirs),
        mismatched={
            name: (tuple(theirs[name].shape), tuple(ours[name].shape))
            for name in found
            if name not in loaded
        },
        unused=tuple(name for name in theirs if name not in ours),
        new_maps=new_maps,
        notes=weights.notes,
    )


def _with_our_input(
    weights: PretrainedWeights,
    network: BodyPoseNetwork,
    tensors: Mapping[str, Tensor],
    path: Path,
) -> dict[str, Tensor]:
    """Make the first convolution take our input.

    Raises:
        BodyPoseNetError: It has no bias that could take over a constant.
    """
    first = next(_first_convolutions(network.backbone, network))
    weight, bias = f"{first}.weight", f"{first}.bias"
    before, after = weights.normalization, network.normalization
    if before is None or before == after or weight not in tensors:
        return dict(tensors)
    kernel = tensors[weight]
    is_whole = kernel.ndim == 4 and kernel.shape[1] == 3
    if not is_whole or bias not in tensors or tensors[bias].shape != kernel.shape[:1]:
        raise BodyPoseNetError(
            f"{path}: was trained with {before}, which is to be {after}",
            "Use the normalization_params that the model was trained with.",
        )
    changed = change_normalization(tensors[weight], tensors[bias], before, after)
    return {**tensors, **dict(zip((weight, bias), changed, strict=True))}


def _with_our_maps(
    weights: PretrainedWeights, network: BodyPoseNetwork, fresh: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Bring the channels of the maps into our order, and name the joints and limbs that are new."""
    tensors = dict(weights.tensors)
    theirs, ours = weights.skeleton, network.skeleton
    if theirs is None or (theirs.joints, theirs.limbs) == (ours.joints, ours.limbs):
        return tensors, ()
    heatmaps = match_heatmaps(theirs, ours, keep_background=True)
    pafs = match_pafs(theirs, ours)
    for layer in network.outputs():
        channels = heatmaps if "heat" in layer else pafs
        for part in ("weight", "bias"):
            name = f"{layer}.{part}"
            expected = theirs.heatmap_channels if "heat" in layer else theirs.paf_channels
            if name in fresh and name in tensors and tensors[name].shape[:1] == (expected,):
                tensors[name] = _take(tensors[name], channels, fresh[name])
    inputs = heatmaps.followed_by(pafs, theirs.heatmap_channels)
    for stage in network.stage_list[1:]:
        for layer in _first_convolutions(stage, network):
            name = f"{layer}.weight"
            if name in tensors and tensors[name].ndim == 4:
                tensors[name] = _take_inputs(tensors[name], inputs, theirs)
    names = [
        *ours.joints,
        *(f"{ours.joints[start]} - {ours.joints[end]}" for start, end in ours.limbs),
    ]
    known = [*heatmaps.known[:-1].tolist(), *pafs.known[::2].tolist()]
    return tensors, tuple(name for name, there in zip(names, known, strict=True) if not there)


def _first_convolutions(part: nn.Module, network: BodyPoseNetwork) -> Iterator[str]:
    """The layers of the backbone or a stage that read what goes in there.

    Of a stage without a trunk that are two, the first of either branch.
    """
    branches = [part]
    if isinstance(part, Stage) and not any(True for _ in part.trunk.children()):
        branches = [part.cmap, part.paf]
    for branch in branches:
        first = next(module for module in branch.modules() if isinstance(module, nn.Conv2d))
        yield next(name for name, layer in network.layers().items() if layer is first)


def _take(theirs: Tensor, channels: ChannelMap, fresh: Tensor) -> Tensor:
    """(C', ...) -> (C, ...): our output channels; new ones as they are in a fresh network."""
    shape = (-1, *(1,) * (theirs.ndim - 1))
    if theirs.shape[1:] != fresh.shape[1:]:
        return theirs  # reported as mismatched
    source, sign, known = (torch.from_numpy(values) for values in channels)
    return torch.where(known.view(shape), theirs[source] * sign.view(shape), fresh)


def _take_inputs(weight: Tensor, maps: ChannelMap, theirs: Skeleton) -> Tensor:
    """(O, F + M', k, k) -> (O, F + M, k, k): behind the F features our maps; new ones weigh 0."""
    features = weight.shape[1] - theirs.heatmap_channels - theirs.paf_channels
    if features < 0:
        return weight  # reported as mismatched
    source, sign, known = (torch.from_numpy(values) for values in maps)
    behind = weight[:, features:][:, source] * (sign * known).view(1, -1, 1, 1)
    return torch.cat([weight[:, :features], behind], dim=1)
