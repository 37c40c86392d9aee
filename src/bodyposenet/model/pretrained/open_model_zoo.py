"""Weights of human-pose-estimation-0001 of the Open Model Zoo, read from OpenVINO's IR.

The network is lightweight OpenPose (Osokin 2018, https://arxiv.org/abs/1811.12004) with one
refinement stage. Its IR is published in FP32, FP16 and FP16-INT8, which differ in layer names and
in the nodes around a convolution (Convert, FakeQuantize, scale, shift). Therefore the graph is
first reduced to convolutions, sums and concatenations, which are then named by their position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from xml.etree import ElementTree

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.telemetry import without_telemetry

if TYPE_CHECKING:
    import openvino

_HEATMAPS, _PAFS = 19, 38

# Stride and dilation of the separable blocks model.1 to model.11.
_BLOCKS = (
    (1, 1), (2, 1), (1, 1), (2, 1), (1, 1), (1, 1),
    (1, 2), (1, 1), (1, 1), (1, 1), (1, 1),
)  # fmt: skip

# Normalization of the input that the weights are converted to: pixel / 256 - 0.5.
_PIXEL_SCALE, _PIXEL_OFFSET = 256.0, 128.0

_DOWNLOAD = (
    "Download the .xml and the .bin again, both of the same precision: "
    "https://github.com/openvinotoolkit/open_model_zoo, models/intel/human-pose-estimation-0001."
)

_Array = NDArray[np.float64]
_Activation = Literal["linear", "relu", "elu"]


def read_ir(path: Path) -> dict[str, Tensor]:
    """Read human-pose-estimation-0001 from OpenVINO's IR, in any of its published precisions.

    int8 weights are dequantized, and FakeQuantize nodes of activations are ignored. Batch
    normalization is folded into the convolutions. The channel order, scale and mean of the input
    (BGR, 0 to 255) are folded into the first convolution.

    Args:
        path: The .xml file; the .bin file of the same name must be beside it.

    Returns:
        float32 tensors by the names of Daniil-Osokin/lightweight-human-pose-estimation.pytorch
        (`model.0.0.weight`, `model.0.0.bias` and so on), plus `cpm.reduce.0`, which only this
        network has. All convolutions have a bias; weights are (out, in, k, k), those of depthwise
        convolutions (channels, 1, 3, 3). The input is RGB, pixel / 256 - 0.5; that of the
        refinement stage is features, heatmaps, PAFs. Heatmaps and PAFs are in the order of
        bpnet_18joints.json.

    Raises:
        BodyPoseNetError: openvino is not installed, a file is missing or damaged, or it contains
            another network.
    """
    model = _read_model(path)
    try:
        convolutions = _name_convolutions(_reduce(model))
        first = "model.0.0"
        convolutions[first] = _fold_input(convolutions[first])
    except _UnexpectedGraphError as error:
        raise BodyPoseNetError(
            f"{path}: not the network human-pose-estimation-0001: {error}", _DOWNLOAD
        ) from error
    tensors: dict[str, Tensor] = {}
    for name, convolution in convolutions.items():
        tensors[f"{name}.weight"] = _tensor(convolution.weight)
        tensors[f"{name}.bias"] = _tensor(convolution.bias)
    broken = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if broken:
        raise BodyPoseNetError(f"{path}: NaN or infinite values in {broken[0]}", _DOWNLOAD)
    return tensors


def _read_model(path: Path) -> openvino.Model:
    """Read the graph and the weights with OpenVINO, after checking that both files are there."""
    try:
        with without_telemetry():
            import openvino
    except ImportError as error:
        raise BodyPoseNetError(
            f"{path}: reading OpenVINO's IR needs the package openvino: {error}",
            "pip install 'bodyposenet[openvino]'",
        ) from error
    weights = path.with_suffix(".bin")
    try:
        # Checked first, because OpenVINO's frontends for other formats print to stderr.
        with path.open("rb") as file:
            root = next(ElementTree.iterparse(file, events=("start",)))[1].tag
        if root != "net":
            raise BodyPoseNetError(
                f"{path}: not OpenVINO's IR: the root element is <{root}>, expected <net>",
                _DOWNLOAD,
            )
        weights.stat()
    except OSError as error:
        raise BodyPoseNetError(
            f"{error.filename or path}: cannot be read: {error.strerror}",
            "Give the path of the .xml, and put the .bin of the same name beside it.",
        ) from error
    except (ElementTree.ParseError, StopIteration, LookupError, ValueError) as error:
        raise BodyPoseNetError(f"{path}: not a readable XML file: {error}", _DOWNLOAD) from error
    try:
        return openvino.Core().read_model(path, weights)
    except RuntimeError as error:
        reason = str(error).strip().rpartition("\n")[2]
        raise BodyPoseNetError(
            f"{path}: OpenVINO cannot read it with {weights.name}: {reason}", _DOWNLOAD
        ) from error


class _UnexpectedGraphError(Exception):
    """The graph differs from that of the network."""


@dataclass(frozen=True, eq=False)
class _Image:
    """The network's input, scale * x + shift, where x is BGR, 0 to 255.

    Args:
        scale: Scale of each channel.
        shift: Shift of each channel.
    """

    scale: _Array
    shift: _Array

    def affine(self, scale: _Array, shift: _Array) -> _Image:
        """Return the image after an affine function of each channel."""
        return _Image(self.scale * scale, self.shift * scale + shift)

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.shift)


@dataclass(frozen=True, eq=False)
class _Convolution:
    """A convolution with its bias and activation.

    Args:
        source: Its input.
        weight: (out, in, k, k), or (channels, 1, k, k) if depthwise.
        bias: (out,).
        geometry: Stride, dilation and padding.
        depthwise: Whether it is depthwise.
        activation: Activation after it.
    """

    source: _Value
    weight: _Array
    bias: _Array
    geometry: tuple[int, int, int]
    depthwise: bool
    activation: _Activation = "linear"

    def affine(self, scale: _Array, shift: _Array) -> _Convolution:
        """Fold an affine function of each channel of the output into weight and bias."""
        weight = self.weight * scale[:, None, None, None]
        return replace(self, weight=weight, bias=self.bias * scale + shift)

    @property
    def channels(self) -> int:
        """Number of output channels."""
        return len(self.bias)


@dataclass(frozen=True, eq=False)
class _Sum:
    """Sum of two activations."""

    terms: tuple[_Value, _Value]


@dataclass(frozen=True, eq=False)
class _Concatenation:
    """Concatenation of activations along the channels."""

    parts: tuple[_Value, ...]


_Value = _Image | _Convolution | _Sum | _Concatenation


def _reduce(model: openvino.Model) -> list[_Value]:
    """Reduce a graph to convolutions, sums and concatenations.

    Returns:
        The graph's outputs.
    """
    results: list[_Value] = []
    values: dict[str, _Value | _Array] = {}
    for op in model.get_ordered_ops():
        inputs = [values[value.get_node().get_name()] for value in op.input_values()]
        kind = op.get_type_name()
        if kind == "Parameter":
            values[op.get_name()] = _image(op)
        elif kind == "Constant":
            values[op.get_name()] = _constant(op)
        elif kind == "Result":
            results += [value for value in inputs if not isinstance(value, np.ndarray)]
        else:
            values[op.get_name()] = _apply(op, inputs)
    return results


def _image(op: openvino.Node) -> _Image:
    """Return the value of the network's input."""
    shape = op.get_output_partial_shape(0)
    if shape.rank.is_dynamic or len(shape) != 4 or str(shape[1]) != "3":
        raise _UnexpectedGraphError(f"the input is {shape}, expected a batch of images, NCHW")
    return _Image(np.ones(3), np.zeros(3))


