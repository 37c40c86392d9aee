"""TAO's rule on numbers: norms, what tied layers agree on, and which filters stay."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bodyposenet.pruning.threshold_rule import (
    Equalization,
    PruningOptions,
    equalize,
    filter_norms,
    kept_filters,
)

KERNEL = np.array([[3.0, 4.0], [0.0, 0.0], [6.0, 8.0], [0.0, 1.0]]).reshape(4, 1, 1, 2)
"""Filters of the norms 5, 0, 10, 1."""


def test_norms_are_shares_of_the_largest():
    np.testing.assert_allclose(filter_norms(KERNEL, "max"), [0.5, 0, 1, 0.1])


def test_l2_norms_are_shares_of_all_times_the_number_of_filters():
    root = np.sqrt(25 + 0 + 100 + 1)
    np.testing.assert_allclose(filter_norms(KERNEL, "L2"), np.array([5, 0, 10, 1]) / root * 4)


@pytest.mark.parametrize("normalizer", ["max", "L2"])
def test_a_kernel_of_zeros_has_norms_of_zero(normalizer):
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
def test_tied_layers_agree(criterion, expected):
    norms = [np.array([0.8, 0.0]), np.array([0.2, 1.0])]
    np.testing.assert_allclose(equalize(norms, criterion), expected)


@pytest.mark.parametrize("criterion", get_args(Equalization))
def test_a_layer_alone_keeps_its_norms(criterion):
    norms = np.array([0.3, 1.0])
    np.testing.assert_allclose(equalize([norms], criterion), norms)


def test_the_largest_norms_stay_in_the_order_of_the_filters():
    norms = np.array([0.9, 0.1, 0.2, 1.0, 0.3, 0.2])
    rule = PruningOptions(granularity=1, min_num_filters=1)
    assert kept_filters(norms, 0.25, rule).tolist() == [0, 3, 4]
    assert kept_filters(norms, 0.3, rule).tolist() == [0, 3]  # a norm must be above the threshold
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
def test_as_many_stay_as_the_rule_says(norms, threshold, granularity, least):
    rule = PruningOptions(granularity=granularity, min_num_filters=least)
    kept = kept_filters(np.array(norms), threshold, rule)
    count = max(sum(norm > threshold for norm in norms), min(least, len(norms)))
    assert len(kept) in (len(norms), -(-count // granularity) * granularity)
    assert len(kept) >= count
    gone = sorted(set(range(len(norms))) - set(kept.tolist()))
    assert all(norms[g] <= norms[k] for g in gone for k in kept)
