"""Report people who lie on the floor: in a video file, from a camera or in a network stream.

    python fall_detection.py hall.mp4
    python fall_detection.py 0

Each event is a line of JSON on standard output: `fall` if a person has been lying for some seconds,
`up` if the person is upright again, `lost` if a person who was lying is not detected any more.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import bodyposenet
from bodyposenet import BodyPoseNetError, Frame, PersonPose, Poses

MIN_ANGLE = 60.0
"""Smallest angle between the torso of a lying person and the vertical, in degrees."""
MAX_OVERLAP = 0.15
"""Share of the joints of a lying person that may be within the box of an upright one."""
MIN_SCORE = 0.9
"""Score of a person from which a track starts; the scores of most false people are lower."""
LOST_SECONDS = 5.0
"""Seconds without a detection after which a person is lost."""


@dataclass
class Person:
    """A tracked person; times are in seconds since the first frame.

    Args:
        since: When the person began to lie.
        seen: Time of the latest detection.
        is_lying: Whether the person has been lying long enough.
        lying_share: Share of the recent time that the person has been lying.
    """

    since: float
    seen: float
    is_lying: bool = False
    lying_share: float = 0.0

    def update(self, time: float, lies: bool, min_seconds: float) -> bool:
        """Add a detection, and return whether `is_lying` has changed.

        The share is an exponential average, so that single wrong detections do not matter: in
        `min_seconds`, it rises from 0 to .8, or falls from 1 to .2.
        """
        weight = 1 - 0.2 ** ((time - self.seen) / min_seconds)
        self.lying_share += weight * (lies - self.lying_share)
        self.seen = time
        if not self.is_lying and self.lying_share <= 0.2:
            self.since = time
        changed = self.lying_share <= 0.2 if self.is_lying else self.lying_share >= 0.8
        self.is_lying ^= changed
        return changed


def is_lying(pose: PersonPose) -> bool | None:
    """Return whether a person lies, or None if shoulders or hips are not visible.

    A person lies if the torso is far from vertical and the person is wider than tall, which people
    who bend down are not.
    """
    middles = []
    for joint in ("shoulder", "hip"):
        points = [pose[f"{side}_{joint}"] for side in ("left", "right")]
        visible = [(point.x, point.y) for point in points if point.visible]
        if not visible:
            return None
        middles.append(np.mean(visible, axis=0))
    x, y = middles[0] - middles[1]  # from the hips to the shoulders; y points down
    x1, y1, x2, y2 = pose.box
    return bool(math.degrees(math.atan2(abs(x), -y)) >= MIN_ANGLE and x2 - x1 > y2 - y1)


def postures(poses: Poses) -> list[bool | None]:
    """Return for each person whether they lie, or None if it cannot be decided.

    That is also so for people who lie across an upright person: in the rotated images, the network
    detects false people there.
    """
    lying = [is_lying(pose) for pose in poses]
    for index, pose in enumerate(poses):
        joints = pose.keypoints[pose.visible]
        for box in [other.box for other, lies in zip(poses, lying, strict=True) if lies is False]:
            overlap = ((joints >= box[:2]) & (joints <= box[2:])).all(axis=1).mean()
            if lying[index] and overlap > MAX_OVERLAP:
                lying[index] = None
    return lying


def find_events(
    stream: Iterable[tuple[Frame, Poses]], min_seconds: float
) -> Iterator[dict[str, Any]]:
    """Yield the events of a video.

    Args:
        stream: Frames and their poses, with track ids.
        min_seconds: Seconds that a person must be lying, or upright again.
    """
    people: dict[int, Person] = {}
    for frame, poses in stream:
        time, events = frame.time, []
        tracked = poses[poses.track_ids >= 0]  # the others are too uncertain to start a track
        for pose, lies in zip(tracked, postures(tracked), strict=True):
            person = people.setdefault(pose.track_id, Person(time, time))
            if lies is not None and person.update(time, lies, min_seconds):
                events.append(("fall" if person.is_lying else "up", pose.track_id, person))
        for track_id, person in list(people.items()):
            if time - person.seen > LOST_SECONDS:
                events += [("lost", track_id, person)] * person.is_lying
                del people[track_id]
        for kind, track_id, person in events:
            since = round(person.since, 2)
            yield {"event": kind, "person": track_id, "since": since, "time": round(time, 2)}


def main(arguments: list[str] | None = None) -> None:
    """Print the events of a video."""
    parser = argparse.ArgumentParser(description="Report people who lie on the floor.")
    parser.add_argument("source", help="video file, number of a camera, or URL of a stream")
    parser.add_argument(
        "--min_seconds", type=float, default=3.0, metavar="S",
        help="seconds that a person must be lying, or upright again; default: 3",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    if not 0 < options.min_seconds < math.inf:
        parser.error(f"--min_seconds {options.min_seconds:g}: expected a number greater than 0")
    try:
        model = bodyposenet.load(
            rotation_test=True, complete_pose=False, display_score_threshold=MIN_SCORE
        )
        with model, model.video(options.source, track=True) as stream:
            for event in find_events(stream, options.min_seconds):
                print(json.dumps(event), flush=True)
    except BodyPoseNetError as error:
        parser.error(str(error))
    except KeyboardInterrupt:  # the usual end for a camera
        pass


if __name__ == "__main__":
    main()
