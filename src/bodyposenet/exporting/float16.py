"""Conversion of an exported model to float16, which halves its size.

The ONNX file is converted rather than the network, so that batch normalization is folded in
float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir

from bodyposenet.exporting.onnx import write_data_type


def to_float16(content: bytes) -> bytes:
    """Convert the model to float16, from the first convolution to the outputs.

    Args:
        content: Content of a float32 ONNX file from `export_onnx`.

    Returns:
        Content of the converted file. Its input, its outputs and the normalization inside keep
        their types.
    """
    model = ir.from_proto(onnx.load_model_from_string(content))
    graph = model.graph
    nodes = list(graph)
    start = [node.op_type for node in nodes].index("Conv")
    _convert(nodes[start:])
    _cast_images(graph, nodes[start], nodes[start:])
    _cast_outputs(graph)
    write_data_type(model, "fp16")
    return ir.to_proto(model).SerializeToString()


def _convert(nodes: Sequence[ir.Node]) -> None:
    """Convert the weights and outputs of nodes."""
    for node in nodes:
        for value in node.inputs if node.op_type != "Resize" else ():  # its scales must be float32
            if value is None or not value.is_initializer() or value.dtype != ir.DataType.FLOAT:
                continue
            assert value.const_value is not None
            weight = value.const_value.numpy().astype(np.float16)
            value.const_value = ir.tensor(weight, name=value.name)
            value.dtype = ir.DataType.FLOAT16
        for value in node.outputs:
            if value.dtype == ir.DataType.FLOAT:
                value.dtype = ir.DataType.FLOAT16


def _cast_images(graph: ir.Graph, first: ir.Node, nodes: Sequence[ir.Node]) -> None:
    """Cast the input of the first convolution to float16, for all nodes that read it."""
    images = first.inputs[0]
    assert images is not None
    cast = _cast(images, ir.DataType.FLOAT16, "images_float16")
    graph.insert_before(first, cast)
    for node in nodes:
        for index, value in enumerate(node.inputs):
            if value is images:
                node.replace_input_with(index, cast.outputs[0])


def _cast_outputs(graph: ir.Graph) -> None:
    """Cast the outputs back to float32, under their names; the float16 maps are renamed."""
    for index, maps in enumerate(graph.outputs):
        name = maps.name
        maps.name = f"{name}_float16"
        cast = _cast(maps, ir.DataType.FLOAT, name)
        graph.append(cast)
        graph.outputs[index] = cast.outputs[0]


def _cast(value: ir.Value, dtype: ir.DataType, name: str | None) -> ir.Node:
    """Return a Cast node; the node and its output have the given name."""
    output = ir.Value(name=name, type=ir.TensorType(dtype), shape=value.shape)
    return ir.node("Cast", [value], {"to": dtype}, outputs=[output], name=name)
