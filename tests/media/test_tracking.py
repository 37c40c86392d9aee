"""Tracking: id switches of crossing, hidden and missed people, lost tracks, and errors."""

import numpy as np
import pytest

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.media.smoothing import OneEuroFilter
from bodyposenet.media.tracking import NO_ID, Tracker
from bodyposenet.skeleton import Skeleton
from bodyposenet.types import Poses

from .walkers import SKELETON, Walk, as_poses, walker


def count_switches(walk: Walk, seeds: range) -> tuple[int, int]:
    """Return the number of id switches, and of detections."""
    switches = detections = 0
    for seed in seeds:
        tracker, last = Tracker(SKELETON), {}
        for time, people, poses in walk.frames(seed):
            track_ids = tracker.update(poses, time).track_ids
            for person, track_id in zip(people, track_ids, strict=True):
                switches += last.get(person, track_id) != track_id
                last[person] = track_id
                detections += 1
    return switches, detections


@pytest.mark.parametrize(
    ("walk", "most"),
    [
        (Walk(hide=False, missed=0.0, missing=0.0), 0),
        (Walk(), 2e-3),
        (Walk(people=8), 4e-3),
        (Walk(missed=0.3), 3e-3),
        (Walk(jitter=0.02), 3e-3),
        (Walk(speed=2), 5e-3),
        (Walk(fps=10), 1e-2),
    ],
    ids=["crossings", "hidden", "eight", "missed", "jitter", "fast", "ten_frames_per_s"],
)
def test_ids_stay_with_people(walk, most):
    switches, detections = count_switches(walk, range(4))
    assert detections > 1000
    assert switches <= most * detections


def test_two_people_cross():
    tracker = Tracker(SKELETON)
    for frame in range(60):
        time = frame / 30
        people = [walker(100 + 200 * time, 80, 240, time), walker(500 - 200 * time, 85, 240, time)]
        ids = tracker.update(as_poses(people if frame % 2 else people[::-1]), time).track_ids
        assert list(ids if frame % 2 else ids[::-1]) == [2, 1]


@pytest.mark.parametrize(("hidden", "same"), [(20, True), (45, False)])
def test_lost_track_is_kept_for_max_age(hidden, same):
    tracker = Tracker(SKELETON, max_age=1.0)
    for frame in range(20):
        first = tracker.update(as_poses([walker(100 + 4 * frame, 80, 240, frame / 30)]), frame / 30)
    for frame in range(20, 20 + hidden):
        tracker.update(Poses.empty(SKELETON), frame / 30)
    frame = 20 + hidden
    back = tracker.update(as_poses([walker(100 + 4 * frame, 80, 240, frame / 30)]), frame / 30)
    assert (first.track_ids[0] == back.track_ids[0]) == same


@pytest.mark.parametrize(("missed", "same"), [(3, True), (4, False)])
@pytest.mark.parametrize("step", [0.5, 2.0])
def test_lost_track_is_kept_for_3_updates_at_low_frame_rates(step, missed, same):
    tracker = Tracker(SKELETON, max_age=1.0)
    person = as_poses([walker(100, 80, 240, 0)])
    tracker.update(person, 0.0)
    for frame in range(1, 1 + missed):
        tracker.update(Poses.empty(SKELETON), step * frame)
    back = tracker.update(person, step * (1 + missed))
    assert back.track_ids.tolist() == [1 if same else 2]


def test_low_scores_start_no_track_but_continue_one():
    tracker = Tracker(SKELETON, new_track_score=0.6)
    person = [walker(100, 80, 240, 0)]
    scores = [0.5, 0.7, 0.3]
    found = [tracker.update(as_poses(person, score), time) for time, score in enumerate(scores)]
    assert [int(poses.track_ids[0]) for poses in found] == [NO_ID, 1, 1]


@pytest.mark.parametrize("process", [Tracker(SKELETON).update, OneEuroFilter().smooth])
def test_decreasing_time_is_an_error(process):
    poses = as_poses([walker(60, 40, 150, 0)], track_ids=np.array([1]))
    process(poses, 1.0)
    process(poses, 1.0)
    for time in (0.5, float("nan"), float("inf")):
        with pytest.raises(BodyPoseNetError, match=rf"{time:g}"):
            process(poses, time)
    assert process(poses, 1.1).track_ids.tolist() == [1]


def test_invalid_poses_are_errors():
    for wrong in ([1], None, as_poses([walker(60, 40, 150, 0)])[0]):
        for process in (Tracker(SKELETON).update, OneEuroFilter().smooth):
            with pytest.raises(BodyPoseNetError, match=type(wrong).__name__):
                process(wrong, 0.0)
    stick = Skeleton("stick", ("a", "b"), ((0, 1),))
    with pytest.raises(BodyPoseNetError, match="17 joints"):
        Tracker(SKELETON).update(Poses.empty(stick), 0.0)


def test_poses_are_not_modified():
    poses = as_poses([walker(100, 80, 240, 0), walker(400, 80, 240, 0)])
    tracked = Tracker(SKELETON).update(poses, 0.0)
    np.testing.assert_array_equal(tracked.keypoints, poses.keypoints)
    assert tracked.track_ids.tolist() == [1, 2]
    assert poses.track_ids is None


def test_empty_poses_and_people_without_joints():
    tracker = Tracker(SKELETON)
    assert tracker.update(Poses.empty(SKELETON), 0.0).track_ids.shape == (0,)
    nowhere = as_poses(np.full((1, 17, 2), np.nan))
    for time in (1.0, 2.0):
        assert tracker.update(nowhere, time).track_ids.tolist() == [NO_ID]
    assert tracker.update(as_poses([walker(100, 80, 240, 0)]), 3.0).track_ids.tolist() == [1]
    assert tracker.update(nowhere, 4.0).track_ids.tolist() == [NO_ID]


@pytest.mark.parametrize("joints", [2, 3, 5])
def test_small_skeletons(joints):
    skeleton = Skeleton("small", tuple(f"joint_{k}" for k in range(joints)), ())
    tracker = Tracker(skeleton)
    for frame in range(5):
        points = np.arange(2 * joints).reshape(1, joints, 2) * 20.0 + (frame, 0)
        keypoints = np.concatenate([points, points + 300]).astype(np.float32)
        poses = Poses(keypoints, np.ones((2, joints)), np.ones(2), skeleton)
        assert tracker.update(poses, frame / 30).track_ids.tolist() == [1, 2]


def test_extrapolation_between_two_frames():
    tracker = Tracker(SKELETON)
    for frame in range(0, 30, 3):
        x = 100 + 5 * frame
        latest = tracker.update(as_poses([walker(x, 80, 240, 0)]), frame / 30)
    moved = tracker.move(latest, 27 / 30, 29 / 30)
    np.testing.assert_allclose(moved.keypoints[0], walker(245, 80, 240, 0), atol=0.1)
    unknown = as_poses([walker(100, 80, 240, 0)], track_ids=np.array([NO_ID]))
    still = tracker.move(unknown, 27 / 30, 29 / 30)
    np.testing.assert_array_equal(still.keypoints, unknown.keypoints)


def test_larger_part_of_a_split_person_keeps_the_id():
    tracker = Tracker(SKELETON)
    whole = walker(100, 80, 240, 0)
    parts = np.stack([whole, whole])
    parts[0, 5:] = parts[1, :5] = np.nan
    assert tracker.update(as_poses([whole]), 0.0).track_ids.tolist() == [1]
    assert tracker.update(as_poses(parts), 0.1).track_ids.tolist() == [2, 1]
    assert tracker.update(as_poses([whole]), 0.2).track_ids.tolist() == [1]
