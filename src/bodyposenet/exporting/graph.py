"""Readable names and the header in the graph that PyTorch's exporter makes."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

import onnx_ir as ir
from onnx_ir.passes.common import ClearMetadataAndDocStringPass

from bodyposenet.sealing import METADATA_KEY

_SCOPES = "pkg.torch.onnx.name_scopes"
"""Metadata key of a node's modules, the outermost first, followed by the node's name."""

_NETWORK = "network"
"""Module whose own nodes concatenate features and maps."""

_SIDES = "rows", "columns"

_PARTS = {
    "Conv": ("input", "weight", "bias"),
    "Clip": ("input", "min", "max"),
    "Slice": ("input", "starts", "ends", "axes", "steps"),
}
"""Operator -> names of its inputs; others have one constant."""


def name_layers(graph: ir.Graph) -> None:
    """Give every node, its output and its weights the name of the layer that they come from.

    Args:
        graph: As the exporter made it; its inputs and outputs keep their names.
    """
    stages = count(2)  # the maps of each stage before the last are joined to the features
    layers = [
        f"stage{next(stages)}/concat"
        if node.op_type == "Concat" and _module(node) == _NETWORK
        else _layer(node)
        for node in graph
    ]
    nodes_of, taken = Counter(layers), Counter[str]()
    for node, layer in zip(graph, layers, strict=True):
        name = layer if nodes_of[layer] == 1 else f"{layer}/{node.op_type.lower()}"
        taken[name] += 1
        if taken[name] > 1:
            name = f"{name}_{taken[name]}"
        node.name = name
        (output,) = node.outputs
        if not output.is_graph_output():
            output.name = name
        _name_weights(node, name)


def _layer(node: ir.Node) -> str:
    if node.op_type == "Conv":  # its scope is that of the batch normalization folded into it
        weight = node.inputs[1]
        assert weight is not None and weight.name is not None
        return weight.name.removesuffix(".weight").rpartition(".")[2]
    (output,) = node.outputs
    if output.dtype == ir.DataType.INT64:
        return "sizes"
    if module := _module(node):
        return module.rpartition(".")[2]
    # outside of all modules: only the layout changes
    return str(output.name).removesuffix(":0") if output.is_graph_output() else "images"


def _module(node: ir.Node) -> str:
    """Return the innermost module of a node; empty outside of all."""
    *_, module, _ = ast.literal_eval(node.metadata_props[_SCOPES])
    return str(module)


def _name_weights(node: ir.Node, name: str) -> None:
    parts = _PARTS.get(node.op_type, ("constant",) * len(node.inputs))
    for value, part in zip(node.inputs, parts, strict=False):
        if value is not None and value.is_initializer():
            value.name = f"{name}.{part}"


def name_sizes(graph: ir.Graph, axes: Sequence[int]) -> None:
    """Name the dynamic sizes of all tensors in terms of the heatmaps' `rows` and `columns`.

    Args:
        graph: Its last output are the heatmaps.
        axes: Of their height and width.
    """
    shape = graph.outputs[-1].shape
    assert shape is not None
    names = {str(shape[axis]): side for axis, side in zip(axes, _SIDES, strict=True)}
    for value in (*graph.inputs, *(output for node in graph for output in node.outputs)):
        for axis, size in enumerate(value.shape or ()):
            if isinstance(size, ir.SymbolicDim):
                assert value.shape is not None
                value.shape[axis] = re.sub(
                    r"\w+", lambda found: names.get(found[0], found[0]), str(size)
                )


def write_header(model: ir.Model, header: Mapping[str, Any]) -> None:
    """Write the header to the metadata, and remove traces of the exporting machine."""
    ClearMetadataAndDocStringPass()(model)
    for node in model.graph:
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    model.metadata_props.clear()
    model.metadata_props[METADATA_KEY] = json.dumps(header, sort_keys=True)


def write_data_type(model: ir.Model, data_type: str) -> None:
    """Write the data type to the header, if there is one.

    Args:
        model: An exported model.
        data_type: fp32, fp16, int8-cpu or int8-tensorrt.
    """
    if METADATA_KEY in model.metadata_props:
        header = json.loads(model.metadata_props[METADATA_KEY]) | {"data_type": data_type}
        model.metadata_props[METADATA_KEY] = json.dumps(header, sort_keys=True)
