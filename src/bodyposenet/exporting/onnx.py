"""Export of a network as ONNX: TAO's plain or deployable model (see `docs/files.md`).

The exported model computes the maps of the last stage from images, which are normalized outside or
inside the model. The number and size of the images are dynamic (height and width are multiples of
the stride) unless the options fix them. The header of the model file is in the metadata.
"""

from __future__ import annotations

import ast
import json
import logging
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import count
from typing import Any

import onnx_ir as ir
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from torch import Tensor, nn

from bodyposenet.encryption import METADATA_KEY
from bodyposenet.inference.engines.exported import HEATMAPS, INPUT, PAFS, UPSAMPLED_PAFS
from bodyposenet.model.network import BodyPoseNetwork

OPSET = 18

_EXAMPLE = (2, 64, 96)
"""Batch size, height and width that the network is traced with: all different, and none is 1, so
that torch.export keeps them apart."""

_SCOPES = "pkg.torch.onnx.name_scopes"
"""Metadata key with the enclosing modules of a node, the outermost first, and its name."""

_NETWORK = "network"
"""Module whose own Concat nodes concatenate features and maps."""

_SIDES = "rows", "columns"
"""Names of the dynamic height and width of the heatmaps."""

_INPUT_NAMES = {
    "Conv": ("input", "weight", "bias"),
    "Clip": ("input", "min", "max"),
    "Slice": ("input", "starts", "ends", "axes", "steps"),
}
"""Operator -> names of its inputs; those of other operators are called `constant`."""


@dataclass(frozen=True)
class OnnxExportOptions:
    """Properties of an ONNX file that do not follow from its network.

    Args:
        channels_last: Layout of input and outputs: (N, H, W, C), TAO's, or (N, C, H, W).
        upsample_ratio: Factor by which the PAFs are enlarged (nearest neighbor) in TAO's
            `sdk_compatible_model`; 1 for the plain model.
        static_batch_size: Number of images per batch; None for a dynamic one.
        static_shape: Height and width of the images in pixels; None for dynamic ones.
        normalizes_input: Whether the input is uint8 RGB pixels, normalized inside the model,
            instead of normalized float32.
    """

    channels_last: bool = True
    upsample_ratio: int = 1
    static_batch_size: int | None = None
    static_shape: tuple[int, int] | None = None
    normalizes_input: bool = False

    @property
    def pafs(self) -> str:
        """Name of the output that holds the part affinity fields."""
        return UPSAMPLED_PAFS if self.upsample_ratio > 1 else PAFS


PLAIN = OnnxExportOptions()
"""Options of TAO's plain model."""


class _Normalization(nn.Module):
    """Normalization of pixels, as in `BodyPoseNetwork.normalize`.

    Values that are equal for all channels are exported as a scalar: ONNX Runtime is ten times as
    slow with three values along the last axis.
    """

    scale: Tensor
    offset: Tensor

    def __init__(self, network: BodyPoseNetwork, channels_last: bool) -> None:
        super().__init__()
        shape = (1, 1, 1, 3) if channels_last else (1, 3, 1, 1)
        for name, values in (("scale", network.image_scale), ("offset", network.image_offset)):
            is_same = bool((values == values.flatten()[0]).all())
            self.register_buffer(name, values.flatten()[0] if is_same else values.view(shape))

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalize uint8 RGB pixels to float32."""
        return pixels.to(torch.float32) / self.scale - self.offset


class _LastStage(nn.Module):
    """The exported part of a network: from the images to the maps of the last stage, PAFs first.

    The names of the submodules become the names of the nodes.
    """

    def __init__(self, network: BodyPoseNetwork, options: OnnxExportOptions) -> None:
        super().__init__()
        self.network = network
        self.channels_last = options.channels_last
        self.normalization = self.conv2d_transpose_1 = nn.Identity()
        if options.normalizes_input:
            self.normalization = _Normalization(network, options.channels_last)
        if options.upsample_ratio > 1:  # equal to TAO's transposed convolution, but faster
            self.conv2d_transpose_1 = nn.Upsample(scale_factor=float(options.upsample_ratio))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the PAFs and the heatmaps of the last stage."""
        images = self.normalization(images)
        if self.channels_last:
            images = images.permute(0, 3, 1, 2)
        maps = self.network(images)
        heatmaps, pafs = maps.heatmaps[-1], self.conv2d_transpose_1(maps.pafs[-1])
        if self.channels_last:
            return pafs.permute(0, 2, 3, 1), heatmaps.permute(0, 2, 3, 1)
        return pafs, heatmaps


