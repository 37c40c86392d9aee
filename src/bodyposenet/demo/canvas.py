"""Paint shaded body parts on an image, and record the part id of each pixel."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

Texture = Callable[[Floats, Floats], Floats]
"""Maps positions on a strip to colors: distance along the axis in pixels and position across it
from -1 to 1, both (h, w), to (h, w, 3) or (3,) in 0..255."""

BACKGROUND, OBJECT = 0, -1
"""Part ids of pixels that do not show a person."""

_CAP = np.array([1.0, 0.92, 0.71, 0.38], np.float32)
"""Positions along a round end, from its tip, relative to its radius."""
_CAP_WIDTHS = np.sqrt(1 - _CAP**2)


@dataclass(frozen=True, eq=False)
class Strip:
    """Projection of a solid of revolution, such as an arm, a torso or a head.

    Args:
        start: (2,) start of the axis in pixels.
        end: (2,) end of the axis in pixels.
        stations: (S,) increasing distances along the axis from its start, in pixels.
        half_widths: (S,) half width of the strip at each station, in pixels.
    """

    start: NDArray[np.float64]
    end: NDArray[np.float64]
    stations: Floats
    half_widths: Floats

    @property
    def direction(self) -> tuple[float, float]:
        """Unit vector of the axis; (0, 1) if it has no length."""
        dx, dy = self.end - self.start
        length = math.hypot(dx, dy)
        return (dx / length, dy / length) if length > 1e-6 else (0.0, 1.0)


def capsule(
    start: NDArray[np.float64], end: NDArray[np.float64], radius: float, end_radius: float
) -> Strip:
    """Create a tapered strip with round ends.

    Args:
        start: (2,) start of the axis in pixels.
        end: (2,) end of the axis in pixels.
        radius: Half width at the start, in pixels.
        end_radius: Half width at the end, in pixels.

    Returns:
        The strip.
    """
    length = math.hypot(*(end - start))
    stations = np.concatenate(
        [-radius * _CAP, [0.0, max(length, 1e-3)], length + end_radius * _CAP[::-1]]
    )
    widths = np.concatenate(
        [radius * _CAP_WIDTHS, [radius, end_radius], end_radius * _CAP_WIDTHS[::-1]]
    )
    return Strip(start, end, stations, widths)


class Canvas:
    """An image to paint on, and the part id of each of its pixels.

    Args:
        background: (H, W, 3) uint8 RGB.
        light: (3,) unit vector toward the light: right, down, and toward the viewer.
    """

    def __init__(self, background: NDArray[np.uint8], light: NDArray[np.float64]) -> None:
        self.pixels = background.astype(np.float32)
        self.part_ids = np.zeros(background.shape[:2], np.int16)
        self._light = light

    def paint(self, strip: Strip, texture: Texture, part_id: int) -> None:
        """Paint a strip over the image and set the part id of the pixels that it covers.

        Args:
            strip: The strip.
            texture: Colors of the strip before shading.
            part_id: Part id of its pixels.
        """
        region = self._region(strip)
        if region is None:
            return
        rows, columns = region
        (dx, dy), (x0, y0) = strip.direction, strip.start
        x = np.arange(columns.start, columns.stop, dtype=np.float32) - np.float32(x0)
        y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] - np.float32(y0)
        along = x * np.float32(dx) + y * np.float32(dy)
        across = x * np.float32(-dy) + y * np.float32(dx)
        half = np.interp(along, strip.stations, strip.half_widths, 0.0, 0.0).astype(np.float32)
        cover = np.clip(half - np.abs(across) + np.float32(0.5), 0, 1) * (half > 0)
        across = np.clip(across / np.maximum(half, np.float32(0.5)), -1, 1)
        # Lambertian shading of a cylinder: the normal rotates from the viewer to the side.
        right, down, near = self._light
        shade = across * np.float32(right * -dy + down * dx)
        shade += np.sqrt(1 - across * across) * np.float32(near)
        shade = np.float32(0.5) + np.float32(0.6) * np.maximum(shade, 0)
        color = texture(along, across) * shade[..., None]
        view = self.pixels[rows, columns]
        view += cover[..., None] * (color - view)
        self.part_ids[rows, columns][cover > 0.5] = part_id

    def image(self) -> NDArray[np.uint8]:
        """Return the image, (H, W, 3) uint8 RGB."""
        return np.clip(self.pixels, 0, 255).astype(np.uint8)

    def _region(self, strip: Strip) -> tuple[slice, slice] | None:
        """Return the rows and columns that the strip can cover, or None outside of the image."""
        (dx, dy), (x0, y0) = strip.direction, strip.start
        reach = float(strip.half_widths.max()) + 1
        ends = strip.stations[[0, -1]]
        xs, ys = x0 + ends * dx, y0 + ends * dy
        height, width = self.pixels.shape[:2]
        top, bottom = (
            max(math.floor(ys.min() - reach), 0),
            min(math.ceil(ys.max() + reach) + 1, height),
        )
        left, right = (
            max(math.floor(xs.min() - reach), 0),
            min(math.ceil(xs.max() + reach) + 1, width),
        )
        return (slice(top, bottom), slice(left, right)) if top < bottom and left < right else None
