"""Draw a video of a person who stands, falls, lies on the floor, and gets up again.

    python draw_video.py fall.mp4

To try fall_detection.py without a camera, and for its tests.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bodyposenet import BodyPoseNetError
from bodyposenet.demo.background import random_background
from bodyposenet.demo.canvas import Canvas
from bodyposenet.demo.figure import Figure, random_outfit
from bodyposenet.demo.pose import Arm, Leg, Pose, posed_body
from bodyposenet.media.video_writer import Mp4Writer

HEIGHT, WIDTH, STATURE = 360, 480, 230
"""Size of the video, and of the person, in pixels."""
SEED = 2
FALL_SECONDS, RISE_SECONDS = 0.6, 1.5


def draw_frame(roll: float) -> NDArray[np.uint8]:
    """Draw the person, rotated by `roll` degrees: 0 standing, 90 lying. (H, W, 3) uint8 RGB."""
    rng = np.random.default_rng(SEED)
    light = np.array((0.3, -0.4, 0.87))
    canvas = Canvas(random_background(rng, HEIGHT, WIDTH), light)
    arms = {"left": Arm(swing=5, lift=12), "right": Arm(swing=-5, lift=12)}
    legs = {"left": Leg(swing=3), "right": Leg(swing=-3)}
    pose = Pose(turn=20, lean=2, tilt=0, head=(0, 4, 0), arms=arms, legs=legs, roll=roll)
    body = posed_body(pose, camera_tilt=5)
    points = np.array([(x, -y) for x, y, _ in body.points.values()])
    left, right, lowest = points[:, 0].min(), points[:, 0].max(), points[:, 1].max()
    origin = np.array((WIDTH / 2 - STATURE * (left + right) / 2, 0.9 * HEIGHT - STATURE * lowest))
    Figure(body, random_outfit(rng), STATURE, origin).paint(canvas, 0)
    return canvas.image()


def write_video(
    path: Path, fps: float = 10.0, stands: float = 2.0, lies: float = 6.0, stands_again: float = 4.0
) -> None:
    """Write the video.

    Args:
        path: MP4 file.
        fps: Frames per second.
        stands: Seconds that the person stands.
        lies: Seconds that the person lies.
        stands_again: Seconds that the person stands at the end.

    Raises:
        BodyPoseNetError: The file cannot be written.
    """
    changes = np.cumsum([stands, FALL_SECONDS, lies, RISE_SECONDS])
    times = np.arange(0, changes[-1] + stands_again, 1 / fps)
    with Mp4Writer(path, fps) as writer:
        for time, roll in zip(times, np.interp(times, changes, (0, 90, 90, 0)), strict=True):
            writer.write(draw_frame(roll), time)


def main(arguments: list[str] | None = None) -> int:
    """Write the video."""
    parser = argparse.ArgumentParser(description="Draw a video of a person who falls.")
    parser.add_argument("video", type=Path, help="MP4 file to write")
    options = parser.parse_args(arguments)
    try:
        write_video(options.video)
    except BodyPoseNetError as error:
        print(f"error: {error.what}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
