"""One-Euro filter of poses: jitter, lag, missing joints and errors."""

import numpy as np
import pytest

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.media import smoothing
from bodyposenet.media.smoothing import OneEuroFilter

from .walkers import as_poses, walker

ONE = np.array([1])


def smoothed(truth: np.ndarray, jitter: float, fps: float = 30) -> tuple[np.ndarray, np.ndarray]:
    """Return (F, 17, 2) noisy and smoothed joints of one person."""
    noisy = truth + np.random.default_rng(0).normal(0, jitter, truth.shape)
    smoother = OneEuroFilter()
    smooth = [
        smoother.smooth(as_poses([points], track_ids=ONE), frame / fps).keypoints[0]
        for frame, points in enumerate(noisy)
    ]
    return noisy, np.array(smooth)


def rms(values: np.ndarray) -> float:
    return float(np.sqrt((values**2).mean()))


def jerkiness(values: np.ndarray) -> float:
    return rms(np.diff(values, 2, axis=0))


@pytest.mark.parametrize("fps", [10, 30, 60])
def test_jitter_of_a_person_at_rest_is_reduced(fps):
    truth = np.repeat(walker(300, 80, 240, 0)[None], 100, axis=0)
    noisy, smooth = smoothed(truth, 2.4, fps)
    assert jerkiness(smooth[10:]) < 0.5 * jerkiness(noisy[10:])
    assert rms((smooth - truth)[10:]) < 0.75 * rms((noisy - truth)[10:])


def test_jitter_is_reduced_at_low_frame_rates():
    truth = np.repeat(walker(300, 80, 240, 0)[None], 100, axis=0)
    noisy, smooth = smoothed(truth, 2.4, fps=1.5)
    assert jerkiness(smooth[10:]) < 0.9 * jerkiness(noisy[10:])


@pytest.mark.parametrize("zoom", [0.25, 1.0, 4.0], ids=["far", "middle", "near"])
def test_lag_of_a_walker_is_small(zoom):
    times = np.arange(150) / 30
    truth = zoom * np.stack([walker(100 + 150 * time, 80, 240, time) for time in times])
    noisy, smooth = smoothed(truth, 2.4 * zoom)
    speeds = np.gradient(truth[..., 0], 1 / 30, axis=0)
    lag = -((smooth - truth)[..., 0] * speeds)[30:].sum() / (speeds[30:] ** 2).sum()
    assert 0 < lag < 0.012
    assert rms((smooth - truth)[30:]) < rms((noisy - truth)[30:])
    assert jerkiness(smooth[30:]) < 0.85 * jerkiness(noisy[30:])


def test_missing_joints_stay_missing_and_restart():
    smoother, nose = OneEuroFilter(), 0
    for frame in range(60):
        points = walker(100 + 3 * frame, 80, 240, 0)
        if 20 <= frame < 26 or 30 <= frame < 58:
            points[nose] = np.nan
        smooth = smoother.smooth(as_poses([points], track_ids=ONE), frame / 30).keypoints[0]
        np.testing.assert_array_equal(np.isnan(smooth), np.isnan(points))
        assert np.nanmax(np.abs(smooth - points)) < 6
        if frame == 58:  # the filter restarts after a second
            np.testing.assert_allclose(smooth[nose], points[nose], atol=1e-3)


def test_filter_restarts_for_a_returning_person():
    smoother = OneEuroFilter()
    smoother.smooth(as_poses([walker(100, 80, 240, 0)], track_ids=ONE), 0.0)
    for time in (1.0, 2.0):
        smoother.smooth(as_poses([walker(200, 80, 240, 0)], track_ids=np.array([2])), time)
    back = as_poses([walker(400, 80, 240, 0)], track_ids=ONE)
    np.testing.assert_allclose(smoother.smooth(back, 3.0).keypoints, back.keypoints, atol=1e-3)


def test_people_have_separate_filters():
    smoother = OneEuroFilter()
    left, right = walker(100, 80, 240, 0), walker(500, 80, 240, 0)
    for frame in range(10):
        order = [1, 2] if frame % 2 else [2, 1]
        people = [left, right] if frame % 2 else [right, left]
        poses = as_poses(people, track_ids=np.array(order))
        smooth = smoother.smooth(poses, frame / 30)
        np.testing.assert_allclose(smooth.keypoints, poses.keypoints, atol=1e-3)


def test_untracked_people_are_unchanged():
    smoother = OneEuroFilter()
    for frame, x in enumerate((100, 110, 90)):
        unknown = as_poses([walker(x, 80, 240, 0)], track_ids=np.array([-1]))
        untracked = as_poses([walker(x, 80, 240, 0)])
        for poses in (unknown, untracked, as_poses(np.zeros((0, 17, 2)))):
            smooth = smoother.smooth(poses, frame / 30)
            np.testing.assert_array_equal(smooth.keypoints, poses.keypoints)


def test_the_old_name_still_works_and_warns():
    with pytest.warns(DeprecationWarning, match="OneEuroFilter"):
        assert smoothing.Smoother is OneEuroFilter


@pytest.mark.parametrize("wrong", [{"min_cutoff": 0}, {"d_cutoff": -1}, {"beta": -0.1}])
def test_invalid_parameters_are_errors(wrong):
    with pytest.raises(BodyPoseNetError) as error:
        OneEuroFilter(**wrong)
    assert next(iter(wrong)) in error.value.what