def _constant(op: Any) -> _Array:
    """Return the value of a constant in float64."""
    kind = op.get_element_type().get_type_name()
    if kind not in ("f64", "f32", "f16", "i64", "i32", "i16", "i8", "u64", "u32", "u16", "u8"):
        raise _UnexpectedGraphError(f"{op.get_friendly_name()} is a constant of the type {kind}")
    return np.asarray(op.data, np.float64)


_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "Add": np.add, "Subtract": np.subtract, "Multiply": np.multiply, "Divide": np.divide,
}  # fmt: skip


def _fold_constants(op: openvino.Node, inputs: list[_Array]) -> _Array:
    """Compute a node whose inputs are all constant, such as dequantized weights."""
    kind = op.get_type_name()
    with np.errstate(all="ignore"):  # values that are not finite are an error later
        if kind in _ARITHMETIC:
            return _ARITHMETIC[kind](*inputs)
        if kind == "FakeQuantize":
            return _fake_quantize(inputs, op.get_attributes()["levels"])
    if kind == "Convert":
        return inputs[0]
    if kind in ("Reshape", "Squeeze", "Unsqueeze"):
        return inputs[0].reshape(tuple(op.get_output_shape(0)))
    raise _unexpected(op)


def _fake_quantize(inputs: list[_Array], levels: int) -> _Array:
    """Compute FakeQuantize as specified by OpenVINO's operation set.

    It is computed in float32, as in OpenVINO: in float64, a weight halfway between two levels may
    be rounded to the other one.
    """
    x, low, high, output_low, output_high = (values.astype(np.float32) for values in inputs)
    steps = np.rint((x - low) / (high - low) * (levels - 1))
    inside = steps / (levels - 1) * (output_high - output_low) + output_low
    below, above = np.minimum(low, high), np.maximum(low, high)
    values = np.where(x <= below, output_low, np.where(x > above, output_high, inside))
    return values.astype(np.float64)


