"""Decoding inside an exported model (`bpnet export --with_decoding`).

The outputs of an exported model, heatmaps and PAFs, are replaced by the results of the first two
steps of `mode: accurate` (`decoding.accurate`): the peaks of the heatmaps, and the PAF score of
every pair of peaks that a limb could connect. The last step, the greedy assignment of peaks to
people, remains for the client; `examples/clients/` implements it in Python, JavaScript and C++. The
appended nodes are standard operators of opset 18. The model's input is unchanged.

Outputs, for N images, J joints, L limbs and at most K peaks per joint (`max_peaks`):

`peaks` float32 (N, J, K, 3)
    x and y in network-input pixels (the center of pixel i is at coordinate i), and the score in
    0..1. Peaks are sorted by heatmap value, the highest first. Unused entries are 0.
`paf_scores` float32 (N, L, K, K)
    [n, l, i, j] is the PAF score between peak i of the start joint of limb l and peak j of its end
    joint: the mean of the samples along the line that exceed the threshold, or 0 if fewer than 8 of
    10 do. The score of the connection is the PAF score times the square root of the product of both
    peaks' scores.

The header in the metadata (key `bodyposenet`) gets an entry `decoding` for the client: `joints`,
`limbs` (start and end joint of each), `auxiliary_limbs` (indices of limbs that do not start a new
person), `max_peaks`, `max_people` and both thresholds; and, for the deployment bundle,
`static_shapes`.

`max_people` is for the client, which returns the people with the highest scores. It does not make
the model smaller or faster: people and their scores are known after the assignment only, and a
person with a high score may have a low peak of some joint. `max_peaks` limits the outputs.

The results equal those of `decode()`, except for rounding (`decode()` computes in float64) and for
joints of more than K peaks (`decode()` keeps 128). This holds for equal maps. With a float16 file,
ONNX Runtime may skip the rounding of the maps to float16, which moves peaks by some hundredths of a
pixel. OpenVINO computes the network in bfloat16 on some processors, unless
`INFERENCE_PRECISION_HINT` is `f32`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from bodyposenet.decoding import DecodingOptions
from bodyposenet.encryption import METADATA_KEY
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.inference.engines.base import ModelDescription
from bodyposenet.inference.engines.exported import HEATMAPS, PAF_SCORES, PAFS, PEAKS

DEFAULT_MAX_PEAKS = 64
"""Maximum number of peaks per joint.

