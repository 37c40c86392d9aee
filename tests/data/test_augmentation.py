"""The map from image to network input, mode by mode.

See the TAO reference, section 5, with the fixes of section 16.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bodyposenet.data.augmentation import (
    AugmentationParameters,
    augmentation_affine,
    sample_augmentation,
)
from bodyposenet.specs.dataloader import AugmentationConfig, SpatialAugParams
from bodyposenet.types import Record


def record(height=100, width=200, scale=50.0, center=(120.0, 40.0)):
    joints, scales, centers = np.zeros((1, 17, 3)), np.array([scale]), np.array([center])
    return Record(1, "a.jpg", "a.png", height, width, "coco", joints, scales, centers)


def config(mode, **params):
    return AugmentationConfig(
        spatial_augmentation_mode=mode, spatial_aug_params=SpatialAugParams(**params)
    )


def test_person_centric_puts_the_person_in_the_middle_at_its_share_of_the_height():
    to_input = augmentation_affine(
        config("person_centric"), AugmentationParameters(), record(), 256, 384
    )
    np.testing.assert_allclose(to_input.apply(np.array([120.0, 40.0])), [191.5, 127.5])
    assert to_input.scale * 50 == pytest.approx(0.6 * 256)


@pytest.mark.parametrize("mode", ["person_centric", "standard", "standard_with_fixed_aspect_ratio"])
def test_zoom_over_one_draws_smaller_in_every_mode(mode):
    plain = augmentation_affine(config(mode), AugmentationParameters(), record(), 256, 256)
    zoomed = augmentation_affine(config(mode), AugmentationParameters(zoom=2.0), record(), 256, 256)
    assert zoomed.scale == pytest.approx(plain.scale / 2)


def test_standard_fits_the_whole_image_in_and_keeps_its_shape():
    to_input = augmentation_affine(config("standard"), AugmentationParameters(), record(), 256, 320)
    corners = to_input.apply(np.array([[-0.5, -0.5], [199.5, 99.5]]))
    np.testing.assert_allclose(corners, [[-0.5, 47.5], [319.5, 207.5]])


def test_standard_turns_without_shearing():
    to_input = augmentation_affine(
        config("standard"), AugmentationParameters(degrees=30.0), record(), 256, 320
    )
    linear = to_input.matrix[:, :2] / to_input.scale
    np.testing.assert_allclose(linear @ linear.T, np.eye(2), atol=1e-12)


def test_fixed_aspect_ratio_stretches_the_image_to_the_input():
    to_input = augmentation_affine(
        config("standard_with_fixed_aspect_ratio"), AugmentationParameters(), record(), 256, 320
    )
    corners = to_input.apply(np.array([[-0.5, -0.5], [199.5, 99.5]]))
    np.testing.assert_allclose(corners, [[-0.5, -0.5], [319.5, 255.5]])


def test_flips_mirror_the_input():
    plain = augmentation_affine(config("standard"), AugmentationParameters(), record(), 256, 320)
    left_right = augmentation_affine(
        config("standard"), AugmentationParameters(flip_lr=True), record(), 256, 320
    )
    both = augmentation_affine(
        config("standard"), AugmentationParameters(True, True), record(), 256, 320
    )
    point = np.array([30.0, 20.0])
    x, y = plain.apply(point)
    np.testing.assert_allclose(left_right.apply(point), [319 - x, y])
    np.testing.assert_allclose(both.apply(point), [319 - x, 255 - y])


def test_a_box_without_height_gives_a_finite_map():
    to_input = augmentation_affine(
        config("person_centric"), AugmentationParameters(), record(scale=0.0), 256, 256
    )
    assert np.isfinite(to_input.matrix).all()


@given(st.integers(0, 2**32 - 1))
def test_variations_stay_in_their_ranges(seed):
    params = SpatialAugParams(
        rotate_deg_max=40.0, translate_max_x=30.0, translate_min_x=-10.0, translate_max_y=5.0,
        zoom_prob=1.0, zoom_ratio_min=0.8, zoom_ratio_max=1.2,
    )  # fmt: skip
    drawn = sample_augmentation(params, 100, 200, np.random.default_rng(seed))
    assert -40 <= drawn.degrees <= 40
    assert -10 <= drawn.shift[0] <= 30
    assert -5 <= drawn.shift[1] <= 5
    assert 0.8 <= drawn.zoom <= 1.2
    assert not drawn.flip_lr
    assert not drawn.flip_tb


def test_translation_ratios_are_shares_of_the_image():
    params = SpatialAugParams(
        use_translate_ratio=True, translate_ratio_max=0.5, translate_ratio_min=0.5
    )
    drawn = sample_augmentation(params, 100, 200, np.random.default_rng(0))
    assert drawn.shift == (100.0, 50.0)


def test_some_samples_are_turned_by_any_angle():
    params = SpatialAugParams(rotate_deg_max=5.0, rotate_any_prob=0.25)
    random = np.random.default_rng(0)
    degrees = np.array([sample_augmentation(params, 10, 10, random).degrees for _ in range(2000)])
    far = np.abs(degrees) > 5
    assert 0.2 < far.mean() < 0.3
    assert degrees.min() < -170 and degrees.max() > 170


@pytest.mark.parametrize("mode", ["person_centric", "standard", "standard_with_fixed_aspect_ratio"])
def test_no_image_is_enlarged_beyond_the_limit(mode):
    """What would be is drawn smaller as a whole: its middle and its aspect stay."""
    limited = config(mode, largest_enlargement=1.3)
    for size in (96, 512):
        plain, held = (
            augmentation_affine(each, AugmentationParameters(), record(), size, size)
            for each in (config(mode), limited)
        )
        sides, held_sides = (np.linalg.norm(each.matrix[:, :2], axis=0) for each in (plain, held))
        assert held_sides.max() == pytest.approx(min(sides.max(), 1.3))
        assert held_sides[0] / held_sides[1] == pytest.approx(sides[0] / sides[1])
        middle = plain.inverse().apply(np.array([(size - 1) / 2] * 2))
        np.testing.assert_allclose(held.apply(middle), [(size - 1) / 2] * 2)


def original_map(size, target, degrees, shift, zoom, flip_lr, flip_tb):
    """The original's map of its standard modes as a function of pixel centers.

    See the TAO reference, section 5.3.

    Of an image whose shape is the target's, or that is not turned: others it shears. Its zoom
    enlarges, ours makes smaller.
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
def test_standard_modes_move_people_as_the_original_does(mode, size, degrees, flips):
    shift, zoom = (17.0, -9.0), 1.25
    variation = AugmentationParameters(*flips, degrees=degrees, shift=shift, zoom=zoom)
    image = record(width=size[0], height=size[1])
    ours = augmentation_affine(config(mode), variation, image, 256, 256)
    theirs = original_map(np.array(size), np.array([256, 256]), degrees, shift, zoom, *flips)
    points = np.array([[0.0, 0.0], [50.0, 20.0], [119.0, 99.0]])
    np.testing.assert_allclose(ours.apply(points), theirs(points), atol=1e-9)


def test_a_shift_moves_the_crop_of_a_person_but_the_image_in_standard_modes():
    moved = {}
    for mode in ("person_centric", "standard", "standard_with_fixed_aspect_ratio"):
        plain, shifted = (
            augmentation_affine(
                config(mode), AugmentationParameters(shift=shift), record(), 256, 256
            ).apply(np.array([100.0, 50.0]))
            for shift in ((0.0, 0.0), (10.0, 0.0))
        )
        moved[mode] = np.sign(shifted - plain).tolist()
    assert moved["person_centric"] == [-1, 0]
    assert moved["standard"] == moved["standard_with_fixed_aspect_ratio"] == [1, 0]


@pytest.mark.parametrize(("given", "low"), [({}, 0.0), ({"translate_ratio_min": None}, -0.5)])
def test_translation_ratios_begin_at_nothing_as_in_the_original(given, low):
    params = SpatialAugParams(use_translate_ratio=True, translate_ratio_max=0.5, **given)
    random = np.random.default_rng(0)
    drawn = [sample_augmentation(params, 100, 100, random).shift[0] / 100 for _ in range(200)]
    assert min(drawn) == pytest.approx(low, abs=0.02)
    assert max(drawn) == pytest.approx(0.5, abs=0.02)
