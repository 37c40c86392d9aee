"""Decoding inside an exported model (`bpnet export --with_decoding`).

The maps of an exported model are replaced by the results of the first two steps of `mode: accurate`
(`decoding.accurate`): the peaks of the heatmaps, and the PAF score of every pair of peaks that a
limb could connect. Only the greedy assignment of peaks to people is left to the client;
`examples/clients/` has it in Python, JavaScript and C++. The appended nodes are standard operators
of opset 18. The model's input is unchanged.

Outputs, for N images, J joints, L limbs and at most K peaks per joint (`max_peaks`):

`peaks` float32 (N, J, K, 3)
    x and y in network-input pixels (the center of pixel i is at coordinate i), and the score in
    0..1. The highest cells come first. Places without a peak have x = y = score = 0.
`paf_scores` float32 (N, L, K, K)
    [n, l, i, j] is the PAF score between peak i of the joint that limb l starts from and peak j of
    the joint that it ends at: the mean of the samples along the line that exceed the threshold, or
    0 where fewer than 8 of 10 do. A connection's score is this times the square root of the product
    of both peaks' scores.

The header in the metadata (key `bodyposenet`) has an entry `decoding` with what a client needs:
`joints` and `limbs` (start and end joint of each), `auxiliary_limbs` (indices of limbs that start
no person), `max_peaks` and both thresholds.

Results are those of `decode()` as far as float32 and K allow: it computes in float64 and keeps 128
peaks per joint. The maps must be the same for that: in a float16 file ONNX Runtime may leave out
the rounding of the maps to float16, which moves peaks by some hundredths of a pixel, and OpenVINO
computes the network in bfloat16 on some processors unless `INFERENCE_PRECISION_HINT` is `f32`.
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
"""Peaks per joint. With the default model at a height of 368 pixels, the joint with the most peaks
has 8 of them in the median of the 60 most crowded of 400 COCO photos, 15 in 90 % and 37 in 95 %; 84
in the largest, a crowd of spectators."""

_PREFIX = "decoding"
"""Prefix of the names of all nodes and values that are added."""

# Constants of `decoding`, `decoding.accurate.peaks` and `decoding.accurate.connections`.
_MAX_VALUE = 1e6
_MIN_VALUE = 1e-3
_SAMPLES = 10
_MIN_SAMPLES = 8

_OUTSIDE = -1e30
"""Heatmap value beyond the border: lower than any that counts."""


@dataclass(frozen=True)
class DecodingGraphOptions:
    """Properties of the decoding inside a model.

    Args:
        max_peaks: Peaks per joint that are kept, the highest; K of the outputs.
        heatmap_threshold: A peak's cell must be higher than this; None: that of `mode: accurate`.
        paf_threshold: The PAF score of a sample must be higher than this; None: that of
            `mode: accurate`.
        static_shapes: Compute all K x K pairs of each limb, so that no size inside depends on the
            image. Otherwise the work follows the number of peaks in the batch, which takes a
            fraction of the time, but which TensorRT cannot compile.
    """

    max_peaks: int = DEFAULT_MAX_PEAKS
    heatmap_threshold: float | None = None
    paf_threshold: float | None = None
    static_shapes: bool = False

    @property
    def thresholds(self) -> tuple[float, float]:
        """Of heatmaps and of PAFs."""
        options = DecodingOptions("accurate", self.heatmap_threshold, self.paf_threshold)
        return options.thresholds

    def check(self) -> None:
        """Refuse values that the graph cannot compute with.

        Raises:
            BodyPoseNetError: A value is out of its range.
        """
        if not 1 <= self.max_peaks <= 128:
            raise BodyPoseNetError(
                f"max_peaks: {self.max_peaks} peaks per joint", "Give a number of 1 to 128."
            )
        if min(self.thresholds) < 0:
            raise BodyPoseNetError(
                f"thresholds of decoding inside the model: {self.thresholds}",
                "Give numbers of at least 0.",
            )


def append_decoding(content: bytes, options: DecodingGraphOptions | None = None) -> bytes:
    """Replace the maps of an exported model by peaks and PAF scores.

    Args:
        content: From `export_onnx`, `to_float16` or `quantize`; maps must not be enlarged.
        options: Number of peaks and thresholds.

    Returns:
        The content of the file; see this module's docstring.

    Raises:
        BodyPoseNetError: An option is out of its range, or the model is one whose PAFs are
            enlarged.
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
            f"decoding inside the model: expected the outputs {HEATMAPS} and {PAFS}, got "
            f"{', '.join(map(str, outputs))}",
            "Export without --sdk_compatible_model, which enlarges the PAFs.",
        )
    skeleton = description.skeleton
    ops = _Operators(model.graph)
    heatmaps, pafs = outputs[HEATMAPS], outputs[PAFS]
    batch = heatmaps.shape[0] if heatmaps.shape is not None else None
    if header["form"]["channels_last"]:
        heatmaps, pafs = (ops("Transpose", maps, perm=(0, 3, 1, 2)) for maps in (heatmaps, pafs))
    sigma = description.heatmap_sigma / description.stride
    peaks = _find_peaks(ops, heatmaps, sigma, options)
    limbs = np.array(skeleton.limbs, np.int64).reshape(-1, 2)
    paf_scores = _score_pairs(ops, pafs, limbs, peaks, options)
    sides = len(skeleton.joints), options.max_peaks, len(limbs)
    peaks_output = _join_peaks(ops, peaks, description.stride, options)
    model.graph.outputs[:] = [
        _name_output(peaks_output, PEAKS, (batch, sides[0], sides[1], 3)),
        _name_output(paf_scores, PAF_SCORES, (batch, sides[2], sides[1], sides[1])),
    ]
    header["decoding"] = {
        "joints": list(skeleton.joints),
        "limbs": limbs.tolist(),
        "auxiliary_limbs": list(skeleton.auxiliary or ()),
        "max_peaks": options.max_peaks,
        "heatmap_threshold": options.thresholds[0],
        "paf_threshold": options.thresholds[1],
    }
    model.metadata_props[METADATA_KEY] = json.dumps(header, sort_keys=True)
    return ir.to_proto(model).SerializeToString()