def _apply(op: openvino.Node, inputs: list[_Value | _Array]) -> _Value | _Array:
    """Apply a node to its inputs; nodes that only round or convert return their input."""
    constants = [value for value in inputs if isinstance(value, np.ndarray)]
    activations = [value for value in inputs if not isinstance(value, np.ndarray)]
    if not activations:
        return _fold_constants(op, constants)
    kind = op.get_type_name()
    if kind == "Concat" and not constants and op.get_attributes()["axis"] in (1, -3):
        return _Concatenation(tuple(activations))
    if kind == "Add" and len(activations) == 2:
        return _Sum((activations[0], activations[1]))
    commutative = kind in ("Add", "Multiply")
    if len(activations) == 1 and (inputs[0] is activations[0] or commutative):
        return _apply_to_one(op, activations[0], constants)
    raise _unexpected(op)


def _apply_to_one(op: openvino.Node, value: _Value, constants: list[_Array]) -> _Value:
    """Reduce a node with one activation as input; its other inputs are constants."""
    kind = op.get_type_name()
    if kind == "Convert" or (kind == "FakeQuantize" and _keeps_range(*constants)):
        return value
    if kind in ("Convolution", "GroupConvolution"):
        return _convolution(op, value, constants[0])
    if isinstance(value, _Convolution) and value.activation == "linear":
        if kind == "Relu":
            return replace(value, activation="relu")
        if kind == "Elu" and op.get_attributes()["alpha"] == 1:
            return replace(value, activation="elu")
        if kind in _ARITHMETIC:
            return value.affine(*_scale_and_shift(op, constants[0], value.channels))
    if isinstance(value, _Image) and kind in _ARITHMETIC:
        return value.affine(*_scale_and_shift(op, constants[0], value.channels))
    raise _unexpected(op)


def _keeps_range(low: _Array, high: _Array, output_low: _Array, output_high: _Array) -> bool:
    """Return whether a FakeQuantize of activations only rounds them."""
    tolerance = 1e-2 * np.max(high - low)  # float16 limits
    return np.allclose(low, output_low, 0, tolerance) and np.allclose(
        high, output_high, 0, tolerance
    )


def _convolution(op: openvino.Node, source: _Value, weight: _Array) -> _Convolution:
    """Return the value of a convolution, whose kernel and geometry must be square."""
    depthwise = op.get_type_name() == "GroupConvolution"
    if depthwise and weight.shape[1:3] == (1, 1):
        weight = weight[:, 0]
    attributes = op.get_attributes()
    sides = [
        {int(side) for name in names for side in attributes[name]}
        for names in (("strides",), ("dilations",), ("pads_begin", "pads_end"))
    ]
    square = all(len(side) == 1 for side in sides)
    if weight.ndim != 4 or weight.shape[2] != weight.shape[3] or not square:
        raise _unexpected(op)
    stride, dilation, padding = (side.pop() for side in sides)
    bias = np.zeros(len(weight))
    return _Convolution(source, weight, bias, (stride, dilation, padding), depthwise)