def export_onnx(
    network: BodyPoseNetwork, header: Mapping[str, Any], options: OnnxExportOptions = PLAIN
) -> bytes:
    """Export a network as ONNX; batch normalization is folded into the convolutions.

    Args:
        network: Network on the CPU; it is set to evaluation mode.
        header: Its header, see `model.checkpoint.model_header`.
        options: Layout, sizes and normalization of the file.

    Returns:
        Content of the file. Its input is named `INPUT`, its outputs `options.pafs` and `HEATMAPS`
        (see `inference.engines.exported`). Nodes and their outputs have TAO's layer names.
    """
    axes = (0, 1, 2) if options.channels_last else (0, 2, 3)
    with _quiet():
        program = torch.onnx.export(
            _LastStage(network, options).eval(),
            (_example(options),),
            dynamo=True,
            opset_version=OPSET,
            verbose=False,
            input_names=[INPUT],
            output_names=[options.pafs, HEATMAPS],
            dynamic_shapes=(_dynamic_sizes(network, options, axes),),
        )
    assert program is not None  # None is only returned without dynamo
    model = program.model
    _name_layers(model.graph)
    _name_sizes(model.graph, axes[1:])
    _write_header(model, {**header, "form": asdict(options), "data_type": "fp32"})
    return ir.to_proto(model).SerializeToString()


def write_data_type(model: ir.Model, data_type: str) -> None:
    """Write the data type to the header, if there is one.

    Args:
        model: An exported model, modified in place.
        data_type: `fp32`, `fp16`, `int8-cpu` or `int8-tensorrt`.
    """
    if METADATA_KEY in model.metadata_props:
        header = json.loads(model.metadata_props[METADATA_KEY]) | {"data_type": data_type}
        model.metadata_props[METADATA_KEY] = json.dumps(header, sort_keys=True)


def _example(options: OnnxExportOptions) -> Tensor:
    """Return an input to trace the network with."""
    count, *shape = _EXAMPLE
    count, shape = options.static_batch_size or count, options.static_shape or shape
    sizes = (count, *shape, 3) if options.channels_last else (count, 3, *shape)
    return torch.zeros(sizes, dtype=torch.uint8 if options.normalizes_input else torch.float32)


def _dynamic_sizes(
    network: BodyPoseNetwork, options: OnnxExportOptions, axes: tuple[int, int, int]
) -> dict[int, torch.export.Dim]:
    """Return the axes of the input whose size is dynamic."""
    batch, *sides = axes
    dynamic = {}
    if options.static_batch_size is None:
        dynamic[batch] = torch.export.Dim("batch")
    if options.static_shape is None:
        for axis, name in zip(sides, _SIDES, strict=True):
            dynamic[axis] = network.stride * torch.export.Dim(name)
    return dynamic


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the exporter's warnings about its internals and about optional packages."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _name_layers(graph: ir.Graph) -> None:
    """Rename every node, its output and its weights after the layer that they come from.

    Args:
        graph: Graph from the exporter, modified in place. Its inputs and outputs keep their names.
    """
    stages = count(2)  # each stage from the second on has a concatenation as its input
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
    """Return the name of the layer that a node comes from."""
    if node.op_type == "Conv":  # its scope is that of its folded batch normalization
        weight = node.inputs[1]
        assert weight is not None and weight.name is not None
        return weight.name.removesuffix(".weight").rpartition(".")[2]
    (output,) = node.outputs
    if output.dtype == ir.DataType.INT64:
        return "sizes"
    if module := _module(node):
        return module.rpartition(".")[2]
    # Nodes outside of all modules only change the layout.
    return str(output.name).removesuffix(":0") if output.is_graph_output() else "images"


def _module(node: ir.Node) -> str:
    """Return the innermost module of a node, or an empty string if it is in none."""
    *_, module, _ = ast.literal_eval(node.metadata_props[_SCOPES])
    return str(module)


def _name_weights(node: ir.Node, name: str) -> None:
    """Rename the initializers of a node after the node."""
    parts = _INPUT_NAMES.get(node.op_type, ("constant",) * len(node.inputs))
    for value, part in zip(node.inputs, parts, strict=False):
        if value is not None and value.is_initializer():
            value.name = f"{name}.{part}"


def _name_sizes(graph: ir.Graph, axes: Sequence[int]) -> None:
    """Name the dynamic sizes of all tensors in terms of the heatmaps' `rows` and `columns`.

    Args:
        graph: Graph whose last output is the heatmaps, modified in place.
        axes: Axes of their height and width.
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


def _write_header(model: ir.Model, header: Mapping[str, Any]) -> None:
    """Write the header to the metadata, and remove metadata about the exporting machine.

    Args:
        model: An exported model, modified in place.
        header: JSON values.
    """
    ClearMetadataAndDocStringPass()(model)
    for node in model.graph:
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    model.metadata_props.clear()
    model.metadata_props[METADATA_KEY] = json.dumps(header, sort_keys=True)
