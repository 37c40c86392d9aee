"""Simulated detections of walking people: with jitter, missed detections and crossings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bodyposenet.skeleton import COCO_JOINTS, Skeleton
from bodyposenet.types import Poses

SKELETON = Skeleton("coco", COCO_JOINTS, ((5, 6), (5, 11), (6, 12), (11, 12)))

_BODY = {
    "nose": (0, 0.07), "eye": (0.02, 0.05), "ear": (0.04, 0.06), "shoulder": (0.1, 0.19),
    "elbow": (0.14, 0.34), "wrist": (0.15, 0.48), "hip": (0.07, 0.52), "knee": (0.07, 0.74),
    "ankle": (0.07, 0.96),
}  # fmt: skip
_SWING = {"wrist": 0.10, "elbow": 0.05, "knee": 0.07, "ankle": 0.13}
_SIDES = np.array([1 - 2 * joint.startswith("right") for joint in COCO_JOINTS])
_PARTS = [joint.split("_")[-1] for joint in COCO_JOINTS]


def walker(x: float, y: float, height: float, time: float, phase: float = 0.0) -> np.ndarray:
    """Return (17, 2) joints of a person, one step per second; (x, y) is the top of the head."""
    points = np.array([_BODY[part] for part in _PARTS]) * np.stack([_SIDES, _SIDES**2], axis=1)
    swing = np.array([_SWING.get(part, 0.0) for part in _PARTS])
    points[:, 0] += _SIDES * swing * np.sin(2 * np.pi * time + phase)
    return points * height + (x, y)


def as_poses(people: np.ndarray, scores: float = 0.9, **more) -> Poses:
    """Return poses of (N, 17, 2) joints."""
    keypoints = np.asarray(people, np.float32).reshape(-1, len(COCO_JOINTS), 2)
    found = (~np.isnan(keypoints[..., 0])).astype(np.float32)
    return Poses(keypoints, found, np.full(len(keypoints), scores, np.float32), SKELETON, **more)


@dataclass(frozen=True)
class Walk:
    """People who walk back and forth in an image of 640 x 480 pixels, for ten seconds.

    Args:
        people: Number of people.
        fps: Frames per second.
        jitter: Standard deviation of the noise of each joint, relative to the person's height.
        missed: Share of the people who are not detected in a frame.
        missing: Share of the joints that are not detected.
        hide: Whether people behind others are not detected.
        speed: Factor of the speeds; with 1, at most 0.8 of the person's height per second.
    """

    people: int = 4
    fps: float = 30
    jitter: float = 0.01
    missed: float = 0.08
    missing: float = 0.1
    hide: bool = True
    speed: float = 1.0

    def frames(self, seed: int) -> Iterator[tuple[float, np.ndarray, Poses]]:
        """Yield the time, the indices of the detected people, and their poses in random order."""
        rng = np.random.default_rng(seed)
        top, heights = rng.uniform(80, 140, self.people), rng.uniform(180, 280, self.people)
        start, phases = rng.uniform(0, 640, self.people), rng.uniform(0, 6, self.people)
        speeds = rng.choice([-1, 1], self.people) * rng.uniform(0.3, 0.8, self.people) * heights
        for frame in range(round(10 * self.fps)):
            time = frame / self.fps
            x = np.abs((start + self.speed * speeds * time) % 1280 - 640)
            visible = self._visible(x, top + heights, heights)
            detected = [i for i in rng.permutation(visible) if rng.random() >= self.missed]
            points = np.empty((len(detected), len(COCO_JOINTS), 2))
            for person, i in zip(points, detected, strict=True):
                person[:] = walker(x[i], top[i], heights[i], time, phases[i])
                person += rng.normal(0, self.jitter * heights[i], person.shape)
                person[rng.random(len(person)) < self.missing] = np.nan
            yield time, np.array(detected, int), as_poses(points)

    def _visible(self, x: np.ndarray, feet: np.ndarray, heights: np.ndarray) -> list[int]:
        """Return the indices of people who are not behind others, the nearest first."""
        visible: list[int] = []
        for i in np.argsort(-feet):
            is_hidden = any(abs(x[i] - x[other]) < 0.12 * heights[other] for other in visible)
            if not (self.hide and is_hidden):
                visible.append(int(i))
        return visible
