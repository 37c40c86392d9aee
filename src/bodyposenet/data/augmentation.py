"""Random numbers in, one affine map out: how a record is flipped, turned, moved and sized.

All modes are one formula with another centre and scale (TAO reference, section 5, with the fixes of
section 16): move the centre to the origin, turn, scale, flip, move to the middle of the network's
input.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.geometry import Affine
from bodyposenet.specs.dataloader import AugmentationConfig, ColorAugParams, SpatialAugParams
from bodyposenet.types import PAD_VALUE, Record


@dataclass(frozen=True)
class AugmentationParameters:
    """One draw of the random numbers.

    Args:
        flip_lr: Mirror left to right.
        flip_tb: Mirror top to bottom.
        degrees: Turn by this angle.
        shift: (x, y) in pixels of the source image, see `augmentation_affine`.
        zoom: Draw smaller by this factor.
    """

    flip_lr: bool = False
    flip_tb: bool = False
    degrees: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    zoom: float = 1.0


def sample_augmentation(
    params: SpatialAugParams, height: int, width: int, random: np.random.Generator
) -> AugmentationParameters:
    """Draw a variation.

    Args:
        params: The ranges.
        height: Of the source image.
        width: Of the source image.
        random: Where the numbers come from.
    """
    flip_lr = random.random() < params.flip_lr_prob
    flip_tb = random.random() < params.flip_tb_prob
    if params.use_translate_ratio:
        ratio = params.translate_ratio_max
        shift_x = _uniform(random, params.translate_ratio_min, ratio) * width
        shift_y = _uniform(random, params.translate_ratio_min, ratio) * height
    else:
        shift_x = _uniform(random, params.translate_min_x, params.translate_max_x)
        shift_y = _uniform(random, params.translate_min_y, params.translate_max_y)
    zoomed = random.random() < params.zoom_prob
    zoom = _uniform(random, params.zoom_ratio_min, params.zoom_ratio_max)
    degrees = _uniform(random, params.rotate_deg_min, params.rotate_deg_max)
    if params.rotate_any_prob and random.random() < params.rotate_any_prob:
        degrees = _uniform(random, -180.0, 180.0)
    return AugmentationParameters(
        flip_lr, flip_tb, degrees, (shift_x, shift_y), zoom if zoomed else 1.0
    )


def augmentation_affine(
    config: AugmentationConfig,
    variation: AugmentationParameters,
    record: Record,
    height: int,
    width: int,
) -> Affine:
    """The map from a record's image to the network's input.

    person_centric centres the record's first person and sizes its box to `target_person_scale` of
    the input's height; standard fits the whole image in; standard_with_fixed_aspect_ratio
    stretches it to the input.

    As in the original, a shift of x moves the centre of a person_centric crop by x, so that the
    people go the other way; in the standard modes it moves the image, by as much whatever the zoom.

    Args:
        config: Mode and person scale.
        variation: The random part.
        record: The record.
        height: Of the network input.
        width: Of the network input.

    Raises:
        BodyPoseNetError: The record's center or scale is not finite.
    """
    if not (np.isfinite(record.centers[0]).all() and np.isfinite(record.scales[0])):
        raise BodyPoseNetError(
            f"the record of image {record.image_id}: its person lies at no finite place",
            "Convert the dataset again.",
        )
    if config.spatial_augmentation_mode == "person_centric":
        center_x, center_y = record.centers[0]
        wanted = config.spatial_aug_params.target_person_scale * height
        scale_x = scale_y = wanted / max(float(record.scales[0]), 1.0)
    else:
        center_x, center_y = (record.width - 1) / 2, (record.height - 1) / 2
        scale_x, scale_y = width / record.width, height / record.height
        if config.spatial_augmentation_mode == "standard":
            scale_x = scale_y = min(scale_x, scale_y)
    scale_x, scale_y = scale_x / variation.zoom, scale_y / variation.zoom
    limit = config.spatial_aug_params.largest_enlargement
    if limit is not None and max(scale_x, scale_y) > limit:
        excess = max(scale_x, scale_y) / limit
        scale_x, scale_y = scale_x / excess, scale_y / excess
    shift_x, shift_y = variation.shift
    if config.spatial_augmentation_mode != "person_centric":
        shift_x, shift_y = -shift_x * variation.zoom, -shift_y * variation.zoom
    flip = Affine.scaling(-1.0 if variation.flip_lr else 1.0, -1.0 if variation.flip_tb else 1.0)
    return (
        Affine.translation(-(center_x + shift_x), -(center_y + shift_y))
        .then(Affine.rotation(variation.degrees))
        .then(Affine.scaling(scale_x, scale_y))
        .then(flip)
        .then(Affine.translation((width - 1) / 2, (height - 1) / 2))
    )


def _uniform(random: np.random.Generator, low: float | None, high: float) -> float:
    """Uniform between low and high; low is minus high where the spec leaves it out."""
    low = -high if low is None else low
    return float(random.uniform(low, high))


_TO_YIQ = np.array(
    [[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]]
)
"""RGB to luma and chroma (NTSC): gray has no I and Q, and turning I and Q turns the hue."""

_FROM_YIQ = np.linalg.inv(_TO_YIQ)
_WHITE = 255.0


@dataclass(frozen=True)
class ColorParameters:
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


def sample_colors(params: ColorAugParams, random: np.random.Generator) -> ColorParameters:
    """Draw a variation of colors.

    Args:
        params: The ranges.
        random: Where the numbers come from; as many are drawn whatever the ranges are.
    """
    brightness, contrast, saturation, hue = random.uniform(-1.0, 1.0, 4).tolist()
    gray, blurred, sigma = random.random(3).tolist()
    return ColorParameters(
        brightness * params.brightness_max,
        1 + contrast * params.contrast_max,
        0.0 if gray < params.gray_prob else 1 + saturation * params.saturation_max,
        hue * params.hue_deg_max,
        sigma * params.blur_sigma_max if blurred < params.blur_prob else 0.0,
    )


def color_matrix(variation: ColorParameters) -> NDArray[np.float32]:
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
