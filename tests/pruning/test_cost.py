"""Tests of parameters and multiply-accumulates of networks, pruned or not."""

from bodyposenet.pruning.cost import SIZE, compute_cost
from bodyposenet.pruning.dependency_graph import prune_channels
from bodyposenet.pruning.threshold_rule import rank_filters

from .test_dependency_graph import OPTIONS, make_network


def test_cost_for_out_channels_is_that_of_the_pruned_network():
    network = make_network("attention")
    ranking = rank_filters(network, OPTIONS)
    pruned = prune_channels(network, ranking.kept(0.9))
    cost = compute_cost(network, ranking.out_channels(0.9))
    assert cost == compute_cost(pruned)
    assert cost.parameters == sum(part.numel() for part in pruned.parameters())
    assert cost.macs < compute_cost(network).macs


def test_macs_are_those_of_the_convolutions():
    network = make_network("vgg")
    layers = network.layers()
    strides = {"block_2": 2, "block_3": 4}
    expected = 0
    for name, channels in network.out_channels().items():
        layer = layers[name]
        rows = SIZE // strides.get(name[:7], 1 if name.startswith("block_1") else 8)
        expected += rows * rows * channels * layer.weight[0].numel()
    assert compute_cost(network).macs == expected
