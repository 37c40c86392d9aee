"""Affine maps of points and images."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bodyposenet.geometry import Affine

numbers = st.floats(-500, 500)
factors = st.floats(0.05, 20) | st.floats(-20, -0.05)


@st.composite
def affines(draw) -> Affine:
    """Maps with a well-conditioned inverse: rotation, scaling, reflection and translation."""
    parts = (
        Affine.translation(draw(numbers), draw(numbers)),
        Affine.rotation(draw(st.floats(-360, 360))),
        Affine.scaling(draw(factors), draw(factors)),
        Affine.translation(draw(numbers), draw(numbers)),
    )
    result = Affine.scaling(1)
    for part in parts:
        result = result.then(part)
    return result


points = st.lists(st.tuples(numbers, numbers), min_size=1, max_size=5).map(np.array)


@given(affines(), points)
def test_inverse_undoes_the_map(there, place):
    np.testing.assert_allclose(there.inverse().apply(there.apply(place)), place, atol=1e-6)


@given(affines(), affines(), points)
def test_then_applies_maps_in_order(first, second, place):
    one_by_one = second.apply(first.apply(place))
    np.testing.assert_allclose(first.then(second).apply(place), one_by_one, rtol=1e-9, atol=1e-6)


@given(affines(), affines())
def test_scales_multiply(first, second):
    assert first.then(second).scale == pytest.approx(first.scale * second.scale, rel=1e-6)


@given(affines())
def test_identity_is_neutral(affine):
    identity = Affine.scaling(1)
    for same in (affine.then(identity), identity.then(affine)):
        np.testing.assert_allclose(same.matrix, affine.matrix)


def test_apply_keeps_nan_and_shape():
    place = np.full((2, 3, 2), np.nan)
    place[1, 1] = (4, 5)
    moved = Affine.translation(1, 1).apply(place)
    assert moved.shape == (2, 3, 2)
    np.testing.assert_array_equal(moved[1, 1], (5, 6))
    assert np.isnan(moved).sum() == 10


def test_positive_angle_rotates_x_to_y():
    np.testing.assert_allclose(Affine.rotation(90).apply(np.array([1.0, 0.0])), (0, 1), atol=1e-12)


def test_reflection_exchanges_the_outermost_pixels():
    image = np.arange(12, dtype=np.uint8).reshape(2, 6)
    mirror = Affine.scaling(-1, 1).then(Affine.translation(5, 0))
    np.testing.assert_array_equal(mirror.warp(image, 2, 6, outside=0), image[:, ::-1])
    np.testing.assert_array_equal(mirror.apply(np.array([0.0, 1.0])), (5, 1))


@given(st.floats(0.05, 20), numbers)
def test_resize_maps_edges_to_edges(factor, x):
    place = Affine.resize(factor).apply(np.array([x, -0.5]))
    np.testing.assert_allclose(place, ((x + 0.5) * factor - 0.5, -0.5), atol=1e-9)


def smooth_image(height: int, width: int) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 3)


@pytest.mark.parametrize(("height", "width"), [(80, 120), (40, 60), (52, 90), (120, 60)])
def test_resize_matches_opencv(height, width):
    image = smooth_image(40, 60)
    warped = Affine.resize(width / 60, height / 40).warp(image, height, width, outside=0)
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    inside = (slice(4, -4), slice(4, -4))  # at the border, OpenCV repeats the edge
    difference = np.abs(warped[inside].astype(int) - resized[inside])
    assert difference.max() <= 2


def test_center_of_a_cell_with_stride_8():
    to_cells = Affine.resize(1 / 8)
    np.testing.assert_allclose(to_cells.inverse().apply(np.array([0.0, 5.0])), (3.5, 43.5))


@given(st.floats(-180, 180), st.floats(0.6, 3), st.floats(-20, 20), st.floats(-20, 20), st.data())
def test_pixels_and_points_are_mapped_alike(degrees, factor, x, y, data):
    dot = np.array([data.draw(st.integers(12, 51)), data.draw(st.integers(12, 35))], float)
    rows, columns = np.mgrid[:48, :64]
    distance = np.hypot(columns - dot[0], rows - dot[1])
    gaussian = np.exp(-(distance**2) / 18)  # its centroid is the dot
    image = (255 * gaussian).astype(np.uint8)
    turned = Affine.rotation(degrees).then(Affine.scaling(factor))
    expected = np.array([100 + x, 100 + y])
    affine = turned.then(Affine.translation(*(expected - turned.apply(dot))))
    drawn = affine.warp(image, 200, 200, outside=0).astype(float)
    rows, columns = np.nonzero(drawn)
    weights = drawn[rows, columns]
    centroid = (np.average(columns, weights=weights), np.average(rows, weights=weights))
    np.testing.assert_allclose(centroid, expected, atol=0.1)


@pytest.mark.parametrize("factor", [1 / 2, 1 / 3, 1 / 5.5, 1 / 8, 1 / 20])
def test_shrinking_keeps_the_centroid(factor):
    image = np.zeros((400, 600), np.uint8)
    image[140:180, 300:340] = 255
    height, width = round(400 * factor), round(600 * factor)
    affine = Affine.resize(width / 600, height / 400)
    drawn = affine.warp(image, height, width, outside=0).astype(float)
    rows, columns = np.nonzero(drawn)
    weights = drawn[rows, columns]
    centroid = (np.average(columns, weights=weights), np.average(rows, weights=weights))
    np.testing.assert_allclose(centroid, affine.apply(np.array([319.5, 159.5])), atol=0.15)


@pytest.mark.parametrize(("x", "y"), [(1 / 4, 1 / 4), (1 / 9, 1 / 9), (1 / 8, 1), (1, 1 / 8)])
@pytest.mark.parametrize("degrees", [0, 30])
def test_shrinking_averages_fine_stripes_to_gray(x, y, degrees):
    image = np.zeros((360, 360), np.uint8)
    if x < 1:
        image[:, ::2] = 255
    else:
        image[::2] = 255
    affine = (
        Affine.translation(-180, -180).then(Affine.scaling(x, y)).then(Affine.rotation(degrees))
    )
    shrunk = affine.then(Affine.translation(10, 10)).warp(image, 20, 20, outside=127)
    assert np.abs(shrunk.astype(int) - 127).max() <= 16  # 127 is the mean of the stripes


def test_shrinking_to_a_point_returns_the_target_shape():
    image = np.full((30, 40, 3), 200, np.uint8)
    drawn = Affine.scaling(1e-6).warp(image, 10, 12, outside=127)
    assert drawn.shape == (10, 12, 3)


@pytest.mark.parametrize("shape", [(30, 40), (30, 40, 3)])
def test_pixels_outside_of_the_image_have_the_given_value(shape):
    image = np.full(shape, 200, np.uint8)
    drawn = Affine.translation(10, 5).warp(image, 50, 60, outside=128)
    assert drawn.shape == (50, 60, *shape[2:])
    assert (drawn[:5] == 128).all()
    assert (drawn[:, :10] == 128).all()
    assert (drawn[5:35, 10:50] == 200).all()
    assert (drawn[36:] == 128).all()


@pytest.mark.parametrize("turns", [-1, 0, 1, 2, 3, 4])
@pytest.mark.parametrize("size", [(5, 8), (1, 3), (7, 7)])
def test_quarter_turns_are_exact(turns, size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    expected = np.rot90(image, turns)
    turn = Affine.quarter_turns(turns, *size)
    turned = turn.warp(image, *expected.shape[:2], outside=0)
    np.testing.assert_array_equal(turned, expected)
    y, x = 0, size[1] - 1
    column, row = turn.apply(np.array([x, y], float)).astype(int)
    np.testing.assert_array_equal(expected[row, column], image[y, x])
