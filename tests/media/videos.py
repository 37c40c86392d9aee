"""Videos of uniform red frames: writing and reading."""

from pathlib import Path

import numpy as np

from bodyposenet.media.video import open_video
from bodyposenet.media.video_writer import Mp4Writer


def shade(value: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Return a red frame; the codec changes its value by a few steps at most."""
    frame = np.zeros((height, width, 3), np.uint8)
    frame[..., 0] = value
    return frame


def write_video(path: Path, frames: int = 20, fps: float = 25.0) -> Path:
    with Mp4Writer(path, fps) as movie:
        for index in range(frames):
            movie.write(shade(10 * index), index / fps)
    return path


def reds(path: Path) -> list[int]:
    """Return the red value of each frame."""
    return [int(frame.pixels[..., 0].mean().round()) for frame in open_video(path).frames()]
