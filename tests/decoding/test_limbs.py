"""The original's find_connections: which peaks a limb joins, on hand-made part affinity fields."""

import numpy as np

from benchmarks.original.limbs import find_connections, score_pairs
from benchmarks.original.peaks import Peaks
from bodyposenet.skeleton import Skeleton

ARM = Skeleton("arm", ("elbow", "wrist"), ((0, 1),))


def peaks_at(starts: list[tuple[int, int]], ends: list[tuple[int, int]]) -> Peaks:
    joints = np.array([0] * len(starts) + [1] * len(ends))
    return Peaks(joints, np.array(starts + ends), np.ones(len(joints), np.float32))


def rightward(rows: slice = slice(None), strength: float = 1.0) -> np.ndarray:
    field = np.zeros((2, 40, 40), np.float32)
    field[0, rows] = strength
    return field


def connect(field: np.ndarray, peaks: Peaks, threshold: float = 0.05):
    return find_connections(field, peaks, ARM, threshold, (1, 1))[0]


def test_the_score_is_the_mean_agreement():
    (connection,) = connect(rightward(strength=0.7), peaks_at([(5, 10)], [(25, 10)]))
    assert connection[:2] == (0, 1)
    np.testing.assert_allclose(connection.score, 0.7, rtol=1e-5)


def test_a_slanted_limb_counts_the_component_along_it():
    (connection,) = connect(rightward(), peaks_at([(5, 5)], [(25, 25)]))
    np.testing.assert_allclose(connection.score, np.sqrt(0.5), rtol=1e-5)


def test_a_limb_against_its_field_is_refused():
    assert connect(rightward(), peaks_at([(25, 10)], [(5, 10)])) == []


def test_nine_of_ten_samples_have_to_agree():
    field = rightward()
    peaks = peaks_at([(5, 10)], [(32, 10)])  # samples at x = 5, 8, 11, ...
    field[0, 10, 8] = 0
    assert len(connect(field, peaks)) == 1
    field[0, 10, 11] = 0
    assert connect(field, peaks) == []


def test_samples_below_the_threshold_are_left_out_of_the_mean():
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


def test_two_peaks_at_one_place_are_no_limb():
    assert connect(rightward(), peaks_at([(5, 10)], [(5, 10)])) == []


def test_pairs_without_peaks_are_an_empty_list():
    assert connect(rightward(), peaks_at([], [(5, 10)])) == []
    assert score_pairs(rightward(), np.zeros((2, 2), int), np.ones((3, 2), int), 0.05).shape == (
        2,
        3,
    )
