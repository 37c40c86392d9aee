"""Varied colors: ranges, what each number does to colors, and the spec's block."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bodyposenet.data.augmentation import ColorParameters, color_matrix, sample_colors
from bodyposenet.specs.dataloader import AugmentationConfig, ColorAugParams

LUMA = np.array([0.299, 0.587, 0.114])


def apply(variation, *color):
    return color_matrix(variation) @ np.array([*color, 1.0])


def test_no_variation_leaves_colors():
    assert color_matrix(ColorParameters()).dtype == np.float32
    np.testing.assert_allclose(apply(ColorParameters(), 10, 200, 90), [10, 200, 90], atol=1e-3)


def test_brightness_is_a_share_of_white():
    bright = ColorParameters(brightness=0.1)
    np.testing.assert_allclose(apply(bright, 10, 200, 90), [35.5, 225.5, 115.5], atol=1e-3)


def test_contrast_leaves_middle_gray():
    flat = ColorParameters(contrast=0.5)
    np.testing.assert_allclose(apply(flat, 128, 228, 28), [128, 178, 78], atol=1e-3)


def test_no_saturation_leaves_the_luma():
    luma = LUMA @ (10, 200, 90)
    np.testing.assert_allclose(apply(ColorParameters(saturation=0.0), 10, 200, 90), luma, atol=1e-3)


@pytest.mark.parametrize("degrees", [-180.0, 25.0, 120.0])
def test_hue_turns_colors_about_gray(degrees):
    turned = ColorParameters(hue_degrees=degrees)
    np.testing.assert_allclose(apply(turned, 90, 90, 90), 90, atol=1e-3)
    assert LUMA @ apply(turned, 10, 200, 90) == pytest.approx(LUMA @ (10, 200, 90), abs=1e-2)
    back = color_matrix(ColorParameters(hue_degrees=-degrees))[:, :3]
    np.testing.assert_allclose(back @ color_matrix(turned)[:, :3], np.eye(3), atol=1e-5)


@given(st.integers(0, 2**32 - 1))
def test_variations_stay_in_their_ranges(seed):
    params = ColorAugParams(
        brightness_max=0.1, contrast_max=0.3, saturation_max=0.5, hue_deg_max=20.0, blur_prob=1.0,
        blur_sigma_max=3.0,
    )  # fmt: skip
    drawn = sample_colors(params, np.random.default_rng(seed))
    assert -0.1 <= drawn.brightness <= 0.1
    assert 0.7 <= drawn.contrast <= 1.3
    assert 0.5 <= drawn.saturation <= 1.5
    assert -20 <= drawn.hue_degrees <= 20
    assert 0 <= drawn.blur_sigma <= 3


def test_probabilities_of_gray_and_blur():
    params = ColorAugParams(gray_prob=0.3, blur_prob=0.6, blur_sigma_max=1.0)
    random = np.random.default_rng(0)
    drawn = [sample_colors(params, random) for _ in range(2000)]
    assert np.mean([variation.saturation == 0 for variation in drawn]) == pytest.approx(
        0.3, abs=0.05
    )
    assert np.mean([variation.blur_sigma > 0 for variation in drawn]) == pytest.approx(
        0.6, abs=0.05
    )


def test_null_and_an_empty_block_leave_colors_as_they_are():
    for text in ('{"color_aug_params": null}', '{"color_aug_params": {}}', "{}"):
        config = AugmentationConfig.model_validate_json(text)
        assert config.color_aug_params == ColorAugParams()
    colored = AugmentationConfig.model_validate_json('{"color_aug_params": {"gray_prob": 0.5}}')
    assert colored.color_aug_params.gray_prob == 0.5
