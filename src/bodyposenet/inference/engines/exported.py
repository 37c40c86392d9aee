"""The tensors of exported models on any runtime, and images as they take them.

They are TAO's (TAO reference, sections 14.2 and 14.6): one input of images, and two float32
outputs, the heatmaps under `HEATMAPS` and the part affinity fields under any other name; channels
last or first. The input is float32 and normalized, or uint8 where the normalization is in the
model. In a model for DeepStream the fields are enlarged, every cell to r x r equal ones.
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
"""In a model for DeepStream: every cell stands there r x r times."""

_MAX_BATCH = 1024
"""Images that a model may be bound to take at once: where there are fewer, they are filled up."""


class TensorSpec(NamedTuple):
    """An input or an output of a model.

    Args:
        dtype: As numpy calls it; one that numpy lacks is shown as the runtime calls it.
        shape: Sizes; None: any.
    """

    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Signature:
    """The tensors of an exported model.

    Args:
        pafs: Name of the output beside `HEATMAPS`.
        channels_last: (N, H, W, C), else (N, C, H, W); input and outputs alike.
        normalizes_input: It takes uint8 pixels as they are.
        batch: The only number of images that it takes at once; None: any.
        fixed_shape: The only height and width that it takes; None: any.
        channels: Of the heatmaps and of the PAFs; None: not told.
    """

    pafs: str
    channels_last: bool
    normalizes_input: bool
    batch: int | None
    fixed_shape: tuple[int, int] | None
    channels: tuple[int | None, int | None]

    @classmethod
    def read(
        cls, path: str | Path, inputs: Mapping[str, TensorSpec], outputs: Mapping[str, TensorSpec]
    ) -> Signature:
        """Recognize the tensors.

        Args:
            path: The file, for errors.
            inputs: By name.
            outputs: By name.

        Raises:
            BodyPoseNetError: They are not those of a body pose network; it lists what is missing.
        """
        if missing := [*_missing_in(inputs), *_missing_out(outputs)]:
            raise BodyPoseNetError(
                f"{path}: no body pose network: it takes {describe_tensors(inputs)} and "
                f"gives {describe_tensors(outputs)}; missing: {'; '.join(missing)}",
                "`bpnet export` writes such files.",
            )
        ((dtype, shape),) = inputs.values()
        channels_last = _is_channels_last(shape)
        height, width = _sides(shape)
        (pafs,) = outputs.keys() - {HEATMAPS}
        axis = 3 if channels_last else 1
        return cls(
            pafs,
            channels_last,
            normalizes_input=dtype == "uint8",
            batch=shape[0],
            fixed_shape=None if height is None or width is None else (height, width),
            channels=(outputs[HEATMAPS].shape[axis], outputs[pafs].shape[axis]),
        )


def _missing_in(inputs: Mapping[str, TensorSpec]) -> list[str]:
    """What the input of a body pose network has, and this has not."""
    if len(inputs) != 1:
        return [f"one input ({INPUT}) instead of {len(inputs)}"]
    ((dtype, shape),) = inputs.values()
    missing = []
    if dtype not in ("float32", "uint8"):
        missing.append("an input of normalized float32 images, or of uint8 images")
    if len(shape) != 4 or 3 not in (shape[1], shape[3]):
        missing.append("an input of shape [N, H, W, 3] or [N, 3, H, W]")
    elif _sides(shape).count(None) == 1:
        missing.append("an input whose height and width are both free or both fixed")
    elif max(side or 1 for side in _sides(shape)) > MAX_SIDE or (shape[0] or 1) > _MAX_BATCH:
        missing.append(f"an input of at most {_MAX_BATCH} images of {MAX_SIDE} x {MAX_SIDE} pixels")
    elif min(side or 1 for side in shape if side is not None) < 1:
        missing.append("an input of positive sizes")
    return missing


def _missing_out(outputs: Mapping[str, TensorSpec]) -> list[str]:
    """What the outputs of a body pose network have, and these have not."""
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
    return shape[3] == 3


def _sides(shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
    """Height and width of the images that a model takes."""
    return shape[1:3] if _is_channels_last(shape) else shape[2:]


def describe_tensors(tensors: Mapping[str, TensorSpec]) -> str:
    """Tensors for people."""
    return ", ".join(
        f"{name} {dtype} [{', '.join('?' if size is None else str(size) for size in shape)}]"
        for name, (dtype, shape) in tensors.items()
    )


def prepare(
    images: NDArray[np.uint8], description: ModelDescription, signature: Signature
) -> NDArray[Any]:
    """Images to the input of a model.

    Args:
        images: (N, H, W, 3) uint8 RGB, of any size.
        description: What the model is.
        signature: Its tensors.

    Returns:
        In the model's type and layout, of whole cells (see `normalize`).
    """
    inputs: NDArray[Any] = (
        _pad(images, description.stride)
        if signature.normalizes_input
        else normalize(images, description)
    )
    return np.ascontiguousarray(inputs if signature.channels_last else inputs.transpose(0, 3, 1, 2))


def normalize(images: NDArray[np.uint8], description: ModelDescription) -> NDArray[np.float32]:
    """Pixels to network input, as the network itself does it in training.

    Args:
        images: (N, H, W, 3) uint8 RGB, of any size.
        description: Its normalization and its stride.

    Returns:
        (N, H', W', 3) float32: pixel / image_scale - image_offset. H' and W' are the next multiples
        of the stride; what is added, at the bottom and the right, is gray.
    """
    pixels = _pad(images, description.stride).astype(np.float32)
    pixels /= np.array(description.image_scale, np.float32)
    pixels -= np.array(description.image_offset, np.float32)
    return pixels


def _pad(images: NDArray[np.uint8], stride: int) -> NDArray[np.uint8]:
    """Add gray at the bottom and the right, up to whole cells."""
    height, width = images.shape[1:3]
    padding = (-height % stride, -width % stride)
    if not any(padding):
        return images
    sides = ((0, 0), (0, padding[0]), (0, padding[1]), (0, 0))
    return np.pad(images, sides, constant_values=PAD_VALUE)


Run = Callable[[NDArray[Any]], Mapping[str, NDArray[np.float32]]]
"""An array for the model's input -> its outputs by name."""


