"""Convolutions of an ONNX graph: their kind, their weights and their biases."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

PARAMETERS = {"weight": 1, "bias": 2}
"""Parameter of a convolution -> index of the node's input."""


def group_count(node: ir.Node) -> int:
    """Return the number of groups of a convolution."""
    return node.attributes.get_int("group", 1)


def is_depthwise(node: ir.Node) -> bool:
    """Return whether a node is a depthwise convolution."""
    weight = read_parameter(node, "weight") if node.op_type == "Conv" else None
    return weight is not None and weight.shape[:2] == (group_count(node), 1) and len(weight) > 1


def read_parameter(layer: ir.Node, part: str) -> NDArray[np.float32] | None:
    """Return the weight or the bias of a convolution, or None if it has none."""
    index = PARAMETERS[part]
    value = layer.inputs[index] if index < len(layer.inputs) else None
    if value is None:
        return None
    assert value.const_value is not None
    return value.const_value.numpy()


def set_parameter(graph: ir.Graph, layer: ir.Node, part: str, numbers: NDArray[np.float32]) -> None:
    """Set the weight or bias of a convolution; other convolutions that share it keep theirs."""
    value = layer.inputs[PARAMETERS[part]]
    assert value is not None
    if len(value.uses()) == 1:
        value.const_value = ir.tensor(numbers, name=value.name)
        return
    tensor = ir.tensor(numbers, name=f"{layer.name}.{part}/own")
    own = ir.Value(
        name=tensor.name,
        type=ir.TensorType(tensor.dtype),
        shape=ir.Shape(numbers.shape),
        const_value=tensor,
    )
    graph.register_initializer(own)
    layer.replace_input_with(PARAMETERS[part], own)