Of 400 COCO photos, the 60 with the most people were decoded with the default model at a height of
368 pixels. The joint with the most peaks has 8 of them in the median photo, 15 at the 90th
percentile, 37 at the 95th, and 84 at most, in a crowd of spectators.
"""

_PREFIX = "decoding"
"""Prefix of the names of all appended nodes and values."""

# As in `decoding`, `decoding.common`, and `peaks` and `connections` of `decoding.accurate`.
_LARGEST_MAX_PEAKS = 128
_MAX_VALUE = 1e6
_MIN_VALUE = 1e-3
_SAMPLES = 10
_MIN_SAMPLES = 8

_OUTSIDE = -1e30
"""Padding of heatmaps, lower than any valid value."""


@dataclass(frozen=True)
class DecodingGraphOptions:
    """Options of decoding inside a model.

    Args:
        max_peaks: Maximum number of peaks per joint (K of the outputs); the highest are kept.
        max_people: Maximum number of people that clients return, those with the highest scores; or
            None for all.
        heatmap_threshold: Value that the heatmap must exceed at a peak, or None for that of
            `mode: accurate`.
        paf_threshold: Value that the PAF must exceed at a sample of a line, or None for that of
            `mode: accurate`.
        static_shapes: Whether to score all K x K pairs of each limb, so that no tensor size depends
            on the image, as TensorRT requires. Otherwise, only the peaks that exist in the batch
            are scored, which takes a fraction of the time.
    """

    max_peaks: int = DEFAULT_MAX_PEAKS
    max_people: int | None = None
    heatmap_threshold: float | None = None
    paf_threshold: float | None = None
    static_shapes: bool = False

    @property
    def thresholds(self) -> tuple[float, float]:
        """Thresholds of the heatmaps and of the PAFs."""
        options = DecodingOptions("accurate", self.heatmap_threshold, self.paf_threshold)
        return options.thresholds

    def check(self) -> None:
        """Check that all values are in their ranges.

        Raises:
            BodyPoseNetError: A value is out of its range.
        """
        if not 1 <= self.max_peaks <= _LARGEST_MAX_PEAKS:
            raise BodyPoseNetError(
                f"--max_peaks {self.max_peaks}: out of range",
                f"Give a number from 1 to {_LARGEST_MAX_PEAKS}.",
            )
        if self.max_people is not None and self.max_people < 1:
            raise BodyPoseNetError(
                f"--max_people {self.max_people}: out of range", "Give a number of at least 1."
            )
        if min(self.thresholds) < 0:
            heatmap_threshold, paf_threshold = self.thresholds
            raise BodyPoseNetError(
                "Decoding inside the model needs thresholds of at least 0, got heatmap_threshold "
                f"{heatmap_threshold} and paf_threshold {paf_threshold}",
                "Give other thresholds, or None for the default ones.",
            )


def append_decoding(content: bytes, options: DecodingGraphOptions | None = None) -> bytes:
    """Replace the maps of an exported model by peaks and PAF scores.

    Args:
        content: Content of an ONNX file from `export_onnx`, `to_float16` or `quantize`, whose PAFs
            are not upsampled.
        options: Options of the decoding, or None for the default ones.

    Returns:
        Content of the file with decoding, see the module's docstring.

    Raises:
        BodyPoseNetError: An option is out of its range, or the PAFs are upsampled.
    """
    options = options or DecodingGraphOptions()
    options.check()
    model = ir.from_proto(onnx.load_model_from_string(content))
    text = model.metadata_props[METADATA_KEY]
    header = json.loads(text)
    description = ModelDescription.from_header("model", text)
    outputs = {value.name: value for value in model.graph.outputs}
    if outputs.keys() != {HEATMAPS, PAFS}:
        raise BodyPoseNetError(
            f"--with_decoding needs a model with the outputs {HEATMAPS} and {PAFS}, got "
            f"{', '.join(map(str, outputs))}",
            "Export without --sdk_compatible_model, which upsamples the PAFs.",
        )
    skeleton = description.skeleton
    ops = _Operators(model.graph)
    heatmaps, pafs = outputs[HEATMAPS], outputs[PAFS]
    batch = heatmaps.shape[0] if heatmaps.shape is not None else None
    if header["form"]["channels_last"]:  # the `OnnxExportOptions` of the file
        heatmaps, pafs = (ops("Transpose", maps, perm=(0, 3, 1, 2)) for maps in (heatmaps, pafs))
    sigma = description.heatmap_sigma / description.stride
    peaks = _find_peaks(ops, heatmaps, sigma, options)
    limbs = np.array(skeleton.limbs, np.int64).reshape(-1, 2)
    paf_scores = _score_pairs(ops, pafs, limbs, peaks, options)
    count = options.max_peaks
    peaks_output = _join_peaks(ops, peaks, description.stride, options)
    model.graph.outputs[:] = [
        _name_output(peaks_output, PEAKS, (batch, len(skeleton.joints), count, 3)),
        _name_output(paf_scores, PAF_SCORES, (batch, len(limbs), count, count)),
    ]
    header["decoding"] = {
        "joints": list(skeleton.joints),
        "limbs": limbs.tolist(),
        "auxiliary_limbs": list(skeleton.auxiliary or ()),
        "max_peaks": options.max_peaks,
        "max_people": options.max_people,
        "static_shapes": options.static_shapes,
        "heatmap_threshold": options.thresholds[0],
        "paf_threshold": options.thresholds[1],
    }
    model.metadata_props[METADATA_KEY] = json.dumps(header, sort_keys=True)
    return ir.to_proto(model).SerializeToString()


class _Operators:
    """Appends operators to a graph: `ops("Add", value, 1.0)` returns the sum.

    Inputs that are not values of the graph become constants of type float32 or int64.

    Args:
        graph: Graph, modified in place.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._tape = ir.tape.Tape(graph)
        self._count = 0
        self._constants: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = {}

    def __call__(self, operator: str, *inputs: _Input, **attributes: Any) -> ir.Value:
        """Append an operator with one output."""
        return self.multi_output(operator, 1, *inputs, **attributes)[0]

    def multi_output(
        self, operator: str, num_outputs: int, *inputs: _Input, **attributes: Any
    ) -> Sequence[ir.Value]:
        """Append an operator with any number of outputs."""
        self._count += 1
        name = f"{_PREFIX}/{operator.lower()}_{self._count}"
        values = [each if isinstance(each, ir.Value) else self._constant(each) for each in inputs]
        outputs = self._tape.op_multi_out(
            operator, values, attributes, num_outputs=num_outputs, name=name
        )
        for index, value in enumerate(outputs):
            value.name = f"{name}:{index}"
        return outputs

    def _constant(self, value: float | Sequence[int] | NDArray[Any]) -> ir.Value:
        """Return an initializer with the value; equal values share one."""
        array = np.asarray(value, np.float32 if isinstance(value, float) else None)
        key = array.dtype.str, array.shape, array.tobytes()
        if key not in self._constants:
            name = f"{_PREFIX}.constant_{len(self._constants)}"
            self._constants[key] = self._tape.initializer(ir.tensor(array, name=name))
        return self._constants[key]


