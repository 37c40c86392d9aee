"""Detect people in a drawn scene with the default model, and write an annotated picture.

The picture at the top of README.md is made by this command:

    python examples/readme_picture.py docs/people.png

The generator of the demo's dataset draws the scene; the skeletons are the model's result for the
image that is shown.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

import bodyposenet
from bodyposenet.demo import draw_scene
from bodyposenet.types import DEFAULT_SCORE_THRESHOLD

HEIGHT, WIDTH = 432, 1200
SEED = 136
"""A scene of eight people, standing, sitting and overlapping."""
NUMBER_OF_PEOPLE = (0, 0, 0, 0, 0, 0.4, 0.4, 0.2)
"""Probabilities of 1, 2, 3 ... people."""


def main(arguments: list[str] | None = None) -> int:
    """Write the picture and print the number of people detected."""
    parser = argparse.ArgumentParser(description="Write the picture of the README.")
    parser.add_argument("picture", type=Path, help="PNG file to write")
    options = parser.parse_args(arguments)

    scene, people = draw_scene(np.random.default_rng(SEED), HEIGHT, WIDTH, people=NUMBER_OF_PEOPLE)
    # The scene has camera noise, which would make the PNG three times as large.
    image = cv2.fastNlMeansDenoisingColored(scene, None, 8, 8, 5, 15)
    with bodyposenet.load() as model:
        poses = model(image)
    picture = poses.draw(image)
    content = cv2.imencode(".png", picture[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])[1]
    options.picture.write_bytes(content.tobytes())
    drawn = int((poses.scores >= DEFAULT_SCORE_THRESHOLD).sum())
    print(f"{options.picture}: {drawn} of {len(people)} people detected, {len(content):,} bytes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
