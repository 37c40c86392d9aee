"""Rounding of weights to INT8 with feedback of the errors."""

import numpy as np
import onnx_ir as ir
import pytest
import torch

from bodyposenet.exporting.int8.weight_rounding import round_with_feedback, sample_inputs


@pytest.fixture
def layer():
    """Return 8 outputs of 40 inputs that are correlated and never negative, as after a ReLU."""
    random = np.random.default_rng(1)
    causes = random.exponential(size=(4000, 6))
    inputs = causes @ random.exponential(size=(6, 40)) + 0.1 * random.exponential(size=(4000, 40))
    weights = random.normal(size=(8, 40)).astype(np.float32)
    return np.c_[inputs, np.ones(len(inputs))], weights, random.normal(size=8).astype(np.float32)


def mean_squared_error(inputs, weights, rounded):
    return np.square(inputs @ (rounded - weights).T).mean()


def test_errors_of_the_weights_cancel(layer):
    inputs, weights, biases = layer
    moments = inputs.T @ inputs / len(inputs)
    limits = np.abs(weights).max(axis=1)
    both = np.c_[weights, biases]
    rounded = round_with_feedback(both, moments, limits, has_bias=True)
    levels = rounded[:, :-1] / limits[:, None] * 127
    assert levels == pytest.approx(np.rint(levels), abs=1e-4)
    assert np.abs(levels).max() <= 127 + 1e-4
    plain = np.rint(weights / limits[:, None] * 127) * limits[:, None] / 127
    error = mean_squared_error(inputs, both, rounded)
    assert error < 0.02 * mean_squared_error(inputs, both, np.c_[plain, biases])
    assert (inputs @ (rounded - both).T).mean(axis=0) == pytest.approx(np.zeros(8), abs=1e-4)
    without_bias = round_with_feedback(weights, moments[:-1, :-1], limits, has_bias=False)
    error = mean_squared_error(inputs[:, :-1], weights, without_bias)
    assert error < 0.1 * mean_squared_error(inputs[:, :-1], weights, plain)


def test_inputs_that_are_always_zero_and_channels_without_weights(layer):
    inputs, weights, biases = layer
    inputs[:, :5], weights[0], biases[0] = 0, 0, 3
    limits = np.abs(weights).max(axis=1)
    moments = inputs.T @ inputs / len(inputs)
    rounded = round_with_feedback(np.c_[weights, biases], moments, limits, has_bias=True)
    assert np.isfinite(rounded).all()
    assert not rounded[0, :-1].any()
    assert rounded[0, -1] == pytest.approx(3)
    never_active = np.zeros_like(moments)
    never_active[-1, -1] = 1
    plain = round_with_feedback(np.c_[weights, biases], never_active, limits, has_bias=True)
    scale = np.where(limits > 0, limits, 1)[:, None] / 127
    assert plain[:, :-1] == pytest.approx(np.rint(weights / scale) * scale, abs=1e-6)


def test_limits_above_the_weights_are_the_scale(layer):
    inputs, weights, _ = layer
    moments = inputs[:, :-1].T @ inputs[:, :-1] / len(inputs)
    limits = np.full(8, 100, np.float32)
    levels = round_with_feedback(weights, moments, limits, has_bias=False) / 100 * 127
    assert levels == pytest.approx(np.rint(levels), abs=1e-5)


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "pads"),
    [
        ((1, 1), (1, 1), (1, 1), (0, 0, 0, 0)),
        ((3, 3), (1, 1), (2, 2), (2, 2, 2, 2)),
        ((3, 5), (2, 1), (1, 2), (1, 0, 1, 0)),
    ],
)
def test_sampled_inputs_have_the_order_of_the_weights(kernel, stride, dilation, pads):
    random = np.random.default_rng(2)
    image = random.normal(size=(4, 17, 20)).astype(np.float32)
    weight = random.normal(size=(3, 4, *kernel)).astype(np.float32)
    initializer = ir.Value(name="weight", const_value=ir.tensor(weight))
    node = ir.node(
        "Conv", [ir.Value(name="images"), initializer],
        attributes={"strides": stride, "dilations": dilation, "pads": pads},
    )  # fmt: skip
    samples = sample_inputs(image, node)
    assert (samples[:, -1] == 1).all()
    found = samples[:, :-1] @ weight.reshape(3, -1).T
    expected = torch.nn.functional.conv2d(
        torch.from_numpy(image)[None], torch.from_numpy(weight),
        stride=stride, dilation=dilation, padding=pads[:2],
    )[0].flatten(1).T.numpy()  # fmt: skip
    assert len(found) == len(expected)
    assert np.sort(found, axis=0) == pytest.approx(np.sort(expected, axis=0), abs=1e-4)