_Input = ir.Value | float | Sequence[int] | NDArray[Any]


@dataclass(frozen=True)
class _Peaks:
    """Peaks of all joints.

    k is the number of entries per joint: K for static shapes, otherwise the largest number of peaks
    of a joint in the batch (at least 1).

    Args:
        points: (N, J, 2, k) x and y in cells.
        scores: (N, J, 1, k), 0 for unused entries.
        is_peak: (N, J, 1, k) bool, False for unused entries.
    """

    points: ir.Value
    scores: ir.Value
    is_peak: ir.Value


def _find_peaks(
    ops: _Operators, heatmaps: ir.Value, sigma: float, options: DecodingGraphOptions
) -> _Peaks:
    """Find the peaks of (N, J + 1, h, w) heatmaps; see `decoding.accurate.peaks.find_peaks`."""
    heatmaps = ops("Slice", heatmaps, [0], [-1], [1])  # without the background
    heatmaps = _sanitize(ops, heatmaps)
    padded = ops("Pad", heatmaps, [0, 0, 1, 1, 0, 0, 1, 1], _OUTSIDE)
    flat = ops("Reshape", _local_maxima(ops, heatmaps, padded, options.thresholds[0]), [0, 0, -1])
    columns = ops("Shape", heatmaps, start=3, end=4)
    last = ops("Sub", ops("Mul", ops("Shape", heatmaps, start=2, end=3), columns), [1])
    # TopK needs at least K cells, so K zeros are appended; their indices are clamped below.
    extended = ops("Pad", flat, [0, 0, 0, 0, 0, options.max_peaks], 0.0)
    values, indices = ops.multi_output("TopK", 2, extended, [options.max_peaks], axis=2)
    is_peak = ops("Greater", values, 0.0)
    if not options.static_shapes:
        count = ops("ReduceSum", ops("Cast", is_peak, to=ir.DataType.INT64), [2], keepdims=0)
        most = ops("Max", ops("Reshape", ops("ReduceMax", count, keepdims=0), [1]), [1])
        values, indices, is_peak = (
            ops("Slice", each, [0], most, [2]) for each in (values, indices, is_peak)
        )
    # In float32, which represents these integers exactly, because the division of integers is not
    # exact on all runtimes.
    index = ops("Cast", ops("Min", indices, last), to=ir.DataType.FLOAT)
    width = ops("Cast", columns, to=ir.DataType.FLOAT)
    row = ops("Floor", ops("Div", ops("Add", index, 0.5), width))
    column = ops("Sub", index, ops("Mul", row, width))
    before, after = _neighbors(ops, padded, row, column, ops("Add", width, 2.0))
    value = ops("Unsqueeze", values, [2])
    offset = _peak_offset(ops, before, value, after, sigma)
    cells = ops("Concat", *(ops("Unsqueeze", each, [2]) for each in (column, row)), axis=2)
    distance = ops("ReduceSum", ops("Mul", offset, offset), [2])
    height = ops("Mul", value, ops("Exp", ops("Mul", distance, 1 / (2 * sigma * sigma))))
    is_peak = ops("Unsqueeze", is_peak, [2])
    scores = ops("Where", is_peak, ops("Min", height, 1.0), 0.0)
    return _Peaks(ops("Add", cells, offset), scores, is_peak)


