"""Tests of examples/fall_detection: the rule, its timing, and the events of a drawn video."""

import json
from functools import partial

import numpy as np
import pytest

import bodyposenet
from bodyposenet import Frame, Poses, Skeleton
from bodyposenet.skeleton import COCO_JOINTS
from examples.fall_detection import draw_video, fall_detection

SKELETON = Skeleton("coco", COCO_JOINTS, ((5, 11),))
STANDING = {"shoulder": (0, 20), "hip": (0, 50), "knee": (0, 75), "ankle": (0, 100)}
BENDING = STANDING | {"shoulder": (30, 45)}
LYING = {joint: (y, 100) for joint, (_, y) in STANDING.items()}


def pose(joints):
    keypoints = np.full((1, len(COCO_JOINTS), 2), np.nan)
    for index, name in enumerate(COCO_JOINTS):
        side, _, joint = name.rpartition("_")
        if joint in joints:
            x, y = joints[joint]
            keypoints[0, index] = x + 8 * (side == "left"), y
    visible = ~np.isnan(keypoints[..., 0])
    return Poses(keypoints, visible.astype(float), [0.9], SKELETON)[0]


@pytest.mark.parametrize(
    ("joints", "expected"),
    [
        (STANDING, False),
        (LYING, True),
        ({joint: (-x, y) for joint, (x, y) in LYING.items()}, True),
        (BENDING, False),
        ({"shoulder": (0, 20), "knee": (0, 75)}, None),
    ],
)
def test_lying_is_a_wide_person_with_a_horizontal_torso(joints, expected):
    assert fall_detection.is_lying(pose(joints)) is expected


def test_people_who_lie_across_an_upright_person_are_not_decided():
    upright = STANDING | {"wrist": (30, 50)}
    across = {joint: (x - 20, 50) for joint, (x, _) in LYING.items()}
    beside = {joint: (x + 100, y) for joint, (x, y) in LYING.items()}
    people = [pose(joints) for joints in (upright, across, beside)]
    poses = Poses(
        np.stack([each.keypoints for each in people]),
        np.stack([each.keypoint_scores for each in people]),
        [0.9] * 3,
        SKELETON,
    )
    assert fall_detection.postures(poses) == [False, None, True]


def changes(frames, min_seconds=2.0):
    """Return the times at which the state of a person changes; frames are 0.1 s apart."""
    person = fall_detection.Person(0.0, 0.0)
    found = []
    for index, lies in enumerate(frames, 1):
        if person.update(index / 10, bool(lies), min_seconds):
            found.append((index / 10, round(person.since, 1)))
    return found


def test_a_fall_is_reported_after_the_minimum_time_and_ends_after_it():
    (fall, since), (up, _) = changes([0] * 10 + [1] * 40 + [0] * 40)
    assert since == pytest.approx(1.1, abs=0.3)
    assert fall == pytest.approx(3.0, abs=0.15)
    assert up == pytest.approx(7.0, abs=0.15)


def test_short_falls_and_wrong_frames_are_ignored():
    assert not changes([0] * 10 + [1] * 15 + [0] * 30 + [1] * 15)
    assert len(changes([0] * 10 + [1, 1, 1, 1, 0] * 10)) == 1


def test_a_drawn_person_falls_and_gets_up(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bodyposenet, "load", partial(bodyposenet.load, input_shape=(256, 256)))
    video = tmp_path / "fall.mp4"
    draw_video.write_video(video, fps=4, stands=1, lies=2, stands_again=1)
    fall_detection.main([str(video), "--min_seconds", "1"])
    fall, up = map(json.loads, capsys.readouterr().out.splitlines())
    assert (fall["event"], up["event"]) == ("fall", "up")
    assert fall["person"] == up["person"] == 1
    assert 1.2 <= fall["since"] <= 1.8
    assert 2.2 <= fall["time"] <= 3.0
    assert up["time"] >= 4.1


def test_a_person_who_disappears_while_lying_is_reported_once():
    lying = pose(LYING)
    poses = Poses(lying.keypoints[None], lying.keypoint_scores[None], [0.9], SKELETON, [7])
    others = Poses(lying.keypoints[None], lying.keypoint_scores[None], [0.9], SKELETON, [-1])
    pixels = np.zeros((2, 2, 3), np.uint8)
    stream = [
        (Frame(index, index / 10, pixels), poses if index < 20 else others) for index in range(150)
    ]
    events = list(fall_detection.find_events(stream, 1.0))
    assert [event["event"] for event in events] == ["fall", "lost"]
    assert events[1] == {"event": "lost", "person": 7, "since": 0.1, "time": 7.0}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [(["missing.mp4"], "missing.mp4"), (["missing.mp4", "--min_seconds", "0"], "min_seconds")],
)
def test_errors_end_with_exit_code_2(arguments, expected, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        fall_detection.main(arguments)
    assert ended.value.code == 2
    assert expected in capsys.readouterr().err
