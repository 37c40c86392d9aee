"""The original's connect_parts: its rules, one by one, and its own code on random connections."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.original.assembly import connect_parts
from benchmarks.original.limbs import Connection
from benchmarks.original.peaks import Peaks
from bodyposenet.decoding.tao.assembly import walk_limbs
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.pose import load_skeleton

from .original import assemble
from .people import random_skeleton

CHAIN = Skeleton("chain", ("a", "b", "c", "d", "e"), ((0, 1), (1, 2), (2, 3), (3, 4)))
TAO = load_skeleton("bpnet_18joints.json")


def peaks_of(joints: list[int], score: float = 0.9) -> Peaks:
    count = len(joints)
    return Peaks(np.array(joints), np.zeros((count, 2), int), np.full(count, score, np.float32))


def test_a_chain_becomes_one_body_and_its_total_is_the_sum():
    connections = [[Connection(k, k + 1, 0.8)] for k in range(4)]
    (body,) = connect_parts(connections, peaks_of([0, 1, 2, 3, 4]), CHAIN)
    assert body.parts == [0, 1, 2, 3, 4]
    assert body.count == 5
    assert body.total == pytest.approx(5 * 0.9 + 4 * 0.8)


def test_three_parts_of_five_are_too_few():
    connections = [[Connection(k, k + 1, 0.8)] for k in range(2)] + [[], []]
    assert connect_parts(connections, peaks_of([0, 1, 2]), CHAIN) == []


def test_a_skeleton_of_three_joints_needs_all_three():
    short = Skeleton("short", ("a", "b", "c"), ((0, 1), (1, 2)))
    both = [[Connection(0, 1, 0.8)], [Connection(1, 2, 0.8)]]
    assert len(connect_parts(both, peaks_of([0, 1, 2]), short)) == 1
    assert connect_parts([both[0], []], peaks_of([0, 1]), short) == []


def test_weak_bodies_are_dropped():
    connections = [[Connection(k, k + 1, 0.1)] for k in range(4)]
    assert connect_parts(connections, peaks_of([0, 1, 2, 3, 4], 0.3), CHAIN) == []


def test_bodies_without_a_common_joint_are_joined():
    star = Skeleton("star", ("a", "b", "c", "d"), ((0, 1), (2, 3), (1, 2)))
    connections = [[Connection(0, 1, 0.8)], [Connection(2, 3, 0.8)], [Connection(1, 2, 0.8)]]
    (body,) = connect_parts(connections, peaks_of([0, 1, 2, 3]), star)
    assert body.parts == [0, 1, 2, 3]
    assert body.total == pytest.approx(4 * 0.9 + 3 * 0.8)


def test_a_conflicting_part_is_replaced_and_counted_again():
    ring = Skeleton("ring", ("a", "b", "c", "d"), ((0, 1), (1, 2), (2, 3), (0, 3)))
    connections = [[Connection(k, k + 1, 0.8)] for k in range(3)] + [[Connection(0, 4, 0.8)]]
    (body,) = connect_parts(connections, peaks_of([0, 1, 2, 3, 3]), ring)
    assert body.parts == [0, 1, 2, 4]
    assert body.count == 5


def test_the_limb_from_eye_to_ear_starts_no_body_in_the_original_skeleton():
    restricted = [limb for limb, step in enumerate(walk_limbs(TAO)) if not step.starts_person]
    assert restricted == [17, 18]


def test_the_original_skeleton_is_walked_as_it_is_listed():
    assert [(step.start, step.end) for step in walk_limbs(TAO)] == list(TAO.limbs)
    assert not any(step.turned for step in walk_limbs(TAO))


def test_a_limb_that_points_at_the_body_is_taken_the_other_way_round():
    inward = Skeleton("inward", ("a", "b", "c", "d"), ((0, 1), (2, 1), (3, 2)))
    connections = [[Connection(0, 1, 0.8)], [Connection(2, 1, 0.8)], [Connection(3, 2, 0.8)]]
    (body,) = connect_parts(connections, peaks_of([0, 1, 2, 3]), inward)
    assert body.parts == [0, 1, 2, 3]


@given(seed=st.integers(0, 2**32 - 1), people=st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_it_equals_the_original_on_random_connections(seed, people):
    rng = np.random.default_rng(seed)
    joints = np.repeat(np.arange(18), people)
    scores = rng.uniform(0.1, 1, len(joints)).astype(np.float32)
    connections = []
    for start, end in TAO.limbs:
        ends = rng.permutation(people) if rng.random() < 0.2 else np.arange(people)
        connections.append(
            [
                Connection(start * people + a, end * people + int(ends[a]), float(rng.random()))
                for a in range(people)
                if rng.random() < 0.7
            ]
        )
    peaks = Peaks(joints, np.zeros((len(joints), 2), int), scores)
    bodies = connect_parts(connections, peaks, TAO)
    rows = assemble(connections, scores.astype(float), TAO.limbs, 18, cannot_start=(17, 18))
    assert [body.parts for body in bodies] == [row[:18] for row in rows]
    assert [body.count for body in bodies] == [row[-1] for row in rows]
    np.testing.assert_allclose([body.total for body in bodies], [row[-2] for row in rows])


@given(seed=st.integers(0, 2**32 - 1), joints=st.integers(3, 30))
@settings(max_examples=60, deadline=None)
def test_any_tree_of_limbs_becomes_one_body(seed, joints):
    skeleton = random_skeleton(np.random.default_rng(seed), joints)
    connections = [[Connection(start, end, 0.8)] for start, end in skeleton.limbs]
    (body,) = connect_parts(connections, peaks_of(list(range(joints))), skeleton)
    assert body.parts == list(range(joints))
    assert body.count == joints