def _scale_and_shift(op: openvino.Node, constant: _Array, channels: int) -> tuple[_Array, _Array]:
    """Return the scale and shift of an arithmetic node with a constant, for each channel."""
    shape = (1,) * (4 - constant.ndim) + constant.shape
    if shape[0] != 1 or shape[2:] != (1, 1) or shape[1] not in (1, channels):
        raise _unexpected(op)
    value = np.broadcast_to(constant.reshape(-1), (channels,))
    ones, zeros = np.ones(channels), np.zeros(channels)
    kind = op.get_type_name()
    if kind in ("Add", "Subtract"):
        return ones, _ARITHMETIC[kind](zeros, value)
    with np.errstate(all="ignore"):
        return _ARITHMETIC[kind](ones, value), zeros


def _unexpected(op: openvino.Node) -> _UnexpectedGraphError:
    """Return the error for a node that the network does not have."""
    return _UnexpectedGraphError(f"unexpected {op.get_type_name()} {op.get_friendly_name()}")


def _name_convolutions(outputs: list[_Value]) -> dict[str, _Convolution]:
    """Name the convolutions by their position, from the outputs back to the image."""
    namer = _ConvolutionNamer()
    stage = "refinement_stages.0"
    refined = namer.name_heads(stage, outputs)
    for block in reversed(range(5)):
        name = f"{stage}.trunk.{block}"
        initial, branch = _residual(refined, name)
        branch = namer.name_convolution(branch, f"{name}.trunk.1.0", kernel=3, dilation=2)
        namer.name_convolution(branch, f"{name}.trunk.0.0", kernel=3)
        refined = namer.name_convolution(initial, f"{name}.initial.0")
    if not isinstance(refined, _Concatenation):
        raise _UnexpectedGraphError(f"no concatenation before {stage}")
    first = value = namer.name_heads("initial_stage", refined.parts)
    for layer in reversed(range(3)):
        first = namer.name_convolution(first, f"initial_stage.trunk.{layer}.0", kernel=3)
    namer.order_inputs(f"{stage}.trunk.0.initial.0", refined.parts, first)
    align, branch = _residual(namer.name_convolution(first, "cpm.conv.0", kernel=3), "cpm.conv")
    for block in reversed(range(3)):
        branch = namer.name_separable(branch, f"cpm.trunk.{block}", ("0", "2"), activation="elu")
    namer.name_convolution(branch, "cpm.reduce.0", activation="elu")
    value = namer.name_convolution(align, "cpm.align.0", activation="elu")
    for block, (stride, dilation) in reversed(list(enumerate(_BLOCKS, start=1))):
        value = namer.name_separable(value, f"model.{block}", ("0", "3"), stride, dilation)
    value = namer.name_convolution(value, "model.0.0", kernel=3, stride=2)
    if not isinstance(value, _Image):
        raise _UnexpectedGraphError("other layers before model.0.0")
    return dict(reversed(namer.named.items()))


