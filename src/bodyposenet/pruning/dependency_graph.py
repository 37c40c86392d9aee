"""Which layers of a network keep the same filters, and a network without some of its filters.

torch-pruning follows the channels: through batch normalization, depthwise convolutions, sums,
products and concatenations.
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
    """Groups of layers that keep the same filters.

    A convolution and the batch normalization and depthwise convolutions behind it are a group, as
    are those whose outputs are added up or multiplied.

    Returns:
        TAO's layer names, convolutions and batch normalizations; groups and layers in the order of
        the data. Every layer is in one group.
    """
    graph, names = _trace(network), {layer: name for name, layer in network.layers().items()}
    order = {name: place for place, name in enumerate(names.values())}
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
    """A copy of the network that has only these filters.

    Args:
        network: Stays as it is.
        kept: Convolution's TAO name -> ascending indices of the filters that it keeps, the same
            throughout a group; one of a group speaks for all of it. The others stay whole.
    """
    network = deepcopy(network)
    graph, layers = _trace(network), network.layers()
    for name, filters in kept.items():
        width = network.out_channels()[name]
        if width > len(filters):  # else its group has lost them already
            removed = np.setdiff1d(np.arange(width), filters).tolist()
            graph.get_pruning_group(layers[name], prune_conv_out_channels, removed).prune()
    return network


def _trace(network: BodyPoseNetwork) -> DependencyGraph:
    """The dependency graph; the network's mode stays."""
    training = network.training
    # Two cells: torch-pruning looks at channels only.
    example = torch.zeros(1, 3, network.stride, 2 * network.stride)
    with torch.enable_grad():
        graph = DependencyGraph().build_dependency(network, (example,))
    network.train(training)
    return graph
