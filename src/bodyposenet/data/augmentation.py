"""Random augmentation of training samples: geometry (flip, rotation, shift, zoom) and colors.

`sample_augmentation` and `sample_colors` sample random parameters; `augmentation_affine` and
`color_matrix` compute the affine map and the color matrix from them. All spatial modes are one
formula with different centers and scales (TAO reference, section 5, with the fixes of section 16):
move the center to the origin, rotate, scale, flip, and move the origin to the center of the network
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

_RGB_TO_YIQ = np.array(
    [[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]]
)
"""RGB to luma and chroma (NTSC): gray has I = Q = 0, and a rotation of (I, Q) rotates the hue."""

_YIQ_TO_RGB = np.linalg.inv(_RGB_TO_YIQ)
_WHITE = 255.0


@dataclass(frozen=True)
class AugmentationParameters:
    """Spatial augmentation of one sample; the defaults change nothing.

    Args:
        flip_lr: Mirror left to right.
        flip_tb: Mirror top to bottom.
        degrees: Rotation angle.
        shift: (x, y) in pixels of the source image, see `augmentation_affine`.
        zoom: Zoom-out factor: the image becomes smaller by this factor.
    """

    flip_lr: bool = False
    flip_tb: bool = False
    degrees: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    zoom: float = 1.0


@dataclass(frozen=True)
class ColorParameters:
    """Color augmentation of one sample; the defaults change nothing.

    Args:
        brightness: Added to all channels, as a fraction of white.
        contrast: Factor around middle gray.
        saturation: Factor around the luma; 0 gives a gray image.
        hue_degrees: Rotation angle of the hue.
        blur_sigma: Standard deviation of the Gaussian blur in network pixels; 0 for no blur.
    """

    brightness: float = 0.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue_degrees: float = 0.0
    blur_sigma: float = 0.0


def sample_augmentation(
    params: SpatialAugParams, height: int, width: int, rng: np.random.Generator
) -> AugmentationParameters:
    """Sample the spatial augmentation of one training sample.

    Args:
        params: Ranges and probabilities of the train spec.
        height: Height of the source image in pixels.
        width: Width of the source image in pixels.
        rng: Random number generator.

    Returns:
        The sampled parameters.
    """
    flip_lr = rng.random() < params.flip_lr_prob
    flip_tb = rng.random() < params.flip_tb_prob
    if params.use_translate_ratio:
        ratio = params.translate_ratio_max
        shift_x = _uniform(rng, params.translate_ratio_min, ratio) * width
        shift_y = _uniform(rng, params.translate_ratio_min, ratio) * height
    else:
        shift_x = _uniform(rng, params.translate_min_x, params.translate_max_x)
        shift_y = _uniform(rng, params.translate_min_y, params.translate_max_y)
    zoomed = rng.random() < params.zoom_prob
    zoom = _uniform(rng, params.zoom_ratio_min, params.zoom_ratio_max)
    degrees = _uniform(rng, params.rotate_deg_min, params.rotate_deg_max)
    if params.rotate_any_prob and rng.random() < params.rotate_any_prob:
        degrees = _uniform(rng, -180.0, 180.0)
    shift = (shift_x, shift_y)
    return AugmentationParameters(flip_lr, flip_tb, degrees, shift, zoom if zoomed else 1.0)


def augmentation_affine(
    config: AugmentationConfig,
    parameters: AugmentationParameters,
    record: Record,
    height: int,
    width: int,
) -> Affine:
    """Compute the affine map from a record's image to the network input.

    The mode decides on center and scale: `person_centric` centers the anchor person (the record's
    first) and scales its box to `target_person_scale` of the input height; `standard` fits the
    whole image into the input; `standard_with_fixed_aspect_ratio` stretches it to the input.

    As in TAO, a shift by x moves the crop's center in `person_centric` mode, so that people move
    in the opposite direction; in the standard modes it moves the image, independently of the zoom.

    Args:
        config: Mode and person scale.
        parameters: Sampled spatial augmentation.
        record: Training record.
        height: Height of the network input.
        width: Width of the network input.

    Returns:
        The map from image pixels to network pixels.

    Raises:
        BodyPoseNetError: The center or scale of the record's anchor person is not finite.
    """
    if not (np.isfinite(record.centers[0]).all() and np.isfinite(record.scales[0])):
        raise BodyPoseNetError(
            f"record of image {record.image_id}: center or scale of its anchor person is not "
            "finite",
            "Convert the dataset again.",
        )
    if config.spatial_augmentation_mode == "person_centric":
        center_x, center_y = record.centers[0]
        target_height = config.spatial_aug_params.target_person_scale * height
        scale_x = scale_y = target_height / max(float(record.scales[0]), 1.0)
    else:
        center_x, center_y = (record.width - 1) / 2, (record.height - 1) / 2
        scale_x, scale_y = width / record.width, height / record.height
        if config.spatial_augmentation_mode == "standard":
            scale_x = scale_y = min(scale_x, scale_y)
    scale_x, scale_y = scale_x / parameters.zoom, scale_y / parameters.zoom
    limit = config.spatial_aug_params.largest_enlargement
    if limit is not None and max(scale_x, scale_y) > limit:
        excess = max(scale_x, scale_y) / limit
        scale_x, scale_y = scale_x / excess, scale_y / excess
    shift_x, shift_y = parameters.shift
    if config.spatial_augmentation_mode != "person_centric":
        shift_x, shift_y = -shift_x * parameters.zoom, -shift_y * parameters.zoom
    flip = Affine.scaling(-1.0 if parameters.flip_lr else 1.0, -1.0 if parameters.flip_tb else 1.0)
    return (
        Affine.translation(-(center_x + shift_x), -(center_y + shift_y))
        .then(Affine.rotation(parameters.degrees))
        .then(Affine.scaling(scale_x, scale_y))
        .then(flip)
        .then(Affine.translation((width - 1) / 2, (height - 1) / 2))
    )


def sample_colors(params: ColorAugParams, rng: np.random.Generator) -> ColorParameters:
    """Sample the color augmentation of one training sample.

    Args:
        params: Ranges and probabilities of the train spec.
        rng: Random number generator; the number of draws does not depend on the ranges.

    Returns:
        The sampled parameters.
    """
    brightness, contrast, saturation, hue = rng.uniform(-1.0, 1.0, 4).tolist()
    gray, blurred, sigma = rng.random(3).tolist()
    return ColorParameters(
        brightness * params.brightness_max,
        1 + contrast * params.contrast_max,
        0.0 if gray < params.gray_prob else 1 + saturation * params.saturation_max,
        hue * params.hue_deg_max,
        sigma * params.blur_sigma_max if blurred < params.blur_prob else 0.0,
    )


def color_matrix(parameters: ColorParameters) -> NDArray[np.float32]:
    """Compute the color matrix: hue and saturation first, then contrast, then brightness.

    Args:
        parameters: Sampled color augmentation; its blur is not part of the matrix.

    Returns:
        (3, 4) float32; maps RGB in 0..255 to matrix @ (R, G, B, 1), which can leave 0..255.
    """
    angle = math.radians(parameters.hue_degrees)
    cos, sin = parameters.saturation * math.cos(angle), parameters.saturation * math.sin(angle)
    rotation = np.array([[1.0, 0.0, 0.0], [0.0, cos, -sin], [0.0, sin, cos]])
    linear = parameters.contrast * (_YIQ_TO_RGB @ rotation @ _RGB_TO_YIQ)
    offset = PAD_VALUE * (1 - parameters.contrast) + _WHITE * parameters.brightness
    return np.column_stack([linear, np.full(3, offset)]).astype(np.float32)


def _uniform(rng: np.random.Generator, low: float | None, high: float) -> float:
    """Sample uniformly from low to high; None for low means -high."""
    low = -high if low is None else low
    return float(rng.uniform(low, high))
