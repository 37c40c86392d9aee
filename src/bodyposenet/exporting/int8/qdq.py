"""Insertion of QuantizeLinear and DequantizeLinear (QDQ) nodes by ONNX Runtime's `QDQQuantizer`.

The placement depends on the target. `cpu`: at all inputs and outputs of an INT8 layer, so that
runtimes fuse them into an integer kernel. `tensorrt`: only at the inputs of convolutions, which is
TensorRT's rule for explicit quantization, so that the ReLU after a convolution is fused before
rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType
from onnxruntime.quantization.calibrate import TensorData, TensorsData

from bodyposenet.exporting.int8.convolutions import read_parameter
from bodyposenet.exporting.int8.ranges import INT8_MAX, Range

Int8Target = Literal["cpu", "tensorrt"]

INT8_OPERATORS: dict[Int8Target, tuple[str, ...]] = {
    "cpu": ("Conv", "Add", "MaxPool", "Mul", "Sigmoid"),
    "tensorrt": ("Conv",),
}
"""Target -> operators that compute in INT8."""

_RELUS = ("Relu", "Clip")

_ACTIVATIONS = {"cpu": QuantType.QUInt8, "tensorrt": QuantType.QInt8}
"""Target -> data type of activations; weights are INT8 for both."""

_PLACEMENT: dict[Int8Target, dict[str, Any]] = {
    "cpu": {},
    "tensorrt": {
        "ActivationSymmetric": True,
        "DedicatedQDQPair": True,
        "OpTypesToExcludeOutputQuantization": ["Conv"],
        "QuantizeBias": False,
    },
}
"""Target -> options of `QDQQuantizer`."""

_MAX_BIAS = 2**30
"""Maximum INT32 bias, which leaves room for the sum of products.

`QDQQuantizer` allows twice as much, so the sum could overflow where the weights of a channel are
tiny.
"""


def insert_qdq(
    model: ir.Model,
    layers: Sequence[ir.Node],
    ranges: Mapping[str, Range],
    limits: Mapping[ir.Node, NDArray[np.float32]],
    target: Int8Target,
) -> onnx.ModelProto:
    """Quantize activations and weights of the layers; weights have a scale per output channel.

    Args:
        model: Float32 model; it is modified.
        layers: Layers that compute in INT8.
        ranges: Ranges of the `quantized_values`, by name.
        limits: Limits of the weights from `weight_limits`.
        target: Placement and type of the integers.

    Returns:
        The quantized model.
    """
    nodes, value_ranges = [str(layer.name) for layer in layers], dict(ranges)
    if target == "cpu":
        _keep_others_in_float(model.graph, layers)
        for layer in layers:
            if (relu := _fused_relu(layer)) is not None:  # it is removed: the range clips as well
                nodes.append(str(relu.name))
                value_ranges[str(layer.outputs[0].name)] = value_ranges[str(relu.outputs[0].name)]
    proto = ir.to_proto(model)
    if not nodes:  # an empty list would select all
        return proto
    tensors: dict[str, Any] = {
        name: TensorData(lowest=np.float32(each.low), highest=np.float32(each.high))
        for name, each in value_ranges.items()
    }
    options = dict(_PLACEMENT[target])
    options["TensorQuantOverrides"] = {
        str(layer.inputs[1].name): [
            {"axis": 0, "rmin": -limit, "rmax": limit} for limit in channel_limits
        ]
        for layer, channel_limits in limits.items()
        if layer.inputs[1] is not None
    }
    quantizer = QDQQuantizer(
        proto,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=_ACTIVATIONS[target],
        tensors_range=TensorsData(CalibrationMethod.MinMax, tensors),
        nodes_to_quantize=nodes,
        nodes_to_exclude=[],
        op_types_to_quantize=[*INT8_OPERATORS[target], *_RELUS],
        extra_options=options,
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    return quantizer.model.model


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
    """Return a layer's output, or that of its ReLU or ReLU6 if this is the only consumer."""
    return (_fused_relu(layer) or layer).outputs[0]


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


def weight_limits(
    layers: Sequence[ir.Node], ranges: Mapping[str, Range], target: Int8Target
) -> dict[ir.Node, NDArray[np.float32]]:
    """Return the weights of each output channel that become 127 in INT8.

    These are the largest ones. For `cpu`, whose biases are integers as well, they are larger where
    a bias would exceed `_MAX_BIAS`.

    Args:
        layers: Layers that compute in INT8.
        ranges: Ranges of their inputs, by name.
        target: Placement and type of the integers.

    Returns:
        Convolution -> (O,) limits.
    """
    limits: dict[ir.Node, NDArray[np.float32]] = {}
    for layer in layers:
        if layer.op_type != "Conv" or (weight := read_parameter(layer, "weight")) is None:
            continue
        limits[layer] = np.abs(weight).reshape(len(weight), -1).max(axis=1)
        bias = read_parameter(layer, "bias")
        if target == "cpu" and bias is not None:
            inputs = ranges[str(_activations(layer)[0].name)]
            input_scale = (inputs.high - inputs.low) / 255 or 1.0
            needed = np.abs(bias) * INT8_MAX / (_MAX_BIAS * input_scale)
            limits[layer] = np.maximum(limits[layer], needed).astype(np.float32)
    return limits


def _fused_relu(layer: ir.Node) -> ir.Node | None:
    """Return the ReLU or ReLU6 after a layer if this is the only consumer."""
    (output,) = layer.outputs
    followers = [use.node for use in output.uses()]
    if len(followers) == 1 and not output.is_graph_output() and _is_relu(followers[0]):
        return followers[0]
    return None


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


def _keep_others_in_float(graph: ir.Graph, layers: Sequence[ir.Node]) -> None:
    """Insert a ReLU without effect before other convolutions, so that they are computed in float.

    Without it, ONNX Runtime 1.20 and later quantizes a float convolution between quantized
    activations, with one scale for all channels of its weights.
    """
    quantized = set(quantized_values(layers, "cpu"))
    for node in [node for node in graph if node.op_type == "Conv" and node not in layers]:
        value = node.inputs[0]
        if value not in quantized or fused_output(node) not in quantized:
            continue
        if is_never_negative(value):
            name = f"{node.name}/input"
            relu = ir.node("Relu", [value], outputs=[ir.Value(name=name)], name=name)
            graph.insert_before(node, relu)
            node.replace_input_with(0, relu.outputs[0])
