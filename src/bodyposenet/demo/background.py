"""Backgrounds, occluding objects and camera effects of synthetic images."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from bodyposenet.demo.canvas import OBJECT, Canvas, capsule
from bodyposenet.demo.figure import random_cloth, random_color

Image = NDArray[np.uint8]

_MUTED = (0.0, 0.4)
"""Range of the saturation of backgrounds, lower than that of clothes."""


def random_background(rng: np.random.Generator, height: int, width: int) -> Image:
    """Draw a wall or sky, often a floor, and distracting shapes.

    Args:
        rng: Random number generator.
        height: Height of the image in pixels.
        width: Width of the image in pixels.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    image = _textured(rng, height, width)
    if rng.random() < 0.6:
        horizon = int(height * rng.uniform(0.5, 0.9))
        image[horizon:] = _textured(rng, height - horizon, width)
    for _ in range(rng.integers(0, 6)):
        _draw_distraction(rng, image)
    return image


def paint_occluders(rng: np.random.Generator, canvas: Canvas) -> None:
    """Paint one or two objects in front of the people: posts, rails, rods or balls.

    Args:
        rng: Random number generator.
        canvas: The image; modified in place.
    """
    height, width = (int(length) for length in canvas.part_ids.shape)
    for _ in range(rng.integers(1, 3)):
        x, y = rng.uniform(0, width), rng.uniform(0.35, 1.0) * height
        size = height * rng.uniform(0.05, 0.14)
        start = np.array((x, y))
        reach = rng.choice(4)
        if reach == 0:
            start, end = np.array((x, -size)), np.array((x + rng.normal(0, 5), height + size))
            size *= 0.4
        elif reach == 1:
            start, end = np.array((-size, y)), np.array((width + size, y + rng.normal(0, 8)))
            size *= 0.4
        elif reach == 2:
            end = start + rng.normal(0, 0.15 * height, 2)
        else:
            end = start
        texture = random_cloth(rng, plain=0.4).texture(height)
        canvas.paint(capsule(start, end, size, size), texture, OBJECT)


def apply_camera_effects(rng: np.random.Generator, image: Image) -> Image:
    """Change exposure and contrast, and add blur and noise.

    Args:
        rng: Random number generator.
        image: (H, W, 3) uint8 RGB.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    if rng.random() < 0.25:
        image = cv2.GaussianBlur(image, (3, 3), rng.uniform(0.3, 0.8))  # type: ignore[assignment]
    gain, offset = rng.uniform(0.85, 1.15), rng.uniform(-10, 20)
    strength = int(rng.integers(1, 8))
    noise = rng.integers(-strength, strength + 1, image.shape, np.int8)
    return np.clip(image * np.float32(gain) + (noise + np.float32(offset)), 0, 255).astype(np.uint8)


def _textured(rng: np.random.Generator, height: int, width: int) -> Image:
    """Draw two colors with a gradient, smooth noise, stripes or bricks."""
    first, second = random_color(rng, _MUTED), random_color(rng, _MUTED)
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    share = x * (rng.uniform(0, 1) / width) + y * (rng.uniform(0, 1) / height)
    kind = rng.choice(4, p=(0.3, 0.35, 0.2, 0.15))
    period = rng.uniform(0.05, 0.3) * width
    if kind == 1:
        cells = rng.random((rng.integers(3, 24), rng.integers(3, 24)), np.float32)
        share = cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC)
    elif kind == 2:
        slope = rng.uniform(-1.5, 1.5)
        share = ((x + slope * y) % period < period * rng.uniform(0.2, 0.8)).astype(np.float32)
    elif kind == 3:
        row = (y // (period / 2)) % 2
        joint = ((x + row * period / 2) % period < 2) | (y % (period / 2) < 2)
        share = joint.astype(np.float32)
    contrast = rng.uniform(0.1, 0.7)
    image = first + (contrast * np.clip(share, 0, 1))[..., None] * (second - first)
    return image.astype(np.uint8)


def _draw_distraction(rng: np.random.Generator, image: Image) -> None:
    """Draw a box, a disc, a line as thick as a limb, or a triangle."""
    height, width = image.shape[:2]
    color = random_color(rng, _MUTED).tolist()
    x, y = int(rng.uniform(0, width)), int(rng.uniform(0, height))
    size = rng.uniform(0.03, 0.25, 2) * height
    kind = rng.choice(4)
    if kind == 0:
        cv2.rectangle(image, (x, y), (x + int(size[0]), y + int(size[1])), color, -1)
    elif kind == 1:
        cv2.circle(image, (x, y), int(size[0] / 2), color, -1, cv2.LINE_AA)
    elif kind == 2:
        end = (x + int(rng.normal(0, height / 4)), y + int(rng.normal(0, height / 4)))
        cv2.line(image, (x, y), end, color, max(int(size[0] / 3), 1), cv2.LINE_AA)
    else:
        corners = np.array((x, y)) + rng.normal(0, 0.12 * height, (3, 2))
        cv2.fillConvexPoly(image, corners.astype(np.int32), color, cv2.LINE_AA)
