"""Dependency groups of a network's layers, and removal of channels from whole groups.

torch-pruning (Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023) traces which
layers share their channels: through batch normalization, depthwise convolutions, sums, products and
concatenations.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch_pruning import DependencyGraph, prune_conv_out_channels

from bodyposenet.model.network import BodyPoseNetwork


def dependency_groups(network: BodyPoseNetwork) -> list[tuple[str, ...]]:
    """Group the layers that must keep the same output channels.

    A convolution forms a group with the batch normalization and the depthwise convolutions that
    follow it. Convolutions whose outputs are added or multiplied belong to the same group.

    Returns:
        Names of convolutions and batch normalizations; groups and layers are in forward order.
        Every layer is in exactly one group.
    """
    graph, names = _trace(network), {layer: name for name, layer in network.layers().items()}
    order = {name: index for index, name in enumerate(names.values())}
    groups = []
    for group in graph.get_all_groups(root_module_types=(nn.Conv2d,)):
        members = {
            names[item.dep.target.module]
            for item in group
            if item.dep.target.module in names and graph.is_out_channel_pruning_fn(item.dep.handler)
        }
        groups.append(tuple(sorted(members, key=order.__getitem__)))
    return sorted(groups, key=lambda group: order[group[0]])


def prune_channels(
    network: BodyPoseNetwork, kept: Mapping[str, NDArray[np.int64]]
) -> BodyPoseNetwork:
    """Return a copy of a network with only the given output channels.

    Args:
        network: The network; it is not modified.
        kept: Ascending indices of the output channels to keep, by the name of the convolution. One
            convolution of a dependency group suffices; if several are given, their indices must be
            equal. Groups that are not given keep all channels.
    """
    network = deepcopy(network)
    graph, layers = _trace(network), network.layers()
    for name, channels in kept.items():
        count = network.out_channels()[name]
        if count > len(channels):  # otherwise the group has been pruned already
            removed = np.setdiff1d(np.arange(count), channels).tolist()
            graph.get_pruning_group(layers[name], prune_conv_out_channels, removed).prune()
    return network


def _trace(network: BodyPoseNetwork) -> DependencyGraph:
    """Build the dependency graph; the network stays in its mode (training or evaluation)."""
    training = network.training
    # The smallest input of two cells is enough, because torch-pruning only traces channels.
    example = torch.zeros(1, 3, network.stride, 2 * network.stride)
    with torch.enable_grad():
        graph = DependencyGraph().build_dependency(network, (example,))
    network.train(training)
    return graph
