"""Tests of the search for the threshold that leaves a given share of the MACs."""

import pytest

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.pruning.cost import compute_cost
from bodyposenet.pruning.target_macs import find_threshold
from bodyposenet.pruning.threshold_rule import PruningOptions, rank_filters

from .test_dependency_graph import OPTIONS, make_network


@pytest.fixture(scope="module")
def lightweight():
    return make_network("lightweight")


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_threshold_leaves_the_largest_network_and_has_few_decimals(lightweight, share):
    ranking = rank_filters(lightweight, OPTIONS)
    threshold = find_threshold(lightweight, ranking, share)
    whole = compute_cost(lightweight).macs
    assert compute_cost(lightweight, ranking.out_channels(threshold)).macs <= share * whole
    norms = ranking.norms()
    smaller = norms[norms <= threshold][-2]
    assert compute_cost(lightweight, ranking.out_channels(smaller)).macs > share * whole
    assert len(str(threshold)) < 10


def test_unreachable_share_is_an_error_that_gives_the_smallest(lightweight):
    with pytest.raises(BodyPoseNetError, match=r"--target_macs 0\.01.* 0\.\d+"):
        find_threshold(
            lightweight, rank_filters(lightweight, PruningOptions(min_num_filters=16)), 0.01
        )
