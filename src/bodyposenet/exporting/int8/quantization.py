"""INT8 quantization of an exported model after training.

The file stays an ordinary ONNX file of float32 inputs and outputs: QuantizeLinear and
DequantizeLinear mark what a runtime may compute in integers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import onnx
import onnx_ir as ir

from bodyposenet.errors import BodyPoseNetError, closest
from bodyposenet.exporting.int8.calibration import CalibrationSource, find_ranges
from bodyposenet.exporting.int8.calibration_cache import fingerprint
from bodyposenet.exporting.int8.cross_layer_equalization import equalize_channels, is_depthwise
from bodyposenet.exporting.int8.qdq import (
    INT8_OPERATORS,
    Int8Target,
    insert_qdq,
    is_never_negative,
    quantized_values,
)
from bodyposenet.exporting.int8.ranges import CalibrationMethod, Range
from bodyposenet.exporting.onnx import write_data_type

_ARRANGING = {"Concat", "Resize", "Transpose"}
"""Operators that compute nothing."""

_STEM = 5
"""Convolutions of the stem of networks with depthwise ones: the first, and two separable layers.

Their channels differ most in size, and all later layers depend on them.
"""


@dataclass(frozen=True)
class QuantizationOptions:
    """Options of INT8 quantization.

    Args:
        target: Backend that the file is for: `cpu` (ONNX Runtime, OpenVINO) or `tensorrt`.
        method: Calibration method, see `Histogram.range`.
        float_outputs: Keep the convolutions that give maps in float: those of all stages, or with
            `strict` only the model's outputs.
        nodes_to_exclude: Names or patterns (`stage2/*`) of further convolutions to keep in float.
            For `cpu`, the most sensitive ones are in any case (see `_most_sensitive`).
        strict: Keep nothing but the outputs in float (TAO's strict_type_constraints).
    """

    target: Int8Target = "cpu"
    method: CalibrationMethod = "percentile"
    float_outputs: bool = True
    nodes_to_exclude: tuple[str, ...] = ()
    strict: bool = False

    def check(self, convolutions: Collection[str]) -> None:
        """Check the nodes to exclude.

        Args:
            convolutions: Names of the model's convolutions.

        Raises:
            BodyPoseNetError: A name or pattern matches none of them, or `strict` excludes others.
        """
        if self.nodes_to_exclude and self.strict:
            raise BodyPoseNetError(
                f"--nodes_to_exclude {' '.join(self.nodes_to_exclude)}: with "
                "--strict_type_constraints only the outputs stay in float",
                "Omit one of the two.",
            )
        for pattern in self.nodes_to_exclude:
            if not any(fnmatchcase(name, pattern) for name in convolutions):
                close = closest(pattern, convolutions) or list(convolutions)[:3]
                raise BodyPoseNetError(
                    f"--nodes_to_exclude: the model has no convolution named {pattern}",
                    f"Some of its convolutions: {', '.join(close)}.",
                )


def quantize(content: bytes, source: CalibrationSource, quantization: QuantizationOptions) -> bytes:
    """Calibrate a model and quantize it to INT8.

    Args:
        content: A float32 ONNX file from `export_onnx`.
        source: Files and images that the ranges come from.
        quantization: Target backend and layers.

    Returns:
        The content of the quantized file, see `to_int8`.

    Raises:
        BodyPoseNetError: A node to exclude does not exist, there are too few images, or a file
            cannot be used.
    """
    # The largest channels keep their size, so that ranges of the original model still fit.
    even = equalize_channels(content)
    graph = ir.from_proto(onnx.load_model_from_string(even)).graph
    layers = _int8_layers(graph, quantization)
    needed = [str(value.name) for value in quantized_values(layers, quantization.target)]
    ranges = find_ranges(even, source, quantization.method, needed, fingerprint(content))
    return to_int8(even, ranges, quantization)


def to_int8(
    content: bytes, ranges: Mapping[str, Range], quantization: QuantizationOptions
) -> bytes:
    """Quantize a model to INT8.

    Args:
        content: A float32 ONNX file from `export_onnx`.
        ranges: Ranges of its tensors by name; `quantized_values` lists those that are needed.
        quantization: Target backend and layers.

    Returns:
        The content of the file; `data_type` of its header is `int8-cpu` or `int8-tensorrt`.

    Raises:
        BodyPoseNetError: A node to exclude does not exist.
    """
    model = ir.from_proto(onnx.load_model_from_string(content))
    layers = _int8_layers(model.graph, quantization)
    covered = {
        str(value.name): _clip_impossible(ranges[str(value.name)], value)
        for value in quantized_values(layers, quantization.target)
    }
    insert_qdq(model.graph, layers, covered, quantization.target)
    write_data_type(model, f"int8-{quantization.target}")
    return ir.to_proto(model).SerializeToString()


def _clip_impossible(covered: Range, value: ir.Value) -> Range:
    """Cut off the negative half of a range that a cache only knows by its absolute value."""
    return Range(0.0, covered.high) if is_never_negative(value) else covered


def _int8_layers(graph: ir.Graph, quantization: QuantizationOptions) -> list[ir.Node]:
    """Return the layers that compute in INT8, from the first convolution on."""
    nodes = list(graph)
    nodes = nodes[[node.op_type for node in nodes].index("Conv") :]
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    in_float = _excluded(convolutions, quantization)
    if quantization.float_outputs:
        in_float |= {node for node in convolutions if _gives_maps(node, quantization.strict)}
    if quantization.target == "cpu" and not quantization.strict:
        in_float |= _most_sensitive(convolutions)
    operators = INT8_OPERATORS[quantization.target]
    return [
        node
        for node in nodes
        if node.op_type in operators and node not in in_float and _computes_in_float(node)
    ]


def _computes_in_float(node: ir.Node) -> bool:
    """Return False for the arithmetic of sizes."""
    return node.outputs[0].dtype == ir.DataType.FLOAT


def _excluded(convolutions: list[ir.Node], quantization: QuantizationOptions) -> set[ir.Node]:
    """Return the convolutions that `nodes_to_exclude` names."""
    quantization.check([str(node.name) for node in convolutions])
    return {
        node
        for node in convolutions
        if any(fnmatchcase(str(node.name), each) for each in quantization.nodes_to_exclude)
    }


def _most_sensitive(convolutions: list[ir.Node]) -> set[ir.Node]:
    """Return the stem and the entries of stages, if the network has depthwise convolutions.

    The entries read maps that are a tenth as large as the features that share their scale. Kept in
    float, 95 % of the poses of such a network are within 2 pixels, instead of 92 %, at the same
    speed. For TensorRT, whose activations have a bit less, that does not suffice; VGG's layers of
    this kind are too large.
    """
    if not any(is_depthwise(node) for node in convolutions):
        return set()
    sources = {node: node.inputs[0] for node in convolutions}
    producers = {node: source.producer() for node, source in sources.items() if source is not None}
    entries = {
        node
        for node, producer in producers.items()
        if producer is not None and producer.op_type == "Concat"
    }
    return {*convolutions[:_STEM], *entries}


def _gives_maps(convolution: ir.Node, strict: bool) -> bool:
    """Return whether no activation follows, as after the heatmaps and PAFs of every stage.

    Args:
        convolution: The layer.
        strict: Whether to exclude those that the next stage reads.
    """
    arranging = _ARRANGING - ({"Concat"} if strict else set())
    waiting = [convolution]
    while waiting:
        followers = [use.node for use in waiting.pop().outputs[0].uses()]
        if any(node.op_type not in arranging for node in followers):
            return False
        waiting += [node for node in followers if node.op_type != "Concat"]
    return True
