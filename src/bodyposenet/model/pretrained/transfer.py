"""Transfer of pretrained weights into a network with other joints, limbs or normalization."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from bodyposenet.channel_map import ChannelMap, match_heatmaps, match_pafs
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.model.checkpoint import named_tensors
from bodyposenet.model.network import BodyPoseNetwork, Stage
from bodyposenet.model.pretrained.weights import PretrainedWeights, change_normalization
from bodyposenet.skeleton import Skeleton


@dataclass(frozen=True)
class WeightReport:
    """Result of loading weights, by tensor name (`block_1a_conv_1.weight`).

    Tensors and channels that are not loaded keep their initial values.

    Args:
        loaded: Tensors that were copied.
        missing: Tensors that the network has and the file lacks.
        mismatched: Shapes in the file and in the network, of tensors whose shapes differ.
        unused: Tensors that the file has and the network lacks.
        new_maps: Joints and limbs that the file lacks.
        notes: Changes made while reading.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    mismatched: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
    unused: tuple[str, ...]
    new_maps: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return lines for the log, one per kind of tensors that is not empty."""
        mismatched = [
            f"{name} ({'x'.join(map(str, source))} in the file, {'x'.join(map(str, target))} here)"
            for name, (source, target) in self.mismatched.items()
        ]
        kinds = {
            "missing in the file": self.missing,
            "of another shape": mismatched,
            "not used by the network": self.unused,
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
    """Copy the weights that match by name and shape.

    Channels of the maps are matched by the names of joints and limbs, and the first convolution is
    adapted to the network's normalization.

    Args:
        weights: Weights of a file.
        network: Network, modified in place.
        path: The file, for errors.

    Raises:
        BodyPoseNetError: The first convolution cannot be adapted to the network's normalization.
    """
    target = named_tensors(network)
    source, new_maps = _match_maps(weights, network, target)
    source = _adapt_input(weights, network, source, path)
    # Batch normalization's counter of training steps is unused, and Keras files lack it.
    names = [name for name in target if not name.endswith(".num_batches_tracked")]
    found = [name for name in names if name in source]
    loaded = [name for name in found if target[name].shape == source[name].shape]
    for name in loaded:
        target[name].copy_(source[name])
    return WeightReport(
        loaded=tuple(loaded),
        missing=tuple(name for name in names if name not in source),
        mismatched={
            name: (tuple(source[name].shape), tuple(target[name].shape))
            for name in found
            if name not in loaded
        },
        unused=tuple(name for name in source if name not in target),
        new_maps=new_maps,
        notes=weights.notes,
    )


def _adapt_input(
    weights: PretrainedWeights,
    network: BodyPoseNetwork,
    tensors: Mapping[str, Tensor],
    path: Path,
) -> dict[str, Tensor]:
    """Adapt the first convolution to the network's normalization.

    Raises:
        BodyPoseNetError: It has no bias to fold the change of the offset into.
    """
    first = next(_first_convolutions(network.backbone, network))
    weight, bias = f"{first}.weight", f"{first}.bias"
    before, after = weights.normalization, network.normalization
    if before is None or before == after or weight not in tensors:
        return dict(tensors)
    kernel = tensors[weight]
    is_rgb = kernel.ndim == 4 and kernel.shape[1] == 3
    if not is_rgb or bias not in tensors or tensors[bias].shape != kernel.shape[:1]:
        raise BodyPoseNetError(
            f"{path}: trained with {before}, which cannot be changed to {after}, because the first "
            "convolution has no bias, or not 3 input channels",
            "Use the normalization_params that the model was trained with.",
        )
    changed = change_normalization(tensors[weight], tensors[bias], before, after)
    return {**tensors, **dict(zip((weight, bias), changed, strict=True))}


def _match_maps(
    weights: PretrainedWeights, network: BodyPoseNetwork, initial: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Reorder the channels of the maps as in the network; new channels keep their initial values.

    Returns:
        The tensors, and the names of joints and limbs that the file lacks.
    """
    tensors = dict(weights.tensors)
    source, target = weights.skeleton, network.skeleton
    if source is None or (source.joints, source.limbs) == (target.joints, target.limbs):
        return tensors, ()
    heatmaps = match_heatmaps(source, target, keep_background=True)
    pafs = match_pafs(source, target)
    for layer in network.outputs():
        channels = heatmaps if "heat" in layer else pafs
        for part in ("weight", "bias"):
            name = f"{layer}.{part}"
            expected = source.heatmap_channels if "heat" in layer else source.paf_channels
            if name in initial and name in tensors and tensors[name].shape[:1] == (expected,):
                tensors[name] = _reorder_outputs(tensors[name], channels, initial[name])
    inputs = heatmaps.followed_by(pafs, source.heatmap_channels)
    for stage in network.stage_list[1:]:
        for layer in _first_convolutions(stage, network):
            name = f"{layer}.weight"
            if name in tensors and tensors[name].ndim == 4:
                tensors[name] = _reorder_inputs(tensors[name], inputs, source)
    names = [
        *target.joints,
        *(f"{target.joints[start]} - {target.joints[end]}" for start, end in target.limbs),
    ]
    known = [*heatmaps.known[:-1].tolist(), *pafs.known[::2].tolist()]
    return tensors, tuple(name for name, is_known in zip(names, known, strict=True) if not is_known)


def _first_convolutions(part: nn.Module, network: BodyPoseNetwork) -> Iterator[str]:
    """Yield the names of the convolutions that read the input of the backbone or of a stage.

    In a stage without a trunk, these are the first convolutions of both branches.
    """
    branches = [part]
    if isinstance(part, Stage) and not any(True for _ in part.trunk.children()):
        branches = [part.cmap, part.paf]
    for branch in branches:
        first = next(module for module in branch.modules() if isinstance(module, nn.Conv2d))
        yield next(name for name, layer in network.layers().items() if layer is first)


def _reorder_outputs(source: Tensor, channels: ChannelMap, initial: Tensor) -> Tensor:
    """Reorder output channels, (C', ...) to (C, ...); new channels are those of `initial`."""
    shape = (-1, *(1,) * (source.ndim - 1))
    if source.shape[1:] != initial.shape[1:]:
        return source  # reported as mismatched
    index, sign, known = (torch.from_numpy(values) for values in channels)
    return torch.where(known.view(shape), source[index] * sign.view(shape), initial)


def _reorder_inputs(weight: Tensor, maps: ChannelMap, source: Skeleton) -> Tensor:
    """Reorder the maps after F features, (O, F + M', k, k) to (O, F + M, k, k); new ones are 0."""
    features = weight.shape[1] - source.heatmap_channels - source.paf_channels
    if features < 0:
        return weight  # reported as mismatched
    index, sign, known = (torch.from_numpy(values) for values in maps)
    reordered = weight[:, features:][:, index] * (sign * known).view(1, -1, 1, 1)
    return torch.cat([weight[:, :features], reordered], dim=1)
