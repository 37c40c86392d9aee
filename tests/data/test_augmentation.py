"""Augmentation: the affine map in each mode, ranges of random parameters, and color matrices.

See the TAO reference, section 5, with the fixes of section 16.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bodyposenet.data.augmentation import (
    AugmentationParameters,
    ColorParameters,
    augmentation_affine,
    color_matrix,
    sample_augmentation,
    sample_colors,
)
from bodyposenet.specs.dataloader import AugmentationConfig, ColorAugParams, SpatialAugParams
from bodyposenet.types import Record

LUMA = np.array([0.299, 0.587, 0.114])
MODES = ("person_centric", "standard", "standard_with_fixed_aspect_ratio")


def record(height=100, width=200, scale=50.0, center=(120.0, 40.0)):
    joints, scales, centers = np.zeros((1, 17, 3)), np.array([scale]), np.array([center])
    return Record(1, "a.jpg", "a.png", height, width, "coco", joints, scales, centers)


def config(mode, **params):
    return AugmentationConfig(
        spatial_augmentation_mode=mode, spatial_aug_params=SpatialAugParams(**params)
    )


def affine(mode, height, width, image=None, **parameters):
    return augmentation_affine(
        config(mode), AugmentationParameters(**parameters), image or record(), height, width
    )


def test_person_centric_centers_and_scales_the_anchor_person():
    to_input = affine("person_centric", 256, 384)
    np.testing.assert_allclose(to_input.apply(np.array([120.0, 40.0])), [191.5, 127.5])
    assert to_input.scale * 50 == pytest.approx(0.6 * 256)


@pytest.mark.parametrize("mode", MODES)
def test_zoom_above_one_shrinks_the_image_in_all_modes(mode):
    plain = affine(mode, 256, 256)
    zoomed = affine(mode, 256, 256, zoom=2.0)
    assert zoomed.scale == pytest.approx(plain.scale / 2)


def test_standard_mode_fits_the_whole_image_and_keeps_its_aspect_ratio():
    to_input = affine("standard", 256, 320)
    corners = to_input.apply(np.array([[-0.5, -0.5], [199.5, 99.5]]))
    np.testing.assert_allclose(corners, [[-0.5, 47.5], [319.5, 207.5]])


def test_standard_mode_rotates_without_shearing():
    to_input = affine("standard", 256, 320, degrees=30.0)
    linear = to_input.matrix[:, :2] / to_input.scale
    np.testing.assert_allclose(linear @ linear.T, np.eye(2), atol=1e-12)


def test_fixed_aspect_ratio_mode_stretches_the_image_to_the_input():
    to_input = affine("standard_with_fixed_aspect_ratio", 256, 320)
    corners = to_input.apply(np.array([[-0.5, -0.5], [199.5, 99.5]]))
    np.testing.assert_allclose(corners, [[-0.5, -0.5], [319.5, 255.5]])


def test_flips_mirror_the_input():
    plain = affine("standard", 256, 320)
    left_right = affine("standard", 256, 320, flip_lr=True)
    both = affine("standard", 256, 320, flip_lr=True, flip_tb=True)
    point = np.array([30.0, 20.0])
    x, y = plain.apply(point)
    np.testing.assert_allclose(left_right.apply(point), [319 - x, y])
    np.testing.assert_allclose(both.apply(point), [319 - x, 255 - y])


def test_a_box_without_height_gives_a_finite_affine_map():
    to_input = affine("person_centric", 256, 256, image=record(scale=0.0))
    assert np.isfinite(to_input.matrix).all()


@given(st.integers(0, 2**32 - 1))
def test_spatial_parameters_are_within_their_ranges(seed):
    params = SpatialAugParams(
        rotate_deg_max=40.0, translate_max_x=30.0, translate_min_x=-10.0, translate_max_y=5.0,
        zoom_prob=1.0, zoom_ratio_min=0.8, zoom_ratio_max=1.2,
    )  # fmt: skip
    sampled = sample_augmentation(params, 100, 200, np.random.default_rng(seed))
    assert -40 <= sampled.degrees <= 40
    assert -10 <= sampled.shift[0] <= 30
    assert -5 <= sampled.shift[1] <= 5
    assert 0.8 <= sampled.zoom <= 1.2
    assert not sampled.flip_lr
    assert not sampled.flip_tb


def test_translation_ratios_are_relative_to_the_image_size():
    params = SpatialAugParams(
        use_translate_ratio=True, translate_ratio_max=0.5, translate_ratio_min=0.5
    )
    sampled = sample_augmentation(params, 100, 200, np.random.default_rng(0))
    assert sampled.shift == (100.0, 50.0)


def test_rotate_any_prob_rotates_some_samples_by_any_angle():
    params = SpatialAugParams(rotate_deg_max=5.0, rotate_any_prob=0.25)
    random = np.random.default_rng(0)
    degrees = np.array([sample_augmentation(params, 10, 10, random).degrees for _ in range(2000)])
    far = np.abs(degrees) > 5
    assert 0.2 < far.mean() < 0.3
    assert degrees.min() < -170 and degrees.max() > 170


@pytest.mark.parametrize("mode", MODES)
def test_largest_enlargement_limits_the_scale(mode):
    """The center and the aspect ratio stay the same."""
    limited = config(mode, largest_enlargement=1.3)
    for size in (96, 512):
        plain, clamped = (
            augmentation_affine(each, AugmentationParameters(), record(), size, size)
            for each in (config(mode), limited)
        )
        sides, clamped_sides = (
            np.linalg.norm(each.matrix[:, :2], axis=0) for each in (plain, clamped)
        )
        assert clamped_sides.max() == pytest.approx(min(sides.max(), 1.3))
        assert clamped_sides[0] / clamped_sides[1] == pytest.approx(sides[0] / sides[1])
        middle = plain.inverse().apply(np.array([(size - 1) / 2] * 2))
        np.testing.assert_allclose(clamped.apply(middle), [(size - 1) / 2] * 2)


def tao_map(size, target, degrees, shift, zoom, flip_lr, flip_tb):
    """TAO's map of its standard modes, as a function of pixel centers (TAO reference, section 5.3).

    For images of the target's shape, or without rotation; TAO shears others. Its zoom enlarges,
    ours shrinks.
    """
    corners = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 0.0]]) - 0.5
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    corners = (corners @ np.array([[cos, -sin], [sin, cos]]) - shift / size) * zoom + 0.5
    if flip_lr:
        corners = corners[[3, 2, 1, 0]]
    if flip_tb:
        corners = corners[[1, 0, 3, 2]]
    top_left, bottom_left, _, top_right = corners * size
    axes = np.stack([top_right - top_left, bottom_left - top_left], axis=1) / target
    return lambda points: np.linalg.solve(axes, (points + 0.5 - top_left).T).T - 0.5


@pytest.mark.parametrize(
    ("mode", "size", "degrees"),
    [
        ("standard", (120, 120), 30.0),
        ("standard_with_fixed_aspect_ratio", (120, 120), 30.0),
        ("standard_with_fixed_aspect_ratio", (200, 100), 0.0),
    ],
)
@pytest.mark.parametrize("flips", [(False, False), (True, False), (False, True)])
def test_standard_modes_equal_those_of_tao(mode, size, degrees, flips):
    shift, zoom = (17.0, -9.0), 1.25
    parameters = AugmentationParameters(*flips, degrees=degrees, shift=shift, zoom=zoom)
    image = record(width=size[0], height=size[1])
    ours = augmentation_affine(config(mode), parameters, image, 256, 256)
    expected = tao_map(np.array(size), np.array([256, 256]), degrees, shift, zoom, *flips)
    points = np.array([[0.0, 0.0], [50.0, 20.0], [119.0, 99.0]])
    np.testing.assert_allclose(ours.apply(points), expected(points), atol=1e-9)


def test_a_shift_moves_the_crop_in_person_centric_mode_and_the_image_in_others():
    moved = {}
    for mode in MODES:
        plain, shifted = (
            affine(mode, 256, 256, shift=shift).apply(np.array([100.0, 50.0]))
            for shift in ((0.0, 0.0), (10.0, 0.0))
        )
        moved[mode] = np.sign(shifted - plain).tolist()
    assert moved["person_centric"] == [-1, 0]
    assert moved["standard"] == moved["standard_with_fixed_aspect_ratio"] == [1, 0]


@pytest.mark.parametrize(("given", "low"), [({}, 0.0), ({"translate_ratio_min": None}, -0.5)])
def test_translation_ratios_start_at_zero_as_in_tao(given, low):
    params = SpatialAugParams(use_translate_ratio=True, translate_ratio_max=0.5, **given)
    random = np.random.default_rng(0)
    sampled = [sample_augmentation(params, 100, 100, random).shift[0] / 100 for _ in range(200)]
    assert min(sampled) == pytest.approx(low, abs=0.02)
    assert max(sampled) == pytest.approx(0.5, abs=0.02)


def apply(parameters, *color):
    return color_matrix(parameters) @ np.array([*color, 1.0])


def test_default_color_parameters_change_nothing():
    assert color_matrix(ColorParameters()).dtype == np.float32
    np.testing.assert_allclose(apply(ColorParameters(), 10, 200, 90), [10, 200, 90], atol=1e-3)


def test_brightness_is_relative_to_white():
    bright = ColorParameters(brightness=0.1)
    np.testing.assert_allclose(apply(bright, 10, 200, 90), [35.5, 225.5, 115.5], atol=1e-3)


def test_contrast_keeps_middle_gray():
    flat = ColorParameters(contrast=0.5)
    np.testing.assert_allclose(apply(flat, 128, 228, 28), [128, 178, 78], atol=1e-3)


def test_a_saturation_of_zero_keeps_the_luma():
    luma = LUMA @ (10, 200, 90)
    np.testing.assert_allclose(apply(ColorParameters(saturation=0.0), 10, 200, 90), luma, atol=1e-3)


@pytest.mark.parametrize("degrees", [-180.0, 25.0, 120.0])
def test_hue_rotates_colors_around_gray(degrees):
    turned = ColorParameters(hue_degrees=degrees)
    np.testing.assert_allclose(apply(turned, 90, 90, 90), 90, atol=1e-3)
    assert LUMA @ apply(turned, 10, 200, 90) == pytest.approx(LUMA @ (10, 200, 90), abs=1e-2)
    back = color_matrix(ColorParameters(hue_degrees=-degrees))[:, :3]
    np.testing.assert_allclose(back @ color_matrix(turned)[:, :3], np.eye(3), atol=1e-5)


@given(st.integers(0, 2**32 - 1))
def test_color_parameters_are_within_their_ranges(seed):
    params = ColorAugParams(
        brightness_max=0.1, contrast_max=0.3, saturation_max=0.5, hue_deg_max=20.0, blur_prob=1.0,
        blur_sigma_max=3.0,
    )  # fmt: skip
    sampled = sample_colors(params, np.random.default_rng(seed))
    assert -0.1 <= sampled.brightness <= 0.1
    assert 0.7 <= sampled.contrast <= 1.3
    assert 0.5 <= sampled.saturation <= 1.5
    assert -20 <= sampled.hue_degrees <= 20
    assert 0 <= sampled.blur_sigma <= 3


def test_probabilities_of_gray_and_blur():
    params = ColorAugParams(gray_prob=0.3, blur_prob=0.6, blur_sigma_max=1.0)
    random = np.random.default_rng(0)
    sampled = [sample_colors(params, random) for _ in range(2000)]
    assert np.mean([parameters.saturation == 0 for parameters in sampled]) == pytest.approx(
        0.3, abs=0.05
    )
    assert np.mean([parameters.blur_sigma > 0 for parameters in sampled]) == pytest.approx(
        0.6, abs=0.05
    )


def test_null_and_an_empty_block_mean_no_color_augmentation():
    for text in ('{"color_aug_params": null}', '{"color_aug_params": {}}', "{}"):
        config = AugmentationConfig.model_validate_json(text)
        assert config.color_aug_params == ColorAugParams()
    colored = AugmentationConfig.model_validate_json('{"color_aug_params": {"gray_prob": 0.5}}')
    assert colored.color_aug_params.gray_prob == 0.5
