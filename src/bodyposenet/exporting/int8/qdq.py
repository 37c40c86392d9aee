"""Insertion of QuantizeLinear and DequantizeLinear (QDQ) nodes into a float32 graph.

The placement depends on the target. `cpu`: at all inputs and outputs of an INT8 layer, so that
runtimes fuse them into an integer kernel. `tensorrt`: only before convolutions, which is TensorRT's
rule for explicit quantization, so that the ReLU after a convolution is fused before rounding.
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

PARAMETERS = {"weight": 1, "bias": 2}
"""Parameter of a convolution -> index of the node's input."""

_MAX_BIAS = 2**30
"""Maximum INT32 bias, which leaves room for the sum of products."""


class QuantizationParameters(NamedTuple):
    """Scale and zero point of a tensor: value = scale * (integer - zero_point).

    Args:
        scale: float32, () or, for one scale per channel, (C,).
        zero_point: Same shape, in the type of the integers.
    """

    scale: NDArray[np.float32]
    zero_point: NDArray[np.integer]


def insert_qdq(
    graph: ir.Graph, layers: Sequence[ir.Node], ranges: Mapping[str, Range], target: Int8Target
) -> None:
    """Quantize activations and weights of the layers.

    Args:
        graph: Graph, modified in place.
        layers: Layers that compute in INT8.
        ranges: Ranges of the `quantized_values`, by name.
        target: Placement and type of the integers.
    """
    int8_layers = set(layers)
    int8_outputs = {fused_output(layer) for layer in layers} if target == "cpu" else set()
    parameters = {
        value: activation_parameters(ranges[str(value.name)], target)
        for value in quantized_values(layers, target)
    }
    for layer in layers:
        if layer.op_type == "Conv":
            _quantize_weights(graph, layer, parameters[_activations(layer)[0]], target)
    for node in [node for node in graph if node.op_type == "Conv" and node not in int8_layers]:
        value = node.inputs[0]
        if value is None or value not in int8_outputs or fused_output(node) not in parameters:
            continue
        if is_never_negative(value):
            _keep_in_float(graph, node, value)
    for value, quantization in parameters.items():
        uses = [use for use in value.uses() if value in int8_outputs or use.node in int8_layers]
        dequantized = _quantize_activation(graph, value, quantization)
        for use in uses:
            use.node.replace_input_with(use.idx, dequantized)
        if value in int8_outputs and value.is_graph_output():
            _replace_output(graph, value, dequantized)


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


def activation_parameters(value_range: Range, target: Int8Target) -> QuantizationParameters:
    """Return the parameters of an activation: asymmetric UINT8, or symmetric INT8 for TensorRT."""
    if target == "tensorrt":
        scale = value_range.largest / INT8_MAX or 1.0
        return QuantizationParameters(np.array(scale, np.float32), np.array(0, np.int8))
    scale = (value_range.high - value_range.low) / 255 or 1.0
    zero_point = np.clip(np.rint(-value_range.low / scale), 0, 255)
    return QuantizationParameters(np.array(scale, np.float32), zero_point.astype(np.uint8))


def fused_output(layer: ir.Node) -> ir.Value:
    """Return a layer's output, or that of its ReLU or ReLU6 if this is the only consumer."""
    (output,) = layer.outputs
    followers = [use.node for use in output.uses()]
    if len(followers) == 1 and not output.is_graph_output() and _is_relu(followers[0]):
        return followers[0].outputs[0]
    return output


def is_never_negative(value: ir.Value) -> bool:
    """Return whether the operators before a tensor rule out negative values."""
    producer = value.producer()
    if producer is None:
        return False
    if _is_relu(producer) or producer.op_type == "Sigmoid":
        return True
    if producer.op_type in ("Add", "Concat", "MaxPool", "Mul"):
        return all(each is not None and is_never_negative(each) for each in producer.inputs)
    return False


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
    """Set the weight or bias of a convolution; other convolutions that share it keep theirs.

    Args:
        graph: Graph of the layer.
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
        graph: Graph of the layer.
        layer: The convolution.
        part: `weight` or `bias`.
        value: The new value.
    """
    old = layer.inputs[PARAMETERS[part]]
    assert old is not None and old.name is not None
    layer.replace_input_with(PARAMETERS[part], value)
    if not old.uses():  # layers may share an initializer, such as a bias of zeros
        del graph.initializers[old.name]


