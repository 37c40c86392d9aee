"""What may go and what stays whole, thresholds that make sense, and the search for one."""

import pytest
import torch

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.pruning.cost import SIZE, compute_cost
from bodyposenet.pruning.dependency_graph import prune_channels
from bodyposenet.pruning.target_macs import find_threshold
from bodyposenet.pruning.threshold_rule import PruningOptions, check_threshold, rank_filters

from .test_dependency_graph import RULE, make_network


@pytest.fixture(scope="module")
def lightweight():
    return make_network("lightweight")


def test_outputs_and_excluded_layers_stay_whole_and_those_tied_to_them(lightweight):
    ranking = rank_filters(lightweight, RULE, ["context_a_dwconv_1", "stage2/block1/bn3"])
    out_channels = ranking.out_channels(0.99)
    assert not out_channels.keys() & set(lightweight.outputs())
    assert ranking.whole["paf_out"] == "output"
    assert ranking.whole["context_a_dwconv_1"] == "excluded"
    assert ranking.whole["channel_reduction_conv"] == "as context_a_dwconv_1"
    assert ranking.whole["stage2/block1/conv1"] == "as stage2/block1/bn3"
    assert out_channels["stage1/conv1"] < 16
    assert out_channels.keys() | ranking.whole.keys() == lightweight.out_channels().keys()


def test_an_unknown_layer_is_an_error_with_the_closest_names(lightweight):
    with pytest.raises(BodyPoseNetError, match="no layer is named stage1/conv9") as caught:
        rank_filters(lightweight, RULE, ["stage1/conv9"])
    assert "stage1/conv1" in caught.value.remedy


def test_weights_that_are_no_numbers_are_an_error():
    network = make_network("lightweight")
    with torch.no_grad():
        network.layers()["stage1/conv1"].weight[0] = torch.nan
    with pytest.raises(BodyPoseNetError, match="the weights of stage1/conv1 are not all finite"):
        rank_filters(network, RULE)


@pytest.mark.parametrize(
    "rule", [PruningOptions(granularity=65), PruningOptions(granularity=1, min_num_filters=64)]
)
def test_a_rule_that_prunes_nothing_is_an_error(lightweight, rule):
    with pytest.raises(BodyPoseNetError, match="have 64 filters at most"):
        rank_filters(lightweight, rule)


def test_nothing_is_left_to_prune(lightweight):
    with pytest.raises(BodyPoseNetError, match="nothing can be pruned"):
        rank_filters(lightweight, RULE, list(lightweight.out_channels()))


def test_a_threshold_above_all_norms_is_an_error_that_tells_the_useful_ones(lightweight):
    ranking = rank_filters(lightweight, RULE)
    with pytest.raises(BodyPoseNetError, match="--pruning_threshold 1: no filter") as caught:
        check_threshold(ranking, 1.0)
    assert "norms are 0." in caught.value.remedy
    assert "--normalizer L2" in caught.value.remedy
    check_threshold(ranking, 0.99)
    check_threshold(rank_filters(lightweight, PruningOptions("L2")), 1.0)


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_the_threshold_for_a_share_leaves_the_largest_network_and_is_short(lightweight, share):
    ranking = rank_filters(lightweight, RULE)
    threshold = find_threshold(lightweight, ranking, share)
    whole = compute_cost(lightweight).macs
    assert compute_cost(lightweight, ranking.out_channels(threshold)).macs <= share * whole
    norms = ranking.norms()
    smaller = norms[norms <= threshold][-2]
    assert compute_cost(lightweight, ranking.out_channels(smaller)).macs > share * whole
    assert len(str(threshold)) < 10


def test_a_share_out_of_reach_is_an_error_that_tells_the_least(lightweight):
    with pytest.raises(BodyPoseNetError, match=r"the least that is possible is 0\.\d+"):
        find_threshold(
            lightweight, rank_filters(lightweight, PruningOptions(min_num_filters=16)), 0.01
        )


def test_costs_are_those_of_the_pruned_network():
    network = make_network("attention")
    ranking = rank_filters(network, RULE)
    pruned = prune_channels(network, ranking.kept(0.9))
    cost = compute_cost(network, ranking.out_channels(0.9))
    assert cost == compute_cost(pruned)
    assert cost.parameters == sum(part.numel() for part in pruned.parameters())
    assert cost.macs < compute_cost(network).macs


def test_multiply_accumulates_are_those_of_the_convolutions():
    network = make_network("vgg")
    layers = network.layers()
    strides = {"block_2": 2, "block_3": 4}
    expected = 0
    for name, width in network.out_channels().items():
        layer = layers[name]
        rows = SIZE // strides.get(name[:7], 1 if name.startswith("block_1") else 8)
        expected += rows * rows * width * layer.weight[0].numel()
    assert compute_cost(network).macs == expected
