"""The original's find_peaks: the places of joints on hand-made heatmaps."""

import numpy as np

from benchmarks.original.peaks import find_peaks, upsample

SAME = (1, 1)


def bump(height: int, width: int, x: float, y: float, top: float = 1.0) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return (top * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 4)).astype(np.float32)


def test_a_bump_is_one_peak_with_its_unsmoothed_height():
    peaks = find_peaks(bump(20, 30, 7, 12, 0.6)[None], 0.1, SAME)
    assert peaks.points.tolist() == [[7, 12]]
    np.testing.assert_allclose(peaks.scores, [0.6])


def test_peaks_come_joint_by_joint_and_row_by_row():
    two = bump(30, 30, 20, 5) + bump(30, 30, 5, 20)
    peaks = find_peaks(np.stack([bump(30, 30, 9, 9), two]), 0.1, SAME)
    assert peaks.joints.tolist() == [0, 1, 1]
    assert peaks.points.tolist() == [[9, 9], [20, 5], [5, 20]]
    assert peaks.of(1).tolist() == [1, 2]


def test_the_threshold_is_on_the_unsmoothed_map_and_strict():
    heatmap = bump(20, 20, 8, 8, 0.5)[None]
    assert len(find_peaks(heatmap, 0.49, SAME).points) == 1
    assert len(find_peaks(heatmap, 0.5, SAME).points) == 0


def test_smoothing_decides_between_neighboring_pixels():
    heatmap = np.zeros((1, 11, 11), np.float32)
    heatmap[0, 5, 4:7] = (0.6, 0.5, 0.6)  # two maxima before smoothing, one after
    peaks = find_peaks(heatmap, 0.1, SAME)
    assert peaks.points.tolist() == [[5, 5]]
    np.testing.assert_allclose(peaks.scores, [0.5])


def test_zeros_around_the_map_draw_a_peak_in_the_corner_inward():
    assert find_peaks(bump(12, 12, 0, 0)[None], 0.1, SAME).points.tolist() == [[1, 1]]


def test_a_plateau_has_several_peaks_and_noise_at_most_128():
    plateau = np.zeros((1, 20, 20), np.float32)
    plateau[0, 3:13, 3:13] = 0.5
    assert len(find_peaks(plateau, 0.1, SAME).points) > 1
    noise = np.random.default_rng(0).random((1, 200, 200), np.float32)
    assert len(find_peaks(noise, 0.1, SAME).points) == 128
    assert find_peaks(noise, 0.1, SAME).scores.min() > 0.5


def test_upsampling_puts_pixel_edges_onto_pixel_edges():
    ramp = np.tile(np.arange(20, dtype=np.float32), (6, 1))
    large = upsample(ramp, (2, 8))
    assert large.shape == (12, 160)
    centers = (np.arange(160) + 0.5) / 8 - 0.5
    np.testing.assert_allclose(large[5, 16:-16], centers[16:-16], atol=0.1)