class _Operators:
    """Appends operators to a graph: `ops("Add", value, 1.0)` returns the sum.

    Inputs that are not values of the graph become constants: floats float32, integers int64,
    sequences arrays of one dimension.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._tape = ir.tape.Tape(graph)
        self._count = 0
        self._constants: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = {}

    def __call__(self, operator: str, *inputs: _Input, **attributes: Any) -> ir.Value:
        """Append an operator with one output."""
        return self.several(operator, 1, *inputs, **attributes)[0]

    def several(
        self, operator: str, outputs: int, *inputs: _Input, **attributes: Any
    ) -> Sequence[ir.Value]:
        """Append an operator with any number of outputs."""
        self._count += 1
        name = f"{_PREFIX}/{operator.lower()}_{self._count}"
        values = [each if isinstance(each, ir.Value) else self._constant(each) for each in inputs]
        found = self._tape.op_multi_out(
            operator, values, attributes, num_outputs=outputs, name=name
        )
        for index, value in enumerate(found):
            value.name = f"{name}:{index}"
        return found

    def _constant(self, value: float | Sequence[int] | NDArray[Any]) -> ir.Value:
        array = np.asarray(value, np.float32 if isinstance(value, float) else None)
        key = array.dtype.str, array.shape, array.tobytes()
        if key not in self._constants:
            name = f"{_PREFIX}.constant_{len(self._constants)}"
            self._constants[key] = self._tape.initializer(ir.tensor(array, name=name))
        return self._constants[key]


_Input = ir.Value | float | Sequence[int] | NDArray[Any]


@dataclass(frozen=True)
class _Peaks:
    """Peaks in cells; k is the number per joint that is computed with, at most K.

    Args:
        points: (N, J, 2, k) x and y.
        scores: (N, J, 1, k), 0 for a place without a peak.
        exist: (N, J, 1, k) bool, which places have a peak.
    """

    points: ir.Value
    scores: ir.Value
    exist: ir.Value


def _find_peaks(
    ops: _Operators, heatmaps: ir.Value, sigma: float, options: DecodingGraphOptions
) -> _Peaks:
    """Find the peaks of (N, J + 1, h, w) heatmaps; see `decoding.accurate.peaks.find_peaks`."""
    heatmaps = ops("Slice", heatmaps, [0], [-1], [1])  # without the background
    heatmaps = _sanitize(ops, heatmaps)
    padded = ops("Pad", heatmaps, [0, 0, 1, 1, 0, 0, 1, 1], _OUTSIDE)
    flat = ops("Reshape", _peaks_only(ops, heatmaps, padded, options.thresholds[0]), [0, 0, -1])
    columns = ops("Shape", heatmaps, start=3, end=4)
    last = ops("Sub", ops("Mul", ops("Shape", heatmaps, start=2, end=3), columns), [1])
    # Maps of fewer than K cells need zeros that can be taken.
    filled = ops("Pad", flat, [0, 0, 0, 0, 0, options.max_peaks], 0.0)
    values, places = ops.several("TopK", 2, filled, [options.max_peaks], axis=2)
    exist = ops("Greater", values, 0.0)
    if not options.static_shapes:
        count = ops("ReduceSum", ops("Cast", exist, to=ir.DataType.INT64), [2], keepdims=0)
        most = ops("Max", ops("Reshape", ops("ReduceMax", count, keepdims=0), [1]), [1])
        values, places, exist = (
            ops("Slice", each, [0], most, [2]) for each in (values, places, exist)
        )
    # In float, as integer division is not exact everywhere; these integers are exact in float32.
    place = ops("Cast", ops("Min", places, last), to=ir.DataType.FLOAT)
    width = ops("Cast", columns, to=ir.DataType.FLOAT)
    row = ops("Floor", ops("Div", ops("Add", place, 0.5), width))
    column = ops("Sub", place, ops("Mul", row, width))
    before, after = _neighbors(ops, padded, row, column, ops("Add", width, 2.0))
    value = ops("Unsqueeze", values, [2])
    offset = _peak_offset(ops, before, value, after, sigma)
    cells = ops("Concat", *(ops("Unsqueeze", each, [2]) for each in (column, row)), axis=2)
    distance = ops("ReduceSum", ops("Mul", offset, offset), [2])
    height = ops("Mul", value, ops("Exp", ops("Mul", distance, 1 / (2 * sigma * sigma))))
    exist = ops("Unsqueeze", exist, [2])
    scores = ops("Where", exist, ops("Min", height, 1.0), 0.0)
    return _Peaks(ops("Add", cells, offset), scores, exist)


def _sanitize(ops: _Operators, maps: ir.Value) -> ir.Value:
    """Replace values that are NaN, infinite or absurdly large by 0."""
    # A comparison with NaN is false.
    return ops("Where", ops("Less", ops("Abs", maps), _MAX_VALUE), maps, 0.0)


def _peaks_only(
    ops: _Operators, heatmaps: ir.Value, padded: ir.Value, threshold: float
) -> ir.Value:
    """Set all cells to 0 but those that are the first of the highest of 3 x 3 cells.

    Args:
        ops: Where to append.
        heatmaps: (N, J, h, w).
        padded: The same with a border of one cell.
        threshold: What a peak must exceed.
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
    """Return the largest float32 that does not exceed a float64: the same values exceed both."""
    rounded = np.float32(threshold)
    if float(rounded) > threshold:
        rounded = np.nextafter(rounded, np.float32(-np.inf))
    return float(rounded)