def _sanitize(ops: _Operators, maps: ir.Value) -> ir.Value:
    """Replace values that are NaN, infinite or larger than 1e6 by 0."""
    # Comparisons with NaN are false.
    return ops("Where", ops("Less", ops("Abs", maps), _MAX_VALUE), maps, 0.0)


def _local_maxima(
    ops: _Operators, heatmaps: ir.Value, padded: ir.Value, threshold: float
) -> ir.Value:
    """Set all cells to 0 except for the maxima of 3 x 3 cells that exceed a threshold.

    Of equal cells, only the first in row-major order is a maximum.

    Args:
        ops: Operators of the graph.
        heatmaps: (N, J, h, w).
        padded: The heatmaps with a border of one cell.
        threshold: Value that a maximum must exceed.
    """
    end = np.iinfo(np.int64).max
    rows = ops("MaxPool", padded, kernel_shape=(1, 3))
    above, below = ops("Slice", rows, [0], [-2], [2]), ops("Slice", rows, [2], [end], [2])
    left = ops("Slice", padded, [1, 0], [-1, -2], [2, 3])
    right = ops("Slice", padded, [1, 2], [-1, end], [2, 3])
    is_first = ops("Greater", heatmaps, ops("Max", above, left))
    is_highest = ops("GreaterOrEqual", heatmaps, ops("Max", below, right))
    exceeds = ops("Greater", heatmaps, _round_down(threshold))
    return ops("Where", ops("And", ops("And", is_first, is_highest), exceeds), heatmaps, 0.0)


def _round_down(threshold: float) -> float:
    """Return the largest float32 that does not exceed a threshold.

    A float32 value exceeds the result if and only if it exceeds the threshold, a float64.
    """
    rounded = np.float32(threshold)
    if float(rounded) > threshold:
        rounded = np.nextafter(rounded, np.float32(-np.inf))
    return float(rounded)


def _neighbors(
    ops: _Operators, padded: ir.Value, row: ir.Value, column: ir.Value, width: ir.Value
) -> tuple[ir.Value, ir.Value]:
    """Gather the heatmap values of the cells next to each peak.

    Args:
        ops: Operators of the graph.
        padded: (N, J, h + 2, w + 2) heatmaps with a border of one cell.
        row: (N, J, k) row of each peak in the maps without the border.
        column: (N, J, k) column of each peak, likewise.
        width: w + 2, as a float.

    Returns:
        The values before (left, above) and after (right, below) each peak, (N, J, 2, k) each.
    """
    index = ops("Add", ops("Mul", ops("Add", row, 1.0), width), ops("Add", column, 1.0))
    cells = ops("Reshape", padded, [0, 0, -1])
    sides = []
    for operator in ("Sub", "Add"):
        indices = ops("Concat", ops(operator, index, 1.0), ops(operator, index, width), axis=2)
        values = ops("GatherElements", cells, ops("Cast", indices, to=ir.DataType.INT64), axis=2)
        sides.append(ops("Reshape", values, [0, 0, 2, -1]))
    return sides[0], sides[1]


