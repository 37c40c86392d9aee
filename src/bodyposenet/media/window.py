"""Live view of frames in a window, if there is a screen."""

from __future__ import annotations

import os
import sys

import cv2
import numpy as np
from numpy.typing import NDArray

from bodyposenet.console import logger

_TITLE = "bodyposenet (q: end)"
_ENDING_KEYS = (ord("q"), 27)
"""q and Escape."""


class Window:
    """A window, as a context manager; if none can be opened, it logs why and shows nothing."""

    def __init__(self) -> None:
        self._problem = _missing_display()
        if not self._problem:
            try:
                cv2.namedWindow(_TITLE, cv2.WINDOW_NORMAL)
            except cv2.error:
                self._problem = "this OpenCV is built without windows (opencv-python has them)"
        if self._problem:
            logger.warning("no window is shown: %s", self._problem)

    def __enter__(self) -> Window:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._problem:
            cv2.destroyWindow(_TITLE)

    def show(self, pixels: NDArray[np.uint8]) -> bool:
        """Show a frame; to be called in the main thread.

        Args:
            pixels: (H, W, 3) uint8, RGB.

        Returns:
            Whether to go on: the user has not pressed q or Escape.
        """
        if self._problem:
            return True
        cv2.imshow(_TITLE, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
        return cv2.waitKey(1) & 0xFF not in _ENDING_KEYS


def _missing_display() -> str:
    """Why there is no screen, on which OpenCV would end the process; empty if there may be one."""
    unix = not sys.platform.startswith(("win", "darwin"))
    if unix and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "there is no display"
    return ""