def _neighbors(
    ops: _Operators, padded: ir.Value, row: ir.Value, column: ir.Value, width: ir.Value
) -> tuple[ir.Value, ir.Value]:
    """Look up the heatmap values beside each peak.

    Args:
        ops: Where to append.
        padded: (N, J, h + 2, w + 2) heatmaps with a border.
        row: (N, J, k) row of each peak in the maps without the border.
        column: (N, J, k) its column.
        width: w + 2, as a float.

    Returns:
        (N, J, 2, k) the values before (left, above) and after (right, below).
    """
    place = ops("Add", ops("Mul", ops("Add", row, 1.0), width), ops("Add", column, 1.0))
    cells = ops("Reshape", padded, [0, 0, -1])
    sides = []
    for operator in ("Sub", "Add"):
        places = ops("Concat", ops(operator, place, 1.0), ops(operator, place, width), axis=2)
        values = ops("GatherElements", cells, ops("Cast", places, to=ir.DataType.INT64), axis=2)
        sides.append(ops("Reshape", values, [0, 0, 2, -1]))
    return sides[0], sides[1]


def _peak_offset(
    ops: _Operators, before: ir.Value, value: ir.Value, after: ir.Value, sigma: float
) -> ir.Value:
    """Compute how far beside its cell's center a peak is; see `accurate.peaks.peak_offset`.

    Logarithms are those of ratios, which lose less in float32 than differences of logarithms.
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
        ops: Where to append.
        pafs: (N, 2 L, h, w).
        limbs: (L, 2) start and end joint.
        peaks: Peaks of all joints.
        options: Threshold and K.

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
    # Of no direction is a limb of length 0: its samples are 0, which count as not supported.
    direction = ops("Div", offset, ops("Max", length, 1e-12))
    along = ops("ReduceSum", ops("Mul", samples, ops("Unsqueeze", direction, [3])), [2], keepdims=0)
    counts = ops(
        "Cast", ops("Greater", along, _round_down(options.thresholds[1])), to=ir.DataType.FLOAT
    )
    count = ops("ReduceSum", counts, [2], keepdims=0)
    total = ops("ReduceSum", ops("Mul", along, counts), [2], keepdims=0)
    # Of no pair are places without a peak.
    start_exists, end_exists = (
        ops("Squeeze", ops("Gather", peaks.exist, joints, axis=1), [2]) for joints in limbs.T
    )
    is_pair = ops("And", ops("Unsqueeze", start_exists, [3]), ops("Unsqueeze", end_exists, [2]))
    is_supported = ops("And", is_pair, ops("Greater", count, _MIN_SAMPLES - 0.5))
    scores = ops("Where", is_supported, ops("Div", total, ops("Max", count, 1.0)), 0.0)
    return _fill(ops, scores, (2, 3), options)


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
        ops: Where to append.
        pafs: (N, 2 L, h, w).
        starts: (N, L, 2, k) points of the joint that each limb starts from, in cells.
        ends: (N, L, 2, k) points of the joint that it ends at.
        sides: Width and height of the maps, as floats.
        limbs: L.

    Returns:
        (N, L, 2, 10, k, k), bilinear; outside of the maps that of the border.
    """
    end_shares = np.linspace(0, 1, _SAMPLES, dtype=np.float32).reshape(-1, 1, 1)
    coordinates = []
    for axis, side in enumerate(sides):
        # Cells to the coordinates of GridSample, where the outermost centers are -1 and 1.
        scale = ops("Div", 2.0, ops("Max", ops("Sub", side, 1.0), 1.0))
        start, end = (
            ops(
                "Sub",
                ops("Mul", ops("Slice", points, [axis], [axis + 1], [2]), scale),
                1.0,
            )
            for points in (starts, ends)
        )  # (N, L, 1, k)
        first = ops("Mul", ops("Unsqueeze", start, [4]), 1 - end_shares)  # (N, L, 10, k, 1)
        second = ops("Mul", ops("Unsqueeze", end, [3]), end_shares)  # (N, L, 10, 1, k)
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
    pixels = ops("Where", peaks.exist, pixels, 0.0)
    joined = ops("Concat", pixels, peaks.scores, axis=2)
    return _fill(ops, ops("Transpose", joined, perm=(0, 1, 3, 2)), (2,), options)


def _fill(
    ops: _Operators, values: ir.Value, axes: Sequence[int], options: DecodingGraphOptions
) -> ir.Value:
    """Fill axes of the peaks of the batch up to K with zeros."""
    if options.static_shapes:
        return values
    missing = ops("Sub", [options.max_peaks], ops("Shape", values, start=2, end=3))
    ends = [missing if axis in axes else [0] for axis in range(4)]
    return ops("Pad", values, ops("Concat", [0] * 4, *ends, axis=0), 0.0)


def _name_output(value: ir.Value, name: str, shape: Sequence[Any]) -> ir.Value:
    value.name = name
    value.dtype = ir.DataType.FLOAT
    value.shape = ir.Shape(shape)
    return value
