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
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

import bodyposenet
from bodyposenet import BodyPoseNetError, Frame, PersonPose, Poses, VideoPredictor

LOST_SECONDS = 5.0
"""Seconds without a detection after which a person is lost."""
MIN_SCORE = 0.9
"""Score of a person from which a track starts; the scores of most false people are lower."""
MAX_OVERLAP = 0.15
"""Share of the joints of a lying person that may be within the box of an upright one."""
NO_TRACK = -1
"""Track id of people whose score is too low to start a track."""


class Person:
    """One tracked person.

    Attributes:
        is_lying: Whether the person has been lying long enough.
        since: Time at which the person began to lie, in seconds.
        time: Time of the latest detection in seconds.
    """

    def __init__(self, time: float) -> None:
        self.is_lying = False
        self.since = self.time = time
        self._share = 0.0

    def update(self, time: float, lies: bool, min_seconds: float) -> bool:
        """Add a detection, and return whether `is_lying` has changed.

        The share of the time that the person has been lying is averaged exponentially, so that
        single wrong detections do not matter: in `min_seconds`, it rises from 0 to .8, or falls
        from 1 to .2.
        """
        self._share += (1 - 0.2 ** ((time - self.time) / min_seconds)) * (lies - self._share)
        self.time = time
        if not self.is_lying and self._share <= 0.2:
            self.since = time
        changed = self._share <= 0.2 if self.is_lying else self._share >= 0.8
        if changed:
            self.is_lying = not self.is_lying
        return changed


def is_lying(pose: PersonPose, min_angle: float) -> bool | None:
    """Return whether a person lies, or None if shoulders or hips are not visible.

    A person lies if the torso is far from vertical and the person is wider than tall, which people
    who bend down are not.

    Args:
        pose: The person.
        min_angle: Smallest angle between the torso of a lying person and the vertical, in degrees.
    """
    middles = []
    for joint in ("shoulder", "hip"):
        points = [pose[f"{side}_{joint}"] for side in ("left", "right")]
        visible = [(point.x, point.y) for point in points if point.visible]
        if not visible:
            return None
        middles.append(np.mean(visible, axis=0))
    x, y = middles[0] - middles[1]  # from the hips to the shoulders; y points down
    angle = math.degrees(math.atan2(abs(x), -y))
    x1, y1, x2, y2 = pose.box
    return bool(angle >= min_angle and x2 - x1 > y2 - y1)


def postures(poses: Poses, min_angle: float) -> list[bool | None]:
    """Return for each person whether they lie, or None if it cannot be decided.

    That is also so for people who lie across an upright person: in the rotated images, the network
    detects false people there.

    Args:
        poses: The people in a frame.
        min_angle: See `is_lying`.
    """
    lying = [is_lying(pose, min_angle) for pose in poses]
    upright = [pose.box for pose, lies in zip(poses, lying, strict=True) if lies is False]
    return [
        None if lies and any(overlaps(pose, box) for box in upright) else lies
        for pose, lies in zip(poses, lying, strict=True)
    ]


def overlaps(pose: PersonPose, box: NDArray[np.float32]) -> bool:
    """Return whether some of a person's joints (see MAX_OVERLAP) are inside of a box."""
    points = pose.keypoints[pose.visible]
    inside = ((points >= box[:2]) & (points <= box[2:])).all(axis=1)
    return bool(inside.mean() > MAX_OVERLAP)


def find_events(
    stream: VideoPredictor, min_seconds: float, min_angle: float
) -> Iterator[tuple[dict[str, Any], Frame, Poses]]:
    """Yield each event, with its frame and the poses in it.

    Args:
        stream: Frames and their poses, with track ids.
        min_seconds: Seconds that a person must be lying, or upright again.
        min_angle: See `is_lying`.
    """
    people: dict[int, Person] = {}
    for frame, poses in stream:
        tracked = poses[poses.track_ids != NO_TRACK]
        for pose, lies in zip(tracked, postures(tracked, min_angle), strict=True):
            if lies is None:
                continue
            person = people.setdefault(pose.track_id, Person(frame.time))
            if person.update(frame.time, lies, min_seconds):
                kind = "fall" if person.is_lying else "up"
                yield event(kind, pose.track_id, person, frame), frame, poses
        for track_id, person in list(people.items()):
            if frame.time - person.time > LOST_SECONDS:
                if person.is_lying:
                    yield event("lost", track_id, person, frame), frame, poses
                del people[track_id]


def event(kind: str, track_id: int, person: Person, frame: Frame) -> dict[str, Any]:
    """Return the content of a line of the output; times are in seconds since the first frame."""
    since, time = round(person.since, 2), round(frame.time, 2)
    return {"event": kind, "person": track_id, "since": since, "time": time}


def positive_number(text: str) -> float:
    """Parse a number greater than 0."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number greater than 0, got {text}")
    return value


def main(arguments: list[str] | None = None) -> int:
    """Print the events of a video."""
    parser = argparse.ArgumentParser(description="Report people who lie on the floor.")
    parser.add_argument("source", help="video file, number of a camera, or URL of a stream")
    parser.add_argument("-m", "--model", help="model file; default: the default model")
    parser.add_argument(
        "--min_seconds", type=positive_number, default=3.0, metavar="S",
        help="seconds that a person must be lying, or upright again; default: 3",
    )  # fmt: skip
    parser.add_argument(
        "--angle", type=positive_number, default=60.0, metavar="DEG",
        help="smallest angle between the torso of a lying person and the vertical; default: 60",
    )  # fmt: skip
    parser.add_argument(
        "-r", "--pictures", type=Path, metavar="DIR", help="write a picture of every event"
    )
    options = parser.parse_args(arguments)
    try:
        if options.pictures:
            options.pictures.mkdir(parents=True, exist_ok=True)
        model = bodyposenet.load(
            options.model, rotation_test=True, complete_pose=False, color="bgr",
            display_score_threshold=MIN_SCORE,
        )  # fmt: skip
        with model, model.video(options.source, track=True) as stream:
            for line, frame, poses in find_events(stream, options.min_seconds, options.angle):
                print(json.dumps(line), flush=True)
                if options.pictures:
                    name = f"{frame.index:06d}-{line['event']}-{line['person']}.jpg"
                    content = cv2.imencode(".jpg", poses.draw(frame, color="bgr"))[1]
                    (options.pictures / name).write_bytes(content.tobytes())
    except BodyPoseNetError as error:
        print(f"error: {error.what}\n       {error.remedy}", file=sys.stderr)
        return 2
    except OSError as error:  # of the pictures
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # the usual end for a camera
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
