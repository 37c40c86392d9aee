"""People who walk over a picture, as a network would see them: with jitter, gaps and crossings."""

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
    """(17, 2) joints of a person who takes one step a second; (x, y) is the top of the head."""
    points = np.array([_BODY[part] for part in _PARTS]) * np.stack([_SIDES, _SIDES**2], axis=1)
    swing = np.array([_SWING.get(part, 0.0) for part in _PARTS])
    points[:, 0] += _SIDES * swing * np.sin(2 * np.pi * time + phase)
    return points * height + (x, y)


def as_poses(people: np.ndarray, scores: float = 0.9, **more) -> Poses:
    """Poses of (N, 17, 2) joints."""
    keypoints = np.asarray(people, np.float32).reshape(-1, len(COCO_JOINTS), 2)
    found = (~np.isnan(keypoints[..., 0])).astype(np.float32)
    return Poses(keypoints, found, np.full(len(keypoints), scores, np.float32), SKELETON, **more)


@dataclass(frozen=True)
class Walk:
    """People who walk to and fro between the sides of a picture of 640 x 480.

    Args:
        people: How many.
        fps: Frames per second, of ten seconds.
        jitter: Of every joint, as a share of the person's height.
        missed: Share of the people who are not found in a frame.
        missing: Share of the joints that are not found.
        hide: Whether those who are behind others are not found either.
        speed: 1: up to a body's height in a second.
    """

    people: int = 4
    fps: float = 30
    jitter: float = 0.01
    missed: float = 0.08
    missing: float = 0.1
    hide: bool = True
    speed: float = 1.0

    def frames(self, seed: int) -> Iterator[tuple[float, np.ndarray, Poses]]:
        """Time, who they are, and their poses in any order."""
        rng = np.random.default_rng(seed)
        top, heights = rng.uniform(80, 140, self.people), rng.uniform(180, 280, self.people)
        start, phases = rng.uniform(0, 640, self.people), rng.uniform(0, 6, self.people)
        speeds = rng.choice([-1, 1], self.people) * rng.uniform(0.3, 0.8, self.people) * heights
        for frame in range(round(10 * self.fps)):
            time = frame / self.fps
            x = np.abs((start + self.speed * speeds * time) % 1280 - 640)
            seen = self._seen(x, top + heights, heights)
            seen = [who for who in rng.permutation(seen) if rng.random() >= self.missed]
            points = np.empty((len(seen), len(COCO_JOINTS), 2))
            for person, who in zip(points, seen, strict=True):
                person[:] = walker(x[who], top[who], heights[who], time, phases[who])
                person += rng.normal(0, self.jitter * heights[who], person.shape)
                person[rng.random(len(person)) < self.missing] = np.nan
            yield time, np.array(seen, int), as_poses(points)

    def _seen(self, x: np.ndarray, feet: np.ndarray, heights: np.ndarray) -> list[int]:
        """Who stands behind nobody, the nearest first."""
        seen: list[int] = []
        for who in np.argsort(-feet):
            hidden = any(abs(x[who] - x[other]) < 0.12 * heights[other] for other in seen)
            if not (self.hide and hidden):
                seen.append(int(who))
        return seen
