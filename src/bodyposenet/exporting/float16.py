"""The bytes of an ONNX file in, the same model in float16 out: half the size.

Converted is the file and not the network, as batch normalization must be folded in float32.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir


def to_float16(content: bytes) -> bytes:
    """Give weights and everything between input and outputs the type float16.

    Args:
        content: From `export_onnx`.

    Returns:
        The content of the file. Its input and outputs are float32 as before.
    """
    model = ir.from_proto(onnx.load_model_from_string(content))
    graph = model.graph
    nodes = list(graph)
    for name, weight in graph.initializers.items():
        assert weight.const_value is not None
        if weight.const_value.dtype != ir.DataType.FLOAT:  # a shape, for example
            continue
        weight.const_value = ir.tensor(weight.const_value.numpy().astype(np.float16), name=name)
        weight.dtype = ir.DataType.FLOAT16
    for node in nodes:
        for value in node.outputs:
            if value.dtype == ir.DataType.FLOAT:
                value.dtype = ir.DataType.FLOAT16
    _cast_input(graph, nodes[0])
    _cast_outputs(graph)
    return ir.to_proto(model).SerializeToString()


def _cast_input(graph: ir.Graph, first: ir.Node) -> None:
    (images,) = graph.inputs
    cast = _cast(images, ir.DataType.FLOAT16, "input_float16")
    images.replace_all_uses_with(cast.outputs[0])
    cast.replace_input_with(0, images)
    graph.insert_before(first, cast)


def _cast_outputs(graph: ir.Graph) -> None:
    """The outputs keep their names, the float16 maps before them get others."""
    for index, maps in enumerate(graph.outputs):
        name = maps.name
        maps.name = f"output_{index}_float16"
        cast = _cast(maps, ir.DataType.FLOAT, name)
        graph.append(cast)
        graph.outputs[index] = cast.outputs[0]


def _cast(value: ir.Value, dtype: ir.DataType, name: str | None) -> ir.Node:
    output = ir.Value(name=name, type=ir.TensorType(dtype), shape=value.shape)
    return ir.node("Cast", [value], {"to": dtype}, outputs=[output])
