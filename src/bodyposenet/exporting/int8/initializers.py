"""Weights and biases of convolutions in an ONNX graph: read, change, replace, add."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

PARTS = {"weight": 1, "bias": 2}
"""Part of a convolution -> index of its input."""


def read(layer: ir.Node, part: str) -> NDArray[np.float32] | None:
    """Return the weight or the bias of a convolution, or None if it has none.

    Args:
        layer: The convolution.
        part: `weight` or `bias`.
    """
    index = PARTS[part]
    value = layer.inputs[index] if index < len(layer.inputs) else None
    if value is None:
        return None
    assert value.const_value is not None
    return value.const_value.numpy()


def change(graph: ir.Graph, layer: ir.Node, part: str, numbers: NDArray[np.float32]) -> None:
    """Change the weight or bias of a convolution, but not of others that share it.

    Args:
        graph: Holds the layer.
        layer: The convolution.
        part: `weight` or `bias`.
        numbers: The new values.
    """
    value = layer.inputs[PARTS[part]]
    assert value is not None
    if len(value.uses()) == 1:
        value.const_value = ir.tensor(numbers, name=value.name)
    else:
        replace(graph, layer, part, add(graph, f"{layer.name}.{part}/own", numbers))


def replace(graph: ir.Graph, layer: ir.Node, part: str, value: ir.Value) -> None:
    """Replace the weight or bias of a convolution; the old one is removed if it is unused.

    Args:
        graph: Holds the layer.
        layer: The convolution.
        part: `weight` or `bias`.
        value: The new value.
    """
    old = layer.inputs[PARTS[part]]
    assert old is not None and old.name is not None
    layer.replace_input_with(PARTS[part], value)
    if not old.uses():  # layers may share one, such as a bias of zeros
        del graph.initializers[old.name]


def add(graph: ir.Graph, name: str, numbers: NDArray[np.generic]) -> ir.Value:
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
