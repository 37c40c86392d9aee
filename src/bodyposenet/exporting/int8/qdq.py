"""Insertion of QuantizeLinear and DequantizeLinear into a float32 graph.

There are two placements. `cpu`: around all inputs and outputs of an INT8 layer, so that runtimes
fuse it to an integer kernel. `tensorrt`: before the convolutions only, TensorRT's rule for explicit
quantization; the output of a convolution stays unrounded until its ReLU is fused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bodyposenet.exporting.int8.ranges import INT8_MAX, Range

Int8Target = Literal["cpu", "tensorrt"]

INT8_OPERATORS: dict[Int8Target, tuple[str, ...]] = {
    "cpu": ("Conv", "Add", "MaxPool", "Mul", "Sigmoid"),
    "tensorrt": ("Conv",),
}
"""Target -> operators that compute in INT8."""

_LARGEST_BIAS = 2**30
"""Largest INT32 bias, which leaves room for the products that are added."""


class QuantizationParameters(NamedTuple):
    """Quantization grid of a tensor: value = scale * (integer - zero_point).

    Args:
        scale: () or, one for each channel, (C,) float32.
        zero_point: Of the same shape, in the type of the integers.
    """

    scale: NDArray[np.float32]
    zero_point: NDArray[np.integer]


def activation_parameters(covered: Range, target: Int8Target) -> QuantizationParameters:
    """Return a UINT8 grid with the range's zero point, or for TensorRT an INT8 grid around 0."""
    if target == "tensorrt":
        scale = covered.largest / INT8_MAX or 1.0
        return QuantizationParameters(np.array(scale, np.float32), np.array(0, np.int8))
    scale = (covered.high - covered.low) / 255 or 1.0
    zero_point = np.clip(np.rint(-covered.low / scale), 0, 255)
    return QuantizationParameters(np.array(scale, np.float32), zero_point.astype(np.uint8))


def quantized_values(layers: Sequence[ir.Node], target: Int8Target) -> list[ir.Value]:
    """Return the activations that are quantized.

    Args:
        layers: Layers that compute in INT8.
        target: Placement and type of the integers.
    """
    values = [value for layer in layers for value in _activations(layer)]
    if target == "cpu":
        values += [fused_output(layer) for layer in layers]
    return list(dict.fromkeys(values))


def fused_output(layer: ir.Node) -> ir.Value:
    """Return a layer's output, after its ReLU or ReLU6 if that is the only consumer."""
    (output,) = layer.outputs
    followers = [use.node for use in output.uses()]
    if len(followers) == 1 and not output.is_graph_output() and _is_relu(followers[0]):
        return followers[0].outputs[0]
    return output


def is_never_negative(value: ir.Value) -> bool:
    """Return whether the operators before a tensor exclude negative values."""
    producer = value.producer()
    if producer is None:
        return False
    if _is_relu(producer) or producer.op_type == "Sigmoid":
        return True
    if producer.op_type in ("Add", "Concat", "MaxPool", "Mul"):
        return all(each is not None and is_never_negative(each) for each in producer.inputs)
    return False


def _is_relu(node: ir.Node) -> bool:
    """Return whether a node is a ReLU, or one with an upper bound."""
    if node.op_type != "Clip":
        return node.op_type == "Relu"
    least = node.inputs[1]
    return least is not None and least.const_value is not None and least.const_value.numpy() == 0


def insert_qdq(
    graph: ir.Graph, layers: Sequence[ir.Node], ranges: Mapping[str, Range], target: Int8Target
) -> None:
    """Quantize activations and weights of the layers.

    Args:
        graph: Graph, changed in place.
        layers: Layers that compute in INT8.
        ranges: Ranges of the `quantized_values`, by name.
        target: Placement and type of the integers.
    """
    inside = set(layers)
    given = {fused_output(layer) for layer in layers} if target == "cpu" else set()
    grids = {
        value: activation_parameters(ranges[str(value.name)], target)
        for value in quantized_values(layers, target)
    }
    for layer in layers:
        if layer.op_type == "Conv":
            _quantize_weights(graph, layer, grids[_activations(layer)[0]], target)
    for node in [node for node in graph if node.op_type == "Conv" and node not in inside]:
        images = node.inputs[0]
        if images is None or images not in given or fused_output(node) not in grids:
            continue
        if is_never_negative(images):
            _keep_in_float(graph, node, images)
    for value, grid in grids.items():
        users = [use for use in value.uses() if value in given or use.node in inside]
        restored = _pass_through(graph, value, grid)
        for use in users:
            use.node.replace_input_with(use.idx, restored)
        if value in given and value.is_graph_output():
            _take_over_output(graph, value, restored)


def _activations(layer: ir.Node) -> list[ir.Value]:
    inputs = layer.inputs[:1] if layer.op_type == "Conv" else layer.inputs
    return [value for value in inputs if value is not None and not value.is_initializer()]


def _pass_through(graph: ir.Graph, value: ir.Value, grid: QuantizationParameters) -> ir.Value:
    """Quantize and dequantize a value; return the result."""
    name, producer = value.name, value.producer()
    numbers = _constants(graph, str(name), grid)
    quantize = _node("QuantizeLinear", [value, *numbers], f"{name}/quantized")
    dequantize = _node("DequantizeLinear", [*quantize.outputs, *numbers], f"{name}/dequantized")
    if producer is None:
        graph.insert_before(graph[0], [quantize, dequantize])
    else:
        graph.insert_after(producer, [quantize, dequantize])
    return dequantize.outputs[0]