def _peak_offset(
    ops: _Operators, before: ir.Value, value: ir.Value, after: ir.Value, sigma: float
) -> ir.Value:
    """Compute the offset of each peak from its cell's center; see `accurate.peaks.peak_offset`.

    Computes logarithms of ratios, which are more precise in float32 than differences of logarithms.
    """
    value = ops("Max", value, _MIN_VALUE)
    before_is_low, after_is_low = (ops("Less", each, _MIN_VALUE) for each in (before, after))
    is_first, is_last = (ops("Less", each, _OUTSIDE / 2) for each in (before, after))
    to_before, to_after = (
        ops("Log", ops("Div", ops("Max", each, _MIN_VALUE), value)) for each in (before, after)
    )
    towards_before, towards_after = (
        ops("Add", ops("Mul", each, sigma * sigma), 0.5) for each in (to_before, to_after)
    )

    def _clip(offset: ir.Value, low: float) -> ir.Value:
        """Clip an offset to at most half a cell."""
        return ops("Clip", offset, low, 0.5)

    curvature = ops("Add", to_before, to_after)
    is_curved = ops("Less", curvature, 0.0)
    vertex = ops(
        "Div",
        ops("Sub", to_before, to_after),
        ops("Where", is_curved, ops("Mul", curvature, 2.0), -1.0),
    )
    offset = ops("Where", is_curved, _clip(vertex, -0.5), 0.0)
    offset = ops(
        "Where",
        ops("And", after_is_low, ops("Not", before_is_low)),
        ops("Neg", _clip(towards_before, 0.0)),
        offset,
    )
    offset = ops(
        "Where",
        ops("And", before_is_low, ops("Not", after_is_low)),
        _clip(towards_after, 0.0),
        offset,
    )
    offset = ops("Where", is_last, ops("Neg", _clip(towards_before, -1.0)), offset)
    offset = ops("Where", is_first, _clip(towards_after, -1.0), offset)
    return ops("Where", ops("And", is_first, is_last), 0.0, offset)


def _score_pairs(
    ops: _Operators,
    pafs: ir.Value,
    limbs: NDArray[np.int64],
    peaks: _Peaks,
    options: DecodingGraphOptions,
) -> ir.Value:
    """Score all pairs of peaks of each limb; see `decoding.accurate.connections`.

    Args:
        ops: Operators of the graph.
        pafs: (N, 2 L, h, w).
        limbs: (L, 2) start and end joint.
        peaks: Peaks of all joints.
        options: Threshold and maximum number of peaks.

    Returns:
        (N, L, K, K).
    """
    pafs = _sanitize(ops, pafs)
    sides = ops("Cast", ops("Shape", pafs, start=2, end=4), to=ir.DataType.FLOAT)
    height, width = (ops("Slice", sides, [k], [k + 1], [0]) for k in range(2))
    starts, ends = (ops("Gather", peaks.points, joints, axis=1) for joints in limbs.T)
    samples = _sample(ops, pafs, starts, ends, (width, height), len(limbs))
    offset = ops("Sub", ops("Unsqueeze", ends, [3]), ops("Unsqueeze", starts, [4]))
    length = ops("Sqrt", ops("ReduceSum", ops("Mul", offset, offset), [2]))
    # A line of length 0 has no direction: its samples are 0, which never exceed the threshold.
    direction = ops("Div", offset, ops("Max", length, 1e-12))
    along = ops("ReduceSum", ops("Mul", samples, ops("Unsqueeze", direction, [3])), [2], keepdims=0)
    counts = ops(
        "Cast", ops("Greater", along, _round_down(options.thresholds[1])), to=ir.DataType.FLOAT
    )
    count = ops("ReduceSum", counts, [2], keepdims=0)
    total = ops("ReduceSum", ops("Mul", along, counts), [2], keepdims=0)
    # Unused entries form no pairs.
    is_start, is_end = (
        ops("Squeeze", ops("Gather", peaks.is_peak, joints, axis=1), [2]) for joints in limbs.T
    )
    is_pair = ops("And", ops("Unsqueeze", is_start, [3]), ops("Unsqueeze", is_end, [2]))
    is_supported = ops("And", is_pair, ops("Greater", count, _MIN_SAMPLES - 0.5))
    scores = ops("Where", is_supported, ops("Div", total, ops("Max", count, 1.0)), 0.0)
    return _pad_to_max_peaks(ops, scores, (2, 3), options)