class ExportedEngine:
    """Runs an exported model; it holds the maps of the last stage only.

    Args:
        description: What the model is.
        signature: Its tensors.
        run: Runs it.
        name: What runs it; see `ModelEngine`.
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
                f"stage {stage}: an exported model holds the last of its {self.stages} stages only",
                "Take the last, or run the .tlt file.",
            )
        if self.fixed_shape not in (None, (height, width)):
            raise BodyPoseNetError(
                f"an input of {height} x {width} pixels: the model takes "
                f"{' x '.join(map(str, self.fixed_shape or ()))} only",
                "Write that as input_shape, with keep_aspect_ratio_mode: pad_image_input.",
            )
        inputs = prepare(images, self.description, self._signature)
        size = self._signature.batch or len(inputs)
        return [
            maps
            for start in range(0, len(inputs), size)
            for maps in self._maps(inputs[start : start + size], size, height, width)
        ]

    def _maps(self, inputs: NDArray[Any], size: int, height: int, width: int) -> list[Maps]:
        """The maps of one batch, which is filled up to the size that the model takes."""
        count = len(inputs)
        if count < size:
            inputs = np.concatenate([inputs, np.repeat(inputs[-1:], size - count, axis=0)])
        outputs = self._run(inputs)
        heatmaps, pafs = outputs[HEATMAPS], outputs[self._signature.pafs]
        if self._signature.channels_last:
            heatmaps, pafs = heatmaps.transpose(0, 3, 1, 2), pafs.transpose(0, 3, 1, 2)
        repeats = self._repeats(heatmaps.shape[2:], pafs.shape[2:], height, width)
        pafs = pafs[:, :, ::repeats, ::repeats]
        sigma = self.description.heatmap_sigma
        return crop(heatmaps[:count], pafs[:count], height, width, self.stride, sigma)

    def _repeats(
        self, heatmap: tuple[int, ...], paf: tuple[int, ...], height: int, width: int
    ) -> int:
        """How many times a cell of the PAFs stands in a row, by the sizes of the maps.

        Raises:
            BodyPoseNetError: The sizes are not those of the images: OpenVINO on one thread leaves
                its last maps, or none, where a layer does not fit.
        """
        cells = -(-height // self.stride), -(-width // self.stride)
        repeats = paf[0] // cells[0]
        if heatmap != cells or not repeats or paf != (repeats * cells[0], repeats * cells[1]):
            raise BodyPoseNetError(
                f"the model gives heatmaps of {heatmap[0]} x {heatmap[1]} and PAFs of {paf[0]} x "
                f"{paf[1]} for images of {height} x {width} pixels, which are {cells[0]} x "
                f"{cells[1]} cells",
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
    """The engine of a model that a runtime has read.

    Args:
        path: The file, for errors.
        inputs: By name.
        outputs: By name.
        header: Description of the model in the file, as JSON; None if there is none.
        expected: From a train spec; counts for what the file does not tell.
        run: Runs it.
        name: What runs it; see `ModelEngine`.

    Raises:
        BodyPoseNetError: It is no body pose network, that of another skeleton, or bound to images
            of no whole cells; or neither the file nor a train spec says what its joints are.
    """
    signature = Signature.read(path, inputs, outputs)
    description = expected
    if header is not None:
        description = ModelDescription.from_header(path, header, expected)
    if description is None:
        raise BodyPoseNetError(
            f"{path}: the file does not say what its joints and its normalization are",
            "Name the spec that the model was trained with as train_spec in the inference spec.",
        )
    skeleton = description.skeleton
    channels = skeleton.heatmap_channels, skeleton.paf_channels
    if any(
        found not in (None, own) for found, own in zip(signature.channels, channels, strict=True)
    ):
        raise BodyPoseNetError(
            f"{path}: gives {describe_tensors(outputs)}, but the skeleton {skeleton.name} needs "
            f"{channels[0]} heatmaps and {channels[1]} PAF channels",
            "Name the spec that the model was trained with as train_spec in the inference spec.",
        )
    if any(side % description.stride for side in signature.fixed_shape or ()):
        raise BodyPoseNetError(
            f"{path}: takes {describe_tensors(inputs)} only: no whole cells of "
            f"{description.stride} pixels",
            f"Export it for a height and a width that are multiples of {description.stride}.",
        )
    return ExportedEngine(description, signature, run, name)
