"""Post-training INT8 quantization of an exported model.

The result is an ordinary ONNX file with float32 inputs and outputs, in which QuantizeLinear and
DequantizeLinear nodes mark the layers that runtimes compute in integers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import onnx
import onnx_ir as ir

from bodyposenet.errors import BodyPoseNetError, closest
from bodyposenet.exporting.int8.calibration import find_ranges
from bodyposenet.exporting.int8.calibration_cache import fingerprint
from bodyposenet.exporting.int8.calibration_source import CalibrationSource
from bodyposenet.exporting.int8.convolutions import is_depthwise
from bodyposenet.exporting.int8.cross_layer_equalization import equalize_channels
from bodyposenet.exporting.int8.qdq import (
    INT8_OPERATORS,
    Int8Target,
    insert_qdq,
    is_never_negative,
    quantized_values,
    weight_limits,
)
from bodyposenet.exporting.int8.ranges import CalibrationMethod, Range
from bodyposenet.exporting.int8.weight_rounding import round_weights
from bodyposenet.exporting.onnx import write_data_type

_LAYOUT_OPERATORS = {"Concat", "Resize", "Transpose"}
"""Operators that move values without computing any."""

_STEM = 2
"""Number of convolutions in the stem of networks with depthwise convolutions. All later layers
depend on them."""


@dataclass(frozen=True)
class QuantizationOptions:
    """Options of INT8 quantization.

    Args:
        target: Backend that the file is for: `cpu` (ONNX Runtime, OpenVINO) or `tensorrt`.
        method: Calibration method, see `Histogram.range`.
        float_outputs: Whether to keep the convolutions that predict maps in float: those of all
            stages or, with `strict`, only the model's outputs.
        nodes_to_exclude: Names or patterns (`stage2/*`) of further convolutions to keep in float.
            Unless `strict`, the most sensitive ones are kept as well (see `_most_sensitive`).
        strict: Whether to keep only the outputs in float (TAO's strict_type_constraints).
    """

    target: Int8Target = "cpu"
    method: CalibrationMethod = "percentile"
    float_outputs: bool = True
    nodes_to_exclude: tuple[str, ...] = ()
    strict: bool = False

    def check(self, convolutions: Collection[str]) -> None:
        """Check that the nodes to exclude exist.

        Args:
            convolutions: Names of the model's convolutions.

        Raises:
            BodyPoseNetError: A name or pattern matches none of them, or `strict` is set as well.
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
        content: Content of a float32 ONNX file from `export_onnx`.
        source: Images and files that the ranges come from.
        quantization: Options of the quantization.

    Returns:
        Content of the quantized file, see `to_int8`.

    Raises:
        BodyPoseNetError: A node to exclude does not exist, there are too few images, or a file
            cannot be used.
    """
    # The largest channels keep their size, so that ranges of the original model still apply.
    equalized = equalize_channels(content)
    graph = ir.from_proto(onnx.load_model_from_string(equalized)).graph
    layers = _int8_layers(graph, quantization)
    needed = [str(value.name) for value in quantized_values(layers, quantization.target)]
    ranges = find_ranges(equalized, source, quantization.method, needed, fingerprint(content))
    return to_int8(equalized, ranges, quantization)


def to_int8(
    content: bytes, ranges: Mapping[str, Range], quantization: QuantizationOptions
) -> bytes:
    """Quantize a model to INT8.

    Args:
        content: Content of a float32 ONNX file from `export_onnx`.
        ranges: Ranges of its tensors by name; those of `quantized_values` are required.
        quantization: Options of the quantization.

    Returns:
        Content of the quantized file; `data_type` in its header is `int8-cpu` or `int8-tensorrt`.

    Raises:
        BodyPoseNetError: A node to exclude does not exist.
    """
    model = ir.from_proto(onnx.load_model_from_string(content))
    layers = _int8_layers(model.graph, quantization)
    value_ranges = {
        str(value.name): _without_impossible_values(ranges[str(value.name)], value)
        for value in quantized_values(layers, quantization.target)
    }
    limits = weight_limits(layers, value_ranges, quantization.target)
    round_weights(model, content, limits)
    write_data_type(model, f"int8-{quantization.target}")
    return insert_qdq(model, layers, value_ranges, limits, quantization.target).SerializeToString()


def _without_impossible_values(value_range: Range, value: ir.Value) -> Range:
    """Remove the negative half of a symmetric range from a cache if values are never negative."""
    return Range(0.0, value_range.high) if is_never_negative(value) else value_range


def _int8_layers(graph: ir.Graph, quantization: QuantizationOptions) -> list[ir.Node]:
    """Return the layers that compute in INT8, from the first convolution on."""
    nodes = list(graph)
    nodes = nodes[[node.op_type for node in nodes].index("Conv") :]
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    in_float = _excluded(convolutions, quantization)
    if quantization.float_outputs:
        in_float |= {node for node in convolutions if _predicts_maps(node, quantization.strict)}
    if not quantization.strict:
        in_float |= _most_sensitive(convolutions)
    operators = INT8_OPERATORS[quantization.target]
    return [
        node
        for node in nodes
        if node.op_type in operators and node not in in_float and _computes_in_float(node)
    ]


def _computes_in_float(node: ir.Node) -> bool:
    """Return False for nodes that compute sizes."""
    return node.outputs[0].dtype == ir.DataType.FLOAT


def _excluded(convolutions: list[ir.Node], quantization: QuantizationOptions) -> set[ir.Node]:
    """Return the convolutions that `nodes_to_exclude` matches."""
    quantization.check([str(node.name) for node in convolutions])
    return {
        node
        for node in convolutions
        if any(fnmatchcase(str(node.name), each) for each in quantization.nodes_to_exclude)
    }


def _most_sensitive(convolutions: list[ir.Node]) -> set[ir.Node]:
    """Return the stem and the first layers of stages, if the network has depthwise convolutions.

    The first layer of a stage reads maps that are a tenth as large as the features that share their
    scale. With these layers in float, the signal-to-noise ratio of the default model's PAFs is 24
    instead of 23 dB and AP at 368 .000 to .003 larger, at 1.01 (ONNX Runtime) to 1.05 times the
    time (OpenVINO); with five layers in the stem, time is 1.01 to 1.06 times as long and AP the
    same (benchmarks/RESULTS.md, "INT8 quantization"). In vgg they are too expensive.
    """
    if not any(is_depthwise(node) for node in convolutions):
        return set()
    inputs = {node: node.inputs[0] for node in convolutions}
    producers = {node: value.producer() for node, value in inputs.items() if value is not None}
    first_layers = {
        node
        for node, producer in producers.items()
        if producer is not None and producer.op_type == "Concat"
    }
    return {*convolutions[:_STEM], *first_layers}


def _predicts_maps(convolution: ir.Node, strict: bool) -> bool:
    """Return whether a convolution predicts maps, that is, whether no activation follows it.

    Args:
        convolution: The convolution.
        strict: Whether to exclude the convolutions whose maps the next stage reads.
    """
    layout_operators = _LAYOUT_OPERATORS - ({"Concat"} if strict else set())
    pending = [convolution]
    while pending:
        followers = [use.node for use in pending.pop().outputs[0].uses()]
        if any(node.op_type not in layout_operators for node in followers):
            return False
        pending += [node for node in followers if node.op_type != "Concat"]
    return True