def _sample(
    ops: _Operators,
    pafs: ir.Value,
    starts: ir.Value,
    ends: ir.Value,
    sides: tuple[ir.Value, ir.Value],
    limbs: int,
) -> ir.Value:
    """Sample the PAFs at ten points along the line between all pairs of peaks.

    Args:
        ops: Operators of the graph.
        pafs: (N, 2 L, h, w).
        starts: (N, L, 2, k) peaks of the start joint of each limb, in cells.
        ends: (N, L, 2, k) peaks of its end joint, likewise.
        sides: Width and height of the maps, as floats.
        limbs: Number of limbs, L.

    Returns:
        (N, L, 2, 10, k, k) samples, interpolated bilinearly. Samples outside of the maps have the
        value at the border.
    """
    fractions = np.linspace(0, 1, _SAMPLES, dtype=np.float32).reshape(-1, 1, 1)
    coordinates = []
    for axis, side in enumerate(sides):
        # From cells to GridSample's coordinates, where the centers of the outermost cells are at -1
        # and 1.
        scale = ops("Div", 2.0, ops("Max", ops("Sub", side, 1.0), 1.0))
        start, end = (
            ops(
                "Sub",
                ops("Mul", ops("Slice", points, [axis], [axis + 1], [2]), scale),
                1.0,
            )
            for points in (starts, ends)
        )  # (N, L, 1, k)
        first = ops("Mul", ops("Unsqueeze", start, [4]), 1 - fractions)  # (N, L, 10, k, 1)
        second = ops("Mul", ops("Unsqueeze", end, [3]), fractions)  # (N, L, 10, 1, k)
        coordinates.append(ops("Unsqueeze", ops("Add", first, second), [5]))
    peaks = ops("Shape", starts, start=3, end=4)
    rows = ops("Mul", peaks, [_SAMPLES])
    grid = ops(
        "Reshape",
        ops("Concat", *coordinates, axis=5),
        ops("Concat", [-1], rows, peaks, [2], axis=0),
    )
    cells = ops("Shape", pafs, start=2, end=4)
    fields = ops("Reshape", pafs, ops("Concat", [-1, 2], cells, axis=0))
    samples = ops(
        "GridSample", fields, grid, align_corners=1, mode="bilinear", padding_mode="border"
    )  # (N L, 2, 10 k, k)
    shape = ops("Concat", [-1, limbs, 2, _SAMPLES], peaks, peaks, axis=0)
    return ops("Reshape", samples, shape)


def _join_peaks(
    ops: _Operators, peaks: _Peaks, stride: int, options: DecodingGraphOptions
) -> ir.Value:
    """Return the peaks as (N, J, K, 3) in network-input pixels."""
    pixels = ops("Add", ops("Mul", peaks.points, float(stride)), (stride - 1) / 2)
    pixels = ops("Where", peaks.is_peak, pixels, 0.0)
    joined = ops("Concat", pixels, peaks.scores, axis=2)
    return _pad_to_max_peaks(ops, ops("Transpose", joined, perm=(0, 1, 3, 2)), (2,), options)


def _pad_to_max_peaks(
    ops: _Operators, values: ir.Value, axes: Sequence[int], options: DecodingGraphOptions
) -> ir.Value:
    """Pad axes of peaks with zeros, from k to K entries."""
    if options.static_shapes:
        return values
    missing = ops("Sub", [options.max_peaks], ops("Shape", values, start=2, end=3))
    ends = [missing if axis in axes else [0] for axis in range(4)]
    return ops("Pad", values, ops("Concat", [0] * 4, *ends, axis=0), 0.0)


def _name_output(value: ir.Value, name: str, shape: Sequence[Any]) -> ir.Value:
    """Set the name, type and shape of an output, and return it."""
    value.name = name
    value.dtype = ir.DataType.FLOAT
    value.shape = ir.Shape(shape)
    return value
