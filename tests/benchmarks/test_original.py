"""Tests of benchmarks/original, a straightforward implementation of TAO's decoder."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.original.assembly import connect_parts
from benchmarks.original.limbs import Connection, find_connections, score_pairs
from benchmarks.original.peaks import Peaks, find_peaks, upsample
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.pose import load_skeleton

from ..decoding.people import random_skeleton
from ..decoding.reference_decoder import assemble

NO_UPSAMPLING = (1, 1)


def gaussian(height: int, width: int, x: float, y: float, top: float = 1.0) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return (top * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 4)).astype(np.float32)


def test_a_gaussian_is_one_peak_with_its_unsmoothed_height():
    peaks = find_peaks(gaussian(20, 30, 7, 12, 0.6)[None], 0.1, NO_UPSAMPLING)
    assert peaks.points.tolist() == [[7, 12]]
    np.testing.assert_allclose(peaks.scores, [0.6])


def test_peaks_are_ordered_by_joint_and_row():
    two = gaussian(30, 30, 20, 5) + gaussian(30, 30, 5, 20)
    peaks = find_peaks(np.stack([gaussian(30, 30, 9, 9), two]), 0.1, NO_UPSAMPLING)
    assert peaks.joints.tolist() == [0, 1, 1]
    assert peaks.points.tolist() == [[9, 9], [20, 5], [5, 20]]
    assert peaks.of_joint(1).tolist() == [1, 2]


def test_the_threshold_is_on_the_unsmoothed_map_and_strict():
    heatmap = gaussian(20, 20, 8, 8, 0.5)[None]
    assert len(find_peaks(heatmap, 0.49, NO_UPSAMPLING).points) == 1
    assert len(find_peaks(heatmap, 0.5, NO_UPSAMPLING).points) == 0


def test_smoothing_decides_between_neighboring_pixels():
    heatmap = np.zeros((1, 11, 11), np.float32)
    heatmap[0, 5, 4:7] = (0.6, 0.5, 0.6)  # two maxima before smoothing, one after
    peaks = find_peaks(heatmap, 0.1, NO_UPSAMPLING)
    assert peaks.points.tolist() == [[5, 5]]
    np.testing.assert_allclose(peaks.scores, [0.5])


def test_zero_padding_shifts_a_peak_in_the_corner_inward():
    assert find_peaks(gaussian(12, 12, 0, 0)[None], 0.1, NO_UPSAMPLING).points.tolist() == [[1, 1]]


def test_a_plateau_has_several_peaks_and_noise_at_most_128():
    plateau = np.zeros((1, 20, 20), np.float32)
    plateau[0, 3:13, 3:13] = 0.5
    assert len(find_peaks(plateau, 0.1, NO_UPSAMPLING).points) > 1
    noise = np.random.default_rng(0).random((1, 200, 200), np.float32)
    assert len(find_peaks(noise, 0.1, NO_UPSAMPLING).points) == 128
    assert find_peaks(noise, 0.1, NO_UPSAMPLING).scores.min() > 0.5


def test_upsampling_aligns_the_edges_of_pixels():
    ramp = np.tile(np.arange(20, dtype=np.float32), (6, 1))
    large = upsample(ramp, (2, 8))
    assert large.shape == (12, 160)
    centers = (np.arange(160) + 0.5) / 8 - 0.5
    np.testing.assert_allclose(large[5, 16:-16], centers[16:-16], atol=0.1)


ARM = Skeleton("arm", ("elbow", "wrist"), ((0, 1),))


def peaks_at(starts: list[tuple[int, int]], ends: list[tuple[int, int]]) -> Peaks:
    joints = np.array([0] * len(starts) + [1] * len(ends))
    return Peaks(joints, np.array(starts + ends), np.ones(len(joints), np.float32))


def rightward(rows: slice = slice(None), value: float = 1.0) -> np.ndarray:
    field = np.zeros((2, 40, 40), np.float32)
    field[0, rows] = value
    return field


def connect(field: np.ndarray, peaks: Peaks, threshold: float = 0.05):
    return find_connections(field, peaks, ARM, threshold, (1, 1))[0]


def test_the_connection_score_is_the_mean_paf_score():
    (connection,) = connect(rightward(value=0.7), peaks_at([(5, 10)], [(25, 10)]))
    assert connection[:2] == (0, 1)
    np.testing.assert_allclose(connection.score, 0.7, rtol=1e-5)


def test_the_paf_score_is_the_component_along_the_limb():
    (connection,) = connect(rightward(), peaks_at([(5, 5)], [(25, 25)]))
    np.testing.assert_allclose(connection.score, np.sqrt(0.5), rtol=1e-5)


def test_a_limb_opposite_to_its_field_is_rejected():
    assert connect(rightward(), peaks_at([(25, 10)], [(5, 10)])) == []


def test_nine_of_ten_samples_must_exceed_the_threshold():
    field = rightward()
    peaks = peaks_at([(5, 10)], [(32, 10)])  # samples at x = 5, 8, 11, ...
    field[0, 10, 8] = 0
    assert len(connect(field, peaks)) == 1
    field[0, 10, 11] = 0
    assert connect(field, peaks) == []


def test_samples_below_the_threshold_are_excluded_from_the_mean():
    field = rightward()
    field[0, 10, 8] = 0.04
    peaks = peaks_at([(5, 10)], [(32, 10)])
    np.testing.assert_allclose(connect(field, peaks)[0].score, 1, rtol=1e-5)
    np.testing.assert_allclose(connect(field, peaks, 0.03)[0].score, 0.904, rtol=1e-5)
    assert connect(field, peaks, 1.0) == []


def test_each_peak_is_used_once_and_the_best_pair_first():
    field = rightward(slice(0, 15), 0.5) + rightward(slice(15, 40), 1.0)
    connections = connect(field, peaks_at([(5, 10), (5, 20)], [(25, 10), (25, 20)]))
    assert [connection[:2] for connection in connections] == [(1, 3), (0, 2)]


def test_two_peaks_at_the_same_place_are_not_connected():
    assert connect(rightward(), peaks_at([(5, 10)], [(5, 10)])) == []


def test_pairs_without_peaks_are_an_empty_list():
    assert connect(rightward(), peaks_at([], [(5, 10)])) == []
    assert score_pairs(rightward(), np.zeros((2, 2), int), np.ones((3, 2), int), 0.05).shape == (
        2,
        3,
    )


CHAIN = Skeleton("chain", ("a", "b", "c", "d", "e"), ((0, 1), (1, 2), (2, 3), (3, 4)))
TAO = load_skeleton("bpnet_18joints.json")


def peaks_of(joints: list[int], score: float = 0.9) -> Peaks:
    count = len(joints)
    return Peaks(np.array(joints), np.zeros((count, 2), int), np.full(count, score, np.float32))


def test_a_chain_becomes_one_person_and_its_total_is_the_sum():
    connections = [[Connection(k, k + 1, 0.8)] for k in range(4)]
    (person,) = connect_parts(connections, peaks_of([0, 1, 2, 3, 4]), CHAIN)
    assert person.parts == [0, 1, 2, 3, 4]
    assert person.count == 5
    assert person.total == pytest.approx(5 * 0.9 + 4 * 0.8)


def test_three_parts_of_five_are_too_few():
    connections = [[Connection(k, k + 1, 0.8)] for k in range(2)] + [[], []]
    assert connect_parts(connections, peaks_of([0, 1, 2]), CHAIN) == []


def test_a_skeleton_of_three_joints_needs_all_three():
    short = Skeleton("short", ("a", "b", "c"), ((0, 1), (1, 2)))
    both = [[Connection(0, 1, 0.8)], [Connection(1, 2, 0.8)]]
    assert len(connect_parts(both, peaks_of([0, 1, 2]), short)) == 1
    assert connect_parts([both[0], []], peaks_of([0, 1]), short) == []


def test_people_with_low_scores_are_dropped():
    connections = [[Connection(k, k + 1, 0.1)] for k in range(4)]
    assert connect_parts(connections, peaks_of([0, 1, 2, 3, 4], 0.3), CHAIN) == []


def test_people_without_a_common_joint_are_merged():
    star = Skeleton("star", ("a", "b", "c", "d"), ((0, 1), (2, 3), (1, 2)))
    connections = [[Connection(0, 1, 0.8)], [Connection(2, 3, 0.8)], [Connection(1, 2, 0.8)]]
    (person,) = connect_parts(connections, peaks_of([0, 1, 2, 3]), star)
    assert person.parts == [0, 1, 2, 3]
    assert person.total == pytest.approx(4 * 0.9 + 3 * 0.8)


def test_a_conflicting_part_is_replaced_and_counted_again():
    ring = Skeleton("ring", ("a", "b", "c", "d"), ((0, 1), (1, 2), (2, 3), (0, 3)))
    connections = [[Connection(k, k + 1, 0.8)] for k in range(3)] + [[Connection(0, 4, 0.8)]]
    (person,) = connect_parts(connections, peaks_of([0, 1, 2, 3, 3]), ring)
    assert person.parts == [0, 1, 2, 4]
    assert person.count == 5


def test_a_limb_toward_the_person_is_reversed():
    inward = Skeleton("inward", ("a", "b", "c", "d"), ((0, 1), (2, 1), (3, 2)))
    connections = [[Connection(0, 1, 0.8)], [Connection(2, 1, 0.8)], [Connection(3, 2, 0.8)]]
    (person,) = connect_parts(connections, peaks_of([0, 1, 2, 3]), inward)
    assert person.parts == [0, 1, 2, 3]


@given(seed=st.integers(0, 2**32 - 1), people=st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_people_equal_those_of_the_reference_decoder(seed, people):
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
    found = connect_parts(connections, peaks, TAO)
    rows = assemble(connections, scores.astype(float), TAO.limbs, 18, cannot_start=(17, 18))
    assert [person.parts for person in found] == [row[:18] for row in rows]
    assert [person.count for person in found] == [row[-1] for row in rows]
    np.testing.assert_allclose([person.total for person in found], [row[-2] for row in rows])


@given(seed=st.integers(0, 2**32 - 1), joints=st.integers(3, 30))
@settings(max_examples=60, deadline=None)
def test_any_tree_of_limbs_becomes_one_person(seed, joints):
    skeleton = random_skeleton(np.random.default_rng(seed), joints)
    connections = [[Connection(start, end, 0.8)] for start, end in skeleton.limbs]
    (person,) = connect_parts(connections, peaks_of(list(range(joints))), skeleton)
    assert person.parts == list(range(joints))
    assert person.count == joints
