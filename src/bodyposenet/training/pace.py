"""Samples and waiting times in, images per second and the share of waiting out."""

from __future__ import annotations

import time

_WORTH_SAYING = 0.05
"""Share of waiting from which the device is held up by its data."""


class Pace:
    """How fast a training is, from when this was made."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._samples = 0
        self._waited = 0.0

    def add(self, samples: int, waited: float) -> None:
        """Count a step.

        Args:
            samples: That it trained on.
            waited: Seconds that it waited for them.
        """
        self._samples += samples
        self._waited += waited

    @property
    def seconds(self) -> float:
        """How long it has lasted."""
        return time.monotonic() - self._begun

    @property
    def images_per_s(self) -> float:
        """Samples per second."""
        return self._samples / max(self.seconds, 1e-9)

    @property
    def wait_share(self) -> float:
        """Share of the time that went by waiting for data, 0 to 1."""
        return min(self._waited / max(self.seconds, 1e-9), 1.0)

    def __str__(self) -> str:
        speed = f"{self.images_per_s:.1f} images/s"
        if self.wait_share <= _WORTH_SAYING:
            return speed
        return f"{speed}, {self.wait_share:.0%} of the time waiting for data"