def add_initializer(graph: ir.Graph, name: str, numbers: NDArray[np.generic]) -> ir.Value:
    """Add an initializer.

    Args:
        graph: Graph, modified in place.
        name: Unique name.
        numbers: Values.
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


def _is_relu(node: ir.Node) -> bool:
    """Return whether a node is a ReLU, with or without an upper bound."""
    if node.op_type != "Clip":
        return node.op_type == "Relu"
    minimum = node.inputs[1]
    if minimum is None or minimum.const_value is None:
        return False
    return bool(minimum.const_value.numpy() == 0)


def _activations(layer: ir.Node) -> list[ir.Value]:
    """Return the inputs of a layer that are neither weights nor other constants."""
    inputs = layer.inputs[:1] if layer.op_type == "Conv" else layer.inputs
    return [value for value in inputs if value is not None and not value.is_initializer()]


def _quantize_activation(
    graph: ir.Graph, value: ir.Value, parameters: QuantizationParameters
) -> ir.Value:
    """Quantize and dequantize a value; return the result."""
    name, producer = value.name, value.producer()
    constants = _add_parameters(graph, str(name), parameters)
    quantize = _node("QuantizeLinear", [value, *constants], f"{name}/quantized")
    dequantize = _node("DequantizeLinear", [*quantize.outputs, *constants], f"{name}/dequantized")
    if producer is None:
        graph.insert_before(graph[0], [quantize, dequantize])
    else:
        graph.insert_after(producer, [quantize, dequantize])
    return dequantize.outputs[0]


def _replace_output(graph: ir.Graph, value: ir.Value, dequantized: ir.Value) -> None:
    """Replace an output of the graph by its dequantized value, under the same name."""
    dequantized.shape, dequantized.type = value.shape, value.type
    value.name, dequantized.name = f"{value.name}/exact", value.name
    graph.outputs[graph.outputs.index(value)] = dequantized


def _quantize_weights(
    graph: ir.Graph, layer: ir.Node, inputs: QuantizationParameters, target: Int8Target
) -> None:
    """Quantize weights to INT8 per output channel and, for the CPU, the bias to INT32."""
    weights = read_parameter(layer, "weight")
    bias = read_parameter(layer, "bias") if target == "cpu" else None
    assert weights is not None
    scales = np.abs(weights).reshape(len(weights), -1).max(axis=1) / INT8_MAX
    if bias is not None:
        scales = np.maximum(scales, np.abs(bias) / (_MAX_BIAS * inputs.scale))
    scales = np.where(scales == 0, 1.0, scales).astype(np.float32)
    _store(graph, layer, "weight", _round_to_scales(weights, scales).astype(np.int8), scales)
    if bias is not None:
        scales = scales * inputs.scale
        _store(graph, layer, "bias", _round_to_scales(bias, scales).astype(np.int32), scales)


def _keep_in_float(graph: ir.Graph, layer: ir.Node, value: ir.Value) -> None:
    """Insert a ReLU without effect before a layer, so that it is computed in float.

    Without it, ONNX Runtime 1.20 and later quantizes a float convolution between quantized
    activations, with one scale for all channels of its weights.
    """
    relu = _node("Relu", [value], f"{layer.name}/input")
    graph.insert_before(layer, relu)
    layer.replace_input_with(0, relu.outputs[0])


def _round_to_scales(
    numbers: NDArray[np.float32], scales: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Round numbers (C, ...) to integer multiples of the scales (C,) of their channels."""
    return np.rint(numbers / scales.reshape(-1, *(1,) * (numbers.ndim - 1)))


def _store(
    graph: ir.Graph,
    layer: ir.Node,
    part: str,
    integers: NDArray[np.integer],
    scales: NDArray[np.float32],
) -> None:
    """Replace a weight or a bias by integers, with a scale for each output channel."""
    name = f"{layer.name}.{part}"
    stored = add_initializer(graph, f"{name}/integers", integers)
    parameters = QuantizationParameters(scales, np.zeros(len(scales), integers.dtype))
    inputs = [stored, *_add_parameters(graph, name, parameters)]
    dequantize = _node("DequantizeLinear", inputs, f"{name}/dequantized", {"axis": 0})
    graph.insert_before(layer, dequantize)
    replace_parameter(graph, layer, part, dequantize.outputs[0])


def _add_parameters(
    graph: ir.Graph, name: str, parameters: QuantizationParameters
) -> list[ir.Value]:
    """Add initializers for a scale and a zero point."""
    return [
        add_initializer(graph, f"{name}/scale", parameters.scale),
        add_initializer(graph, f"{name}/zero_point", parameters.zero_point),
    ]


def _node(
    operator: str,
    inputs: Sequence[ir.Value],
    name: str,
    attributes: Mapping[str, int] | None = None,
) -> ir.Node:
    """Return a node with one output; both have the given name."""
    return ir.node(operator, inputs, attributes, outputs=[ir.Value(name=name)], name=name)
