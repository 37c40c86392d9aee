"""Random numbers in, one affine map of colors and a blur out, for the training device to apply."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bodyposenet.specs.dataloader import ColorAugParams
from bodyposenet.types import PAD_VALUE

_TO_YIQ = np.array(
    [[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]]
)
"""RGB to luma and chroma (NTSC): gray has no I and Q, and turning I and Q turns the hue."""

_FROM_YIQ = np.linalg.inv(_TO_YIQ)
_WHITE = 255.0


@dataclass(frozen=True)
class ColorVariation:
    """One draw of the random numbers.

    Args:
        brightness: Is added to all colors, as a share of white.
        contrast: Factor around middle gray.
        saturation: Factor around the luma; 0 leaves no color.
        hue_degrees: Turn the hue by this angle.
        blur_sigma: Standard deviation of the blur, in network pixels; 0: none.
    """

    brightness: float = 0.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue_degrees: float = 0.0
    blur_sigma: float = 0.0


def draw_colors(params: ColorAugParams, random: np.random.Generator) -> ColorVariation:
    """Draw a variation of colors.

    Args:
        params: The ranges.
        random: Where the numbers come from; as many are drawn whatever the ranges are.
    """
    brightness, contrast, saturation, hue = random.uniform(-1.0, 1.0, 4).tolist()
    gray, blurred, sigma = random.random(3).tolist()
    return ColorVariation(
        brightness * params.brightness_max,
        1 + contrast * params.contrast_max,
        0.0 if gray < params.gray_prob else 1 + saturation * params.saturation_max,
        hue * params.hue_deg_max,
        sigma * params.blur_sigma_max if blurred < params.blur_prob else 0.0,
    )


def color_matrix(variation: ColorVariation) -> NDArray[np.float32]:
    """The map of colors: hue and saturation, then contrast, then brightness.

    Returns:
        (3, 4) float32; RGB in 0..255 goes to matrix @ (R, G, B, 1), which may leave 0..255.
    """
    angle = math.radians(variation.hue_degrees)
    cos, sin = variation.saturation * math.cos(angle), variation.saturation * math.sin(angle)
    turn = np.array([[1.0, 0.0, 0.0], [0.0, cos, -sin], [0.0, sin, cos]])
    linear = variation.contrast * (_FROM_YIQ @ turn @ _TO_YIQ)
    offset = PAD_VALUE * (1 - variation.contrast) + _WHITE * variation.brightness
    return np.column_stack([linear, np.full(3, offset)]).astype(np.float32)
