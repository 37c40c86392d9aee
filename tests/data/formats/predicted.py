"""Predictions of simulated people, which the tests of all output formats write."""

from dataclasses import replace

import numpy as np

from bodyposenet.data.formats.predictions import (
    ImagePredictions,
    PredictedFrame,
    PredictedImage,
    VideoPredictions,
)
from bodyposenet.types import Poses

from ...media.walkers import SKELETON, as_poses, walker

MODEL = "bodyposenet_test"
WIDTH, HEIGHT = 320, 240


def poses() -> Poses:
    """Return two people: one without nose, whose left wrist is inferred and whose right ankle is
    outside of the image; and a complete one."""
    points = np.array([walker(60.25, 40, 150, 0.1), walker(220, 30.5, 180, 0.3)])
    points[0, 0] = np.nan
    points[0, 16] = (61.5, HEIGHT + 20)
    found = as_poses(points)
    inferred = np.zeros(points.shape[:2], bool)
    inferred[0, SKELETON.joints.index("left_wrist")] = True
    scores = found.keypoint_scores * np.linspace(0.5, 1, 17, dtype=np.float32)
    return replace(found, keypoint_scores=scores, inferred=inferred)


def images() -> ImagePredictions:
    """Return two images with `poses`, one of them in a folder of its own, and an empty one."""
    people = poses()
    return ImagePredictions(
        (
            PredictedImage("a.jpg", "a", 7, WIDTH, HEIGHT, people),
            PredictedImage("more/b.jpg", "b", 9, WIDTH, HEIGHT, people[[1]]),
            PredictedImage("empty.jpg", "empty", 11, WIDTH, HEIGHT, people[[]]),
        ),
        SKELETON,
        MODEL,
    )


def video() -> VideoPredictions:
    """Return three frames: track 1, then tracks 1 and 4, then a person without a track."""
    people = poses()
    found = [
        replace(people[[0]], track_ids=np.array([1])),
        replace(people, track_ids=np.array([4, 1])),
        replace(people[[1]], track_ids=np.array([-1])),
    ]
    frames = [
        PredictedFrame(f"dance_{index:012}", index, index / 10, people)
        for index, people in enumerate(found)
    ]
    return VideoPredictions(frames, SKELETON, MODEL, "dance")
