"""Rounding of weights to INT8 so that the errors of a channel's weights cancel each other.

The weights of an output channel are rounded one after the other, and the error of each is
compensated by the weights that are still to be rounded and by the bias, as well as the inputs of
the layer allow (GPTQ: Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative
Pre-trained Transformers", ICLR 2023). With activations that are never negative, errors of plain
rounding add up to a shift of the output. On lightweight OpenPose after a training, the noise of
the PAFs by rounded weights decreases from -20 to -34 dB (benchmarks/RESULTS.md, "INT8
quantization").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bodyposenet.exporting.int8.activations import drawn_activations
from bodyposenet.exporting.int8.convolutions import group_count, read_parameter, set_parameter
from bodyposenet.exporting.int8.ranges import INT8_MAX

_MAX_WEIGHTS = 2304
"""Maximum number of weights per output channel; time grows with the cube of the number."""

_POSITIONS = 1000
"""Maximum number of positions of the output that are sampled per image."""

_DAMPING = 0.01
"""Share of the mean second moment that is added to every input's, as in GPTQ."""


def round_weights(
    model: ir.Model, content: bytes, limits: Mapping[ir.Node, NDArray[np.float32]]
) -> None:
    """Replace weights of convolutions by multiples of their INT8 scales, and correct the biases.

    Grouped and depthwise convolutions, and those with more than 2304 weights per output channel,
    are left to the quantizer.

    Args:
        model: Float32 model; it is modified.
        content: The same model as an ONNX file from `export_onnx`.
        limits: Convolutions that will compute in INT8, and the largest weights (O,) that the scales
            of their output channels represent.
    """
    layers = [layer for layer in limits if _is_rounded(layer)]
    for layer, moments in _second_moments(content, layers).items():
        weight, bias = read_parameter(layer, "weight"), read_parameter(layer, "bias")
        assert weight is not None
        if bias is None:
            moments = moments[:-1, :-1]
        columns = [weight.reshape(len(weight), -1)] + ([] if bias is None else [bias[:, None]])
        rounded = round_with_feedback(
            np.concatenate(columns, axis=1), moments, limits[layer], has_bias=bias is not None
        )
        if bias is not None:
            set_parameter(model.graph, layer, "bias", rounded[:, -1])
            rounded = rounded[:, :-1]
        set_parameter(model.graph, layer, "weight", rounded.reshape(weight.shape))


def round_with_feedback(
    weights: NDArray[np.float32],
    moments: NDArray[np.float64],
    limits: NDArray[np.float32],
    *,
    has_bias: bool,
) -> NDArray[np.float32]:
    """Round weights so that the mean squared error of the outputs remains small.

    Args:
        weights: (O, I) weights of O outputs. With `has_bias` the last column contains the biases,
            which are corrected and not rounded.
        moments: (I, I) mean products of the inputs; the input of a bias is 1.
        limits: (O,) largest weights that INT8 represents.
        has_bias: Whether there are biases.

    Returns:
        (O, I) multiples of `limits` / 127, and the biases.
    """
    scale = np.where(limits > 0, limits, 1).astype(np.float64) / INT8_MAX
    count = weights.shape[1] - has_bias
    sizes = np.diagonal(moments)[:count]
    # Inputs with large values first, so that the others compensate; the bias compensates last.
    order = np.r_[np.argsort(-sizes, kind="stable"), count : weights.shape[1]]
    damped = moments[np.ix_(order, order)]
    damped[np.arange(count), np.arange(count)] += _DAMPING * sizes.mean() or 1.0
    factor = _inverse_factor(damped)
    remaining = weights[:, order].astype(np.float64)
    for column in range(count):
        levels = np.clip(np.rint(remaining[:, column] / scale), -INT8_MAX, INT8_MAX)
        error = (remaining[:, column] - levels * scale) / factor[column, column]
        remaining[:, column] = levels * scale
        remaining[:, column + 1 :] -= np.outer(error, factor[column, column + 1 :])
    rounded = np.empty(weights.shape, np.float32)
    rounded[:, order] = remaining
    return rounded


def _inverse_factor(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the upper triangular U with `matrix`^-1 = U^T U."""
    upper = np.linalg.cholesky(matrix[::-1, ::-1])[::-1, ::-1]
    return np.asarray(np.linalg.inv(upper), np.float64)


def _is_rounded(layer: ir.Node) -> bool:
    """Return whether the weights of a convolution are rounded here."""
    weight = read_parameter(layer, "weight")
    return weight is not None and group_count(layer) == 1 and weight[0].size <= _MAX_WEIGHTS


def _second_moments(
    content: bytes, layers: Sequence[ir.Node]
) -> dict[ir.Node, NDArray[np.float64]]:
    """Return the mean products of the layers' inputs on drawn people.

    Args:
        content: Content of the ONNX file.
        layers: Convolutions with I weights per output channel.

    Returns:
        Layer -> (I + 1, I + 1) moments; the last input is 1.
    """
    sums: dict[ir.Node, NDArray[np.float64]] = {}
    counts: dict[ir.Node, int] = {}
    for tensors in drawn_activations(content):
        for layer in layers:
            inputs = layer.inputs[0]
            assert inputs is not None
            for image in tensors[str(inputs.name)]:
                samples = sample_inputs(image, layer)
                sums[layer] = sums.get(layer, 0) + (samples.T @ samples).astype(np.float64)
                counts[layer] = counts.get(layer, 0) + len(samples)
    return {layer: moments / counts[layer] for layer, moments in sums.items()}


def sample_inputs(image: NDArray[np.float32], layer: ir.Node) -> NDArray[np.float32]:
    """Return the inputs of a convolution at random positions of its output.

    Args:
        image: (C, H, W) input.
        layer: The convolution, with I weights per output channel.

    Returns:
        (N, I + 1) inputs in the order of the weights; the last one is 1.
    """
    weight = read_parameter(layer, "weight")
    assert weight is not None
    kernel = np.array(weight.shape[2:])
    stride = np.array(layer.attributes.get_ints("strides", [1, 1]))
    dilation = np.array(layer.attributes.get_ints("dilations", [1, 1]))
    top, left, bottom, right = layer.attributes.get_ints("pads", [0] * 4)
    padded = np.pad(image, ((0, 0), (top, bottom), (left, right)))
    rows, columns = (np.array(padded.shape[1:]) - dilation * (kernel - 1) - 1) // stride + 1
    total = int(rows * columns)
    chosen = np.random.default_rng(0).permutation(total)[:_POSITIONS]
    offsets = [dilation[axis] * np.arange(kernel[axis]) for axis in (0, 1)]
    y = stride[0] * (chosen // columns)[:, None, None] + offsets[0][:, None]
    x = stride[1] * (chosen % columns)[:, None, None] + offsets[1]
    samples = np.moveaxis(padded[:, y, x], 1, 0).reshape(len(chosen), -1)
    return np.concatenate([samples, np.ones((len(samples), 1), np.float32)], axis=1)
