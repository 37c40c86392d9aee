"""Engine of exported models, independent of the runtime.

Exported models have TAO's inputs and outputs (TAO reference, sections 14.2 and 14.6): one input for
images and two float32 outputs, the heatmaps (named `HEATMAPS`) and the part affinity fields (any
other name), with channels last or first. The input is normalized float32, or uint8 if the model
contains the normalization. In models for DeepStream, the part affinity fields are upsampled: each
cell is repeated r x r times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.inference.engines.base import ModelDescription, crop
from bodyposenet.specs.number_types import MAX_SIDE
from bodyposenet.types import PAD_VALUE, Maps

INPUT = "input_1:0"
HEATMAPS = "heatmap_out/BiasAdd:0"
PAFS = "paf_out/BiasAdd:0"
UPSAMPLED_PAFS = "conv2d_transpose_1/BiasAdd:0"
"""Name of the part affinity fields in a model for DeepStream."""

# Outputs of a model exported with --with_decoding (see `exporting.decoding_graph`). Engines cannot
# run such a model, because it has no maps.
PEAKS = "peaks"
PAF_SCORES = "paf_scores"

_MAX_BATCH = 1024
"""Maximum fixed batch size of a model; smaller batches are padded to the fixed size."""


class TensorSpec(NamedTuple):
    """Data type and shape of an input or output of a model.

    Args:
        dtype: Name of the data type in NumPy, or in the runtime if NumPy does not have it.
        shape: Size of each dimension, or None for a dynamic one.
    """

    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class InputSignature:
    """Input of an exported model.

    Args:
        name: Name of the input.
        channels_last: Whether input and maps have the layout (N, H, W, C), else (N, C, H, W).
        normalizes_input: Whether the model contains the normalization and its input is uint8.
        batch: Fixed batch size, or None for a dynamic one.
        fixed_shape: Fixed height and width of the input, or None for dynamic ones.
    """

    name: str
    channels_last: bool
    normalizes_input: bool
    batch: int | None
    fixed_shape: tuple[int, int] | None


@dataclass(frozen=True)
class Signature(InputSignature):
    """Input and outputs of an exported model.

    Args:
        pafs: Name of the output with the part affinity fields.
        channels: Number of channels of heatmaps and PAFs, or None where unknown.
    """

    pafs: str
    channels: tuple[int | None, int | None]

    @classmethod
    def read(
        cls, path: str | Path, inputs: Mapping[str, TensorSpec], outputs: Mapping[str, TensorSpec]
    ) -> Signature:
        """Derive the signature from the inputs and outputs of a model.

        Args:
            path: Path of the file, for error messages.
            inputs: Inputs by name.
            outputs: Outputs by name.

        Raises:
            BodyPoseNetError: They are not those of a body pose network (the message lists all
                differences), or the model was exported with `--with_decoding`.
        """
        if PEAKS in outputs:
            raise BodyPoseNetError(
                f"{path}: exported with --with_decoding, so that it returns "
                f"{describe_tensors(outputs)} instead of heatmaps and part affinity fields",
                "Export the model again without --with_decoding; or run this file with an ONNX "
                "runtime and a client of examples/clients.",
            )
        if missing := [*_unmet_input_requirements(inputs), *_unmet_output_requirements(outputs)]:
            raise BodyPoseNetError(
                f"{path}: not a body pose network: its inputs are {describe_tensors(inputs)}, its "
                f"outputs are {describe_tensors(outputs)}; missing: {'; '.join(missing)}",
                "Use a file written by `bpnet export`.",
            )
        images = read_input_signature(inputs)
        (pafs,) = outputs.keys() - {HEATMAPS}
        axis = 3 if images.channels_last else 1
        return cls(
            images.name,
            images.channels_last,
            images.normalizes_input,
            images.batch,
            images.fixed_shape,
            pafs,
            channels=(outputs[HEATMAPS].shape[axis], outputs[pafs].shape[axis]),
        )


def read_input_signature(inputs: Mapping[str, TensorSpec]) -> InputSignature:
    """Derive the signature of the input from the inputs of a body pose network.

    Args:
        inputs: Inputs by name; exactly one.
    """
    ((name, (dtype, shape)),) = inputs.items()
    height, width = _sides(shape)
    return InputSignature(
        name,
        _is_channels_last(shape),
        normalizes_input=dtype == "uint8",
        batch=shape[0],
        fixed_shape=None if height is None or width is None else (height, width),
    )


def _unmet_input_requirements(inputs: Mapping[str, TensorSpec]) -> list[str]:
    """List the requirements that the input of a model does not meet."""
    if len(inputs) != 1:
        return [f"one input ({INPUT}) instead of {len(inputs)}"]
    ((dtype, shape),) = inputs.values()
    missing = []
    if dtype not in ("float32", "uint8"):
        missing.append("an input of type float32 (normalized images) or uint8")
    if len(shape) != 4 or 3 not in (shape[1], shape[3]):
        missing.append("an input of shape [N, H, W, 3] or [N, 3, H, W]")
    elif _sides(shape).count(None) == 1:
        missing.append("an input with both height and width dynamic or both fixed")
    elif max(side or 1 for side in _sides(shape)) > MAX_SIDE or (shape[0] or 1) > _MAX_BATCH:
        missing.append(f"an input of at most {_MAX_BATCH} images of {MAX_SIDE} x {MAX_SIDE} pixels")
    elif min(side or 1 for side in shape if side is not None) < 1:
        missing.append("an input with positive sizes")
    return missing


def _unmet_output_requirements(outputs: Mapping[str, TensorSpec]) -> list[str]:
    """List the requirements that the outputs of a model do not meet."""
    missing = []
    if HEATMAPS not in outputs:
        missing.append(f"an output {HEATMAPS}, one heatmap for each joint and the background")
    if len(outputs) != 2:
        missing.append(
            f"two outputs, the other one {PAFS} or {UPSAMPLED_PAFS}, two part affinity fields for "
            "each limb"
        )
    if any(dtype != "float32" or len(shape) != 4 for dtype, shape in outputs.values()):
        missing.append("float32 outputs of four dimensions")
    return missing


def _is_channels_last(shape: tuple[int | None, ...]) -> bool:
    """Return whether an input of this shape has the layout (N, H, W, C)."""
    return shape[3] == 3


def _sides(shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
    """Return the height and width in the shape of an input."""
    return shape[1:3] if _is_channels_last(shape) else shape[2:]


def describe_tensors(tensors: Mapping[str, TensorSpec]) -> str:
    """Format names, data types and shapes of tensors for messages."""
    return ", ".join(
        f"{name} {dtype} [{', '.join('?' if size is None else str(size) for size in shape)}]"
        for name, (dtype, shape) in tensors.items()
    )


def prepare(
    images: NDArray[np.uint8], description: ModelDescription, signature: InputSignature
) -> NDArray[Any]:
    """Convert images to the input of a model.

    Args:
        images: (N, H, W, 3) uint8 RGB images of any size.
        description: Description of the model.
        signature: Signature of the input.

    Returns:
        The images in the data type and layout of the model, padded to whole cells (see
        `normalize`).
    """
    inputs: NDArray[Any] = (
        _pad(images, description.stride)
        if signature.normalizes_input
        else normalize(images, description)
    )
    return np.ascontiguousarray(inputs if signature.channels_last else inputs.transpose(0, 3, 1, 2))


def normalize(images: NDArray[np.uint8], description: ModelDescription) -> NDArray[np.float32]:
    """Normalize images as in training.

    Args:
        images: (N, H, W, 3) uint8 RGB images of any size.
        description: Description of the model, for normalization and stride.

    Returns:
        (N, H', W', 3) float32: pixel / image_scale - image_offset. H' and W' are the next multiples
        of the stride; the images are padded with gray at the bottom and on the right.
    """
    pixels = _pad(images, description.stride).astype(np.float32)
    pixels /= np.array(description.image_scale, np.float32)
    pixels -= np.array(description.image_offset, np.float32)
    return pixels


def _pad(images: NDArray[np.uint8], stride: int) -> NDArray[np.uint8]:
    """Pad images with gray at the bottom and on the right to whole cells."""
    height, width = images.shape[1:3]
    padding = (-height % stride, -width % stride)
    if not any(padding):
        return images
    sides = ((0, 0), (0, padding[0]), (0, padding[1]), (0, 0))
    return np.pad(images, sides, constant_values=PAD_VALUE)


Run = Callable[[NDArray[Any]], Mapping[str, NDArray[np.float32]]]
"""Function that runs a model on a runtime: it returns the outputs by name, given the input."""


class ExportedEngine:
    """Engine of an exported model, whose only outputs are the maps of the last stage.

    Args:
        description: Description of the model.
        signature: Signature of the model.
        run: Function that runs the model.
        name: Name of the runtime; see `ModelEngine`.
    """

    def __init__(
        self, description: ModelDescription, signature: Signature, run: Run, name: str
    ) -> None:
        self.name = name
        self.description = description
        self.skeleton = description.skeleton
        self.stride = description.stride
        self.stages = description.stages
        self.fixed_shape: tuple[int, int] | None = signature.fixed_shape
        self._signature = signature
        self._run = run

    def infer(self, images: NDArray[np.uint8], stage: int | None = None) -> list[Maps]:
        """Run the network; see `Engine.infer`."""
        height, width = images.shape[1:3]
        if stage not in (None, self.stages):
            raise BodyPoseNetError(
                f"stage {stage}: an exported model has only the last of its {self.stages} stages",
                "Use the last stage, or the .tlt file of the model.",
            )
        if self.fixed_shape not in (None, (height, width)):
            raise BodyPoseNetError(
                f"an input of {height} x {width} pixels: the model requires "
                f"{' x '.join(map(str, self.fixed_shape or ()))}",
                "Set input_shape to that size and keep_aspect_ratio_mode to pad_image_input.",
            )
        inputs = prepare(images, self.description, self._signature)
        size = self._signature.batch or len(inputs)
        return [
            maps
            for start in range(0, len(inputs), size)
            for maps in self._maps(inputs[start : start + size], size, height, width)
        ]

    def _maps(self, inputs: NDArray[Any], size: int, height: int, width: int) -> list[Maps]:
        """Compute the maps of one batch, which is padded to the batch size of the model."""
        count = len(inputs)
        if count < size:
            inputs = np.concatenate([inputs, np.repeat(inputs[-1:], size - count, axis=0)])
        outputs = self._run(inputs)
        heatmaps, pafs = outputs[HEATMAPS], outputs[self._signature.pafs]
        if self._signature.channels_last:
            heatmaps, pafs = heatmaps.transpose(0, 3, 1, 2), pafs.transpose(0, 3, 1, 2)
        repeats = self._paf_repeats(heatmaps.shape[2:], pafs.shape[2:], height, width)
        pafs = pafs[:, :, ::repeats, ::repeats]
        sigma = self.description.heatmap_sigma
        return crop(heatmaps[:count], pafs[:count], height, width, self.stride, sigma)

    def _paf_repeats(
        self, heatmap: tuple[int, ...], paf: tuple[int, ...], height: int, width: int
    ) -> int:
        """Derive from the sizes of the maps how often each cell of the PAFs is repeated.

        Raises:
            BodyPoseNetError: The sizes do not match the images. OpenVINO with one thread returns
                its previous maps or none, instead of an error, if a layer does not support a size.
        """
        cells = -(-height // self.stride), -(-width // self.stride)
        repeats = paf[0] // cells[0]
        if heatmap != cells or not repeats or paf != (repeats * cells[0], repeats * cells[1]):
            raise BodyPoseNetError(
                f"expected {cells[0]} x {cells[1]} cells for images of {height} x {width} pixels, "
                f"got heatmaps of {heatmap[0]} x {heatmap[1]} and PAFs of {paf[0]} x {paf[1]}",
                "Export the model again (bpnet export), or try another input_shape.",
            )
        return repeats


def make_engine(
    path: str | Path,
    inputs: Mapping[str, TensorSpec],
    outputs: Mapping[str, TensorSpec],
    header: str | None,
    expected: ModelDescription | None,
    run: Run,
    name: str,
) -> ExportedEngine:
    """Create the engine of a model that a runtime has loaded.

    Args:
        path: Path of the file, for error messages.
        inputs: Inputs by name.
        outputs: Outputs by name.
        header: Model header in the file as JSON, or None if there is none.
        expected: Description from a train spec, for what the header does not contain, or None.
        run: Function that runs the model.
        name: Name of the runtime; see `ModelEngine`.

    Raises:
        BodyPoseNetError: The model is not a body pose network, does not match the skeleton, has a
            fixed input size that is not a multiple of the stride, or there is neither a header nor
            a train spec.
    """
    signature = Signature.read(path, inputs, outputs)
    description = expected
    if header is not None:
        description = ModelDescription.from_header(path, header, expected)
    if description is None:
        raise BodyPoseNetError(
            f"{path}: the file does not contain its joints and its normalization",
            "Set train_spec in the inference spec to the spec that the model was trained with.",
        )
    skeleton = description.skeleton
    channels = skeleton.heatmap_channels, skeleton.paf_channels
    if any(
        count not in (None, needed)
        for count, needed in zip(signature.channels, channels, strict=True)
    ):
        raise BodyPoseNetError(
            f"{path}: has {describe_tensors(outputs)}, but the skeleton {skeleton.name} needs "
            f"{channels[0]} heatmaps and {channels[1]} PAF channels",
            "Set train_spec in the inference spec to the spec that the model was trained with.",
        )
    if any(side % description.stride for side in signature.fixed_shape or ()):
        raise BodyPoseNetError(
            f"{path}: the fixed input {describe_tensors(inputs)} is not a multiple of the stride, "
            f"{description.stride} pixels",
            f"Export it with a height and a width that are multiples of {description.stride}.",
        )
    return ExportedEngine(description, signature, run, name)