class _ConvolutionNamer:
    """Names convolutions on the way from the outputs of the network back to its input.

    Attributes:
        named: Convolutions by name, the last one first.
    """

    def __init__(self) -> None:
        self.named: dict[str, _Convolution] = {}

    def name_convolution(
        self,
        value: _Value,
        name: str,
        *,
        kernel: int = 1,
        stride: int = 1,
        dilation: int = 1,
        depthwise: bool = False,
        activation: _Activation = "relu",
    ) -> _Value:
        """Name a convolution and return its input.

        Args:
            value: The convolution.
            name: Its name in the published code.
            kernel: Expected size of the kernel.
            stride: Expected stride.
            dilation: Expected dilation.
            depthwise: Whether it must be depthwise.
            activation: Expected activation.

        Raises:
            _UnexpectedGraphError: The value is not such a convolution.
        """
        if (
            not isinstance(value, _Convolution)
            or value.weight.shape[2] != kernel
            or value.geometry != (stride, dilation, dilation * (kernel // 2))
            or value.depthwise != depthwise
            or value.activation != activation
        ):
            raise _UnexpectedGraphError(
                f"{name} is not a {kernel}x{kernel} {'depthwise ' * depthwise}convolution of "
                f"stride {stride} and dilation {dilation}, {activation}"
            )
        self.named[name] = value
        return value.source

    def name_separable(
        self,
        value: _Value,
        name: str,
        layers: tuple[str, str],
        stride: int = 1,
        dilation: int = 1,
        activation: _Activation = "relu",
    ) -> _Value:
        """Name a depthwise and a pointwise convolution; return their input."""
        value = self.name_convolution(value, f"{name}.{layers[1]}", activation=activation)
        return self.name_convolution(
            value, f"{name}.{layers[0]}", kernel=3, stride=stride, dilation=dilation,
            depthwise=True, activation=activation,
        )  # fmt: skip

    def name_heads(self, name: str, values: Iterable[_Value]) -> _Value:
        """Name the two heads of a stage, found by their channels; return their common input."""
        starts = []
        for head, channels in (("pafs", _PAFS), ("heatmaps", _HEATMAPS)):
            last = [value for value in values if _is_map(value, channels)]
            if len(last) != 1:
                raise _UnexpectedGraphError(
                    f"{name} has {len(last)} outputs of {channels} channels ({head}), expected 1"
                )
            hidden = self.name_convolution(last[0], f"{name}.{head}.1.0", activation="linear")
            starts.append(self.name_convolution(hidden, f"{name}.{head}.0.0"))
        if starts[0] is not starts[1]:
            raise _UnexpectedGraphError(f"the heads of {name} start from different layers")
        return starts[0]

    def order_inputs(self, name: str, parts: tuple[_Value, ...], features: _Value) -> None:
        """Order the input channels of a convolution as features, heatmaps, PAFs.

        Args:
            name: Name of the convolution; its input is a concatenation.
            parts: The concatenated activations.
            features: The one that is neither heatmaps nor PAFs.
        """
        convolution = self.named[name]
        weights: dict[str, _Array] = {}
        start = 0
        for part in parts:
            key = next((str(c) for c in (_HEATMAPS, _PAFS) if _is_map(part, c)), "features")
            if not isinstance(part, _Convolution) or (key == "features" and part is not features):
                break
            weights[key] = convolution.weight[:, start : start + part.channels]
            start += part.channels
        if len(weights) != len(parts) or "features" not in weights:
            raise _UnexpectedGraphError(f"{name} is not applied to features, heatmaps and PAFs")
        ordered = [weights[key] for key in ("features", str(_HEATMAPS), str(_PAFS))]
        self.named[name] = replace(convolution, weight=np.concatenate(ordered, axis=1))


def _is_map(value: _Value, channels: int) -> bool:
    """Return whether a value is a convolution with these output channels and no activation."""
    return (
        isinstance(value, _Convolution)
        and value.activation == "linear"
        and value.channels == channels
    )


def _residual(value: _Value, name: str) -> tuple[_Value, _Value]:
    """Split a residual sum into the shortcut and the branch that starts from it."""
    if isinstance(value, _Sum):
        for shortcut, branch in (value.terms, value.terms[::-1]):
            start = branch
            while isinstance(start, _Convolution) and start is not shortcut:
                start = start.source
            if start is shortcut and branch is not shortcut:
                return shortcut, branch
    raise _UnexpectedGraphError(f"no residual connection at {name}")


def _fold_input(convolution: _Convolution) -> _Convolution:
    """Adapt the first convolution to RGB, pixel / 256 - 0.5, instead of BGR, 0 to 255.

    The zeros padded at the border then stand for pixels of 128. The published IRs have the mean
    128, so the output at the border does not change.
    """
    image = convolution.source
    assert isinstance(image, _Image)
    # x = 256 u + 128, and the IR's first convolution takes scale * x + shift.
    scale = image.scale * _PIXEL_SCALE
    shift = image.scale * _PIXEL_OFFSET + image.shift
    weight = convolution.weight
    bias = convolution.bias + np.einsum("oikl,i->o", weight, shift)
    return replace(convolution, weight=(weight * scale[:, None, None])[:, ::-1], bias=bias)


def _tensor(values: _Array) -> Tensor:
    """Convert an array to a float32 tensor."""
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
