"""Tests of TAO's rule: norms of filters and of dependency groups, and the filters to keep."""

from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.pruning.threshold_rule import (
    Equalization,
    PruningOptions,
    check_threshold,
    combine_norms,
    filter_norms,
    kept_filters,
    rank_filters,
)

from .test_dependency_graph import OPTIONS, make_network

KERNEL = np.array([[3.0, 4.0], [0.0, 0.0], [6.0, 8.0], [0.0, 1.0]]).reshape(4, 1, 1, 2)
"""Filters of the norms 5, 0, 10, 1."""


@pytest.fixture(scope="module")
def lightweight():
    return make_network("lightweight")


def test_max_divides_by_the_largest_norm():
    np.testing.assert_allclose(filter_norms(KERNEL, "max"), [0.5, 0, 1, 0.1])


def test_l2_divides_by_the_root_of_the_squares_over_the_number_of_filters():
    root = np.sqrt(25 + 0 + 100 + 1)
    np.testing.assert_allclose(filter_norms(KERNEL, "L2"), np.array([5, 0, 10, 1]) / root * 4)


@pytest.mark.parametrize("normalizer", ["max", "L2"])
def test_norms_of_a_zero_kernel_are_zero(normalizer):
    np.testing.assert_array_equal(filter_norms(np.zeros((3, 2, 1, 1)), normalizer), [0, 0, 0])


@pytest.mark.parametrize(
    ("criterion", "expected"),
    [
        ("union", [0.8, 1.0]),
        ("intersection", [0.2, 0.0]),
        ("arithmetic_mean", [0.5, 0.5]),
        ("geometric_mean", [0.4, 0.0]),
    ],
)
def test_norms_of_a_group_are_combined(criterion, expected):
    norms = [np.array([0.8, 0.0]), np.array([0.2, 1.0])]
    np.testing.assert_allclose(combine_norms(norms, criterion), expected)


@pytest.mark.parametrize("criterion", get_args(Equalization))
def test_norms_of_a_single_layer_do_not_change(criterion):
    norms = np.array([0.3, 1.0])
    np.testing.assert_allclose(combine_norms([norms], criterion), norms)


def test_filters_with_the_largest_norms_are_kept_in_order():
    norms = np.array([0.9, 0.1, 0.2, 1.0, 0.3, 0.2])
    options = PruningOptions(granularity=1, min_num_filters=1)
    assert kept_filters(norms, 0.25, options).tolist() == [0, 3, 4]
    assert kept_filters(norms, 0.3, options).tolist() == [
        0,
        3,
    ]  # a norm must be above the threshold
    # Filled up to a multiple of 4; of equal norms the first filter stays.
    assert kept_filters(norms, 0.25, PruningOptions("max", "union", 4, 1)).tolist() == [0, 2, 3, 4]
    assert kept_filters(norms, 0.25, PruningOptions("max", "union", 8, 1)).tolist() == [
        0,
        1,
        2,
        3,
        4,
        5,
    ]
    assert kept_filters(norms, 2.0, PruningOptions("max", "union", 1, 2)).tolist() == [0, 3]


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=70), st.floats(0, 2),
    st.integers(1, 20), st.integers(1, 80),
)  # fmt: skip
def test_number_of_kept_filters(norms, threshold, granularity, minimum):
    options = PruningOptions(granularity=granularity, min_num_filters=minimum)
    kept = kept_filters(np.array(norms), threshold, options)
    count = max(sum(norm > threshold for norm in norms), min(minimum, len(norms)))
    assert len(kept) in (len(norms), -(-count // granularity) * granularity)
    assert len(kept) >= count
    removed = sorted(set(range(len(norms))) - set(kept.tolist()))
    assert all(norms[g] <= norms[k] for g in removed for k in kept)


def test_outputs_and_groups_of_excluded_layers_are_not_pruned(lightweight):
    ranking = rank_filters(lightweight, OPTIONS, ["context_a_dwconv_1", "stage2/block1/bn3"])
    out_channels = ranking.out_channels(0.99)
    assert not out_channels.keys() & set(lightweight.outputs())
    assert ranking.unpruned["paf_out"] == "output"
    assert ranking.unpruned["context_a_dwconv_1"] == "excluded"
    assert ranking.unpruned["channel_reduction_conv"] == "excluded with context_a_dwconv_1"
    assert ranking.unpruned["stage2/block1/conv1"] == "excluded with stage2/block1/bn3"
    assert out_channels["stage1/conv1"] < 16
    assert out_channels.keys() | ranking.unpruned.keys() == lightweight.out_channels().keys()


def test_unknown_excluded_layer_is_an_error_that_suggests_similar_names(lightweight):
    with pytest.raises(BodyPoseNetError, match="stage1/conv9") as caught:
        rank_filters(lightweight, OPTIONS, ["stage1/conv9"])
    assert "stage1/conv1" in caught.value.remedy


def test_weights_that_are_not_finite_are_an_error():
    network = make_network("lightweight")
    with torch.no_grad():
        network.layers()["stage1/conv1"].weight[0] = torch.nan
    with pytest.raises(BodyPoseNetError, match="stage1/conv1"):
        rank_filters(network, OPTIONS)


@pytest.mark.parametrize(
    "options", [PruningOptions(granularity=65), PruningOptions(granularity=1, min_num_filters=64)]
)
def test_options_that_prune_nothing_are_an_error(lightweight, options):
    with pytest.raises(BodyPoseNetError, match="64 filters"):
        rank_filters(lightweight, options)


def test_excluding_all_layers_is_an_error(lightweight):
    with pytest.raises(BodyPoseNetError, match="0 filters"):
        rank_filters(lightweight, OPTIONS, list(lightweight.out_channels()))


def test_threshold_above_all_norms_is_an_error_that_gives_the_range(lightweight):
    ranking = rank_filters(lightweight, OPTIONS)
    with pytest.raises(BodyPoseNetError, match="--pruning_threshold 1") as caught:
        check_threshold(ranking, 1.0)
    assert " 0." in caught.value.remedy
    assert "--normalizer L2" in caught.value.remedy
    check_threshold(ranking, 0.99)
    check_threshold(rank_filters(lightweight, PruningOptions("L2")), 1.0)