def _take_over_output(graph: ir.Graph, value: ir.Value, restored: ir.Value) -> None:
    """Make a value the graph's output in place of another, under the other's name."""
    restored.shape, restored.type = value.shape, value.type
    value.name, restored.name = f"{value.name}/exact", value.name
    graph.outputs[graph.outputs.index(value)] = restored


def _quantize_weights(
    graph: ir.Graph, layer: ir.Node, images: QuantizationParameters, target: Int8Target
) -> None:
    """Quantize weights to INT8 per output channel and, for the CPU, the bias to INT32."""
    weights = read_parameter(layer, "weight")
    bias = read_parameter(layer, "bias") if target == "cpu" else None
    assert weights is not None
    steps = np.abs(weights).reshape(len(weights), -1).max(axis=1) / INT8_MAX
    if bias is not None:
        steps = np.maximum(steps, np.abs(bias) / (_LARGEST_BIAS * images.scale))
    steps = np.where(steps == 0, 1.0, steps).astype(np.float32)
    _store(graph, layer, "weight", _in_steps(weights, steps).astype(np.int8), steps)
    if bias is not None:
        steps = steps * images.scale
        _store(graph, layer, "bias", _in_steps(bias, steps).astype(np.int32), steps)


def _keep_in_float(graph: ir.Graph, layer: ir.Node, images: ir.Value) -> None:
    """Insert a ReLU without effect before a layer.

    Since 1.20, ONNX Runtime quantizes the float weights of a convolution between quantized
    activations itself, with one scale for all channels; the ReLU prevents that.
    """
    relu = _node("Relu", [images], f"{layer.name}/input")
    graph.insert_before(layer, relu)
    layer.replace_input_with(0, relu.outputs[0])


def _in_steps(numbers: NDArray[np.float32], steps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round numbers (C, ...) to whole steps of their channels (C,)."""
    return np.rint(numbers / steps.reshape(-1, *(1,) * (numbers.ndim - 1)))


def _store(
    graph: ir.Graph,
    layer: ir.Node,
    part: str,
    integers: NDArray[np.integer],
    steps: NDArray[np.float32],
) -> None:
    """Replace a weight or a bias by integers, with a scale for each output channel."""
    name = f"{layer.name}.{part}"
    stored = add_initializer(graph, f"{name}/integers", integers)
    grid = QuantizationParameters(steps, np.zeros(len(steps), integers.dtype))
    inputs = [stored, *_constants(graph, name, grid)]
    dequantize = _node("DequantizeLinear", inputs, f"{name}/dequantized", {"axis": 0})
    graph.insert_before(layer, dequantize)
    replace_parameter(graph, layer, part, dequantize.outputs[0])


def _constants(graph: ir.Graph, name: str, grid: QuantizationParameters) -> list[ir.Value]:
    return [
        add_initializer(graph, f"{name}/scale", grid.scale),
        add_initializer(graph, f"{name}/zero_point", grid.zero_point),
    ]


def _node(
    operator: str,
    inputs: Sequence[ir.Value],
    name: str,
    attributes: Mapping[str, int] | None = None,
) -> ir.Node:
    return ir.node(operator, inputs, attributes, outputs=[ir.Value(name=name)], name=name)


PARAMETERS = {"weight": 1, "bias": 2}
"""Part of a convolution -> index of its input."""


def read_parameter(layer: ir.Node, part: str) -> NDArray[np.float32] | None:
    """Return the weight or the bias of a convolution, or None if it has none.

    Args:
        layer: The convolution.
        part: `weight` or `bias`.
    """
    index = PARAMETERS[part]
    value = layer.inputs[index] if index < len(layer.inputs) else None
    if value is None:
        return None
    assert value.const_value is not None
    return value.const_value.numpy()


def set_parameter(graph: ir.Graph, layer: ir.Node, part: str, numbers: NDArray[np.float32]) -> None:
    """Change the weight or bias of a convolution, but not of others that share it.

    Args:
        graph: Holds the layer.
        layer: The convolution.
        part: `weight` or `bias`.
        numbers: The new values.
    """
    value = layer.inputs[PARAMETERS[part]]
    assert value is not None
    if len(value.uses()) == 1:
        value.const_value = ir.tensor(numbers, name=value.name)
    else:
        replace_parameter(
            graph, layer, part, add_initializer(graph, f"{layer.name}.{part}/own", numbers)
        )


def replace_parameter(graph: ir.Graph, layer: ir.Node, part: str, value: ir.Value) -> None:
    """Replace the weight or bias of a convolution; the old one is removed if it is unused.

    Args:
        graph: Holds the layer.
        layer: The convolution.
        part: `weight` or `bias`.
        value: The new value.
    """
    old = layer.inputs[PARAMETERS[part]]
    assert old is not None and old.name is not None
    layer.replace_input_with(PARAMETERS[part], value)
    if not old.uses():  # layers may share one, such as a bias of zeros
        del graph.initializers[old.name]


def add_initializer(graph: ir.Graph, name: str, numbers: NDArray[np.generic]) -> ir.Value:
    """Add an initializer.

    Args:
        graph: Graph that receives it.
        name: Unique name.
        numbers: Its content.
    """
    tensor = ir.tensor(numbers, name=name)
    value = ir.Value(
        name=name,
        type=ir.TensorType(tensor.dtype),
        shape=ir.Shape(numbers.shape),
        const_value=tensor,
    )
    graph.register_initializer(value)
    return value
