"""Videos of plain red frames, and reading them back."""

from pathlib import Path

import numpy as np

from bodyposenet.media.video import open_video
from bodyposenet.media.video_writer import Mp4Writer


def shade(value: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A red frame; the codec keeps its value within a few steps."""
    frame = np.zeros((height, width, 3), np.uint8)
    frame[..., 0] = value
    return frame


def write_video(path: Path, frames: int = 20, fps: float = 25.0) -> Path:
    with Mp4Writer(path, fps) as movie:
        for index in range(frames):
            movie.write(shade(10 * index), index / fps)
    return path


def reds(path: Path) -> list[int]:
    """Each frame's red, as written by `shade`."""
    return [int(frame.pixels[..., 0].mean().round()) for frame in open_video(path).frames()]
